"""State of a movie file while a run reads it: whether it is still the file that the run was planned for.

What the system says of a file (device, inode, size, times of change) tells any change, and costs nothing. Hosts of a
cluster see a file with the same size and time, but with other numbers of device and inode.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from pyama_dask.errors import SourceError

SECOND = 10**9
"""Nanoseconds."""
COARSE = 2 * SECOND
"""Steps of a clock that has whole seconds only, on any file system."""
FINE = SECOND // 50
"""Steps of other clocks: those of Linux go on every 4 or 10 ms."""


_STEPS = (SECOND, 10**8, 10**7, 10**6, 10**5, 10**4, 1000, 100, 10, 1)


@dataclass(frozen=True)
class State:
    """What the system says of a file."""

    size: int
    written: int
    """Time of the last write, in nanoseconds."""
    device: int = 0
    inode: int = 0
    changed: int = 0
    """Time of the last write, renaming, or change of permissions, in nanoseconds."""

    @classmethod
    def of(cls, path: Path) -> State:
        """Look at a file that a path leads to.

        It is opened, as network file systems answer from memory otherwise.

        Raises
        ------
        SourceError
            If it cannot be opened.
        """
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))  # a pipe would wait
            try:
                found = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            raise changed(path, f"it cannot be opened any more ({error.strerror})") from error
        if not S_ISREG(found.st_mode):
            raise changed(path, "it is a pipe, a device or a folder now")
        return cls(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino, found.st_ctime_ns)

    def is_same_file(self, now: State) -> bool:
        """Whether two states, seen by the same host, are of the same file."""
        return (now.device, now.inode) == (self.device, self.inode)

    def difference(self, now: State) -> str:
        """Say how the same path, seen by the same host, leads to something else now; '' if it does not."""
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
        """Say how a movie differs from how a host, this one or another, saw it before; '' if it does not."""
        if self.is_same_file(now) or now.size != self.size:
            return self.difference(now)
        step = max(_step(self.written), _step(now.written))  # a mount may tell the time with fewer digits
        return "" if self.written // step == now.written // step else "it was written to"


def changed(path: Path, difference: str) -> SourceError:
    """Error of a movie that has changed, with the difference in words."""
    return SourceError(
        f"{path}: changed while it was read: {difference}. Fix: leave the movie alone during a run, then run again"
    )


def _step(written: int) -> int:
    """Largest power of ten, up to a second, that divides a time in nanoseconds."""
    return next(step for step in _STEPS if written % step == 0)


def wait_for_clock(state: State) -> None:
    """Wait until a further write to a file that was written a moment ago would show in its time."""
    steps = COARSE if state.written % SECOND == 0 else FINE
    age = time.time_ns() - state.written
    if 0 <= age < steps:  # the clock of a file server may be ahead; then nothing is known
        time.sleep((steps - age) / SECOND)
