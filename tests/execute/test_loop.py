"""The loop: tasks in order, everything recorded, failures kept to their FOV; with scripted tasks, not real ones."""

import errno
import itertools
import os
import threading
import time
from collections import Counter

import pytest
from support.ledgers import recorded
from support.strategies import movie, plan_of

from pyama_dask.errors import (
    AlgorithmError,
    ClusterError,
    DamagedError,
    DiskError,
    MissingFrameError,
    OutputError,
    StoreError,
    WalltimeError,
    WorkerLostError,
)
from pyama_dask.execute.events import Events
from pyama_dask.execute.loop import execute
from pyama_dask.execute.policy import LOST_JOBS, REPAIRS
from pyama_dask.execute.pool import SerialPool
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.task import Receipt

EVENT = {"step", "fov", "frame", "total", "message"}


class Script:
    """Stands for all tasks: notes each call, and fails where it is told to.

    Parameters
    ----------
    faults
        By task key, the errors of its first calls.
    """

    def __init__(self, **faults):
        self.faults = {key.replace("_", "-"): list(errors) for key, errors in faults.items()}
        self.calls = []

    def __call__(self, task, job):
        self.calls.append(task)
        if faults := self.faults.get(task.key):
            raise faults.pop(0)
        return Receipt(task.key, task.digests, {}, 0.01, 0, 0, 0)


BATCHES = {"block_frames": 4, "chunks": "block"}
"""Blocks that are done in one batch."""


class Run:
    """One execution of a plan with a script."""

    def __init__(
        self, tmp_path, script, *, fovs=3, cancel_after=None, prepare=None, check=lambda: None, clock=time.monotonic,
        pool=SerialPool, progress=None, **cluster,
    ):  # fmt: skip
        self.plan = plan_of(movie(fovs=fovs), storage=BATCHES, cluster={"kind": "serial"} | cluster)
        self.events, self.prepared, self.tidied, self.repaired, self.script = [], [], [], [], script
        self.cancel = threading.Event()
        self.cancel_after = cancel_after
        with Ledger(tmp_path / "ledger.jsonl", check) as ledger:
            self.ledger = ledger
            self.execution = execute(
                self.plan, pool(self.task), ledger, prepare=lambda fov: (prepare or self.prepared.append)(fov) or [],
                settle=lambda tasks: tasks, tidy=lambda fov: self.tidied.append(fov) or [], repair=self.repair,
                progress=progress or self.events.append, cancel=self.cancel, clock=clock,
            )  # fmt: skip
            self.failed = self.execution.failed

    def repair(self, fov, damaged):
        """Take back all that a FOV has recorded."""
        self.repaired.append((fov, set(damaged)))
        self.ledger.void({key: [*recorded(self.ledger)[key]] for key in self.ledger.keys_of(fov)})
        return self.plan.fovs[fov], [f"FOV {fov} repaired"]

    def task(self, task, job):
        if len(self.script.calls) == self.cancel_after:
            self.cancel.set()
        # every task of the FOV's kinds before must be recorded by now
        kinds = [*GRAPH.kinds]
        earlier = kinds[: kinds.index(task.kind)]
        before = [t for t in self.plan.fovs[task.fov].tasks if t.kind in earlier]
        assert all(self.ledger.has(t.key, s, d) for t in before for s, d in t.digests.items())
        return self.script(task, job)

    @property
    def calls(self):
        return [task.key for task in self.script.calls]


def test_every_task_is_done_once_and_recorded(tmp_path):
    run = Run(tmp_path, Script())
    assert sorted(run.calls) == sorted(task.key for task in run.plan.tasks)
    assert run.failed == {}
    assert all(run.ledger.has(t.key, s, d) for t in run.plan.tasks for s, d in t.digests.items())


def test_every_fov_is_prepared_once_before_its_first_task(tmp_path):
    script = Script()
    seen = []
    run = Run(tmp_path, script, prepare=lambda fov: seen.append((fov.fov, {t.fov for t in script.calls})))
    assert [fov for fov, _ in seen] == [0, 1, 2]
    assert all(fov not in begun for fov, begun in seen)
    assert run.failed == {}


