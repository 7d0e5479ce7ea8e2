"""Failures: what kind of thing went wrong with a task, and whether it is tried again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

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
from pyama_dask.workflow.task import Task

Cause = Literal["input", "algorithm", "memory", "worker lost", "storage"]
CERTAIN = (AlgorithmError, ConfigError, MissingFrameError, UnsupportedSourceError)
"""Failures that would happen again."""


@dataclass(frozen=True)
class Failure:
    """Reason why a task, and with it its FOV, failed."""

    cause: Cause
    reason: str
    """Message for the report: where, and what."""

    def __str__(self) -> str:
        return f"{self.cause}: {self.reason}"

    def with_title(self, fov: int, title: str) -> Failure:
        """The same, with the title of its FOV, such as ``FOV 3 (B02 s2)``, instead of its number."""
        return replace(self, reason=re.sub(rf"\bFOV {fov}\b(?! \()", lambda _: title, self.reason, count=1))

    @classmethod
    def of(cls, task: Task, error: BaseException) -> Failure:
        """Put into words what a task has raised, or what became of its worker."""
        reason = str(error) if isinstance(error, PyamaError) else exception_text(error)
        return cls(cause_of(error), reason if f"FOV {task.fov}" in reason else f"{place_of(task)}: {reason}")


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
    if task.block is None:
        return f"{task.place}, {task.kind}"
    return f"{task.place}, frames {task.start}-{task.stop - 1}, {task.kind}"
