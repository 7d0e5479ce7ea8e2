"""Decisions after each task: pure functions from the outcome of a task and its history to what the loop does next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import (
    CancelledError,
    ClusterError,
    DamagedError,
    PyamaError,
    StoreError,
    WalltimeError,
    WorkerLostError,
)
from pyama_dask.execute.walltime import walltime_of
from pyama_dask.files.atomic import disk_error
from pyama_dask.workflow.failure import CERTAIN, Cause, Failure, cause_of
from pyama_dask.workflow.task import Job, Receipt, Task

Outcome = Receipt | BaseException
"""Receipt of a finished task, or the exception that ended it."""
Trouble = Cause | Literal["job lost", "new job too short", "job near its end", "damaged input", "cancelled"]
"""Reason why a task did not finish: the cause of a failure, or an event for which the task is not to blame."""

LOST_JOBS = 10
"""Jobs that a task may lose to pre-emption, failed nodes or walltime before its FOV fails."""
SHORT_JOBS = 5
"""New jobs that may be too short for a task before the run stops; jobs near their end are not counted."""
REPAIRS = 3
"""Repairs of a FOV with damaged files in one run; after more damage, the disk is not to be trusted."""
FEWER = 4
"""Factor by which the batches of frames shrink when a task exceeds the memory of its worker."""


# ----------------------------------------------------------------------------------------- decisions


@dataclass(frozen=True)
class Done:
    """The task has finished."""

    receipt: Receipt


@dataclass(frozen=True)
class Retry:
    """Run the task again as it is."""

    failure: Failure | None = None
    """Failed attempt to record; None if the task is not to blame."""


@dataclass(frozen=True)
class FewerFrames:
    """Run the task again with smaller batches of frames."""

    failure: Failure
    frames: int
    """Frames per batch."""
    for_kind: bool
    """True if the other tasks of this kind must not use larger batches either."""


@dataclass(frozen=True)
class Repair:
    """Regenerate a damaged file that the task reads, and everything derived from it."""

    path: str
    """Path in the output."""


@dataclass(frozen=True)
class Fail:
    """Give up the FOV of the task."""

    failure: Failure


@dataclass(frozen=True)
class Stop:
    """Stop the run."""

    error: PyamaError


Decision = Done | Retry | FewerFrames | Repair | Fail | Stop


# ------------------------------------------------------------------------------------------- history


@dataclass(frozen=True)
class History:
    """Earlier events of this run that a decision depends on."""

    troubles: Mapping[Trouble, int] = field(default_factory=dict)
    """Number of earlier attempts of the task that ended with each kind of trouble."""
    repairs: int = 0
    """Repairs of the task's FOV."""
    fov_failed: bool = False
    """True if another task of the FOV has failed."""


def trouble_of(error: BaseException) -> Trouble:
    """Kind of trouble that an exception of a task stands for."""
    if isinstance(error, CancelledError):
        return "cancelled"
    if isinstance(error, WalltimeError):
        return "new job too short" if error.young else "job near its end"
    if isinstance(error, DamagedError):
        return "damaged input"
    if isinstance(error, WorkerLostError) and error.with_job:
        return "job lost"
    return cause_of(error)


# ------------------------------------------------------------------------------------------ policy


def decide(task: Task, outcome: Outcome, history: History, job: Job) -> Decision:
    """Decide what to do about a task that has ended.

    Parameters
    ----------
    task
        Task as it was submitted.
    outcome
        Its receipt, or the exception that ended it.
    history
        Earlier events of the run.
    job
        Data of the run: its output, and ``cluster`` of its config with the numbers of retries.

    Returns
    -------
    Next action of the loop.
    """
    if isinstance(outcome, Receipt):
        return Done(outcome)
    cluster, trouble = job.config.cluster, trouble_of(outcome)
    count = history.troubles.get(trouble, 0) + 1
    if trouble == "cancelled":
        return _after_cancelled(outcome, count)
    if trouble in ("new job too short", "job near its end"):
        return _after_short_job(task, outcome, count if trouble == "new job too short" else 0, cluster)
    if trouble == "damaged input" and isinstance(outcome, DamagedError):
        return _after_damage(task, outcome, history)
    if stop := disk_error(outcome, job.output):
        return Stop(stop)
    decision = _after_failure(task, outcome, count, cluster)
    return Fail(Failure.of(task, outcome)) if history.fov_failed else decision


def _after_cancelled(error: BaseException, count: int) -> Decision:
    """Retry a task once whose worker took the run for cancelled: it may have read the lock during a write."""
    if count == 1:
        return Retry()
    return Stop(
        ClusterError(
            f"cluster: a worker takes this run for cancelled ({error}). "
            "Fix: choose an 'output' on a disk that all workers share"
        )
    )


def _after_short_job(task: Task, error: BaseException, new_jobs: int, cluster: Cluster) -> Decision:
    """Give a task to another job if its own would end too early; stop if even new jobs are too short."""
    if new_jobs <= SHORT_JOBS:
        return Retry()
    blocks = " or lower storage.block_frames" if task.block is not None else ""
    key, walltime = walltime_of(cluster, task.kind)
    return Stop(
        ClusterError(
            f"{error}, although the job was new, as were {SHORT_JOBS} jobs before it. "
            f"Fix: raise {key}, now {walltime}{blocks}"
        )
    )


def _after_damage(task: Task, error: DamagedError, history: History) -> Decision:
    """Repair damaged files, unless the FOV has been repaired too often."""
    if history.repairs < REPAIRS:
        return Repair(error.path)
    words = (
        f"{error.path}: files of this FOV were damaged more than {REPAIRS} times in this run. "
        "Fix: check the disk and the memory of this machine"
    )
    return Fail(Failure.of(task, StoreError(words)))


def _after_failure(task: Task, error: BaseException, count: int, cluster: Cluster) -> Decision:
    """Decide about a failed task as if its FOV had not failed yet.

    A task that exceeded its worker's memory gets smaller batches of frames. So does one that has lost two workers for
    an unknown reason, as the system may have been short of memory. The end of a whole job is no fault of the task.
    """
    failure, trouble, frames = Failure.of(task, error), trouble_of(error), fewer_frames(task)
    same: Decision = Retry(failure)
    fewer = FewerFrames(failure, frames, for_kind=trouble == "memory") if frames else same
    if isinstance(error, CERTAIN):
        return Fail(failure)
    if trouble == "memory" and task.block is not None:
        return fewer if frames else Fail(failure)
    if trouble == "job lost":
        again = fewer if isinstance(error, WorkerLostError) and error.over_memory else same
        most = LOST_JOBS - 1
    elif trouble == "worker lost":
        again, most = fewer if count > 1 else same, cluster.lost_workers - 1
    else:
        again, most = same, cluster.retries
    return again if count <= most else Fail(failure)


def fewer_frames(task: Task) -> int | None:
    """Frames per batch for a task that needs less memory; None if it cannot do with fewer."""
    frames = task.frames_at_once
    return max(1, frames // FEWER) if task.block is not None and frames > 1 else None