@pytest.mark.parametrize("size", [1, 2])
def test_no_more_fovs_are_in_flight_than_the_window_holds(tmp_path, size):
    run = Run(tmp_path, Script(), fovs=5, batch_size=size)
    open_fovs, widest = set(), 0
    for task in run.script.calls:
        open_fovs.add(task.fov)
        widest = max(widest, len(open_fovs))
        if task.kind == "gather":
            open_fovs.discard(task.fov)
    assert widest == size


def test_a_failure_is_tried_again_and_counted(tmp_path):
    run = Run(tmp_path, Script(link_fov001=[OSError("disk away")]), retries=1)
    assert Counter(run.calls)["link-fov001"] == 2
    assert run.failed == {}
    assert run.ledger.failed == {}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_after_its_retries_a_failure_fails_its_fov_alone(tmp_path, retries):
    script = Script(link_fov001=[OSError(f"disk away {k}") for k in range(9)])
    run = Run(tmp_path, script, retries=retries)
    assert Counter(run.calls)["link-fov001"] == 1 + retries
    assert run.failed == {1: Failure("storage", f"FOV 1, link: OSError: disk away {retries}")}
    assert run.ledger.failed.keys() == {"link-fov001"}
    assert {t.key for t in run.script.calls if t.fov == 1 and t.kind in ("finish", "gather")} == set()
    for fov in (0, 2):
        assert {t.key for t in run.script.calls if t.fov == fov} == {t.key for t in run.plan.fovs[fov].tasks}


@pytest.mark.parametrize("error", [AlgorithmError("FOV 0, frame 3: odd"), MissingFrameError("FOV 0, frame 3: gone")])
def test_what_would_fail_again_is_not_tried_again(tmp_path, error):
    run = Run(tmp_path, Script(ingest_fov000_b000=[error]), retries=5)
    assert Counter(run.calls)["ingest-fov000-b000"] == 1
    assert run.failed[0].reason == str(error)


def test_blocks_beside_a_failed_one_are_recorded_still(tmp_path):
    run = Run(tmp_path, Script(ingest_fov000_b000=[AlgorithmError("odd")]))
    assert "ingest-fov000-b002" in recorded(run.ledger)


def test_a_fov_with_damaged_files_is_repaired_when_all_of_its_tasks_have_ended(tmp_path):
    script = Script(finish_fov001_b000=[DamagedError("bad", "a")], finish_fov001_b002=[DamagedError("bad", "b")])
    run = Run(tmp_path, script)
    assert run.repaired == [(1, {"a", "b"})]
    assert run.failed == {}
    assert run.calls.count("ingest-fov001-b000") == 2
    assert run.calls.count("ingest-fov000-b000") == 1
    assert all(run.ledger.has(t.key, s, d) for t in run.plan.tasks for s, d in t.digests.items())
    assert run.execution.warnings == [
        "FOV 1: a was damaged; it is regenerated with everything derived from it", "FOV 1 repaired",
    ]  # fmt: skip


def test_a_fov_whose_files_are_damaged_again_and_again_fails(tmp_path):
    run = Run(tmp_path, Script(gather_fov001=[DamagedError("bad", "a")] * 9))
    assert len(run.repaired) == REPAIRS
    assert run.failed.keys() == {1}
    assert (run.failed[1].cause, "damaged more than 3 times" in run.failed[1].reason) == ("storage", True)


def test_a_fov_that_cannot_be_prepared_fails_alone(tmp_path):
    def prepare(fov):
        if fov.fov == 1:
            raise OSError("no light left")

    run = Run(tmp_path, Script(), prepare=prepare)
    assert run.failed.keys() == {1}
    assert "no light left" in run.failed[1].reason
    assert {task.fov for task in run.script.calls} == {0, 2}


@pytest.mark.parametrize("after", [0, 1, 7])
def test_cancelling_hands_out_nothing_more_and_keeps_what_is_recorded(tmp_path, after):
    run = Run(tmp_path, Script(), cancel_after=after)
    assert len(run.calls) == after + 1
    assert set(recorded(run.ledger)) >= set(run.calls[:after])
    assert run.failed == {}


