"""Threads that work for another one, for as long as the process lives.

`ThreadPoolExecutor` takes no work any more once the main thread has ended. A run in another thread goes on then until
it is cancelled (`runs/background.py`), and must not take that for a fault of its files.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Work = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """Threads that take work in the order in which it came; one more is started where all are busy.

    Parameters
    ----------
    most
        Largest number of threads.
    name
        Beginning of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._idle, self._lock = Semaphore(0), Lock()
        self._threads: list[Thread] = []
        self._is_shut = False

    def submit(self, function: Callable[P, Result], /, *given: P.args, **named: P.kwargs) -> Future[Result]:
        """Have a function called by one of the threads.

        Raises
        ------
        RuntimeError
            After `shutdown`, or if a thread is needed and the system starts none; then the function is not called.
        """
        future = Future[Result]()
        with self._lock:
            if self._is_shut:
                raise RuntimeError(f"the threads {self._name} take no more work")
            if len(self._threads) < self._most and not self._idle.acquire(blocking=False):
                thread = Thread(target=self._serve, name=f"{self._name}_{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)
            self._work.put((future, partial(function, *given, **named)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end the threads after what they have; see `Executor.shutdown`."""
        with self._lock:
            self._is_shut = True
            while cancel_futures:
                try:
                    work = self._work.get_nowait()
                except Empty:
                    break
                if work:
                    work[0].cancel()
            for _ in self._threads:
                self._work.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _serve(self) -> None:
        while self._work_once():
            self._idle.release()

    def _work_once(self) -> bool:
        """Wait for work and do it, or return False at the end; nothing of it is held while the next is awaited."""
        work = self._work.get()
        if work is None:
            return False
        future, call = work
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  (whoever asks for the result gets it)
                future.set_exception(error)
                del work, future  # the traceback of the error refers to these names
        return True
