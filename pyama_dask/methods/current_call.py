"""Note of a worker process about its current method call, read by its nanny after the process has ended.

A method may end its process, by ``os._exit`` or a crash; the note then tells which method was running.
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
"""Largest bytes of a note."""

_file = -1
_lock, _doing = threading.Lock(), dict[object, str]()


def open_note(worker: str) -> None:
    """Open the note file of this process on the local disk; does nothing if it is already open.

    Parameters
    ----------
    worker
        Address of the worker.
    """
    global _file  # noqa: PLW0603  (a process has one)
    if _file < 0:
        with suppress(OSError):
            _path(worker).unlink(missing_ok=True)  # left by an earlier process with the same address
            _file = os.open(_path(worker), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Record what this process does within the block, if a note is open."""
    if _file < 0:
        yield
        return
    mine = object()
    _note(mine, what)
    try:
        yield
    finally:
        _note(mine, None)


def methods_at_work() -> str:
    """Methods that this process runs now, and on what; '' if it runs none."""
    with _lock:
        return _all()


def take_note(worker: str) -> str:
    """Read and remove the note of an ended process; '' if it was between two calls or had no note."""
    try:
        text = _path(worker).read_bytes()[:LONGEST].decode(errors="replace")
        _path(worker).unlink()
    except OSError:
        return ""
    return text


def _note(key: object, what: str | None) -> None:
    """Rewrite the note after a thread has started (`what`) or ended (None) a call."""
    with _lock:
        if what is None:
            del _doing[key]
        else:
            _doing[key] = what
        note = _all().encode(errors="replace")[:LONGEST]
        with suppress(OSError):  # on a full disk
            os.ftruncate(_file, 0)
            os.pwrite(_file, note, 0)


def _all() -> str:
    return "; or ".join(_doing.values())


def _path(worker: str) -> Path:
    name = hashlib.blake2b(worker.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir(), f"pyama-dask-{os.getuid()}-{name}")