def test_events_have_all_keys_and_every_step_reaches_its_total(tmp_path):
    run = Run(tmp_path, Script(ingest_fov001_b001=[AlgorithmError("odd")]))
    assert all(event.keys() == EVENT for event in run.events)
    assert {event["total"] for event in run.events} == {10}
    for fov in (0, 2):
        mine = [event for event in run.events if event["fov"] == fov]
        for step in run.plan.steps:
            frames = [event["frame"] for event in mine if event["step"] == step]
            assert frames == sorted(frames)
            assert frames[-1] == 10
        assert mine[-1]["step"] == "done"
    ends = Counter((event["step"], event["fov"]) for event in run.events if event["step"] in ("done", "failed"))
    assert ends == {("done", 0): 1, ("failed", 1): 1, ("done", 2): 1}


def test_no_task_waits_for_a_callback_that_does_not_return(tmp_path):
    seen, over = [], threading.Event()

    def slow(event):
        seen.append(event)
        assert over.wait(60)

    with Events(slow, threading.Event(), patience=0.05) as tell:
        run = Run(tmp_path, Script(), progress=tell)
        assert (len(run.calls), len(seen)) == (len(run.plan.tasks), 1)
        over.set()
    assert [event["fov"] for event in seen if event["step"] == "done"] == [0, 1, 2]


# ------------------------------------------------------------------------------- what ends a run, and what does not


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_stops_the_run_and_blames_no_fov(tmp_path, number):
    run = Run(tmp_path, Script(link_fov001=[OSError(number, os.strerror(number))]), retries=3)
    assert isinstance(run.execution.stopped, DiskError)
    assert os.strerror(number) in str(run.execution.stopped)
    assert run.failed == {}
    assert run.ledger.failed == {}
    assert run.calls[-1] == "link-fov001"


def test_a_full_disk_under_a_shard_stops_the_run(tmp_path):
    error = StoreError("c.0.0.0: cannot be written: No space left on device")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "No space left" in str(Run(tmp_path, Script(link_fov001=[error])).execution.stopped)


def test_a_disk_that_is_full_when_a_fov_is_prepared_stops_the_run(tmp_path):
    def prepare(fov):
        if fov.fov == 1:
            raise OSError(errno.ENOSPC, "full")

    run = Run(tmp_path, Script(), prepare=prepare, batch_size=1)
    assert isinstance(run.execution.stopped, DiskError)
    assert {task.fov for task in run.script.calls} == {0}


def test_a_task_too_large_for_memory_has_fewer_frames_at_once_and_so_have_those_after_it(tmp_path):
    run = Run(tmp_path, Script(ingest_fov000_b000=[MemoryError()]), batch_size=1, retries=0)
    assert run.failed == {}
    assert [task.at_once for task in run.script.calls if task.key == "ingest-fov000-b000"] == [4, 1]
    later = {task.at_once for task in run.script.calls if task.kind == "ingest" and task.fov > 0}
    assert later == {1}
    assert {task.at_once for task in run.script.calls if task.kind == "finish"} == {4}


def test_a_task_that_does_not_fit_with_one_frame_fails_its_fov(tmp_path):
    run = Run(tmp_path, Script(ingest_fov000_b000=[MemoryError(f"try {k}") for k in range(9)]))
    assert run.failed == {0: Failure("memory", "FOV 0, frames 0-3, ingest: MemoryError: try 1")}


def test_lost_workers_are_no_failures_until_a_task_has_taken_several(tmp_path):
    lost = [WorkerLostError(f"worker {k} was lost") for k in range(9)]
    run = Run(tmp_path, Script(ingest_fov000_b000=lost[:2], link_fov001=lost), retries=0, lost_workers=3)
    assert Counter(run.calls)["ingest-fov000-b000"] == 3
    assert Counter(run.calls)["link-fov001"] == 3
    assert run.failed == {1: Failure("worker lost", "FOV 1, link: worker 2 was lost")}


def test_the_end_of_a_job_is_no_fault_of_the_task(tmp_path):
    gone = [WorkerLostError("its job is gone", with_job=True) for _ in range(LOST_JOBS - 1)]
    run = Run(tmp_path, Script(gather_fov001=gone), lost_workers=1, retries=0)
    assert run.failed == {}
    assert Counter(run.calls)["gather-fov001"] == LOST_JOBS


