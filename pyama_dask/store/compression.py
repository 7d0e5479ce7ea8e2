"""Chunks compressed with Blosc, into memory that is used again: new memory would cost page faults."""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

OVERHEAD = 16
"""Largest number of bytes that a compressed chunk is longer than its pixels."""
_SIZES = Struct("<III")
"""Bytes of pixels, of a block of Blosc, and of a chunk, which come after four others at the start of a chunk."""
_encode: Any = imagecodecs.blosc_encode  # declared without arrays
_decode: Any = imagecodecs.blosc_decode


class Compression(NamedTuple):
    """Settings of Blosc."""

    codec: str
    level: int
    shuffle: str
    """``noshuffle``, ``shuffle`` or ``bitshuffle``."""


def room_for(pixels: int) -> np.ndarray:
    """Return memory for a compressed chunk of a number of bytes."""
    return np.empty(pixels + OVERHEAD, np.uint8)


def compress(chunk: np.ndarray, settings: Compression, room: np.ndarray) -> memoryview:
    """Compress a chunk.

    Parameters
    ----------
    chunk
        C-contiguous array, not empty.
    settings
        How.
    room
        Memory from `room_for`, for at least the bytes of the chunk; the next call may use it again.

    Returns
    -------
    The compressed bytes, in `room`.
    """
    codec, level, shuffle = settings
    pixels = chunk.view(np.uint8) if chunk.dtype == bool else chunk  # whose size is that of what Blosc shuffles
    room = room[: chunk.nbytes + OVERHEAD]  # with more, the bytes would be others
    content: np.ndarray = _encode(pixels, level=level, compressor=codec, shuffle=shuffle, numthreads=1, out=room)
    return content.data


def decompress(content: memoryview, out: np.ndarray) -> None:
    """Decompress a chunk.

    Parameters
    ----------
    content
        The compressed bytes.
    out
        C-contiguous array of its pixels.

    Raises
    ------
    ValueError, RuntimeError
        If they are damaged.
    """
    pixels, _, compressed = _SIZES.unpack_from(content, 4) if len(content) >= OVERHEAD else (0, 0, 0)
    if (pixels, compressed) != (out.nbytes, len(content)):
        raise ValueError("the size of a chunk is wrong")
    _decode(content, numthreads=1, out=out.reshape(-1).view(np.uint8))
