"""Ctrl-C, SIGTERM and SIGHUP: stop a run soon, with everything that is done recorded."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import _exit  # the trial of a method takes it out of `os` for a moment

from pyama_dask.files.streams import write_nowhere

LONGEST = 8.0
"""Time limit in seconds from a signal to the end of the program; a busy machine may take a second or two more."""


@contextmanager
def cancelled_by_signals(
    stopping: str = "Stopping; Ctrl-C again stops at once",
    ended: str = "Stopped at once; recorded work is kept, and the next run resumes from there",
) -> Iterator[threading.Event]:
    """Event set by Ctrl-C, SIGTERM or SIGHUP; a second signal ends the program at once.

    The messages are `stopping` for the first signal and `ended` for the end at once.

    Signals that were ignored at the start, as with ``nohup``, stay ignored. The time limit starts with the first signal
    and applies until the program has ended.
    """
    event = threading.Event()
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            write_nowhere(terminals)  # the terminal is gone, and writing would fail
            terminals.clear()
        if event.is_set():
            end_at_once(terminals, ended)
        event.set()
        end_in_time(terminals, ended)
        with suppress(OSError):
            print(stopping, file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_in_time(terminals: list[int], message: str) -> None:
    """End the program at the latest after `LONGEST` seconds."""
    late = threading.Timer(LONGEST, end_at_once, [terminals, message])
    late.daemon = True
    late.start()


def kill_family() -> None:
    """Kill all child processes of this one, with their children.

    Processes in another session survive, because they cancel the jobs of a run. So does the resource tracker, which
    cleans up at the end.
    """
    import psutil  # already loaded if there are processes to kill

    for process in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):
            tracker = "multiprocessing.resource_tracker" in " ".join(process.cmdline())
            if os.getsid(process.pid) == os.getsid(0) and not tracker:
                process.kill()


def end_at_once(terminals: list[int], message: str) -> None:
    """End without waiting for anything; the next run sees that this one is dead, and resumes."""
    kill_family()
    shown = b"\x1b[?25h\n" if 2 in terminals else b""  # show the cursor that a display has hidden
    with suppress(OSError):
        os.write(2, shown + message.encode() + b"\n")
    _exit(130)
