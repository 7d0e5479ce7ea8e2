"""Which frames an ND2 file really holds.

`nd2` gives zeros for a frame that is not in the file and has no public way to ask. The answer is in the map
at the end of the file: its last 40 bytes are ``ND2 CHUNK MAP SIGNATURE 0000001!`` and the offset of the map,
which is a chunk (magic, length of its name, length of its data, name, data) of entries ``name! offset size``.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from pyama_dask.errors import SourceError

_MAGIC = 0x0ABECEDA
_HEADER = struct.Struct("<IIQ")
_TAIL = struct.Struct("<32sQ")
_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_FRAME = re.compile(rb"ImageDataSeq\|(\d+)!(.{16})", re.DOTALL)
_PLACE = struct.Struct("<QQ")
_NAME_LENGTH = 4072
"""A frame's chunk has a name of fixed length, so that the pixels begin on a boundary."""
_STAMP = 8
"""Bytes of the time stamp in front of the pixels."""


def frame_chunks(path: Path) -> dict[int, int]:
    """Find the frames in a file.

    Returns
    -------
    Bytes of pixels, as stored, by sequence number.

    Raises
    ------
    SourceError
        If the file has no map, or the map names data beyond the end of the file.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - _TAIL.size))
        tail = file.read(_TAIL.size)
        if len(tail) < _TAIL.size or not tail.startswith(_SIGNATURE):
            raise SourceError(f"{path}: is cut off, its end is not that of an ND2 file; copy it again")
        file.seek(_TAIL.unpack(tail)[1])
        magic, name_length, data_length = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC:
            raise SourceError(f"{path}: is damaged, its map of frames is not where it should be; copy it again")
        entries = file.read(min(name_length + data_length, end))[name_length:]
        sizes = {}
        for number, place in _FRAME.findall(entries):
            offset, size = _PLACE.unpack(place)
            room = end - offset - _HEADER.size - _NAME_LENGTH
            if size == offset and room > 0:  # written by old versions for "not known"
                file.seek(offset)
                size = _HEADER.unpack(file.read(_HEADER.size))[2]
            if size > room:
                raise SourceError(f"{path}: is damaged, frame {int(number)} lies beyond its end; copy it again")
            sizes[int(number)] = size - _STAMP
        return sizes
