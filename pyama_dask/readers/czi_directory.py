"""Where the parts of a CZI file are, which pylibCZIrw does not tell.

Layout after ZEISS' description of the format: the file is made of segments, each with a head of 32 bytes (its kind,
the bytes allocated, the bytes used). The first one has the places of the directory of subblocks, of the metadata and
of the directory of attachments. An entry of the directory of subblocks has a place and a number of dimensions.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from pyama_dask.errors import SourceError
from pyama_dask.readers.content import Extent, Places, smallest_extent

_HEAD = struct.Struct("<16sqq")
_PLACES = struct.Struct("<52x q q 4x q")
_FILE_HEADER = 512
_ENTRIES = 128
"""Bytes in front of the entries of the directory of subblocks."""
_ENTRY = struct.Struct("<6x q 8x B 5x i")
_DIMENSION = 20


def places(file: BinaryIO) -> Places:
    """Find the tables and the smallest plane of an open file.

    Raises
    ------
    SourceError
        If the directory of subblocks is not where it should be.
    """
    try:
        directory, metadata, attachments = _PLACES.unpack(_read(file, _HEAD.size, _PLACES.size))
        table = _segment(file, directory)
        subblocks = list(_subblocks(_read(file, *table)[_HEAD.size :]))
        tables = [Extent(0, _HEAD.size + _FILE_HEADER), table]
        tables += [_segment(file, place) for place in (metadata, attachments) if place > 0]
    except (struct.error, OverflowError, MemoryError, OSError) as error:
        raise SourceError(f"{file.name}: is damaged, its directory cannot be read. Fix: copy it again") from error
    planes = [place for place, pyramid in subblocks if not pyramid]
    others = [place for place, pyramid in subblocks if pyramid]
    end = file.seek(0, os.SEEK_END)
    return Places(tables, smallest_extent(planes, [*others, *(table.offset for table in tables)], end))


def _subblocks(directory: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the place of every subblock, and whether it belongs to a smaller level of a pyramid."""
    at = _ENTRIES
    for _ in range(struct.unpack_from("<i", directory)[0]):
        place, pyramid, dimensions = _ENTRY.unpack_from(directory, at)
        yield place, bool(pyramid)
        at += _ENTRY.size + _DIMENSION * max(dimensions, 0)


def _segment(file: BinaryIO, place: int) -> Extent:
    """Head and data of a segment."""
    _, allocated, used = _HEAD.unpack(_read(file, place, _HEAD.size))
    return Extent(place, _HEAD.size + max(0, used or allocated))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read bytes at a place, as far as there are any."""
    return os.pread(file.fileno(), size, offset)
