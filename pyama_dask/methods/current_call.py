"""Note of a worker process about its current task and method call, read by its nanny after the process has ended.

A method may end its process, by ``os._exit`` or a crash; the note then tells which task and which method were running.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

FOLDER = "PYAMA_DASK_NOTES"
"""Environment variable of a worker with the folder of its note; without it, notes are in that of temporary files."""
LONGEST = 1000
"""Largest bytes of a note."""

_file = -1
_lock, _tasks, _doing = threading.Lock(), dict[object, str](), dict[object, str]()


class Note(NamedTuple):
    """Task and method call of a process when it ended."""

    tasks: tuple[str, ...] = ()
    """Keys of the tasks that it ran."""
    doing: str = ""
    """Methods that it ran, and on what; '' if it was between two calls."""


def open_note(worker: str) -> None:
    """Open the note file of this process on the local disk; does nothing if it is already open.

    Parameters
    ----------
    worker
        Address of the worker.
    """
    global _file  # noqa: PLW0603  (a process has one)
    if _file < 0:
        path = _path(worker, os.environ.get(FOLDER))
        with suppress(OSError):
            path.unlink(missing_ok=True)  # left by an earlier process with the same address
            _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def at_task(key: str) -> AbstractContextManager[None]:
    """Record which task this process runs within the block, if a note is open."""
    return _noted(_tasks, key)


def at_work(what: str) -> AbstractContextManager[None]:
    """Record what this process does within the block, if a note is open."""
    return _noted(_doing, what)


@contextmanager
def _noted(among: dict[object, str], what: str) -> Iterator[None]:
    if _file < 0:
        yield
        return
    mine = object()
    with _lock:
        among[mine] = what
        _write()
    try:
        yield
    finally:
        with _lock:
            del among[mine]
            _write()


def methods_at_work() -> str:
    """Methods that this process runs now, and on what; '' if it runs none."""
    with _lock:
        return _all()


def take_note(worker: str, folder: str | None = None) -> Note:
    """Read and remove the note of an ended process, whose environment has `folder`; empty if it had none."""
    path = _path(worker, folder)
    try:
        text = path.read_bytes()[:LONGEST].decode(errors="replace")
        path.unlink()
    except OSError:
        return Note()
    tasks, _, doing = text.partition("\n")
    return Note(tuple(tasks.split()), doing)


def _write() -> None:
    """Rewrite the note after a thread has started or ended a task or a call."""
    note = f"{' '.join(_tasks.values())}\n{_all()}".encode(errors="replace")[:LONGEST]
    with suppress(OSError):  # on a full disk
        os.ftruncate(_file, 0)
        os.pwrite(_file, note, 0)


def _all() -> str:
    return "; or ".join(_doing.values())


def _path(worker: str, folder: str | None) -> Path:
    name = hashlib.blake2b(worker.encode(), digest_size=8).hexdigest()
    return Path(folder or tempfile.gettempdir(), f"pyama-dask-{os.getuid()}-{name}")
