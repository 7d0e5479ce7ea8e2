"""Ctrl-C, SIGTERM and the end of the terminal: a run ends soon, and what is done is recorded."""

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
"""Seconds from a signal to the end, whatever still runs; a busy machine may take another second or two to end it."""


@contextmanager
def cancelled_by_signals(
    stopping: str = "Stopping; what is done is recorded, and the next run goes on from there",
    ended: str = "Ended at once; what was recorded by then stays, and the next run goes on from there",
) -> Iterator[threading.Event]:
    """Event that Ctrl-C, SIGTERM and the end of the terminal set; a second signal ends the program at once.

    What is said then are `stopping` and `ended`.

    Signals that the program was started to ignore, as by ``nohup``, are ignored. The time limit that begins with the
    first signal holds until the program has ended.
    """
    event = threading.Event()
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            write_nowhere(terminals)  # they are gone, and writing would fail
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


def end_in_time(terminals: list[int], said: str) -> None:
    """End the program after `LONGEST` if it has not ended by then."""
    late = threading.Timer(LONGEST, end_at_once, [terminals, said])
    late.daemon = True
    late.start()


def kill_family() -> None:
    """Kill all processes that this one has started, and theirs.

    Those in another session live: they cancel a run's jobs. So does the resource tracker, which clears up at the end.
    """
    import psutil  # is loaded long before, where there are processes to kill

    for process in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):
            tracker = "multiprocessing.resource_tracker" in " ".join(process.cmdline())
            if os.getsid(process.pid) == os.getsid(0) and not tracker:
                process.kill()


def end_at_once(terminals: list[int], said: str) -> None:
    """End without waiting for anything; the next run finds that this one is over, and goes on."""
    kill_family()
    shown = b"\x1b[?25h\n" if 2 in terminals else b""  # a cursor that a display has hidden
    with suppress(OSError):
        os.write(2, shown + said.encode() + b"\n")
    _exit(130)
