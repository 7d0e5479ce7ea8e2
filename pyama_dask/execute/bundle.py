"""Bundles: small tasks of a kind that travel to a worker in one message, and their outcomes back in another."""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from distributed import get_worker
from distributed.protocol import pickle as dask_pickle
from tblib import pickling_support

from pyama_dask.errors import CancelledError, DiskError, WalltimeError
from pyama_dask.execute.policy import Outcome
from pyama_dask.execute.walltime import check_time, note_time
from pyama_dask.methods.current_call import at_task, open_note
from pyama_dask.methods.device import gpu_owned
from pyama_dask.workflow.graph import GPU
from pyama_dask.workflow.task import Job, Receipt, Task

MOST = 64
"""Tasks of the largest bundle."""
LASTS = 1.0
"""Seconds after which a bundle starts no further task, as another worker may be free by then."""
LONGEST = 10_000
"""Characters of the longest text of an error that travels."""
ENDS_BUNDLE = (CancelledError, DiskError, WalltimeError)
"""Errors that are not of one task alone: no further task of a bundle is tried."""

RunTask = Callable[[Task, Job], Receipt]


def split(tasks: Sequence[Task], shares: int, seconds: float) -> list[tuple[Task, ...]]:
    """Split small tasks into bundles of similar size.

    Parameters
    ----------
    tasks
        Tasks of one kind, at least one.
    shares
        Number of bundles for which workers are waiting.
    seconds
        Time that a task of this kind has taken; 0 if unknown.
    """
    most = max(1, min(MOST, int(LASTS / seconds))) if seconds else MOST
    count = min(len(tasks), max(shares, -(-len(tasks) // most)))
    ends = [len(tasks) * k // count for k in range(count + 1)]
    return [tuple(tasks[start:end]) for start, end in itertools.pairwise(ends)]


def key_of(tasks: Sequence[Task]) -> str:
    """Name of a bundle on the dashboard; that of its task if it has one only."""
    return tasks[0].key + (f"-and-{len(tasks) - 1}-more" if len(tasks) > 1 else "")


# ------------------------------------------------------------------------------------------ on a worker


@dataclass(frozen=True)
class Raised:
    """Exception of a task, which may be of a class that only its worker can import."""

    pickled: bytes
    text: str

    @classmethod
    def of(cls, error: Exception) -> Raised:
        """Pickle an exception with its traceback, or its text if that is impossible."""
        text = repr(error)[:LONGEST]
        pickling_support.install(error)  # type: ignore[no-untyped-call]
        try:
            pickled = dask_pickle.dumps(error)
            pickle.loads(pickled)
        except Exception:  # noqa: BLE001  (an exception of a method may do anything)
            pickled = b""
        return cls(pickled if len(pickled) < 10 * LONGEST else b"", text)

    def error(self) -> Exception:
        """The exception, or one with its text."""
        try:
            error: Exception = pickle.loads(self.pickled)
        except Exception:  # noqa: BLE001  (its class may be unknown here)
            return RuntimeError(self.text)
        return error


def run_bundle(function: RunTask, job: bytes, tasks: bytes) -> bytes:
    """Run tasks one after the other on a worker, until it takes too long.

    Parameters
    ----------
    function
        Runs a task.
    job, tasks
        Pickled `Job` and sequence of `Task`.

    Returns
    -------
    Pickled receipts or `Raised`, of the first tasks; those without have not started.
    """
    started, worker, found = time.monotonic(), get_worker(), list[Receipt | Raised]()
    open_note(worker.address)
    with gpu_owned(GPU in worker.state.total_resources):
        for task in pickle.loads(tasks):
            try:
                with at_task(task.key):
                    found.append(_receipt(function, task, _job(job)))
            except Exception as error:  # noqa: BLE001  (the policy decides what follows)
                found.append(Raised.of(error))
                if isinstance(error, ENDS_BUNDLE):
                    break
            if time.monotonic() - started > LASTS:
                break
    return pickle.dumps(found)


def _receipt(function: RunTask, task: Task, job: Job) -> Receipt:
    """Run a task if the job of its worker lasts long enough."""
    check_time(task)
    receipt = function(task, job)
    note_time(task, receipt)
    return receipt


@lru_cache(maxsize=4)
def _job(pickled: bytes) -> Job:
    """Data that all tasks of a run share; a worker unpickles it once."""
    job: Job = pickle.loads(pickled)
    return job


def outcomes(result: bytes) -> list[Outcome]:
    """Outcomes of the first tasks of a bundle, from the result of `run_bundle`."""
    return [found.error() if isinstance(found, Raised) else found for found in pickle.loads(result)]
