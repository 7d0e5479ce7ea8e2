"""Jobs of a run and their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyama_dask.launch.queue_commands import Listed


@dataclass
class Job:
    """A job in the queue."""

    number: str
    name: str
    """Of its workers."""
    submitted: float
    listed: Listed | None = None
    came: bool = False
    """Whether a worker of it has come."""
    began: float | None = None
    """When it was found to run."""
    idle_since: float | None = None
    """Since when it has run without a worker."""


def jobs_of(worker: str) -> tuple[str, str]:
    """Names that the job of a worker may have: the worker's own, or that without the number of its process."""
    return worker, worker.rpartition("-")[0]


@dataclass(frozen=True)
class JobCounts:
    """Jobs of a run."""

    running: int = 0
    pending: int = 0
    submitted: int = 0
    """Since the run began."""
    lost: int = 0
    """Ended before their time, after their workers had come."""
    never_came: int = 0
    """Ended before any worker had come."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Jobs that are gone, by why."""
