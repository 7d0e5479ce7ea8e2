"""Metadata read in a subprocess, because the vendors' packages crash or hang on some damaged files.

``python -m pyama_dask.readers.isolated MOVIE SECONDS`` prints the metadata, or the error, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pyama_dask import errors
from pyama_dask.errors import PyamaError, SourceError
from pyama_dask.readers.base import Metadata
from pyama_dask.readers.file_reader import check_file
from pyama_dask.readers.plain import as_plain, from_plain
from pyama_dask.readers.registry import is_file_format, open_reader

READING_S = 300.0
"""Time limit in seconds for reading metadata; the largest movies take a few seconds."""
_ISOLATED = ContextVar("isolated", default=True)
Reading = Callable[[str, float], tuple[int | None, bytes, bytes]]
"""Reads metadata as `in_new_process` does."""


@contextmanager
def isolation(on: bool) -> Iterator[None]:
    """Choose whether `read_metadata` uses a subprocess, in this context and until its end.

    Without a subprocess it takes a second less, but a damaged file may crash or block the calling process.
    """
    before = _ISOLATED.set(on)
    try:
        yield
    finally:
        _ISOLATED.reset(before)


@contextmanager
def reading_by(read: Reading) -> Iterator[None]:
    """Read metadata by another function than `in_new_process` in the block, in this context and in copies of it."""
    before = _READING.set(read)
    try:
        yield
    finally:
        _READING.reset(before)


def read_metadata(path: str | os.PathLike[str], timeout_s: float = READING_S, *, known: Sequence[str] = ()) -> Metadata:
    """Read the metadata of a movie in a subprocess, so that a damaged file cannot crash this process.

    This process never imports the package for the file's format. `isolation` switches the subprocess off. Folders and
    patterns of TIFF files are read in this process.

    Parameters
    ----------
    path
        The movie, as for `open_reader`.
    timeout_s
        Time limit in seconds.
    known
        Names of FOVs of a folder that keep their numbers; see `open_reader`.

    Raises
    ------
    SourceError
        If the file is absent, damaged or not a movie, or if reading it crashed or exceeded the time limit.
    """
    if not _ISOLATED.get() or not is_file_format(Path(path)):  # plates need no vendor's package
        with open_reader(path, known=known) as reader:
            return reader.metadata
    check_file(Path(path))
    status, answer, log = _READING.get()(os.fspath(path), timeout_s)
    if status is None or status == -signal.SIGALRM:
        raise _too_slow(path, timeout_s)
    if status < 0:
        raise SourceError(
            f"{path}: reading it crashed (signal {-status}, {signal.strsignal(-status)}). Fix: copy it again"
        )
    if status:
        raise RuntimeError(f"{path}: reading it failed:\n{log.decode(errors='replace')}")
    return _answered(json.loads(answer))


def in_new_process(path: str, timeout_s: float) -> tuple[int | None, bytes, bytes]:
    """Read the metadata of a movie in a new process, which ignores the terminal's Ctrl-C.

    Returns
    -------
    Exit status (None after a timeout), standard output and standard error.
    """
    command = [sys.executable, "-P", "-m", "pyama_dask.readers.isolated", path, str(timeout_s)]
    # The subprocess imports the same code as this process, wherever that was started.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place or os.curdir for place in sys.path)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the subprocess
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a pending interrupt is raised here
                answer, log = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                return None, b"", b""
            except BaseException:
                process.kill()
                raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process.returncode, answer, log


_READING: ContextVar[Reading] = ContextVar("reading", default=in_new_process)


def _too_slow(path: str | os.PathLike[str], timeout_s: float) -> SourceError:
    return SourceError(
        f"{path}: reading its metadata took longer than {timeout_s:g} s. Fix: copy it again, to a disk of this machine"
    )


def _answered(answer: dict[str, Any]) -> Metadata:
    """Metadata from the subprocess's answer; raises if the answer is an error."""
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return from_plain(answer)


# ------------------------------------------------------------------------------------------ in the subprocess


def answer_of(path: str) -> dict[str, Any]:
    """Metadata of a movie, or the `PyamaError` that reading it raised, as plain values."""
    try:
        with open_reader(path) as reader:
            metadata = reader.metadata
    except PyamaError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return as_plain(metadata)


def send_answer(to: Connection, path: str, timeout_s: float) -> None:
    """Send the answer from a forked process, whose packages print nothing, before the time limit."""
    signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)  # also if the parent was killed
    with Path(os.devnull).open("w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    to.send_bytes(json.dumps(answer_of(path)).encode())


def main() -> None:
    """Print the answer, without any other output, before the time limit."""
    path, timeout_s = sys.argv[1:]
    signal.setitimer(signal.ITIMER_REAL, float(timeout_s) + 1)  # also if the parent was killed
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        json.dump(answer_of(path), out)


if __name__ == "__main__":
    main()
