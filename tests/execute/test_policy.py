"""Decisions after each outcome of a task: every cause with every history."""

import errno
from dataclasses import replace

import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import (
    AlgorithmError,
    CancelledError,
    ClusterError,
    ConfigError,
    DamagedError,
    DiskError,
    MissingFrameError,
    SourceError,
    StoreError,
    UnsupportedSourceError,
    WalltimeError,
    WorkerLostError,
)
from pyama_dask.execute.policy import (
    LOST_JOBS,
    REPAIRS,
    SHORT_JOBS,
    Done,
    Fail,
    FewerFrames,
    History,
    Repair,
    Retry,
    Stop,
    decide,
    fewer_frames,
    trouble_of,
)
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.task import Receipt

PLAN = plan_of(
    movie(fovs=1), storage={"block_frames": 8, "chunks": "block"},
    cluster={"kind": "serial", "retries": 2, "lost_workers": 4},
)  # fmt: skip
BLOCK = PLAN.fovs[0].tasks[0]
"""Task of a block of 8 frames, in one batch."""
FOV = next(task for task in PLAN.fovs[0].tasks if task.block is None)
"""Task of a whole FOV."""
ONE_FRAME = replace(BLOCK, at_once=1)

TROUBLES = {
    "algorithm": ValueError("odd"),
    "input": SourceError("gone"),
    "storage": OSError("disk away"),
    "memory": MemoryError("full"),
    "worker lost": WorkerLostError("signal 11"),
    "job lost": WorkerLostError("its job is gone", with_job=True),
    "new job too short": WalltimeError("ends in 3 s", young=True),
    "job near its end": WalltimeError("ends in 3 s"),
    "damaged input": DamagedError("bad", "fov_000/a"),
    "cancelled": CancelledError("the run is over"),
}
"""Exception for each kind of trouble."""
KILLED_FOR_MEMORY = WorkerLostError("too large", over_memory=True)
JOB_KILLED_FOR_MEMORY = WorkerLostError("too large", over_memory=True, with_job=True)


def after(error, task=BLOCK, **history):
    """Decision after an error; `count` is the number of earlier troubles of the same kind."""
    count = history.pop("count", 0)
    return decide(task, error, History({trouble_of(error): count}, **history), PLAN.job)


def failure(error, task=BLOCK):
    return Failure.of(task, error)


def test_a_receipt_ends_a_task_whatever_happened_before():
    receipt = Receipt(BLOCK.key, BLOCK.digests, {}, 0.01, 0, 0, 0)
    histories = [History(), History(dict.fromkeys(TROUBLES, 99), repairs=99), History(fov_failed=True)]
    assert all(decide(BLOCK, receipt, history, PLAN.job) == Done(receipt) for history in histories)


@pytest.mark.parametrize(("trouble", "error"), TROUBLES.items())
def test_each_exception_has_its_kind_of_trouble(trouble, error):
    assert trouble_of(error) == trouble


def test_workers_killed_for_memory_count_as_memory_and_their_jobs_as_lost():
    assert (trouble_of(KILLED_FOR_MEMORY), trouble_of(JOB_KILLED_FOR_MEMORY)) == ("memory", "job lost")


@pytest.mark.parametrize("trouble", ["algorithm", "input", "storage"])
def test_failures_are_retried_as_often_as_the_config_says(trouble):
    error = TROUBLES[trouble]
    assert [after(error, count=count) for count in range(4)] == [
        Retry(failure(error)), Retry(failure(error)), Fail(failure(error)), Fail(failure(error)),
    ]  # fmt: skip


@pytest.mark.parametrize("error_type", [AlgorithmError, ConfigError, MissingFrameError, UnsupportedSourceError])
def test_failures_that_would_happen_again_are_not_retried(error_type):
    error = error_type("FOV 0, frame 3: odd")
    assert after(error) == Fail(failure(error))


def test_troubles_of_another_kind_do_not_count():
    others = dict.fromkeys(TROUBLES, 99)
    for trouble in ("algorithm", "worker lost", "job lost", "new job too short", "cancelled"):
        history = History(others | {trouble: 0})
        assert isinstance(decide(BLOCK, TROUBLES[trouble], history, PLAN.job), Retry)


@pytest.mark.parametrize("error", [TROUBLES["memory"], KILLED_FOR_MEMORY])
def test_tasks_without_memory_get_a_quarter_of_the_frames_and_so_do_others_of_their_kind(error):
    for count in (0, 99):
        assert after(error, count=count) == FewerFrames(failure(error), 2, for_kind=True)


