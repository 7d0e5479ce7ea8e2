"""The lock of an output directory: one run at a time writes to it.

A lock is a file that names its run, and that the run touches every few seconds. Three may remove it: the run itself; a
run on the same machine if the process is gone; and any run if the last touch is more than a minute ago, by the clock
of the file system. They take turns by `flock`, and check that they remove the file that they have read.

`filelock.SoftFileLease` (as of 4.3) works alike, but replaces dead locks by ``renameat2(RENAME_EXCHANGE)``, which NFS
refuses, and takes a live run on another host of the same name for dead.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pyama_dask.errors import OutputError, TakenOverError
from pyama_dask.files.atomic import beside, disk_error, folder_for
from pyama_dask.store.cancel import stop_tasks
from pyama_dask.store.lock_file import lock_path, look, own_record, write_record

log = logging.getLogger(__name__)

BEAT = 5.0
"""Seconds between touches of a lock."""
GLANCE = 0.2
"""Seconds between checks whether the run was cancelled."""
TURN = 5.0
"""Seconds to wait while other runs check or take over a lock."""


class Lock:
    """A lock that is held, as `locked` returns it.

    Attributes
    ----------
    run
        Name of the run that holds it.
    """

    def __init__(self, path: Path, file: int, run: str) -> None:
        self.run = run
        self._path, self._file = path, file

    def check(self) -> None:
        """Make sure that the lock is still held; costs one `stat`.

        Raises
        ------
        TakenOverError
            If another run has taken it over because this one gave no sign of life, or if it was removed.
        """
        if not _is_at(self._path, self._file):
            raise TakenOverError(
                f"{self._path.parent.parent}: no longer belongs to this run: its lock was taken over or removed, as "
                "when this run was suspended or cut off from the disk. Everything recorded until then is kept"
            )

    def keep(self, cancel: threading.Event, over: threading.Event, beat: float, glance: float) -> None:
        """Touch the lock until the run is over; cancel the run if the lock is lost, and its tasks with the run.

        Parameters
        ----------
        cancel
            Event that is set if the lock is lost; once it is set, the tasks of the run stop.
        over
            Set when the run is over.
        beat, glance
            Seconds between touches, and between looks at `cancel`.
        """
        touched, told = time.monotonic(), False
        while not over.wait(glance):
            if cancel.is_set() and not told:
                stop_tasks(self._path.parent.parent, self.run)
                told = True
            if time.monotonic() - touched >= beat:
                touched = time.monotonic()
                try:
                    os.utime(self._file)
                    self.check()
                except OutputError as error:
                    log.error("%s", error)  # noqa: TRY400  (the run's own check raises it)
                    cancel.set()
                except OSError as error:
                    log.warning("%s: cannot be touched: %s", self._path, error)

    def release(self) -> None:
        """Remove the lock, if it is still this run's."""
        with suppress(OSError), _turn(self._file, wait=True):
            if _is_at(self._path, self._file):
                self._path.unlink()
        os.close(self._file)


@contextmanager
def locked(
    output: Path,
    run: str = "",
    cancel: threading.Event | None = None,
    *,
    beat: float = BEAT,
    glance: float = GLANCE,
) -> Iterator[Lock]:
    """Lock an output directory, so that no second run writes to it.

    Parameters
    ----------
    output
        The directory; created if it does not exist, and removed again if it is empty at the end.
    run
        Name of the run, which its tasks carry (`Job.run`).
    cancel
        Set if the lock is lost; when it is set, the run's tasks are told to stop.
    beat, glance
        Seconds between touches of the lock, and between checks whether the run was cancelled.

    Raises
    ------
    OutputError
        If a run that is, or may be, alive holds the lock. If the directory cannot be written to.
    """
    path, over = lock_path(output), threading.Event()
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_for(path.parent))
            lock = _acquire(path, run or uuid4().hex[:12])
        except OutputError:
            raise
        except OSError as error:
            refused = OutputError(f"{output}: cannot be written to: {error.strerror}. Fix: choose another 'output'")
            raise disk_error(error, output) or refused from error
        keeper = threading.Thread(target=lock.keep, args=(cancel or threading.Event(), over, beat, glance), daemon=True)
        keeper.start()
        try:
            yield lock
        finally:
            over.set()
            keeper.join()
            lock.release()


def _acquire(path: Path, run: str) -> Lock:
    """Create the lock; first remove that of a dead run."""
    until = time.monotonic() + TURN
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # another run may just have removed the empty folder
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except (FileExistsError, FileNotFoundError):
            pass
        else:
            return _sign(path, file, run)
        try:
            _remove_dead(path)
        except (FileNotFoundError, BlockingIOError):  # another run has, or is about to
            if time.monotonic() > until:
                raise OutputError(f"{path.parent.parent}: other runs are starting in it. Fix: try again") from None
            time.sleep(0.01)


def _sign(path: Path, file: int, run: str) -> Lock:
    """Write the record of a new lock, and wait until it is on disk, as it must outlast a crash."""
    try:
        write_record(file, own_record(run))
        os.fsync(file)
        entry = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
    except BaseException:
        path.unlink()
        os.close(file)
        raise
    return Lock(path, file, run)


def _remove_dead(path: Path) -> None:
    """Remove the lock of a dead run.

    Raises
    ------
    OutputError
        If its run is, or may be, alive.
    FileNotFoundError, BlockingIOError
        If the lock was replaced, or another run has its turn at it.
    """
    file = _open(path)
    try:
        with _turn(file):
            if not _is_at(path, file):
                raise FileNotFoundError(path)
            holder = look(path, file)
            if not holder.is_dead:
                raise OutputError(holder.refusal(path))
            aside = beside(path)
            path.rename(aside)
            if _is_at(aside, file):
                log.info("%s: taken over from %s", path, dict(holder.record) or "a run that was killed at its start")
            else:  # on a file system that ignores `flock`: this is the lock of a run that was quicker
                with suppress(OSError):
                    os.link(aside, path)
            aside.unlink()
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Open a lock, also of another user; opening makes a network file system ask its server for the current state."""
    try:
        return os.open(path, os.O_RDWR)  # `flock` on NFS needs a file that is open for writing
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def _is_at(path: Path, file: int) -> bool:
    """Check whether a path leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


@contextmanager
def _turn(file: int, *, wait: bool = False) -> Iterator[None]:
    """Take a turn at a lock, if the file system supports it; the kernel ends the turn of a process that dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        log.info("the file system has no flock: %s", error)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
