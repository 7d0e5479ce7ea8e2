"""State of a movie file during a run: detects a change since the run was planned.

The file's stat (device, inode, size, times of change) reveals any change at no cost. Hosts of a cluster see a file with
the same size and time, but with different device and inode numbers.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from pyama_dask.errors import SourceError

SECOND = 10**9
"""Nanoseconds per second."""
COARSE = 2 * SECOND
"""Resolution in nanoseconds of clocks with whole seconds only, on any file system."""
FINE = SECOND // 50
"""Resolution in nanoseconds of other clocks: those of Linux advance every 4 or 10 ms."""
_STEPS = (SECOND, 10**8, 10**7, 10**6, 10**5, 10**4, 1000, 100, 10, 1)


@dataclass(frozen=True)
class State:
    """Size, times and identity of a file, from its stat."""

    size: int
    written: int
    """Time of the last write in nanoseconds."""
    device: int = 0
    inode: int = 0
    changed: int = 0
    """Time in nanoseconds of the last write, renaming or change of permissions."""

    @classmethod
    def of(cls, path: Path) -> State:
        """Read the state of the file at a path.

        The file is opened, because network file systems would otherwise answer from a cache.

        Raises
        ------
        SourceError
            If the file cannot be opened, or is not a regular file.
        """
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))  # a pipe would block
            try:
                stat = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            raise changed(path, f"it can no longer be opened ({error.strerror})") from error
        if not S_ISREG(stat.st_mode):
            raise changed(path, "it is now a pipe, a device or a folder")
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_dev, stat.st_ino, stat.st_ctime_ns)

    def is_same_file(self, now: State) -> bool:
        """True if two states, seen by the same host, belong to the same file."""
        return (now.device, now.inode) == (self.device, self.inode)

    def difference(self, now: State) -> str:
        """Describe the difference to a state of the same path, seen by the same host; '' if equal."""
        if now == self:
            return ""
        if now.size != self.size:
            return f"it had {self.size} bytes and has {now.size}"
        if not self.is_same_file(now):
            return "it was replaced by another file"
        if now.written != self.written:
            return "it was written to"
        return "it was renamed or linked, or its permissions were changed"

    def difference_anywhere(self, now: State) -> str:
        """Describe the difference to a state seen by this or another host; '' if equal."""
        if self.is_same_file(now) or now.size != self.size:
            return self.difference(now)
        step = max(_step(self.written), _step(now.written))  # a mount may report times with fewer digits
        return "" if self.written // step == now.written // step else "it was written to"


def changed(path: Path, difference: str) -> SourceError:
    """Error for a movie that has changed, with a description of the difference."""
    return SourceError(
        f"{path}: changed while it was read: {difference}. Fix: leave the movie unchanged during a run, then run again"
    )


def _step(written: int) -> int:
    """Largest power of ten, up to a second, that divides a time in nanoseconds."""
    return next(step for step in _STEPS if written % step == 0)


def wait_for_clock(state: State) -> None:
    """Wait until another write to a recently written file would change its time stamp."""
    steps = COARSE if state.written % SECOND == 0 else FINE
    age = time.time_ns() - state.written
    if 0 <= age < steps:  # negative if a file server's clock is ahead; waiting would not help
        time.sleep((steps - age) / SECOND)
