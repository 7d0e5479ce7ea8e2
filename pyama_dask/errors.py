"""The errors a person can meet; each is a `PyamaError` and the builtin that fits."""

from __future__ import annotations

from functools import partial
from typing import Any


class PyamaError(Exception):
    """Base of all errors that pyama_dask raises on purpose.

    The message says what is wrong, where (file, FOV, key) and what to do.
    """


class ConfigError(PyamaError, ValueError):
    """A config that is not valid, or does not fit the movie; names the key."""


class SourceError(PyamaError, OSError):
    """A movie file that is absent, truncated, or not what its name says."""


class UnsupportedSourceError(SourceError):
    """A readable movie of a kind that cannot be processed, such as colour or float pixels."""


class MissingFrameError(PyamaError, LookupError):
    """A frame that the file announces but does not hold."""


class OutputError(PyamaError, OSError):
    """An output directory that cannot be used: not writable, in use, or of another run."""


class TakenOverError(OutputError):
    """An output that is another run's now, as this one gave no sign of life for long."""


class DiskError(OutputError):
    """An output whose file system takes nothing more: full, over its quota, or read-only."""


class ClusterError(PyamaError, ConnectionError):
    """A Dask scheduler that is gone, or that does not do what the run needs."""


class QueueError(PyamaError, RuntimeError):
    """A queue of a cluster that does not answer, or does not take a job.

    Parameters
    ----------
    message
        What it said.
    passing
        Whether it may be otherwise a moment later.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class WalltimeError(PyamaError, TimeoutError):
    """A worker whose job ends before the task would; another one does it.

    Parameters
    ----------
    message
        What was found.
    young
        Whether more than half of the job's time was left still.
    """

    def __init__(self, message: str, *, young: bool = False) -> None:
        super().__init__(message)
        self.young = young

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), young=self.young), (str(self),)


class WorkerLostError(PyamaError, RuntimeError):
    """A worker that was gone before its task ended; no fault of the task, unless it happens with it again and again.

    Parameters
    ----------
    message
        What happened.
    over_memory
        Whether the worker was ended because it went over its memory limit.
    with_job
        Whether its whole job ended, of a queue that had other reasons: pre-emption, a node that failed, walltime.
    ran
        Seconds that the task had run when its job came to the end of its walltime; 0 if that was not so.
    """

    def __init__(self, message: str, *, over_memory: bool = False, with_job: bool = False, ran: float = 0.0) -> None:
        super().__init__(message)
        self.over_memory, self.with_job, self.ran = over_memory, with_job, ran


class TableError(PyamaError, ValueError):
    """A table, or a file that lists them, that cannot be read or is not what it should be; names the line or column."""


class ResultsWarning(UserWarning):
    """Results that are not complete, or not of one kind."""


class SettingsWarning(UserWarning):
    """A setting of a script for the older API that has no meaning here."""


class MethodWarning(UserWarning):
    """Something that a method noticed in a frame and that a person should look at; it reaches the report."""


class StoreError(PyamaError, RuntimeError):
    """A stored array that is missing, or not as it was recorded."""


class DamagedError(StoreError):
    """A file of the output that a task reads and that is not as it was recorded; it can be regenerated.

    Parameters
    ----------
    message
        What was found.
    path
        The file, in the output.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.path)


class PlanError(PyamaError, ValueError):
    """A run that cannot work as configured, such as a task that does not fit a worker's memory."""


class AlgorithmError(PyamaError, RuntimeError):
    """A method that failed on a frame; names the FOV and the frame."""


class WrongReturnError(AlgorithmError):
    """A method that gave something else than it must, on whatever data; says what, and what it must give."""


class CancelledError(PyamaError, InterruptedError):
    """The run was cancelled; what was finished is recorded and the next run goes on."""
