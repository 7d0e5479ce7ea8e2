"""Compilation of the kernels: once, in one process, before workers start, which then load the compiled code."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyama_dask.kernels import compiled
from pyama_dask.workflow.task import digest

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "pyama_dask.demo.first_run")
"""Compiles for the types of pixels that follow."""
GLANCE = 0.1
"""Seconds between checks of the subprocess that compiles."""


def compile_kernels(types: Collection[str], say: Callable[[str], None], cancel: threading.Event) -> None:
    """Compile the kernels unless they are cached; of several runs that start together, one compiles.

    Parameters
    ----------
    types
        Of pixels, such as ``uint16``.
    say
        Is told what takes a while.
    cancel
        Set it to end early.
    """
    folder = compiled.cache_folder()
    if folder is None:
        say(
            "No folder can keep compiled code, so each worker compiles for about a minute. "
            "Fix: set NUMBA_CACHE_DIR to a folder that can be written to"
        )
        return
    if not _missing(folder, types):
        return
    say(f"Compiling for {' and '.join(sorted(types))} pixels, once per installation; this takes about a minute")
    try:
        with _turn(folder, cancel):
            if not cancel.is_set() and (missing := _missing(folder, types)):
                _compile(missing, cancel)
                for dtype in [] if cancel.is_set() else missing:
                    _stamp(folder, dtype).touch()
    except OSError as error:  # workers compile for themselves then
        log.warning("the kernels could not be compiled beforehand: %s", error)


def is_compiled(types: Collection[str]) -> bool:
    """True if a run on pixels of these types would not have to compile first."""
    folder = compiled.cache_folder()
    return folder is not None and not _missing(folder, types)


def _missing(folder: Path, types: Collection[str]) -> list[str]:
    return [dtype for dtype in sorted(types) if not _stamp(folder, dtype).exists()]


def _stamp(folder: Path, dtype: str) -> Path:
    """File that marks the present kernels as compiled for this machine's processor."""
    sources = [(file.name, *file.stat()[6:9:2]) for file in sorted(Path(compiled.__file__).parent.glob("*.py"))]
    return folder / f"compiled-{digest(dtype, compiled.target(), sys.version, sources)}"


@contextmanager
def _turn(folder: Path, cancel: threading.Event) -> Iterator[None]:
    """Wait until no other run compiles, or until this one is cancelled."""
    with (folder / "compiling").open("a") as file:
        while not cancel.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                cancel.wait(GLANCE)
            else:
                break
        yield


def _compile(types: list[str], cancel: threading.Event) -> None:
    """Compile in a subprocess.

    Raises
    ------
    OSError
        If it fails; the message says how.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place or os.curdir for place in sys.path)}
    with subprocess.Popen(
        [*COMMAND, *types], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        while True:
            try:
                _, errors = process.communicate(timeout=GLANCE)
                break
            except subprocess.TimeoutExpired:
                if cancel.is_set():
                    process.kill()
    if process.returncode and not cancel.is_set():
        raise OSError(errors.decode(errors="replace")[-2000:])
