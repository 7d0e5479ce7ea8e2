"""Calls of users' functions on trial: bounded in time, watched for text that they print, and named if they crash."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from pyama_dask.methods.call import threads_watched

log = logging.getLogger(__name__)

SLOW = 5.0
"""Seconds after which a call that has not ended is reported."""


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
    what
        Where in the config the function is named, and its name, for messages.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds, self._what, self._end = seconds, what, time.monotonic() + seconds
        self._reported = False
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
        with warnings.catch_warnings(action="ignore"), ends_with_message(), _prints_of(thread) as printed:
            thread.start()
            self._wait(thread)
            if thread.is_alive():
                _stop(thread)
                raise TooSlowError(f"did not end in {self.seconds:g} s")
        self.printed = printed.getvalue()
        if failed:
            raise CallFailedError from failed[0]
        return made[0]

    def _wait(self, thread: threading.Thread) -> None:
        """Wait for a thread until the time is over, and report once that this takes long."""
        left = max(self._end - time.monotonic(), 0)
        if not self._reported and left > SLOW:
            thread.join(SLOW)
            if thread.is_alive():
                self._reported, left = True, left - SLOW
                log.warning(
                    "%s is tried on synthetic data; if it does not end in %.0f s, it is refused", self._what, left
                )
        thread.join(left)


def _stop(thread: threading.Thread) -> None:
    """Raise an exception in a thread, which it sees at its next line of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    thread.join(0.1)


@contextmanager
def ends_with_message() -> Iterator[None]:
    """Inside the block, ``os._exit`` raises `SystemExit`, and a crash of compiled code prints the line that led to it.

    Both would end this process without a message.
    """
    here, leave, knows = os.getpid(), os._exit, faulthandler.is_enabled()

    def raising(status: int) -> NoReturn:
        if os.getpid() != here:  # a process that the method has forked
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = raising
    if not knows and sys.__stderr__ is not None:
        with suppress(OSError, ValueError):  # there may be no file behind it
            faulthandler.enable(sys.__stderr__)
    try:
        yield
    finally:
        os._exit = leave
        if not knows:
            faulthandler.disable()


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
