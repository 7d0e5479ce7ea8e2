"""Bad input gets one message that names it: no traceback, no hang, and nothing is written."""

import shutil

import pytest
from chaos.bad_input import BAD_INPUT, MOVIES, furnish
from support.movies import listing


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("furnished")
    furnish(directory)
    return directory


@pytest.mark.parametrize("bad", BAD_INPUT, ids=[bad.name for bad in BAD_INPUT])
def test_it_is_refused_with_one_message(request, furnished, tmp_path, monkeypatch, call, bad):
    if bad in MOVIES:  # one may crash the process that reads it; bad configs come with a good one
        request.getfixturevalue("isolated")
    here = shutil.copytree(furnished, tmp_path / "here")
    monkeypatch.chdir(here)
    arguments = bad.make(here)
    before = listing(tmp_path)
    status, out, error = call(*arguments)
    assert (status, out) == (2, "")
    assert error.startswith("pyama-dask: ")
    assert error.count("pyama-dask: ") == 1
    assert "Traceback" not in error
    assert len(error) < 4000
    for words in bad.says:
        assert words in error
    left = {name for name in listing(tmp_path) if "__pycache__" not in name}  # of plugins, as Python makes them
    assert left == before


def test_there_are_many_kinds_and_no_two_of_a_name():
    names = [bad.name for bad in BAD_INPUT]
    assert len(names) == len(set(names)) >= 100
