"""The file of a lock: which run wrote it, and whether that run is alive.

A process number means something only on one host, since its last boot, and within one container. All three are
recorded: hosts that share a network disk may have the same name.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from pyama_dask.files.atomic import beside
from pyama_dask.workflow.task import WORK

SILENT = 60.0
"""Seconds without a touch after which a run on another host counts as dead."""


def lock_path(output: Path) -> Path:
    """Path of the lock of an output directory."""
    return output / WORK / "lock"


# ------------------------------------------------------------------------------------------------ its record


def own_record(run: str) -> dict[str, Any]:
    """Record of a lock that this process holds for a run."""
    return {**place(), "pid": os.getpid(), "started": started(os.getpid()), "run": run, "stopping": False}


LARGEST_PID = 2**31
"""Numbers of processes are smaller on all systems."""


def read_record(file: int) -> dict[str, Any]:
    """Record of an open lock; empty if it is incomplete or damaged."""
    try:
        record = json.loads(os.pread(file, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict) or "host" not in record:
        return {}
    pid = record.get("pid")
    return record if isinstance(pid, int) and 0 < pid < LARGEST_PID else {}


def write_record(file: int, record: Mapping[str, Any]) -> None:
    """Write the record of an open lock in one piece; it never gets shorter, so nothing of the old one is left."""
    text = json.dumps(record).encode()
    os.pwrite(file, text.ljust(max(len(text), os.fstat(file).st_size)), 0)


# ------------------------------------------------------------------------------------------------ its holder


@dataclass(frozen=True)
class Holder:
    """A run that holds a lock, or held it when it died."""

    record: Mapping[str, Any]
    """Empty if it cannot be read, as when a run has just started, or a machine crashed."""
    silent: float
    """Seconds since the last touch, by the clock of the file system; negative if that clock was set back."""

    @property
    def is_here(self) -> bool:
        """Check whether its process is visible from here."""
        return all(self.record.get(name, "?") == value for name, value in place().items())

    @property
    def is_dead(self) -> bool:
        """Check whether its run is certainly over."""
        if self.is_here:
            return not is_running(self.record["pid"], self.record.get("started"))
        return abs(self.silent) > SILENT

    def refusal(self, path: Path) -> str:
        """Message for a second run: who holds the lock at `path`, and what to do."""
        output = path.parent.parent
        if not self.record:
            return (
                f"{output}: a run has just started in it, or was killed while it started. Fix: try again in a minute "
                f"({path})"
            )
        who = f"{output}: a run on {self.record['host']}, process {self.record['pid']}, is writing to it"
        if self.is_here:
            return f"{who}. Fix: wait for it, or stop it"
        return (
            f"{who}, or was {max(0.0, self.silent):.0f} s ago. Fix: wait for it, or stop it. After {SILENT:.0f} s "
            f"without a sign of life, the next run takes over its lock, {path}"
        )


def look(path: Path, file: int) -> Holder:
    """Read an open lock, and compare its last touch with the clock of its file system."""
    probe = beside(path)
    with probe.open("xb") as own:
        try:
            os.utime(own.fileno())
            now = os.fstat(own.fileno()).st_mtime
        finally:
            probe.unlink()
    return Holder(read_record(file), now - os.fstat(file).st_mtime)


def glance(output: Path) -> tuple[Holder, float] | None:
    """Read the lock of an output without writing anything; None if there is no lock.

    Returns
    -------
    The run that holds it, or held it when it died, and the time of its last touch by the clock of the file system.
    Its silence is by the clock of this machine; a run on another one is certainly alive if that time changes.
    """
    try:
        file = os.open(lock_path(output), os.O_RDONLY)  # makes a network file system ask its server
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        touched = os.fstat(file).st_mtime
        return Holder(read_record(file), time.time() - touched), touched
    finally:
        os.close(file)


@cache
def place() -> dict[str, str]:
    """Host, boot and container: where the numbers of processes are the same."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def is_running(pid: int, start: float | None) -> bool:
    """Check whether a process that started at some time is still running."""
    try:
        return started(pid) == start
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user, whose processes are hidden in /proc
    return True


def started(pid: int) -> float | None:
    """Start time of a process, by a clock that is never set where there is one; None for a zombie."""
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])  # ticks since boot
