"""The state of a run from its files, with made runs; a frame takes a second in each task."""

import json
import os

import pytest
from support.graphs import USUAL
from support.live_outputs import NOW, RUN, MadeRun
from support.locks import ELSEWHERE
from support.movies import listing

from pyama_dask.errors import OutputError
from pyama_dask.runs.live import LiveRun
from pyama_dask.runs.snapshot import FovFailure, Rate
from pyama_dask.runs.status import LEDGER, PLAN, REPORT, read_status
from pyama_dask.store.ledger_file import LedgerFile
from pyama_dask.store.lock_file import lock_path


@pytest.fixture
def made(tmp_path):
    """A run of 3 FOVs of 10 frames in blocks of 4: 8 tasks each."""
    return MadeRun(tmp_path / "out")


def snapshot(made, at=NOW):
    return LiveRun(made.output, lambda: at).snapshot()


def states(seen):
    return [fov.state for fov in seen.fovs]


def test_the_whole_run_is_counted_by_task_step_and_fov(made):
    made.done(*made.tasks(0))
    made.done(*made.tasks(1, "ingest", "link"), made.tasks(1, "finish")[2])
    made.lock()
    seen = snapshot(made)
    assert (seen.state, seen.tasks, seen.tasks_done, seen.run) == ("running", 24, 13, RUN)
    assert states(seen) == ["done", "in work", "to do"]
    assert [(fov.tasks_done, fov.tasks) for fov in seen.fovs] == [(8, 8), (5, 8), (0, 8)]
    assert [step.step for step in seen.steps] == list(USUAL)
    assert {step.frames for step in seen.steps} == {30}
    done = {step.step: step.frames_done for step in seen.steps}
    assert done == {
        "copy": 20,
        "segment": 20,
        "background": 20,
        "track": 12,
        "crop": 10,
        "extract": 10,
        "cache": 12,
        "summary": 10,
    }
    assert {step.memory for step in seen.steps} == {2**28}
    assert sum(step.seconds for step in seen.steps) == pytest.approx(10 + 10 + 10 + 10 + 10 + 10 + 2)


def test_costs_that_cannot_be_read_to_the_end_are_not_counted_twice(made, monkeypatch):
    made.done(*made.tasks(0))
    made.lock()
    run = LiveRun(made.output, lambda: NOW)
    whole = LedgerFile.lines

    def one_line(self, start=0):
        yield next(whole(self, start))
        raise OutputError("was changed")

    made.done(*made.tasks(1))
    with monkeypatch.context() as patch:
        patch.setattr(LedgerFile, "lines", one_line)
        with pytest.raises(OutputError, match="was changed"):
            run.snapshot()
    assert sum(worker.tasks for worker in run.snapshot().workers) == 16


def test_speed_and_time_left_follow_from_the_receipts(made):
    made.done(*made.tasks(0), begun=NOW - 100)  # ingest, link, finish, gather: 10 s each
    made.done(*made.tasks(1, "ingest"), begun=NOW - 50, worker="node2/9")
    made.lock()
    seen = snapshot(made)
    # a frame counts half in ingest, half in finish
    assert seen.rate == Rate(last_minute=10 / 2 / 60, last_10_minutes=(10 + 10 / 2) / 100)
    left = 2 * 10 + 2 * 10 + 2 * 10 + 10  # two FOVs, one of which is ingested
    assert seen.seconds_left == pytest.approx(left / (50 / 100))
    one, two = seen.workers
    assert (one.worker, one.tasks, one.seconds, one.last) == ("node1/7", 8, 40.0, NOW - 60)
    assert (two.worker, two.tasks, two.busy) == ("node2/9", 3, 0.1)


def test_a_run_of_a_part_has_only_that_part_left(made):
    made.done(*made.tasks(0, "ingest"), begun=NOW - 10)
    made.lock()
    made.record(todo={"ingest": 3, "link": 1})
    assert snapshot(made).seconds_left == pytest.approx(10 / 3)  # linking takes as long as the tasks so far


