"""Where tasks run: in this process, one after the other, or on the workers of a Dask client.

Futures are dropped at once: nothing that a dying worker holds is ever needed again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from pyama_dask.execute.policy import Outcome
from pyama_dask.readers import close_shared_readers
from pyama_dask.steps import run_task
from pyama_dask.workflow.task import Job, Receipt, Task

Item = TypeVar("Item")
Made = TypeVar("Made")


class Pool(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int:
        """How many tasks can run at once."""
        ...

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks of one kind and FOV."""
        ...

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, for so many seconds; all that have ended by then, or none."""
        ...

    def each(
        self, name: str, function: Callable[[Item], Made], items: Iterable[Item], cancel: threading.Event
    ) -> Iterator[tuple[int, Made]]:
        """Do one thing with each item; give number and result of each when it has ended, in any order.

        Some items are in flight at a time, so that they may be made one after the other. What the function raises is
        raised here; when `cancel` is set, nothing more comes. Nothing is recorded: this is for work that is small
        beside a run's.
        """
        ...

    def status(self) -> str:
        """Say in a few words how it stands with the workers; nothing where there is nothing to say."""
        ...

    def summary(self) -> str:
        """Say in a few words what became of the jobs of a queue; nothing where there is none."""
        ...

    def stop(self, job: Job) -> None:
        """Take back what has not begun; what runs still when this returns stops by itself, at its next frame."""
        ...


class SerialPool:
    """Runs each task in this process, in the order given: for debugging, and what others are compared with."""

    workers = 1

    def __init__(self, function: Callable[[Task, Job], Receipt] = run_task) -> None:
        self._function = function
        self._tasks: queue.SimpleQueue[tuple[Task, Job]] = queue.SimpleQueue()

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks."""
        for task in tasks:
            self._tasks.put((task, job))

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:  # noqa: ARG002  (it never waits)
        """Run the task that was handed out first."""
        task, job = self._tasks.get()
        try:
            return [(task, self._function(task, job))]
        except Exception as error:  # noqa: BLE001  (the loop decides what a failure means)
            return [(task, error)]

    def each(
        self, name: str, function: Callable[[Item], Made], items: Iterable[Item], cancel: threading.Event
    ) -> Iterator[tuple[int, Made]]:
        """Do one thing with each item, one after the other."""
        del name  # of tasks on a dashboard, which there is not
        for number, item in enumerate(items):
            if cancel.is_set():
                return
            yield number, function(item)

    def status(self) -> str:
        """Say nothing: this process has no workers."""
        return ""

    def summary(self) -> str:
        """Say nothing: there is no queue."""
        return ""

    def stop(self, job: Job) -> None:  # noqa: ARG002  (nothing runs between calls)
        """Forget what has not begun, and close the movie."""
        self._tasks = queue.SimpleQueue()
        close_shared_readers()
