"""All names of the documents of the older program are there, or are said not to be, and stand in docs/older_api.md."""

import builtins
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from api.names import CALLS, IGNORED, NOT_HERE, OTHERS, RESULTS, SETTINGS, table
from pyama_dask import api, errors
from pyama_dask.api.settings import translate

ROOT = Path(__file__).parents[2]
SEEDS = ROOT.parent / "shared" / "seeds"
DOCUMENTS = ("000", "001", "003", "004")
"""Numbers of the documents of PyAMA."""


@pytest.fixture
def text():
    found = [path for number in DOCUMENTS for path in SEEDS.glob(f"{number}_*.txt")]
    if len(found) != len(DOCUMENTS):
        pytest.skip("the documents are not here")
    return "\n".join(path.read_text() for path in found).encode("ascii", "replace").decode()


def test_the_tables_of_the_documentation():
    expected = "\n".join(table())
    assert expected in (ROOT / "docs" / "older_api.md").read_text(), f"put into docs/older_api.md:\n{expected}"


@pytest.mark.parametrize("name", CALLS)
def test_a_name_is_there(name):
    dotted, _, argument = name.rstrip(")").partition("(")
    found = api
    for part in dotted.split("."):
        found = getattr(found, part)
    if argument:
        assert argument in inspect.signature(found).parameters


@pytest.mark.parametrize(("name", "here"), SETTINGS.items())
def test_a_setting_is_translated_or_named_in_a_warning(name, here):
    section, _, key = name.rpartition(".")
    value = {"phase": ["area"]} if key == "features" else 7
    found = translate({section: {key: value}} if section else {key: value})
    if here == IGNORED:
        assert (found.params, len(found.left_out)) == ({}, 1)
        assert f"{name} (7)" in found.left_out[0]
        return
    assert found.left_out == []
    if key == "features":
        assert found.features == {"pc": ["area"]}
        return
    place = here.split("`")[1] if "`" in here else name
    for part in place.split("."):
        found = found.params[part] if part == place.split(".")[0] else found[part]
    assert found == 7


def test_results_are_there(whole):
    kept = {field.name for field in fields(api.ResultsPathsPerFOV)}
    for name, here in RESULTS.items():
        if name.startswith("results_paths."):
            assert name.partition(".")[2] in kept
        elif name.endswith(("yaml", "zarr")):
            assert list(whole.rglob(name)), name
        elif name.endswith("Error"):
            raised = [getattr(errors, one) for one in re.findall(r"`(\w+Error)`", here)]
            assert all(issubclass(one, getattr(builtins, name)) for one in raised)
    with pytest.raises(NotImplementedError):
        api.BaseProcessingService().process_fov(None, None, None, 0)


@pytest.mark.parametrize("name", NOT_HERE)
def test_one_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ImportError, match=rf"pyama_dask\.api has no {name}, which in PyAMA is .*Fix: "):
        exec(f"from pyama_dask.api import {name}")


def words_of(name):
    return re.findall(r"\w+", name.rpartition(".")[2] if name in SETTINGS else name)


class TestDocuments:
    def test_they_have_all_names_of_the_list(self, text):
        listed = [*CALLS, *SETTINGS, *RESULTS, *NOT_HERE]
        assert [name for name in listed for word in words_of(name) if not re.search(rf"\b{word}\b", text)] == []

    def test_the_list_has_all_their_names(self, text):
        named = set(re.findall(r"`(\w+)`", text)) | set(re.findall(r"\b(?:def|class) (\w+)\(", text))
        named |= set(re.findall(r"\b([A-Z][a-z]+(?:[A-Z][A-Za-z]*)+)\b", text))
        named |= set(re.findall(r"\b(_?[a-z]\w*_\w+)\(", text)) | set(re.findall(r"\b([a-z]\w*_\w+)=[^=]", text))
        named |= set(re.findall(r"""['"](\w+_\w+)['"]:""", text))
        named |= set(re.findall(r"config\.params\.(\w+?)(?:is)?\b", text))
        listed = {word for name in [*CALLS, *SETTINGS, *RESULTS, *NOT_HERE] for word in words_of(name)}
        assert sorted(named - listed - {*OTHERS}) == []
