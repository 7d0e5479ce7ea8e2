"""Unusual environments: no folder for compiled code, no home, no user name, settings of other programs."""

import importlib.util
import os
import pwd
import sys

import dask
import numba
import pytest

from pyama_dask.kernels.compiled import compiled
from pyama_dask.launch.settings import DASK, own_settings, user_name

LOOP = "def loop(n):\n    total = 0\n    for k in range(n):\n        total += k\n    return total\n"


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """Gives a loop of a module whose folder and whose user's folder cannot be written, compiled from the start."""
    (tmp_path / "module.py").write_text(LOOP)
    (tmp_path / "__pycache__").touch()  # a file, so that not even root can make a folder here
    monkeypatch.setenv("HOME", "/dev/null/none")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def make():
        spec = importlib.util.spec_from_file_location("module", tmp_path / "module.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules.pop("module", None)
        spec.loader.exec_module(module)
        return compiled(module.loop)

    return make


def test_compiled_loops_run_where_no_code_can_be_kept(loop, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert loop()(5) == 10


def test_compiled_loops_survive_a_damaged_cache_and_one_that_cannot_be_written_any_more(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def loaded():
        again = loop()
        assert again(5) == 10
        return sum(again.stats.cache_hits.values())

    assert [loaded(), loaded()] == [0, 1]
    for pattern in ("*.nbi", "*.nbc"):
        (file,) = (tmp_path / "cache").rglob(pattern)
        file.write_bytes(file.read_bytes()[:40])
        assert [loaded(), loaded()] == [0, 1]
    first = loop()
    (folder,) = {file.parent for file in (tmp_path / "cache").rglob("*.nbi")}
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.touch()
    assert first(5) == 10


def test_a_user_without_a_name_is_known_by_number(monkeypatch):
    assert user_name() == pwd.getpwuid(os.getuid()).pw_name

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("USER", "someone")
    assert user_name() == "someone"
    monkeypatch.delenv("USER")
    assert user_name() == str(os.getuid())


def test_settings_of_dask_for_other_programs_do_not_reach_a_run(monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE", "0.01")
    foreign = {"distributed.worker.preload": ["no_such_module"], "temporary-directory": "/scratch"}
    with dask.config.set(foreign):
        before = dask.config.config.copy()
        with own_settings():
            assert dask.config.get("distributed.worker.preload") == []
            assert dask.config.get("temporary-directory") == "/scratch"
            assert {key: dask.config.get(key) for key in DASK} == DASK
            assert "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE" not in os.environ
        assert dask.config.config == before
        assert os.environ["DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE"] == "0.01"
