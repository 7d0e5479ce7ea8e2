"""Regular files only: whoever opens a pipe waits for its writer, and a device may never end."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISDIR, S_ISREG


def open_descriptor(path: str | Path) -> int:
    """Open a regular file for reading.

    Returns
    -------
    Descriptor, which the caller closes.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe or a device.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    kind = os.fstat(opened).st_mode
    if S_ISREG(kind):
        return opened
    os.close(opened)
    if S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Is a pipe or a device, not a file", str(path))
