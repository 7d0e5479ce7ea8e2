"""Errors for users: each is a `PyamaError` and also the matching builtin exception."""

from __future__ import annotations

from functools import partial
from typing import Any


class PyamaError(Exception):
    """Base of all errors that pyama_dask raises on purpose.

    The message names the place (file, FOV, key), the problem and the fix.
    """


class ConfigError(PyamaError, ValueError):
    """Config that is invalid or does not fit the movie; the message names the key."""


class SourceError(PyamaError, OSError):
    """Movie file that is absent, truncated, or in another format than its name says."""


class UnsupportedSourceError(SourceError):
    """Readable movie that cannot be processed, such as one with colour or float pixels."""


class MissingFrameError(PyamaError, LookupError):
    """Frame that the file announces but does not hold."""


class OutputError(PyamaError, OSError):
    """Output directory that cannot be used: not writable, in use, or written by another run."""


class TakenOverError(OutputError):
    """Output that another run has taken over, because this one showed no sign of life for too long."""


class DiskError(OutputError):
    """Output on a file system that is full, over quota, or read-only."""


class BusyError(PyamaError, RuntimeError):
    """Run that cannot begin, because another one is at work in this process."""


class ClusterError(PyamaError, ConnectionError):
    """Dask scheduler that is unreachable or lacks what the run needs."""


class QueueError(PyamaError, RuntimeError):
    """Batch queue that does not answer, or rejects a job.

    Parameters
    ----------
    message
        Output of the queue's command.
    passing
        True if the problem may be temporary.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class WalltimeError(PyamaError, TimeoutError):
    """Worker whose job ends before the task would; another worker takes the task.

    Parameters
    ----------
    message
        Description of the problem.
    young
        True if more than half of the job's walltime was left.
    """

    def __init__(self, message: str, *, young: bool = False) -> None:
        super().__init__(message)
        self.young = young

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), young=self.young), (str(self),)


class WorkerLostError(PyamaError, RuntimeError):
    """Worker lost before its task ended; the task is at fault only if this happens repeatedly.

    Parameters
    ----------
    message
        Description of the event.
    over_memory
        True if the worker was killed for exceeding its memory limit.
    with_job
        True if the whole batch job ended for other reasons: pre-emption, node failure, walltime.
    ran
        Seconds that the task had run when its job reached its walltime; 0 in all other cases.
    """

    def __init__(self, message: str, *, over_memory: bool = False, with_job: bool = False, ran: float = 0.0) -> None:
        super().__init__(message)
        self.over_memory, self.with_job, self.ran = over_memory, with_job, ran


class OutOfMemoryError(PyamaError, MemoryError):
    """Method that could not allocate memory; it may succeed with fewer frames, or on a larger worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class TableError(PyamaError, ValueError):
    """Table, or list of tables, that is unreadable or invalid; the message names the line or column."""


class ImageError(PyamaError, ValueError):
    """Image or label image that is unreadable, or does not fit the others; the message names the file."""


class ResultsWarning(UserWarning):
    """Results that are incomplete or inconsistent."""


class SettingsWarning(UserWarning):
    """Setting of a script for the older API that has no effect here."""


class MethodWarning(UserWarning):
    """Observation of a method about a frame that the user should check; it is listed in the report."""


class StoreError(PyamaError, RuntimeError):
    """Stored array that is missing or differs from its record."""


class DamagedError(StoreError):
    """Damaged file in the output that a task reads; it can be regenerated.

    Parameters
    ----------
    message
        Description of the damage.
    path
        Path of the file in the output.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.path)


class PlanError(PyamaError, ValueError):
    """Run that cannot work as configured, such as one whose tasks exceed a worker's memory."""


class MissingStepError(PlanError, FileNotFoundError):
    """Step that is to be done alone, while one that it needs is not done."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class AlgorithmError(PyamaError, RuntimeError):
    """Method that failed on a frame; the message names the FOV and the frame."""


class WrongReturnError(AlgorithmError):
    """Method that returned a wrong type or shape; the message says what it returned and what it must return."""


class CancelledError(PyamaError, InterruptedError):
    """Run that was cancelled; finished work is recorded, and the next run resumes."""
