"""Standard output and standard error that cannot end a run: what they do not take is lost."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


def open_closed() -> None:
    """Open the standard streams that are closed to nowhere, as a file of the run would otherwise take their place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout, sys.stderr = (
        stream or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )


def write_nowhere(numbers: Iterable[int]) -> None:
    """Lose what is written to some descriptors from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(nowhere, number)
    os.close(nowhere)


@contextmanager
def unfailing() -> Iterator[None]:
    """Lose what the standard streams do not accept, within the block: their reader has gone, or a disk is full.

    The streams belong to the process. Blocks that overlap, in one thread or in several, share one replacement, which
    the last of them takes away.
    """
    global _users  # noqa: PLW0603  (a process has one pair of streams)
    with _streams_lock:
        if not _users:
            _replaced[:] = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = (cast("TextIO", _Unfailing(stream)) for stream in _replaced)
        _users += 1
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Unfailing):  # a method may have put another one there
                stream.flush()
        with _streams_lock:
            _users -= 1
            if not _users:
                sys.stdout, sys.stderr = _replaced


_streams_lock, _users, _replaced = threading.Lock(), 0, list[TextIO]()


class _Unfailing:
    """A stream whose writes do not fail; after one that would have, the rest is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, some text."""
        try:
            self._stream.write(text)
        except OSError:
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Write, or lose, what is held back."""
        try:
            self._stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        with suppress(OSError, ValueError):  # it has no descriptor
            write_nowhere([self._stream.fileno()])
