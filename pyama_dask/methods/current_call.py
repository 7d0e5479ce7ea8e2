"""Note of what a worker process does, for its nanny to read when the process is gone.

A method may end its process, by ``os._exit`` or by a crash; then nobody else knows that it was at work.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 1000
"""Bytes of a note."""

_file = -1
_lock, _doing = threading.Lock(), dict[object, str]()


def open_note(worker: str) -> None:
    """Begin to keep the note of this process, in a file of this machine; does nothing the second time.

    Parameters
    ----------
    worker
        Address of the worker.
    """
    global _file  # noqa: PLW0603  (a process has one)
    if _file < 0:
        with suppress(OSError):
            _path(worker).unlink(missing_ok=True)  # of a process that had the address before
            _file = os.open(_path(worker), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Note what this process does within the block, where a note is kept."""
    if _file < 0:
        yield
        return
    mine = object()
    _note(mine, what)
    try:
        yield
    finally:
        _note(mine, None)


def take_note(worker: str) -> str:
    """Read and remove the note of a process that is gone; empty if it was between two methods, or kept none."""
    try:
        text = _path(worker).read_bytes()[:LONGEST].decode(errors="replace")
        _path(worker).unlink()
    except OSError:
        return ""
    return text


def _note(key: object, what: str | None) -> None:
    """Write what all threads of this process do, after one of them began or ended."""
    with _lock:
        if what is None:
            del _doing[key]
        else:
            _doing[key] = what
        note = "; or ".join(_doing.values()).encode(errors="replace")[:LONGEST]
        with suppress(OSError):  # on a full disk
            os.ftruncate(_file, 0)
            os.pwrite(_file, note, 0)


def _path(worker: str) -> Path:
    name = hashlib.blake2b(worker.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir(), f"pyama-dask-{os.getuid()}-{name}")
