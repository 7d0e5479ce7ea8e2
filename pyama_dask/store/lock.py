"""The lock of an output: who writes to it, whether that run is alive, and whether its tasks are still wanted.

A lock is a file that names its run, and that the run touches every few seconds. Only three may take one away: the run
itself; a run on the same machine that sees that its process is gone; and any run that has seen no touch for a minute,
by the clock of the file system. They take turns by `flock`, and what they take away is what they looked at.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from pyama_dask.errors import CancelledError, OutputError, TakenOverError
from pyama_dask.files.atomic import beside, disk_error, folder_for
from pyama_dask.workflow.task import WORK, Job

log = logging.getLogger(__name__)

BEAT = 5.0
"""Seconds between touches of a lock."""
SILENT = 60.0
"""Seconds without a touch after which a run that cannot be looked at counts as dead."""
GLANCE = 0.2
"""Seconds between looks at whether the run was cancelled."""
TURN = 5.0
"""Seconds to wait while others look at a lock."""


class Lock:
    """A lock that is held; `locked` gives it.

    Attributes
    ----------
    run
        Name of the run that holds it.
    """

    def __init__(self, path: Path, file: int, run: str) -> None:
        self.run = run
        self._path, self._file = path, file

    def check(self) -> None:
        """Make sure that the lock is still held; costs one look at the file's entry.

        Raises
        ------
        TakenOverError
            If another run has taken it over, as this one gave no sign of life, or it was removed.
        """
        if not _is_at(self._path, self._file):
            raise TakenOverError(
                f"{self._path.parent.parent}: is not this run's any more: its lock was taken over or removed, as "
                "when this run was suspended or cut off from the disk; what it had recorded by then stands"
            )

    def keep(self, cancel: threading.Event, over: threading.Event) -> None:
        """Touch the lock until the run is over; cancel the run if it is lost, and its tasks if the run is cancelled."""
        touched, told = time.monotonic(), False
        while not over.wait(GLANCE):
            if cancel.is_set() and not told:
                stop_tasks(self._path.parent.parent, self.run)
                told = True
            if time.monotonic() - touched >= BEAT:
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
        """Take the lock away, if it is still the own one."""
        with suppress(OSError), _turn(self._file, wait=True):
            if _is_at(self._path, self._file):
                self._path.unlink()
        os.close(self._file)


@contextmanager
def locked(output: Path, run: str = "", cancel: threading.Event | None = None) -> Iterator[Lock]:
    """Hold an output directory, so that no second run writes to it.

    Parameters
    ----------
    output
        The directory; is made, and removed again if it is empty at the end.
    run
        Name of the run, which its tasks carry (`Job.run`).
    cancel
        Is set if the lock is lost; when it is set, the run's tasks are told to stop.

    Raises
    ------
    OutputError
        If a run that is alive, or may be, holds it; names it. If the directory cannot be written to.
    """
    path, over = _path(output), threading.Event()
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_for(path.parent))
            lock = _acquire(path, run or uuid4().hex[:12])
        except OutputError:
            raise
        except OSError as error:
            told = OutputError(f"{output}: cannot be written to: {error.strerror}; choose another 'output'")
            raise disk_error(error, output) or told from error
        keeper = threading.Thread(target=lock.keep, args=(cancel or threading.Event(), over), daemon=True)
        keeper.start()
        try:
            yield lock
        finally:
            over.set()
            keeper.join()
            lock.release()


def _path(output: Path) -> Path:
    return output / WORK / "lock"


def _acquire(path: Path, run: str) -> Lock:
    """Make the lock, after that of a dead run was taken away."""
    until = time.monotonic() + TURN
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # another run may just have removed it, as it was empty
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except (FileExistsError, FileNotFoundError):
            pass
        else:
            return _sign(path, file, run)
        try:
            _take_away(path)
        except (FileNotFoundError, BlockingIOError):  # somebody else has, or is about to
            if time.monotonic() > until:
                raise OutputError(f"{path.parent.parent}: other runs are about to begin in it; try again") from None
            time.sleep(0.01)


def _sign(path: Path, file: int, run: str) -> Lock:
    """Write into a new lock whose it is; on disk when this returns, as it must outlast a crash."""
    holder: dict[str, Any] = {**_place(), "pid": os.getpid(), "started": _started(os.getpid()), "run": run}
    try:
        _write(file, holder | {"stopping": False})
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


# ------------------------------------------------------------------------------------------- locks of others


@dataclass(frozen=True)
class Found:
    """What a lock says of a run that holds it, or held it."""

    holder: Mapping[str, Any]
    """Empty where it cannot be read, as of a run that has just begun, or that a crash has cut off."""
    silent: float
    """Seconds since its last touch, by the clock of the file system; negative if that was set back since."""

    @property
    def is_here(self) -> bool:
        """Whether its process would be seen from here."""
        return all(self.holder.get(name, "?") == value for name, value in _place().items())

    @property
    def is_dead(self) -> bool:
        """Whether its run is certainly over."""
        if self.is_here:
            return not _runs(self.holder["pid"], self.holder.get("started"))
        return abs(self.silent) > SILENT

    def refusal(self, path: Path) -> str:
        """Why another run may not begin, and what to do."""
        output = path.parent.parent
        if not self.holder:
            return f"{output}: a run has just begun in it, or was cut off; try again in a minute ({path})"
        who = f"{output}: a run on {self.holder['host']}, process {self.holder['pid']}, is writing to it"
        if self.is_here:
            return f"{who}; wait for it, or stop it"
        return (
            f"{who}, or was {max(0.0, self.silent):.0f} s ago; wait for it, or stop it. "
            f"After {SILENT:.0f} s without a sign of life the next run takes over its lock, {path}"
        )


def _take_away(path: Path) -> None:
    """Take away the lock of a dead run.

    Raises
    ------
    OutputError
        If its run is alive, or may be.
    FileNotFoundError, BlockingIOError
        If it is another one now, or others look at it.
    """
    file = _open(path)
    try:
        with _turn(file):
            if not _is_at(path, file):
                raise FileNotFoundError(path)
            found = _look(path, file)
            if not found.is_dead:
                raise OutputError(found.refusal(path))
            aside = beside(path)
            path.rename(aside)
            if _is_at(aside, file):
                log.info("%s: taken over from %s", path, dict(found.holder) or "a run that was cut off")
            else:  # turns are not taken where a file system ignores `flock`: this is the lock of a run that was quicker
                with suppress(OSError):
                    os.link(aside, path)
            aside.unlink()
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Open a lock, of another user too; a network's server is asked then what is true."""
    try:
        return os.open(path, os.O_RDWR)  # a turn at a file on a network can be taken by those only who may write to it
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def _look(path: Path, file: int) -> Found:
    """What an open lock says, and how long ago it was touched by the clock that touches it."""
    probe = beside(path)
    with probe.open("xb") as own:
        try:
            os.utime(own.fileno())
            now = os.fstat(own.fileno()).st_mtime
        finally:
            probe.unlink()
    return Found(_read(file), now - os.fstat(file).st_mtime)