@pytest.mark.parametrize("error", [TROUBLES["memory"], KILLED_FOR_MEMORY])
def test_a_task_of_a_single_frame_without_memory_fails_alone(error):
    assert after(error, ONE_FRAME) == Fail(failure(error, ONE_FRAME))


def test_tasks_of_a_whole_fov_are_retried_without_memory():
    error = TROUBLES["memory"]
    assert after(error, FOV) == Retry(failure(error, FOV))
    assert after(error, FOV, count=2) == Fail(failure(error, FOV))


@pytest.mark.parametrize(
    ("frames", "fewer"), [(100, 25), (8, 2), (5, 1), (4, 1), (3, 1), (2, 1), (1, None)]
)  # fmt: skip
def test_batches_shrink_to_a_quarter_until_a_single_frame(frames, fewer):
    assert fewer_frames(replace(BLOCK, at_once=frames, stop=200)) == fewer


def test_a_task_fails_when_it_has_lost_several_workers_and_gets_fewer_frames_before():
    error = TROUBLES["worker lost"]
    fewer = FewerFrames(failure(error), 2, for_kind=False)
    assert [after(error, count=count) for count in range(4)] == [
        Retry(failure(error)), fewer, fewer, Fail(failure(error)),
    ]  # fmt: skip
    for task in (FOV, ONE_FRAME):
        assert after(error, task, count=1) == Retry(failure(error, task))


def test_lost_jobs_are_no_fault_of_a_task_until_it_has_lost_many():
    error = TROUBLES["job lost"]
    assert after(error, count=LOST_JOBS - 2) == Retry(failure(error))
    assert after(error, count=LOST_JOBS - 1) == Fail(failure(error))


def test_a_job_killed_for_memory_blames_the_task_but_not_others_of_its_kind():
    error = JOB_KILLED_FOR_MEMORY
    assert after(error) == FewerFrames(failure(error), 2, for_kind=False)
    assert after(error, ONE_FRAME) == Retry(failure(error, ONE_FRAME))
    assert after(error, FOV) == Retry(failure(error, FOV))
    assert after(error, count=LOST_JOBS - 1) == Fail(failure(error))


@pytest.mark.parametrize("count", [0, SHORT_JOBS, 999])
def test_jobs_near_their_end_are_no_attempt(count):
    assert after(TROUBLES["job near its end"], count=count) == Retry()


def test_the_run_stops_when_new_jobs_are_too_short():
    error = TROUBLES["new job too short"]
    assert after(error, count=SHORT_JOBS - 1) == Retry()
    stop = after(error, count=SHORT_JOBS)
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, ClusterError)
    assert str(stop.error).endswith("Fix: raise cluster.walltime, now None or lower storage.block_frames")
    assert "block_frames" not in str(after(error, FOV, count=SHORT_JOBS).error)


def test_damaged_files_are_repaired_and_fail_the_fov_at_once_after_too_many_repairs():
    error = TROUBLES["damaged input"]
    for repairs in range(REPAIRS):
        assert after(error, repairs=repairs, count=99) == Repair("fov_000/a")
    failed = after(error, repairs=REPAIRS)
    assert isinstance(failed, Fail)
    assert failed.failure.cause == "storage"
    assert "fov_000/a: files of this FOV were damaged more than 3 times" in failed.failure.reason


def test_a_task_that_finds_its_run_cancelled_is_retried_once():
    error = TROUBLES["cancelled"]
    assert after(error) == Retry()
    stop = after(error, count=1)
    assert isinstance(stop, Stop)
    assert "Fix: choose an 'output' on a disk that all workers share" in str(stop.error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_stops_the_run(number, wrapped):
    error = OSError(number, "full")
    if wrapped:
        error, error.__cause__ = StoreError("cannot write"), error
    for history in ({}, {"count": 99}, {"fov_failed": True}):
        stop = after(error, **history)
        assert isinstance(stop, Stop)
        assert isinstance(stop.error, DiskError)


@pytest.mark.parametrize("trouble", ["algorithm", "input", "storage", "memory", "worker lost", "job lost"])
def test_nothing_is_retried_in_a_failed_fov(trouble):
    error = TROUBLES[trouble]
    assert after(error, fov_failed=True) == Fail(failure(error))