def test_a_task_whose_jobs_end_again_and_again_fails_its_fov(tmp_path):
    run = Run(tmp_path, Script(gather_fov001=[WorkerLostError("gone", with_job=True) for _ in range(99)]))
    assert run.failed == {1: Failure("worker lost", "FOV 1, gather: gone")}
    assert Counter(run.calls)["gather-fov001"] == LOST_JOBS


def test_a_job_that_a_queue_ends_for_its_memory_takes_fewer_frames_and_blames_no_neighbour(tmp_path):
    def large():
        return [WorkerLostError("too large", over_memory=True, with_job=True) for _ in range(3)]

    run = Run(tmp_path, Script(ingest_fov000_b000=large(), gather_fov001=large()), retries=0)
    assert run.failed == {}
    assert [task.frames_at_once for task in run.script.calls if task.key == "ingest-fov000-b000"] == [4, 1, 1, 1]


def test_a_task_that_has_no_time_is_given_to_another_job_and_is_no_attempt(tmp_path):
    run = Run(tmp_path, Script(link_fov001=[WalltimeError("its job ends in 3 s")] * 5), retries=0)
    assert run.failed == {}
    assert Counter(run.calls)["link-fov001"] == 6
    assert "failed" not in (tmp_path / "ledger.jsonl").read_text()


def test_jobs_that_never_have_time_stop_the_run(tmp_path):
    run = Run(tmp_path, Script(link_fov001=[WalltimeError("its job ends in 3 s", young=True)] * 99))
    assert isinstance(run.execution.stopped, ClusterError)
    assert "although the job was new, as were 5 jobs before it. Fix: raise cluster.walltime" in str(
        run.execution.stopped
    )
    assert Counter(run.calls)["link-fov001"] == 6


def test_any_number_of_jobs_may_be_near_their_end(tmp_path):
    run = Run(tmp_path, Script(link_fov001=[WalltimeError("its job ends in 3 s")] * 99))
    assert run.execution.stopped is None
    assert run.failed == {}


def test_a_task_that_no_job_lasts_for_stops_the_run_with_the_arithmetic(tmp_path):
    queue = {"kind": "slurm", "jobs": 1, "memory": "8GiB", "walltime": "00:01:00"}
    cut_off = WorkerLostError("walltime", with_job=True, ran=39.0)
    run = Run(tmp_path, Script(ingest_fov000_b000=[cut_off] * 3), **queue)
    assert "takes 39 s or more, but a job has 40 s for tasks" in str(run.execution.stopped)
    assert run.failed == {}


def test_tasks_know_how_long_they_may_take(tmp_path):
    queue = {"kind": "slurm", "jobs": 1, "memory": "8GiB", "walltime": "00:10:00", "batch_size": 1}
    run = Run(tmp_path, Script(), **queue)
    links = [task.seconds for task in run.script.calls if task.kind == "link"]
    assert links == pytest.approx([0, 0.02, 0.02])  # twice what the script says


def test_alarms_reach_the_report(tmp_path):
    seconds = itertools.count(step=60)  # the clock goes on by a minute whenever it is read
    run = Run(tmp_path, Script(), alarm=0.5, clock=lambda: next(seconds))
    assert run.execution.warnings == []
    run = Run(tmp_path / "slow", Script(), alarm=0.5, clock=lambda: next(seconds), pool=Slow)
    assert run.execution.warnings
    assert all(warning.startswith("no task has ended for") for warning in run.execution.warnings)


class Slow(SerialPool):
    """Pool in which no task ends every other time."""

    asked = 0

    def next(self, timeout):
        self.asked += 1
        return super().next(timeout) if self.asked % 2 else []


def test_an_output_that_is_taken_over_ends_the_run_and_records_nothing_more(tmp_path):
    script = Script()

    def check():
        if len(script.calls) == 4:
            raise OutputError("taken over")

    with pytest.raises(OutputError, match="taken over"):
        Run(tmp_path, script, check=check)
    assert len(recorded(Ledger(tmp_path / "ledger.jsonl"))) == 3