def test_a_resumed_run_counts_what_is_done_and_measures_its_own_tasks_only(made):
    made.done(*made.tasks(0), *made.tasks(1, "ingest"), run="earlier", begun=NOW - 200, worker="node5/5")
    made.lock()
    made.record()
    seen = snapshot(made)
    assert (seen.tasks_done, states(seen)) == (11, ["done", "partial", "to do"])
    assert (seen.rate, seen.seconds_left, seen.workers, seen.memory) == (None, None, (), 0)
    made.done(*made.tasks(1, "link"), begun=NOW - 20)
    seen = snapshot(made)
    assert states(seen) == ["done", "in work", "to do"]
    assert [worker.worker for worker in seen.workers] == ["node1/7"]
    assert seen.rate == Rate(0.0, 0.0)  # linking is no pass over frames


def test_only_what_was_appended_is_read(made, monkeypatch):
    made.done(*made.tasks(0))
    made.lock()
    live, lines = LiveRun(made.output, lambda: NOW), []
    take = LedgerFile.parse
    monkeypatch.setattr(LedgerFile, "parse", lambda self, line: lines.append(line) or take(self, line))
    made.failed(made.tasks(1)[0])
    assert live.snapshot().failures == (FovFailure(1, "algorithm", "frame 3 is dark. Fix: leave it out", 1),)
    lines.clear()
    with (made.output / LEDGER).open("ab") as file:
        file.write(b'{"done":{"key":"ingest-f')  # the run is writing
    assert live.snapshot().tasks_done == 8
    assert lines == []
    os.truncate(made.output / LEDGER, (made.output / LEDGER).read_bytes().rfind(b"\n") + 1)
    made.done(*made.tasks(1))
    lines.clear()
    seen = live.snapshot()
    assert (seen.tasks_done, seen.failures, states(seen)) == (16, (), ["done", "done", "to do"])
    assert len(lines) == 8


@pytest.mark.parametrize("how", ["shortened", "replaced"])
def test_a_ledger_that_is_not_the_one_that_was_read_is_read_again(made, how):
    made.done(*made.tasks(0))
    live, path = LiveRun(made.output, lambda: NOW), made.output / LEDGER
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    if how == "shortened":
        os.truncate(path, len(content) - len(lines[-1]))
    else:
        (made.output / "new").write_bytes(b"".join(lines[:-1]) + lines[-2])
        (made.output / "new").replace(path)
    assert live.snapshot().tasks_done == 7


def test_lines_that_a_full_disk_took_back_are_forgotten(made):
    made.done(*made.tasks(0))
    live, path = LiveRun(made.output, lambda: NOW), made.output / LEDGER
    last = path.read_bytes().splitlines(keepends=True)[-1]
    os.truncate(path, path.stat().st_size - len(last))
    made.failed(made.tasks(2)[0], "x" * (len(last) + 50))
    assert live.snapshot().tasks_done == 7


def test_failed_fovs_have_their_reason_and_take_no_time(made):
    made.done(*made.tasks(0, "ingest"), *made.tasks(1, "ingest"), begun=NOW - 20)
    for _ in range(2):
        made.failed(made.tasks(1, "link")[0])
    made.lock()
    seen = snapshot(made)
    assert states(seen) == ["in work", "failed", "to do"]
    assert (seen.failures[0].attempts, seen.failures[0].cause) == (2, "algorithm")
    assert seen.seconds_left == pytest.approx((5 + 8) * 10 / 3)


# ------------------------------------------------------------------------------------------- whether a run is active


def test_an_output_without_a_run_is_refused(tmp_path):
    for output in (tmp_path / "none", tmp_path):
        with pytest.raises(OutputError, match="holds no run of pyama_dask"):
            LiveRun(output)


def test_a_damaged_plan_is_refused(made):
    document = json.loads((made.output / PLAN).read_text())
    document["settings"]["now"]["params"]["frames"] = "many"
    (made.output / PLAN).write_text(json.dumps(document))
    with pytest.raises(OutputError, match=r"plan.json: is damaged. Fix: run again"):
        LiveRun(made.output)


def test_a_lock_that_cannot_be_read_is_named(made):
    lock_path(made.output).mkdir()
    with pytest.raises(OutputError, match=r"lock: cannot be read: Is a directory\. Fix: check its permissions"):
        LiveRun(made.output)


@pytest.mark.parametrize(
    "record", [{"started": "x", "alarms": 5}, {"todo": {"ingest": "x"}}, {"jobs": [], "run": None}]
)
def test_damaged_fields_of_the_record_are_left_out(made, record):
    made.done(*made.tasks(0))
    made.lock()
    made.record(**record)
    assert snapshot(made).tasks_done == 8


