"""Pools that run the tasks of a plan: the interface, and the pool in this process."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from math import prod
from typing import Protocol

from pyama_dask.execute.policy import Outcome
from pyama_dask.readers import close_shared_readers
from pyama_dask.steps import run_task
from pyama_dask.workflow.task import Job, Receipt, Task

SMALL = 16 * 2**20
"""Bytes that a small task reads and writes at most; small tasks may travel together."""
BYTES_PER_PIXEL = 2
"""The same per pixel of a FOV for tasks that read tables, whose bytes the plan does not tell."""


def is_small(task: Task) -> bool:
    """Check whether a task may travel together with others: its block is small, or the whole FOV if it has none."""
    of_fov = 0 if task.block is not None else (task.stop - task.start) * prod(task.shape) * BYTES_PER_PIXEL
    return max(task.bytes_read + task.bytes_written, of_fov) <= SMALL


class Pool(Protocol):
    """Runs tasks, in any order."""

    @property
    def workers(self) -> int:
        """Number of tasks that can run at the same time."""
        ...

    def submit(self, tasks: Sequence[Task], job: Job, *, is_last: bool = False) -> None:
        """Submit tasks of one kind and FOV; `is_last` if no further FOV will start."""
        ...

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, up to `timeout` seconds; return all that have ended."""
        ...

    def status(self) -> str:
        """Return the status of the workers in a few words; '' if there is nothing to report."""
        ...

    def doing(self) -> str:
        """Return which methods run on which frames, in a few words; '' if unknown or none."""
        ...

    def summary(self) -> str:
        """Return a summary of the jobs of a queue; '' without a queue."""
        ...

    def stop(self, job: Job) -> None:
        """Discard tasks that have not started; those still running stop at their next frame."""
        ...


class SerialPool:
    """Runs tasks in this process, in the order of submission; the reference for all other pools."""

    workers = 1

    def __init__(self, function: Callable[[Task, Job], Receipt] = run_task) -> None:
        self._function = function
        self._tasks: queue.SimpleQueue[tuple[Task, Job]] = queue.SimpleQueue()

    def submit(self, tasks: Sequence[Task], job: Job, *, is_last: bool = False) -> None:  # noqa: ARG002
        """Submit tasks."""
        for task in tasks:
            self._tasks.put((task, job))

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:  # noqa: ARG002  (it never waits)
        """Run the task that was submitted first."""
        task, job = self._tasks.get()
        try:
            return [(task, self._function(task, job))]
        except Exception as error:  # noqa: BLE001  (the policy decides what follows)
            return [(task, error)]

    def status(self) -> str:
        """Return ''; there are no workers."""
        return ""

    def doing(self) -> str:
        """Return ''; no task runs while this is asked."""
        return ""

    def summary(self) -> str:
        """Return ''; there is no queue."""
        return ""

    def stop(self, job: Job) -> None:  # noqa: ARG002  (no task runs between calls)
        """Discard the remaining tasks, and close the movie."""
        self._tasks = queue.SimpleQueue()
        close_shared_readers()
