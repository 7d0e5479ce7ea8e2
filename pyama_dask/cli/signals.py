"""Ctrl-C, SIGTERM and the end of the terminal: a run ends soon, and what is done is recorded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LONGEST = 9.0
"""Seconds from a signal to the end, whatever a task is doing."""


@contextmanager
def cancelled_by_signals(
    stopping: str = "Stopping; what is done is recorded, and the next run goes on from there",
    ended: str = "Ended at once; what was recorded by then stays, and the next run goes on from there",
) -> Iterator[threading.Event]:
    """Event that Ctrl-C, SIGTERM and the end of the terminal set; a second signal ends the program at once.

    What is said then are `stopping` and `ended`.

    Signals that the program was started to ignore, as by ``nohup``, are ignored.
    """
    event = threading.Event()
    terminals = [number for number in (1, 2) if os.isatty(number)]
    late = threading.Timer(LONGEST, end_at_once, [terminals, ended])
    late.daemon = True

    def stop(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            leave(terminals)
        if event.is_set():
            end_at_once(terminals, ended)
        event.set()
        late.start()
        with suppress(OSError):
            print(stopping, file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        late.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(terminals: list[int]) -> None:
    """Write no more to a terminal that is gone, which would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in terminals:
        os.dup2(nowhere, number)
    terminals.clear()


def end_at_once(terminals: list[int], said: str) -> None:
    """End without waiting for anything; the next run finds that this one is over, and goes on."""
    for process in multiprocessing.active_children():
        process.kill()
    shown = b"\x1b[?25h\n" if 2 in terminals else b""  # a cursor that a display has hidden
    with suppress(OSError):
        os.write(2, shown + said.encode() + b"\n")
    os._exit(130)