def test_a_run_that_starts_has_no_plan_yet(made):
    (made.output / PLAN).rename(made.output / "later")
    made.lock()
    live = LiveRun(made.output, lambda: NOW)
    seen = live.snapshot()
    assert (seen.state, seen.tasks, seen.fovs) == ("starting", 0, ())
    (made.output / "later").rename(made.output / PLAN)
    made.record(
        jobs="jobs: 2 running", alarms=["no task has ended for 10.0 min"], dashboard="http://127.0.0.1:1/status"
    )
    seen = live.snapshot()
    assert (seen.state, seen.tasks, seen.jobs) == ("running", 24, "jobs: 2 running")
    assert (seen.alarms, seen.dashboard) == (("no task has ended for 10.0 min",), "http://127.0.0.1:1/status")


def test_a_run_that_is_stopping(made):
    made.lock(stopping=True)
    assert snapshot(made).state == "stopping"


def test_after_a_kill_nothing_runs_and_what_is_done_stays(made):
    made.done(*made.tasks(0))
    made.lock(started=5.0)
    made.record(jobs="jobs: 2 running", dashboard="http://127.0.0.1:1/status")
    seen = snapshot(made)
    assert (seen.state, seen.tasks_done, states(seen)) == ("killed", 8, ["done", "to do", "to do"])
    assert (seen.is_active, seen.jobs, seen.dashboard, seen.rate, seen.host) == (False, "", "", None, "")
    assert [worker.tasks for worker in seen.workers] == [8]


@pytest.mark.parametrize(
    ("report", "ended"),
    [
        ({}, "complete"),
        ({"cancelled": True}, "cancelled"),
        ({"stopped": "the disk is full", "cancelled": True}, "stopped"),
        ({"fovs": [{"status": "done"}, {"status": "failed"}]}, "failed"),
        (None, ""),
    ],
)
def test_how_the_last_run_ended(made, report, ended):
    if report is not None:
        document = {"fovs": [], "stopped": None, "cancelled": False} | report
        (made.output / REPORT).write_text(json.dumps(document))
    assert (snapshot(made).state, snapshot(made).ended) == ("ended", ended)


def test_a_run_elsewhere_is_alive_while_it_touches_its_lock_whatever_the_clocks_say(made, monkeypatch):
    monkeypatch.setattr("pyama_dask.store.lock_file.time.time", lambda: NOW)
    made.lock(ago=30, **ELSEWHERE)
    assert snapshot(made).state == "starting"
    made.lock(ago=300, **ELSEWHERE)
    live = LiveRun(made.output, lambda: NOW)
    assert live.snapshot().state == "killed"
    made.lock(ago=295, **ELSEWHERE)
    assert live.snapshot().is_active
    live._clock = lambda: NOW + 61
    assert not live.snapshot().is_active


# --------------------------------------------------------------------------------------------- outputs of real runs


def test_of_a_finished_run_it_says_what_status_says_and_writes_nothing(finished):
    before = {name: (finished / name).stat().st_mtime_ns for name in listing(finished)}
    seen = LiveRun(finished).snapshot()
    assert (seen.state, seen.ended, seen.tasks_done) == ("ended", "complete", seen.tasks)
    assert states(seen) == [fov["status"] for fov in read_status(finished)["fovs"]]
    assert all(step.frames_done == step.frames == 20 for step in seen.steps)
    assert sum(worker.tasks for worker in seen.workers) == seen.tasks
    assert before == {name: (finished / name).stat().st_mtime_ns for name in listing(finished)}


def test_receipts_of_older_versions_have_no_times_and_workers(copied):
    path = copied / LEDGER
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    for entry in entries:
        for key in ("crc", "ledger"):
            entry.pop(key, None)
        for key in ("begun", "worker", "spent", "run"):
            entry.get("done", {}).pop(key, None)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in [{"ledger": 1}, *entries[1:]]))
    (copied / ".pyama_dask/run.json").unlink()
    seen = LiveRun(copied).snapshot()
    assert (seen.tasks_done, states(seen)) == (seen.tasks, ["done", "done"])
    assert (seen.workers, seen.rate, seen.started) == ((), None, 0.0)
