"""Map at the end of an ND2 file: names and offsets of all its chunks.

The last 40 bytes of a file are ``ND2 CHUNK MAP SIGNATURE 0000001!`` and the offset of the map, which is a chunk (magic,
length of its name, length of its data, name, data) of entries ``name! offset size``.
"""

from __future__ import annotations

import os
import re
import struct
from itertools import pairwise
from typing import BinaryIO

from pyama_dask.errors import SourceError
from pyama_dask.readers.content import Extent, Places, smallest_extent

MAGIC = b"\xda\xce\xbe\x0a"
HEADER = struct.Struct("<4sIQ")
_TAIL = struct.Struct("<32sQ")
_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_ENTRY = re.compile(rb"([^!]+)!(.{16})", re.DOTALL)
_PLACE = struct.Struct("<QQ")
_FRAME = re.compile(rb"ImageDataSeq\|\d+")
_PER_FRAME = re.compile(rb".*\|\d+")


def read_map(file: BinaryIO) -> tuple[bytes, Extent]:
    """Read the map of an open file.

    Returns
    -------
    Entries of the map, and the extent of the map in the file.

    Raises
    ------
    SourceError
        If the file has no map.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL.size))
    tail = file.read(_TAIL.size)
    if len(tail) < _TAIL.size or not tail.startswith(_SIGNATURE):
        raise SourceError(
            f"{file.name}: is cut off, or still being written: it does not end like an ND2 file. "
            "Fix: wait until it is complete, or copy it again"
        )
    place = file.seek(_TAIL.unpack(tail)[1])
    magic, name_length, data_length = HEADER.unpack(file.read(HEADER.size))
    if magic != MAGIC:
        raise SourceError(f"{file.name}: is damaged: it has no map of frames where expected. Fix: copy it again")
    content = file.read(min(name_length + data_length, end))
    return content[name_length:], Extent(place, HEADER.size + len(content))


def places(file: BinaryIO) -> Places:
    """Find the tables and the smallest frame of an open file.

    Raises
    ------
    SourceError
        If the file has no map.
    """
    entries, table = read_map(file)
    end = file.seek(0, os.SEEK_END)
    starts = {name: min(_PLACE.unpack(place)[0], end) for name, place in _ENTRY.findall(entries)}
    frames = {start for name, start in starts.items() if _FRAME.fullmatch(name)}
    edges = sorted({*starts.values(), table.offset, end})
    following = dict(pairwise(edges))
    tables = [
        Extent(start, following[start] - start)
        for name, start in starts.items()
        if not _PER_FRAME.fullmatch(name) and start in following
    ]
    return Places([*tables, table], smallest_extent(frames, edges, end))
