"""Runs on a real Grid Engine, where it is installed and may be started."""

import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from support import gridengine
from support.movies import config, differences, products

import pyama_dask
from pyama_dask.launch import jobs, queued

pytestmark = [
    pytest.mark.skipif(bool(gridengine.missing()), reason=gridengine.missing() or "-"),
    pytest.mark.slow,
]
HERE = Path(pyama_dask.__file__).parents[1]


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    variables = gridengine.start(folder)
    yield variables
    gridengine.stop(folder)
    assert not [name for name in gridengine.DAEMONS if gridengine.processes(name, folder)]


@pytest.fixture
def asked(cell, monkeypatch, small_czi, tmp_path):
    """Config of a run on Grid Engine."""
    for name, value in cell.items():
        monkeypatch.setenv(name, value)

    def make(**cluster):
        base = {"kind": "sge", "memory": "1500MiB", "walltime": "00:10:00", "interface": "lo", "jobs": 2}
        prologue = [f"export PYTHONPATH={HERE}"]
        return config(small_czi, tmp_path / "out", {"cluster": base | {"prologue": prologue} | cluster})

    return make


def listing():
    return subprocess.run(["qstat"], check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until_empty():
    until = time.monotonic() + 60
    while listing():
        assert time.monotonic() < until, listing()
        time.sleep(0.1)


def test_a_job_of_two_slots_makes_what_a_run_on_this_machine_makes(asked, finished):
    document = asked(jobs=1, cores=2, directives=["-pe smp 2"])
    assert pyama_dask.run(document).exit_status == 0
    assert not differences(products(Path(document["output"])), products(finished))
    wait_until_empty()


def test_a_job_that_is_deleted_is_replaced(asked, finished, monkeypatch):
    document = asked(jobs=1)
    monkeypatch.setattr(queued, "Jobs", partial(jobs.Jobs, timing=jobs.Timing(interval=0.2)))
    seen = []
    update = jobs.Jobs._update_job

    def delete_the_first(self, job, found, connected, now):
        update(self, job, found, connected, now)
        if job.connected and not seen:
            seen.append(job.number)
            subprocess.run(["qdel", job.number], check=True, capture_output=True, timeout=60)

    monkeypatch.setattr(jobs.Jobs, "_update_job", delete_the_first)
    assert pyama_dask.run(document).exit_status == 0
    assert seen
    assert not differences(products(Path(document["output"])), products(finished))
    wait_until_empty()


def test_jobs_that_cannot_begin_are_taken_away_and_said_why(asked):
    report = pyama_dask.run(asked(directives=["-wd /no/such/folder"], failed_jobs=2))
    assert report.exit_status != 0
    assert "2 jobs in a row ended before a worker connected" in report.stopped
    assert "can't chdir to /no/such/folder" in report.stopped
    wait_until_empty()
