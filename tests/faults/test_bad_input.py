"""Bad input gets one message that names it: no traceback, no hang, and nothing is written."""

import shutil
import sys

import pytest
from chaos.bad_input import BAD_INPUT, MOVIES, furnish
from support.movies import listing

from pyama_dask import cli


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("furnished")
    furnish(directory)
    return directory


@pytest.mark.parametrize("bad", BAD_INPUT, ids=[bad.name for bad in BAD_INPUT])
def test_it_is_refused_with_one_message(request, furnished, tmp_path, monkeypatch, capsys, bad):
    if bad in MOVIES:  # one may crash the process that reads it; bad configs come with a good one
        request.getfixturevalue("isolated")
    here = shutil.copytree(furnished, tmp_path / "here")
    monkeypatch.chdir(here)
    arguments = bad.make(here)
    before = listing(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pyama-dask", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    assert told.err.startswith("pyama-dask: ")
    assert told.err.count("pyama-dask: ") == 1
    assert "Traceback" not in told.err
    assert len(told.err) < 4000
    for words in bad.says:
        assert words in told.err
    left = {name for name in listing(tmp_path) if "__pycache__" not in name}  # of plugins, as Python makes them
    assert left == before


def test_there_are_many_kinds_and_no_two_of_a_name():
    names = [bad.name for bad in BAD_INPUT]
    assert len(names) == len(set(names)) >= 100
