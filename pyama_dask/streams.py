"""Standard output and standard error that cannot end a run: what they do not take is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
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
    """Lose what the standard streams do not take, within the block: their reader has gone, or a disk is full."""
    streams = [_Unfailing(sys.stdout), _Unfailing(sys.stderr)]
    with redirect_stdout(cast("TextIO", streams[0])), redirect_stderr(cast("TextIO", streams[1])):
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()


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
