"""Calls of users' functions on trial: bounded in time, and watched for text that they print."""

from __future__ import annotations

import ctypes
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

from pyama_dask.methods.call import threads_watched


class TooSlowError(Exception):
    """Call that has not ended in time."""


class CallFailedError(Exception):
    """Exception of the function that was called, which is the cause."""


class Allowance:
    """Time that a series of calls may take.

    Parameters
    ----------
    seconds
        For all calls together.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds
        self.printed = ""
        """Text that the last call has printed."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Result of a function, which runs in a thread, as functions do in a worker.

        Raises
        ------
        TooSlowError
            If the time is over. Python code is stopped; compiled code runs on until it ends.
        CallFailedError
            If the function raises anything; an attempt to end the process is a `SystemExit`.
        """
        made, failed = list[Any](), list[BaseException]()

        def run() -> None:
            try:
                with threads_watched():
                    made.append(function())
            except BaseException as error:  # noqa: BLE001  (raised in the caller's thread)
                failed.append(error)

        thread = threading.Thread(target=run, name="trial", daemon=True)
        with warnings.catch_warnings(action="ignore"), exit_raises(), _prints_of(thread) as printed:
            thread.start()
            thread.join(max(self._end - time.monotonic(), 0))
            if thread.is_alive():
                _stop(thread)
                raise TooSlowError(f"did not end in {self.seconds:g} s")
        self.printed = printed.getvalue()
        if failed:
            raise CallFailedError from failed[0]
        return made[0]


def _stop(thread: threading.Thread) -> None:
    """Raise an exception in a thread, which it sees at its next line of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    thread.join(0.1)


@contextmanager
def exit_raises() -> Iterator[None]:
    """Make ``os._exit`` raise `SystemExit` inside the block, as it would end this process without a message."""
    here, leave = os.getpid(), os._exit

    def raising(status: int) -> NoReturn:
        if os.getpid() != here:  # a process that the method has forked
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = raising
    try:
        yield
    finally:
        os._exit = leave


class _Split(io.TextIOBase):
    """Standard output that keeps the text of one thread, and passes on that of all others."""

    def __init__(self, thread: threading.Thread, kept: io.StringIO, others: TextIO) -> None:
        self._thread, self._kept, self._others = thread, kept, others

    def write(self, text: str, /) -> int:
        return (self._kept if threading.current_thread() is self._thread else self._others).write(text)

    def flush(self) -> None:
        self._others.flush()


@contextmanager
def _prints_of(thread: threading.Thread) -> Iterator[io.StringIO]:
    kept, out = io.StringIO(), sys.stdout
    sys.stdout = _Split(thread, kept, out)
    try:
        yield kept
    finally:
        sys.stdout = out
