"""Layout of a CZI file, which pylibCZIrw does not expose.

From ZEISS's description of the format: the file consists of segments, each with a header of 32 bytes (type, allocated
bytes, used bytes). The first segment holds the offsets of the subblock directory, the metadata and the attachment
directory. An entry of the subblock directory holds an offset and a number of dimensions.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

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
_BEFORE_PLACE, _AFTER_PLACE = 6, 18
"""Bytes of an entry before and after the part and offset in the file."""


class Entries(NamedTuple):
    """Entries of the subblock directory."""

    places: npt.NDArray[np.int64]
    """(n,) offsets of the subblocks."""
    digests: npt.NDArray[np.uint32]
    """(n,) values of `entry_digest`."""


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
    planes = [place for place, pyramid, _ in subblocks if not pyramid]
    others = [place for place, pyramid, _ in subblocks if pyramid]
    end = file.seek(0, os.SEEK_END)
    return Places(tables, smallest_extent(planes, [*others, *(table.offset for table in tables)], end))


def read_entries(file: BinaryIO) -> Entries:
    """Read the subblock directory of an open file.

    Raises
    ------
    struct.error
        If the directory is damaged.
    """
    (directory, *_) = _PLACES.unpack(_read(file, _HEAD.size, _PLACES.size))
    entries = list(_subblocks(_read(file, *_segment(file, directory))[_HEAD.size :]))
    places = np.array([place for place, _, _ in entries], np.int64)
    return Entries(places, np.array([digest for _, _, digest in entries], np.uint32))


def entry_size(data: bytes, at: int) -> int:
    """Bytes of a subblock's entry, or of its copy in the subblock, that begins at an offset."""
    _, _, dimensions = _ENTRY.unpack_from(data, at)
    return int(_ENTRY.size + _DIMENSION * max(dimensions, 0))


def entry_digest(data: bytes, at: int) -> int:
    """Digest of an entry without the place of its subblock, which the copy need not repeat."""
    return zlib.crc32(data[at + _AFTER_PLACE : at + entry_size(data, at)], zlib.crc32(data[at : at + _BEFORE_PLACE]))


def _subblocks(directory: bytes) -> Iterator[tuple[int, bool, int]]:
    """Yield the offset of each subblock, True if it belongs to a reduced pyramid level, and the entry's digest."""
    at = _ENTRIES
    for _ in range(struct.unpack_from("<i", directory)[0]):
        place, pyramid, _ = _ENTRY.unpack_from(directory, at)
        yield place, bool(pyramid), entry_digest(directory, at)
        at += entry_size(directory, at)


def _segment(file: BinaryIO, place: int) -> Extent:
    """Extent of a segment: header and data."""
    _, allocated, used = _HEAD.unpack(_read(file, place, _HEAD.size))
    return Extent(place, _HEAD.size + max(0, used or allocated))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read up to `size` bytes at an offset; fewer at the end of the file."""
    return os.pread(file.fileno(), size, offset)
