"""Locks and runs for the tests of locking and cancelling."""

import subprocess
import sys
from dataclasses import replace

import pytest
from support.strategies import movie, plan_of

from pyama_dask.store import lock_file
from pyama_dask.workflow.task import WORK


@pytest.fixture
def path(tmp_path):
    """Path of the lock of `tmp_path`."""
    (tmp_path / WORK).mkdir()
    return tmp_path / WORK / "lock"


@pytest.fixture
def job(tmp_path):
    """Job of the run ``mine`` in `tmp_path`."""
    return replace(plan_of(movie()).job, output=tmp_path, run="mine")


@pytest.fixture(scope="session")
def gone():
    """Number and start of a process that is over."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        found = {"pid": program.pid, "started": lock_file.started(program.pid)}
        program.communicate(b"\n", timeout=30)
    return found
