"""Several movies in one config: lists and globs."""

import pytest

from pyama_dask.config.several import expanded, is_glob, names_several
from pyama_dask.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.nd2", "a.nd2", "c[1].czi", ".hidden.nd2", "night/a.nd2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(movies, folder):
    return [str(movie.relative_to(folder)) for movie in movies]


@pytest.mark.parametrize(
    ("value", "is_several"),
    [("a.nd2", False), ("*.nd2", True), (["a.nd2"], True), ("img_{frame}_*.tif", False), ({"file": "a?.nd2"}, True),
     ({"pattern": "{frame}*.tif"}, False), ({"pixel_size": 1}, False), (None, False)],
)  # fmt: skip
def test_several_are_told_by_the_form(value, is_several):
    assert names_several(value) == is_several


def test_a_file_may_be_called_like_a_glob(folder):
    assert not is_glob(folder / "c[1].czi")
    assert names(expanded([folder / "c[1].czi"]), folder) == ["c[1].czi"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [("*.nd2", ["a.nd2", "b.nd2"]), ("[ab].nd2", ["a.nd2", "b.nd2"]), ("?.nd2", ["a.nd2", "b.nd2"]),
     ("*/*.nd2", ["night/a.nd2"]), ("**/a.nd2", ["a.nd2", "night/a.nd2"]), ("ni*", ["night"]),
     (".hid*", [".hidden.nd2"])],
)  # fmt: skip
def test_globs(folder, glob, found):
    assert names(expanded(folder / glob), folder) == found


def test_a_list_is_sorted_and_may_have_globs_and_facts(folder):
    pattern = {"pattern": str(folder / "t{frame}.tif")}
    facts = {"file": str(folder / "[ab].nd2"), "pixel_size": 0.65}
    found = expanded([folder / "night", pattern, facts])
    each = [{"file": folder / name, "pixel_size": 0.65} for name in ("a.nd2", "b.nd2")]
    assert found == [*each, folder / "night", pattern]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "is an empty list"),
        (["a.nd2", "gone.nd2"], r"gone\.nd2: no such file. Fix: check the path"),
        (["x*.nd2"], r"x\*\.nd2: no such file"),
        (["a.nd2", "b.nd2", "a.nd2"], r"a\.nd2: is named twice. Fix: name each movie once"),
        (["a.nd2", "*.nd2"], r"a\.nd2: is named twice"),
        (["a.nd2", "night/../a.nd2"], r"a\.nd2: is named twice, as a\.nd2"),
        ([3], "3.*must be a path"),
        ([["a.nd2"]], "must be a path"),
        ([{"pixel_size": 1}], "must be a path"),
    ],
)
def test_faults_are_named(folder, monkeypatch, value, said):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=said):
        expanded(value)
