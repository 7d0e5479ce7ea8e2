"""Runs in a thread: the handle, and what becomes of it when its program ends."""

import json
import subprocess
import sys
import threading

import pytest
from support.movies import config, differences, products

import pyama_dask
from pyama_dask.errors import BusyError, ConfigError, SourceError

ENDS = """
import json, sys, threading, time
import pyama_dask
from pyama_dask.steps import runner

begin, at_work = runner.run_parts, threading.Event()


def after_the_end(context, graph):
    if context.task.kind == sys.argv[2]:
        at_work.set()
        while threading.main_thread().is_alive():
            time.sleep(0.001)
    begin(context, graph)


if __name__ == "__main__":
    runner.run_parts = after_the_end
    run = pyama_dask.start(json.loads(sys.argv[1]))
    at_work.wait()
    print(run.done)
"""
"""A program that ends while its run is at work: tasks of a kind wait for that."""


def test_a_run_in_a_thread_makes_what_a_run_makes(tmp_path, small_czi, finished):
    seen = []
    run = pyama_dask.start(config(small_czi, tmp_path / "results"), progress=seen.append)
    assert (run.done, run.result) == (False, None)
    report = run.wait(timeout=150)
    assert run.done
    assert run.result is report
    assert report.exit_status == 0
    assert not differences(products(tmp_path / "results"), products(finished))
    assert (run.progress.share, run.progress.fovs_done, len([e for e in seen if e["step"] == "done"])) == (1.0, 2, 2)
    assert "ended, 2 of 2 FOVs done, 100% of the work" in repr(run)
    assert "finished after" in run._repr_html_()


@pytest.mark.parametrize("begin", [pyama_dask.run, pyama_dask.start])
@pytest.mark.parametrize("progress", [5, True, "bars"])
def test_a_progress_that_cannot_show_anything_is_refused(tmp_path, small_czi, begin, progress):
    with pytest.raises(ConfigError, match=r"progress: must be a function .* Fix: pass a function"):
        begin(config(small_czi, tmp_path / "results"), progress=progress)
    assert not (tmp_path / "results").exists()


class Stuck:
    """A progress callback that holds its run until it is released."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, event):
        self.reached.set()
        self.go_on.wait(60)


@pytest.fixture
def held(tmp_path, small_czi):
    """A run that waits after its first task."""
    stuck = Stuck()
    run = pyama_dask.start(config(small_czi, tmp_path / "held"), progress=stuck)
    try:
        assert stuck.reached.wait(60)
        yield run, stuck
    finally:
        stuck.go_on.set()
        run.cancel()
        run._done.wait(60)


def test_a_cancelled_run_ends_with_a_report(held):
    run, stuck = held
    with pytest.raises(TimeoutError, match="still at work: 0 of 2 FOVs done"):
        run.wait(timeout=0.01)
    run.cancel()
    assert "stopping" in repr(run)
    stuck.go_on.set()
    report = run.wait(timeout=60)
    assert (report.cancelled, report.exit_status) == (True, 130)
    assert not (run.output / ".pyama_dask" / "lock").exists()


@pytest.mark.usefixtures("held")
def test_a_second_run_in_a_thread_is_refused_while_one_is_at_work(tmp_path, small_czi):
    with pytest.raises(BusyError, match=r"held is at work in this process\. Fix: "):
        pyama_dask.start(config(small_czi, tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_an_invalid_config_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="chanels"):
        pyama_dask.start({"input": "movie.czi", "output": str(tmp_path), "chanels": {}})


def test_errors_of_the_run_are_raised_where_its_result_is_asked_for(tmp_path):
    run = pyama_dask.start(config(tmp_path / "absent.czi", tmp_path / "results"))
    for _ in range(2):
        with pytest.raises(SourceError, match="absent"):
            run.wait(timeout=60)
        with pytest.raises(SourceError, match="absent"):
            _ = run.result
    assert "failed: " in repr(run)
    assert "absent.czi" in run._repr_html_()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "left"), [("finish", 1), ("gather", 0)])  # the last tasks may end before they stop
def test_a_run_is_cancelled_when_its_program_ends(tmp_path, small_czi, finished, kind, left):
    wanted = config(small_czi, tmp_path / "results")
    (tmp_path / "program.py").write_text(ENDS)
    ended = subprocess.run(
        [sys.executable, tmp_path / "program.py", json.dumps(wanted), kind],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("False\n", "")
    recorded = json.loads((tmp_path / "results" / ".pyama_dask" / "report.json").read_text())
    assert recorded["cancelled"]
    assert "failed" not in {fov["status"] for fov in recorded["fovs"]}
    assert not (tmp_path / "results" / ".pyama_dask" / "lock").exists()
    report = pyama_dask.run(wanted)
    assert report.exit_status == 0
    assert left <= report.tasks < 16
    assert not differences(products(tmp_path / "results"), products(finished))
