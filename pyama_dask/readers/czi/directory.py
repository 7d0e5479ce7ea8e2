"""Layout of a CZI file, which pylibCZIrw does not expose.

From ZEISS's description of the format: the file consists of segments, each with a header of 32 bytes (type, allocated
bytes, used bytes). The first segment holds the offsets of the subblock directory, the metadata and the attachment
directory. An entry of the subblock directory holds an offset and a number of dimensions.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.readers.content import Extent, Places, smallest_extent

_HEAD = struct.Struct("<16sqq")
_PLACES = struct.Struct("<52x q q 4x q")
_FILE_HEADER = 512
_ENTRIES = 128
"""Bytes before the entries of the subblock directory."""
_ENTRY = struct.Struct("<6x q 8x B 5x i")
_DIMENSION = 20


def places(file: BinaryIO) -> Places:
    """Find the tables and the smallest plane in an open file.

    Raises
    ------
    SourceError
        If the subblock directory cannot be read.
    """
    try:
        directory, metadata, attachments = _PLACES.unpack(_read(file, _HEAD.size, _PLACES.size))
        table = _segment(file, directory)
        subblocks = list(_subblocks(_read(file, *table)[_HEAD.size :]))
        tables = [Extent(0, _HEAD.size + _FILE_HEADER), table]
        tables += [_segment(file, place) for place in (metadata, attachments) if place > 0]
    except (struct.error, OverflowError, MemoryError, OSError) as error:
        raise SourceError(f"{file.name}: the directory of the file is damaged. Fix: copy the file again") from error
    planes = [place for place, pyramid in subblocks if not pyramid]
    others = [place for place, pyramid in subblocks if pyramid]
    end = file.seek(0, os.SEEK_END)
    return Places(tables, smallest_extent(planes, [*others, *(table.offset for table in tables)], end))


def block_places(file: BinaryIO) -> npt.NDArray[np.int64]:
    """Offsets of all subblocks in an open file, in the order of the directory.

    Raises
    ------
    struct.error
        If the directory is damaged.
    """
    (directory, *_) = _PLACES.unpack(_read(file, _HEAD.size, _PLACES.size))
    entries = _subblocks(_read(file, *_segment(file, directory))[_HEAD.size :])
    return np.array([place for place, _ in entries], np.int64)


def _subblocks(directory: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the offset of each subblock, and True if it belongs to a reduced pyramid level."""
    at = _ENTRIES
    for _ in range(struct.unpack_from("<i", directory)[0]):
        place, pyramid, dimensions = _ENTRY.unpack_from(directory, at)
        yield place, bool(pyramid)
        at += _ENTRY.size + _DIMENSION * max(dimensions, 0)


def _segment(file: BinaryIO, place: int) -> Extent:
    """Extent of a segment: header and data."""
    _, allocated, used = _HEAD.unpack(_read(file, place, _HEAD.size))
    return Extent(place, _HEAD.size + max(0, used or allocated))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read up to `size` bytes at an offset; fewer at the end of the file."""
    return os.pread(file.fileno(), size, offset)
