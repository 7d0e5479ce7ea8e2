"""Pixels of CZI subblocks that are stored plainly, which are read faster without ZEISS's library.

From ZEISS's description of the format: a subblock has a segment header, the sizes of its XML, attachment and data, and
a copy of its entry in the directory with the extent of each dimension. The data come after at least 256 bytes and the
XML. They are uncompressed (rows without padding), a zstd frame (zstd0), or a small header and a zstd frame (zstd1). The
header may say that the low bytes of all pixels precede the high bytes.
"""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.files.checksums import PART
from pyama_dask.readers.content import Extent
from pyama_dask.readers.czi.directory import entry_digest, entry_size, read_entries
from pyama_dask.readers.scratch import Scratch, fill

Bytes = npt.NDArray[np.uint8]

_SEGMENT = 32
"""Bytes of a segment's header."""
_SIZES = struct.Struct("<iiq")
_COPY = _SEGMENT + _SIZES.size
"""First byte of the copy of the directory's entry."""
_ENTRY = struct.Struct("<2s i 12x i 10x")
_DIMENSION = struct.Struct("<4s 4x i 4x i")
_BEFORE_XML = 256
"""Fewest bytes between the segment's header and the XML."""
_LOOK = 1024
"""Bytes that hold all that is before the XML."""
_MAGIC = b"ZISRAWSUBBLOCK\0\0"
_PIXEL_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
_UNCOMPRESSED, _ZSTD0, _ZSTD1 = 0, 5, 6


class Subblock(NamedTuple):
    """Form in which the pixels of a subblock are stored."""

    pixel_type: int
    compression: int
    shape: tuple[int, int]
    """(height, width) in stored pixels."""
    digest: int
    """Digest of its copy of the directory's entry."""
    data: Extent


class Subblocks:
    """Subblocks of an open file.

    Several threads may read at the same time.

    Parameters
    ----------
    file
        The open file.

    Raises
    ------
    struct.error
        If the directory of the file is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries = read_entries(file)
        self._scratch = Scratch()

    def read(self, out: np.ndarray, block: int, where: str) -> bool:
        """Read a subblock that is a whole plane.

        Parameters
        ----------
        out
            Contiguous (H, W) array.
        block
            Directory index.
        where
            File and frame, for messages.

        Returns
        -------
        False if the subblock is stored in another form, or contradicts the directory, so that ZEISS's library has to
        read it, or to refuse it.

        Raises
        ------
        SourceError
            If the subblock holds fewer pixels than its size says, or the file ends before.
        imagecodecs.ZstdError
            If it is damaged.
        """
        place = int(self._entries.places[block])
        found = _described(os.pread(self._file.fileno(), _LOOK, place), place)
        if found is None or found.digest != self._entries.digests[block]:
            return False
        if (found.pixel_type, found.shape) != (_PIXEL_TYPES.get(out.dtype.name), out.shape):
            return False
        if found.compression == _UNCOMPRESSED:
            if found.data.size < out.nbytes:  # ZEISS's library would add zeros
                raise _of_other_size(where, found.data.size, out.nbytes)
            self._fill(out.reshape(-1).view(np.uint8), found.data.offset, where)
            return True
        return found.compression in (_ZSTD0, _ZSTD1) and self._decompress(found, out, where)

    def _decompress(self, found: Subblock, out: np.ndarray, where: str) -> bool:
        if found.data.offset + found.data.size > os.fstat(self._file.fileno()).st_size:
            raise _cut_off(where)
        compressed = self._scratch.get("compressed", found.data.size)
        self._fill(compressed, found.data.offset, where)
        head = _zstd1_head(compressed) if found.compression == _ZSTD1 else (0, False)
        if head is None or (head[1] and out.dtype != np.uint16):
            return False
        start, is_split = head
        data = self._scratch.get("split", out.nbytes) if is_split else out.reshape(-1).view(np.uint8)
        decode: Any = imagecodecs.zstd_decode  # declared without arrays
        count = decode(compressed[start:], out=data).size
        if count != data.size:
            raise _of_other_size(where, count, data.size)
        if is_split:
            _join(data, out.reshape(-1))
        return True

    def _fill(self, data: Bytes, offset: int, where: str) -> None:
        if not fill(self._file.fileno(), data, offset):
            raise _cut_off(where)


def _described(head: bytes, place: int) -> Subblock | None:
    """Description of a subblock from its first bytes; None if they are not those of a subblock."""
    try:
        xml, _, count = _SIZES.unpack_from(head, _SEGMENT)
        schema, pixel_type, compression = _ENTRY.unpack_from(head, _COPY)
        size = entry_size(head, _COPY)
        extents = list(_DIMENSION.iter_unpack(head[_COPY + _ENTRY.size : _COPY + size]))
    except struct.error:
        return None
    if not head.startswith(_MAGIC) or schema != b"DV" or min(xml, count) < 0 or _COPY + size > len(head):
        return None
    sizes = {name: (size, stored) for name, size, stored in extents}
    (height, rows), (width, columns) = (sizes.get(name, (0, 0)) for name in (b"Y\0\0\0", b"X\0\0\0"))
    if (height, width) != (rows, columns):
        return None
    start = _SEGMENT + max(_BEFORE_XML, _SIZES.size + size) + xml
    return Subblock(pixel_type, compression, (rows, columns), entry_digest(head, _COPY), Extent(place + start, count))


def _zstd1_head(data: Bytes) -> tuple[int, bool] | None:
    """Bytes of the header, and True if low and high bytes are apart; None for an unknown header."""
    if data[:1].tolist() == [1]:
        return 1, False
    if data[:2].tolist() == [3, 1] and data.size > 3:
        return 3, bool(data[2] & 1)
    return None


def _join(data: Bytes, pixels: npt.NDArray[np.uint16]) -> None:
    """Join the low bytes of all pixels, and the high bytes that follow them."""
    low, high = data[: pixels.size], data[pixels.size :]
    for first in range(0, pixels.size, PART):
        part = slice(first, first + PART)
        pixels[part] = high[part]
        pixels[part] <<= 8
        pixels[part] |= low[part]


def _of_other_size(where: str, count: int, expected: int) -> SourceError:
    return SourceError(
        f"{where} has a different size: {count} bytes instead of {expected}. "
        "Fix: copy the file again, or leave out the frame"
    )


def _cut_off(where: str) -> SourceError:
    return SourceError(f"{where} is cut off. Fix: copy the file again")
