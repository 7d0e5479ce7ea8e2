"""The frames that an ND2 file really holds: where they are, and reading them.

`nd2` gives zeros for a frame that is not in the file, and maps the file into memory: pages that were read then count
as memory of the process, and a file that is cut off while it is read ends the process.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.readers.nd2_map import HEADER, MAGIC, read_map

_FRAME = re.compile(rb"ImageDataSeq\|(\d+)!(.{16})", re.DOTALL)
_PLACE = struct.Struct("<QQ")
_NAME_LENGTH = 4072
"""A frame's chunk has a name of fixed length, so that the pixels begin on a boundary."""
_STAMP = 8
"""Bytes of the time stamp in front of the pixels."""


class Chunk(NamedTuple):
    """Place of a frame in the file."""

    offset: int
    """First byte of its chunk."""
    size: int
    """Bytes of pixels, as stored."""


def frame_chunks(file: BinaryIO) -> dict[int, Chunk]:
    """Find the frames in a file.

    Returns
    -------
    Places by sequence number.

    Raises
    ------
    SourceError
        If the file has no map, or the map names data beyond the end of the file.
    """
    entries, end = read_map(file)[0], file.seek(0, os.SEEK_END)
    chunks = {}
    for number, place in _FRAME.findall(entries):
        offset, size = _PLACE.unpack(place)
        room = end - offset - HEADER.size - _NAME_LENGTH
        if size == offset and room > 0:  # written by old versions for "not known"
            file.seek(offset)
            size = HEADER.unpack(file.read(HEADER.size))[2]
        if size > room:
            raise SourceError(f"{file.name}: is damaged, frame {int(number)} lies beyond its end; copy it again")
        chunks[int(number)] = Chunk(offset, size - _STAMP)
    return chunks


def recorded_values(file: BinaryIO, name: str) -> npt.NDArray[np.float64]:
    """Read what was recorded with every image.

    Parameters
    ----------
    file
        The open file.
    name
        ``AcqTimesCache`` (milliseconds), ``X`` or ``Y`` (stage position in micrometres).

    Returns
    -------
    Values by sequence number; none if the file has no such list.
    """
    place = re.search(re.escape(f"CustomData|{name}!".encode()) + rb"(.{16})", read_map(file)[0], re.DOTALL)
    if place is None:
        return np.empty(0)
    file.seek(_PLACE.unpack(place[1])[0])
    magic, name_length, data_length = HEADER.unpack(file.read(HEADER.size))
    if magic != MAGIC:
        return np.empty(0)
    file.seek(name_length, os.SEEK_CUR)
    data = file.read(min(data_length, os.fstat(file.fileno()).st_size))
    return np.frombuffer(data[: len(data) // 8 * 8], "<f8").astype(np.float64)


class FrameBytes:
    """Bytes of a frame's pixels, as stored.

    Reading neither uses nor changes the position of the file, so that threads can read at the same time.

    Parameters
    ----------
    file
        The open file.
    number
        Sequence number of the frame.
    chunk
        Its place.
    where
        File and frame, for messages.

    Raises
    ------
    SourceError
        If the frame is not at its place.
    """

    def __init__(self, file: BinaryIO, number: int, chunk: Chunk, where: str) -> None:
        self._file, self._where = file.fileno(), where
        self._start = chunk.offset + HEADER.size + _NAME_LENGTH + _STAMP
        name = b"ImageDataSeq|%d!" % number
        head = os.pread(self._file, HEADER.size + len(name), chunk.offset)
        if not head.startswith(MAGIC) or not head.endswith(name):
            raise SourceError(f"{where} is not where the file's map says; the file is damaged, copy it again")

    def read(self, first: int, count: int) -> bytes:
        """Read `count` bytes from the `first` on.

        Raises
        ------
        SourceError
            If the file ends before that.
        """
        data = b""
        while len(data) < count:  # one call may give less
            part = os.pread(self._file, count - len(data), self._start + first + len(data))
            if not part:
                raise SourceError(f"{self._where} is cut off; copy the file again")
            data += part
        return data
