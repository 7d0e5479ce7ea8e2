"""Sizes and checksums of files and directories, and comparison with recorded ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISDIR

import google_crc32c
import numpy as np

from pyama_dask.files.atomic import files_below

PART = 2**18
"""Bytes read in one call: few enough to stay in a core's cache."""
MISSING = "is missing"
"""Result of `fault` for a missing file."""


def fault(path: Path, recorded: tuple[int, int], *, deep: bool) -> str | None:
    """Compare a file or directory with its recorded size and CRC-32C.

    Parameters
    ----------
    path
        The file or directory.
    recorded
        Size in bytes and CRC-32C, as returned by `checksum`.
    deep
        True to compare the contents, not only the size.

    Returns
    -------
    Description of the difference, `MISSING` for a missing file; None if the file is as recorded.
    """
    try:
        size = size_of(path)
        if size != recorded[0]:
            return f"has {size} bytes instead of {recorded[0]}"
        return "has a different checksum than recorded" if deep and checksum(path) != recorded else None
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    state = os.stat(path)  # noqa: PTH116  (Path.stat is slower, and a large output has 250,000 files)
    if S_ISDIR(state.st_mode):
        return sum(os.stat(file).st_size for file in files_below(path))  # noqa: PTH116
    return state.st_size


def checksum_of(*pieces: bytes | memoryview) -> tuple[int, int]:
    """Size in bytes and CRC-32C of the content of a file, from its pieces."""
    crc = 0
    for piece in pieces:
        crc = extended(crc, piece)
    return sum(map(len, pieces)), crc


def extended(crc: int, content: bytes | memoryview) -> int:
    """CRC-32C with more bytes."""
    # An array gives its memory without a copy; the C code does not take a `memoryview`.
    plain = content if isinstance(content, bytes) else np.frombuffer(content, np.uint8)
    return int(google_crc32c.extend(crc, plain))


def checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32C of a file; for a directory, the sum of sizes and the CRC of its files' CRCs."""
    if not path.is_dir():
        return _crc(path)
    return checksum_of_files((os.path.relpath(file, path), *checksum(file)) for file in files_below(path))


def checksum_of_files(files: Iterable[tuple[str, int, int]]) -> tuple[int, int]:
    """Checksum of a directory, as from `checksum`, from relative path, size and CRC-32C of all files in it."""
    inside = sorted(files)
    return sum(size for _, size, _ in inside), google_crc32c.value(repr(inside).encode())


def _crc(path: Path) -> tuple[int, int]:
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        while part := file.read(PART):
            size, crc = size + len(part), google_crc32c.extend(crc, part)
    return size, crc
