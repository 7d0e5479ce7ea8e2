"""Record of a run's jobs in a queue: each job, and their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyama_dask.launch.queue_commands import Listed


@dataclass
class QueuedJob:
    """A job in the queue. Times are on the clock of `Jobs`."""

    number: str
    name: str
    """Name that its workers have, too."""
    submitted: float
    listed: Listed | None = None
    """Latest entry in the queue; None before the first."""
    connected: bool = False
    """True if a worker of the job has connected at any time."""
    began: float | None = None
    """Time when it was first seen running."""
    idle_since: float | None = None
    """Time since when it has run without a worker."""


def jobs_of(worker: str) -> tuple[str, str]:
    """Names that the job of a worker may have: that of the worker, with or without the number of its process."""
    return worker, worker.rpartition("-")[0]


@dataclass(frozen=True)
class JobCounts:
    """Numbers of jobs of a run."""

    running: int = 0
    pending: int = 0
    submitted: int = 0
    """Jobs submitted since the run began."""
    lost: int = 0
    """Jobs that ended early, after their workers had connected."""
    never_connected: int = 0
    """Jobs that ended before any worker had connected."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """Ended jobs by reason."""
