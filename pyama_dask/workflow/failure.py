"""Failures: what kind of thing went wrong with a task, and whether it is tried again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from pyama_dask.config.models import Cluster
from pyama_dask.config.units import exception_text
from pyama_dask.errors import (
    AlgorithmError,
    ConfigError,
    MissingFrameError,
    PyamaError,
    SourceError,
    StoreError,
    UnsupportedSourceError,
    WorkerLostError,
)
from pyama_dask.workflow.task import BLOCKED, Kind, Task

Cause = Literal["input", "algorithm", "memory", "worker lost", "storage"]

CERTAIN = (AlgorithmError, ConfigError, MissingFrameError, UnsupportedSourceError)
"""Failures that would happen again."""
LOST_JOBS = 10
"""Jobs of a queue that a task may lose to pre-emption, failing nodes or walltime before its FOV is given up."""
FEWER = 4
"""A task that was too large for a worker's memory is tried again with this part of its frames at once."""


@dataclass(frozen=True)
class Failure:
    """Why a task, and with it its FOV, failed."""

    cause: Cause
    reason: str
    """For a person: where, and what."""

    def __str__(self) -> str:
        return f"{self.cause}: {self.reason}"

    @classmethod
    def of(cls, task: Task, error: BaseException) -> Failure:
        """Put into words what a task has raised, or what became of its worker."""
        said = str(error) if isinstance(error, PyamaError) else exception_text(error)
        return cls(cause_of(error), said if f"FOV {task.fov}" in said else f"{place_of(task)}: {said}")


def cause_of(error: BaseException) -> Cause:
    """Tell what kind of thing went wrong."""
    if isinstance(error, MemoryError) or (isinstance(error, WorkerLostError) and error.over_memory):
        return "memory"
    if isinstance(error, WorkerLostError):
        return "worker lost"
    if isinstance(error, SourceError | MissingFrameError):
        return "input"
    if isinstance(error, StoreError | OSError):
        return "storage"
    return "algorithm"


def place_of(task: Task) -> str:
    """Name the frames of a task, counted in the output."""
    if task.kind not in BLOCKED:
        return f"FOV {task.fov}, {task.kind}"
    return f"FOV {task.fov}, frames {task.start}-{task.stop - 1}, {task.kind}"


class Attempts:
    """How often the tasks of a run have failed, and how they are tried again.

    Parameters
    ----------
    cluster
        Part of the config; says how often.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._failed: Counter[tuple[str, Cause]] = Counter()
        self._lost_jobs: Counter[str] = Counter()
        self._at_once: dict[Kind, int] = {}

    def fitted(self, task: Task) -> Task:
        """Give a task with no more frames at once than those of its kind have been found to have room for."""
        room = self._at_once.get(task.kind, task.frames_at_once)
        return replace(task, at_once=room) if room < task.frames_at_once else task

    def again(self, task: Task, error: BaseException) -> Task | None:
        """Give the task as it is to be tried once more; None if that is of no use any more.

        A task that was too large for a worker's memory has fewer frames at once. So has one that has taken two
        workers with it and nobody knows why: the system may have been short of memory, and does not say so. The end of
        a whole job is no fault of the task.
        """
        cause = cause_of(error)
        if isinstance(error, WorkerLostError) and error.with_job:
            self._lost_jobs[task.key] += 1
            smaller = with_fewer_frames(task) if error.over_memory else None
            return (smaller or task) if self._lost_jobs[task.key] < LOST_JOBS else None
        self._failed[task.key, cause] += 1
        failed = self._failed[task.key, cause]
        if isinstance(error, CERTAIN):
            return None
        if cause == "worker lost":
            smaller = with_fewer_frames(task) if failed > 1 else task
            return (smaller or task) if failed < self._cluster.lost_workers else None
        if cause == "memory" and task.kind in BLOCKED:
            smaller = with_fewer_frames(task)
            room = (smaller or task).frames_at_once
            self._at_once[task.kind] = min(room, self._at_once.get(task.kind, room))
            return smaller
        return task if failed <= self._cluster.retries else None


def with_fewer_frames(task: Task) -> Task | None:
    """Give a task that works on fewer of its frames at once; None if it has one only."""
    frames = task.frames_at_once
    return replace(task, at_once=max(1, frames // FEWER)) if task.kind in BLOCKED and frames > 1 else None