def _read(file: int) -> dict[str, Any]:
    """What is written in a lock; nothing where it is not whole."""
    try:
        holder = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    whole = isinstance(holder, dict) and holder.keys() >= {"host", "pid"}
    return holder if whole else {}


def _write(file: int, holder: Mapping[str, Any]) -> None:
    """Write into a lock; always as many bytes, in one piece."""
    text = json.dumps(holder).encode()
    os.pwrite(file, text.ljust(max(len(text), os.fstat(file).st_size)), 0)


def _is_at(path: Path, file: int) -> bool:
    """Whether a path leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


@contextmanager
def _turn(file: int, *, wait: bool = False) -> Iterator[None]:
    """Take turns at a lock, as far as the file system can; the kernel ends the turn of a process that dies."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        log.info("no turns are taken at the lock: %s", error)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


@cache
def _place() -> dict[str, str]:
    """Where processes have the same numbers: a host, since it was started, and a container."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def _runs(pid: int, started: float | None) -> bool:
    """Whether a process that began at some time is there still."""
    try:
        return _started(pid) == started
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user, from whom it is hidden in /proc
    return True


def _started(pid: int) -> float | None:
    """When a process began, by a clock that nobody sets where there is one; None if it only waits to be buried."""
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])  # ticks since the machine was started


# ----------------------------------------------------------------------------------------------------- tasks


def check_wanted(job: Job) -> None:
    """Make sure that a task's run still goes on; costs one small file that is read. A job without a name always does.

    Raises
    ------
    CancelledError
        If the run was cancelled, is over, or another one has taken its place.
    """
    if not job.run:
        return
    try:
        holder = json.loads(_path(job.output).read_bytes())
    except FileNotFoundError:
        raise CancelledError(f"{job.output}: the run is over") from None
    except ValueError:
        raise CancelledError(f"{job.output}: another run is about to begin") from None
    if holder.get("run") != job.run:
        raise CancelledError(f"{job.output}: another run has begun")
    if holder["stopping"]:
        raise CancelledError(f"{job.output}: the run was cancelled")


def stop_tasks(output: Path, run: str) -> None:
    """Tell the tasks of a run by its lock that they are not wanted any more."""
    with suppress(OSError):  # without a lock they know
        file = os.open(_path(output), os.O_RDWR)
        try:
            if (holder := _read(file)).get("run") == run:
                _write(file, holder | {"stopping": True})
        finally:
            os.close(file)
