"""The record of a run changes with its jobs and alarms, and every event is passed on."""

import pytest
from support.strategies import movie, plan_of

from pyama_dask.runs import run_record
from pyama_dask.runs.run_record import RECORD, RunRecord, read_run_record


@pytest.fixture
def todo(tmp_path):
    (tmp_path / "out/.pyama_dask").mkdir(parents=True)
    return plan_of(movie(fovs=1, frames=8), storage={"block_frames": 4}, output=str(tmp_path / "out"))


def event(step, message):
    return {"step": step, "fov": -1, "frame": 0, "total": 8, "message": message}


def test_it_says_what_the_ledger_does_not(todo):
    record, seen = RunRecord(todo), []
    tell = record.noting(seen.append)
    output = todo.job.output
    tell(event("compile", "Compiling"))
    tell(event("jobs", "jobs: 1 pending"))
    assert read_run_record(output) == {}  # the run may still be refused
    record.begin("http://127.0.0.1:8787/status\nFrom your own machine: ssh")
    told = read_run_record(output)
    assert told["todo"] == {"ingest": 2, "link": 1, "finish": 2, "gather": 1}
    assert (told["dashboard"], told["jobs"]) == ("http://127.0.0.1:8787/status", "jobs: 1 pending")
    for step, message in (("jobs", "jobs: 1 running"), ("alarm", "one"), ("alarm", "two"), ("copy", "ingest-fov000")):
        tell(event(step, message))
    told = read_run_record(output)
    assert (told["jobs"], told["alarms"]) == ("jobs: 1 running", ["one", "two"])
    assert [one["step"] for one in seen] == ["compile", "jobs", "jobs", "alarm", "alarm", "copy"]


def test_a_run_without_tasks_leaves_none(todo):
    RunRecord(type(todo)(**(todo.__dict__ | {"fovs": ()}))).begin("")
    assert read_run_record(todo.job.output) == {}


def test_a_disk_that_takes_nothing_does_not_end_the_run(todo, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_record, "write_bytes", full)
    RunRecord(todo).begin("")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_record_that_cannot_be_read_is_none(todo, content):
    (todo.job.output / RECORD).write_bytes(content)
    assert read_run_record(todo.job.output) == {}
