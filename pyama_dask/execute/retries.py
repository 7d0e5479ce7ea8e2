"""What is tried again after a failure, and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import WorkerLostError
from pyama_dask.workflow.failure import CERTAIN, Cause, cause_of
from pyama_dask.workflow.graph import Kind
from pyama_dask.workflow.task import Task

LOST_JOBS = 10
"""Jobs of a queue that a task may lose to pre-emption, failing nodes or walltime before its FOV is given up."""
FEWER = 4
"""A task that was too large for a worker's memory is tried again with this part of its frames at once."""


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
        if cause == "memory" and task.block is not None:
            smaller = with_fewer_frames(task)
            room = (smaller or task).frames_at_once
            self._at_once[task.kind] = min(room, self._at_once.get(task.kind, room))
            return smaller
        return task if failed <= self._cluster.retries else None


def with_fewer_frames(task: Task) -> Task | None:
    """Give a task that works on fewer of its frames at once; None if it has one only."""
    frames = task.frames_at_once
    return replace(task, at_once=max(1, frames // FEWER)) if task.block is not None and frames > 1 else None
