"""Map of a function over batches on the workers of a Dask scheduler."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Generic
from uuid import uuid4

from distributed import Future, KilledWorker
from distributed.client import FutureCancelledError

from pyama_dask.errors import ClusterError
from pyama_dask.execute.batch_map import Batch, Result
from pyama_dask.execute.workers import FETCHING, Workers

POLLING = 0.5
"""Seconds between checks for cancellation while no batch finishes."""
LOSSES = 10
"""Workers that may be lost during one batch."""


class DaskMap:
    """Computes batches on Dask workers; a batch that is lost with its worker is computed again.

    Parameters
    ----------
    workers
        Workers of a scheduler.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def map(
        self, name: str, function: Callable[[Batch], Result], batches: Iterable[Batch], cancel: threading.Event
    ) -> Iterator[tuple[int, Result]]:
        """Apply a function to each batch; see `BatchMap.map`.

        Raises
        ------
        ClusterError
            If the scheduler is lost, or one batch loses too many workers.
        """
        waiting, call = enumerate(batches), _MapCall(self._workers, name, function)
        try:
            while not cancel.is_set():
                for number, batch in itertools.islice(waiting, max(0, 2 * self._workers.threads - len(call.keys))):
                    call.submit(number, batch)
                if not call.keys:
                    return
                if result := call.next():
                    yield result
        finally:
            call.cancel()


class _MapCall(Generic[Batch, Result]):
    """Submitted batches of one call of `DaskMap.map`."""

    def __init__(self, workers: Workers, name: str, function: Callable[[Batch], Result]) -> None:
        self._workers, self._name, self._function = workers, name, function
        # the scheduler would return another call's result for a key that it knows
        self._prefix, self._lost = f"{name}-{uuid4().hex[:8]}", Counter[int]()
        self._ended: queue.SimpleQueue[tuple[int, Batch, str, float]] = queue.SimpleQueue()
        self.keys: set[str] = set()
        """Keys of unfinished batches."""

    def submit(self, number: int, batch: Batch) -> None:
        """Submit a batch, for the first time or again."""
        self._workers.check()
        again = f"-try{self._lost[number] + 1}" if self._lost[number] else ""
        key = f"{self._prefix}-{number:04d}{again}"
        future = self._workers.client.submit(self._function, batch, key=key, pure=False)
        self.keys.add(key)
        self._workers.running[key] = future
        future.add_done_callback(lambda _: self._ended.put((number, batch, key, time.monotonic())))
        self._workers.wake()

    def next(self) -> tuple[int, Result] | None:
        """Wait a moment for a batch; return its number and result, or None."""
        try:
            number, batch, key, ended = self._ended.get(timeout=POLLING)
        except queue.Empty:
            self._workers.check()
            return None
        future: Future[Result] = self._workers.running[key]
        try:
            result = self._fetch(future, number)
        except KilledWorker as error:
            self._forget(key)
            self._resubmit(number, batch, error, ended)
            return None
        except _LateError:
            self._ended.put((number, batch, key, ended))
            return None
        self._forget(key)
        return number, result

    def _fetch(self, future: Future[Result], number: int) -> Result:
        """Fetch a result, or raise the exception of the function.

        Raises
        ------
        ClusterError
            If the batch was cancelled, as a client does when it loses its scheduler.
        _LateError
            If the result was lost with its worker, and is computed again by Dask.
        """
        try:
            return future.result(timeout=FETCHING)
        except FutureCancelledError as error:
            self._workers.check()
            raise ClusterError(
                f"{self._name} {number}: the batch was cancelled, as the Dask scheduler is gone or another client "
                "cancelled it. Fix: run again"
            ) from error
        except TimeoutError as error:
            if future.status == "error":  # raised by the function
                raise
            self._workers.check()
            raise _LateError from error

    def _resubmit(self, number: int, batch: Batch, error: KilledWorker, ended: float) -> None:
        """Submit a batch again that has lost its worker, unless it has lost too many."""
        self._lost[number] += 1
        if self._lost[number] > LOSSES:
            loss = self._workers.loss_of(error, ended, ask=True)
            raise ClusterError(
                f"{self._name} {number}: {self._lost[number]} workers were lost during this batch "
                f"({loss.reason}). Fix: give workers more memory (cluster.memory), or check their nodes"
            ) from error
        self.submit(number, batch)

    def cancel(self) -> None:
        """Drop the batches that have not finished."""
        for key in list(self.keys):
            self._forget(key)

    def _forget(self, key: str) -> None:
        self.keys.discard(key)
        self._workers.running.pop(key, None)


class _LateError(Exception):
    """Result that cannot be fetched yet."""
