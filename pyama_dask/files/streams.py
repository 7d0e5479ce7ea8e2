"""Standard output and standard error whose failures cannot end a run: rejected output is dropped."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


def open_closed() -> None:
    """Open closed standard streams to the null device, so that no file of the run gets their descriptors."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # os.open returns the lowest free descriptor
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout, sys.stderr = (
        stream or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )


def write_nowhere(numbers: Iterable[int]) -> None:
    """Redirect descriptors to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(nowhere, number)
    os.close(nowhere)


@contextmanager
def unfailing() -> Iterator[None]:
    """Drop output that the standard streams do not accept within the block: a closed pipe or a full disk.

    The streams belong to the process. Overlapping blocks, in one or several threads, share one replacement, which the
    last of them removes.
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
            if isinstance(stream, _Unfailing):  # a method may have replaced it
                stream.flush()
        with _streams_lock:
            _users -= 1
            if not _users:
                sys.stdout, sys.stderr = _replaced


_streams_lock, _users, _replaced = threading.Lock(), 0, list[TextIO]()


class _Unfailing:
    """Stream whose writes never fail; after a failed write, further output is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            if not self.closed:
                self._stream.write(text)
        except OSError:
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Write buffered text, or drop it."""
        try:
            if not self.closed:
                self._stream.flush()
        except OSError:
            self._lose()

    def close(self) -> None:
        """Flush only: the stream belongs to the process, and a method that closes it must not harm later tasks."""
        self.flush()

    @property
    def closed(self) -> bool:
        """True if the stream was closed behind this one."""
        return bool(getattr(self._stream, "closed", False))

    def _lose(self) -> None:
        with suppress(OSError, ValueError):  # the stream has no descriptor
            write_nowhere([self._stream.fileno()])
