"""Frames that an ND2 file really holds: their places, and reading them.

`nd2` returns zeros for a missing frame and maps the file into memory. Mapped pages that were read count as memory of
the process, and truncating the file while it is mapped kills the process.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.readers.nd2.map import HEADER, MAGIC, read_map
from pyama_dask.readers.scratch import fill

_FRAME = re.compile(rb"ImageDataSeq\|(\d+)!(.{16})", re.DOTALL)
_PLACE = struct.Struct("<QQ")
_NAME_LENGTH = 4072
"""Fixed length of the name of a frame's chunk, so that the pixels are aligned."""
_STAMP = 8
"""Bytes of the time stamp before the pixels."""


class Chunk(NamedTuple):
    """Place of a frame in the file."""

    offset: int
    """First byte of its chunk."""
    size: int
    """Stored bytes of pixels."""


def frame_chunks(file: BinaryIO) -> dict[int, Chunk]:
    """Find the frames in an open file.

    Returns
    -------
    Places by sequence number.

    Raises
    ------
    SourceError
        If the file has no map, or the map refers to data beyond the end of the file.
    """
    entries, end = read_map(file)[0], file.seek(0, os.SEEK_END)
    chunks = {}
    for number, place in _FRAME.findall(entries):
        offset, size = _PLACE.unpack(place)
        room = end - offset - HEADER.size - _NAME_LENGTH
        if size == offset and room > 0:  # old versions write this for "unknown"
            file.seek(offset)
            size = HEADER.unpack(file.read(HEADER.size))[2]
        if size > room:
            raise SourceError(
                f"{file.name}: is cut off, or still being written: frame {int(number)} lies beyond its end. "
                "Fix: wait until it is complete, or copy it again"
            )
        chunks[int(number)] = Chunk(offset, size - _STAMP)
    return chunks


def recorded_values(file: BinaryIO, name: str) -> npt.NDArray[np.float64]:
    """Read a value that was recorded with every image.

    Parameters
    ----------
    file
        The open file.
    name
        ``AcqTimesCache`` (milliseconds), ``X`` or ``Y`` (stage position in micrometres).

    Returns
    -------
    Values by sequence number; empty if the file has no such list.
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
    """Stored bytes of a frame's pixels.

    Reading neither uses nor changes the file position, so several threads can read at the same time.

    Parameters
    ----------
    file
        The open file.
    number
        Sequence number of the frame.
    chunk
        Its place in the file.
    where
        File and frame, for messages.

    Raises
    ------
    SourceError
        If the chunk at this place is not the frame.
    """

    def __init__(self, file: BinaryIO, number: int, chunk: Chunk, where: str) -> None:
        self.size, self.where = chunk.size, where
        self._file = file.fileno()
        self._start = chunk.offset + HEADER.size + _NAME_LENGTH + _STAMP
        name = b"ImageDataSeq|%d!" % number
        head = os.pread(self._file, HEADER.size + len(name), chunk.offset)
        if not head.startswith(MAGIC) or not head.endswith(name):
            raise SourceError(f"{where} is not where the file's map says. Fix: copy the file again")

    def read(self, data: npt.NDArray[np.uint8], first: int) -> None:
        """Fill `data` with the bytes from `first` on.

        Raises
        ------
        SourceError
            If the file ends before.
        """
        if not fill(self._file, data, self._start + first):
            raise SourceError(f"{self.where} is cut off. Fix: copy the file again")
