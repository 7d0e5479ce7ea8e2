"""Pixels of ND2 frames: stored bytes in, one array per channel out.

The channels of a frame are interleaved, and each frame may be compressed with zlib.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.files.checksums import PART
from pyama_dask.readers.nd2.chunks import FrameBytes
from pyama_dask.readers.scratch import Scratch

Bytes = npt.NDArray[np.uint8]
Wanted = Sequence[tuple[int, np.ndarray]]
"""Channels to read, each with its (H, W) array."""


@dataclass(frozen=True)
class Layout:
    """Layout of a frame's uncompressed bytes."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    """Channels per pixel, which are interleaved."""
    dtype: np.dtype[np.generic]
    """Pixel type."""
    row_bytes: int
    """Bytes of a row, including padding."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.shape[0] * self.row_bytes

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all channels of a pixel."""
        return self.channels * self.dtype.itemsize

    def bytes_of(self, wanted: Wanted) -> Bytes | None:
        """Memory of the only wanted array, if a frame's bytes are its pixels; else None."""
        if self.channels > 1 or self.row_bytes != self.shape[1] * self.pixel_bytes or len(wanted) != 1:
            return None
        return wanted[0][1].reshape(-1).view(np.uint8)

    def parts(self) -> Sequence[range]:
        """Groups of rows that fit in a core's cache."""
        count = max(1, PART // self.row_bytes)
        return [range(first, min(first + count, self.shape[0])) for first in range(0, self.shape[0], count)]

    def separate(self, data: Bytes, rows: range, wanted: Wanted) -> None:
        """Copy the bytes of some rows to the arrays of their channels; `data` is undefined afterwards."""
        used = data.reshape(len(rows), self.row_bytes)[:, : self.shape[1] * self.pixel_bytes]
        here = slice(rows.start, rows.stop)
        if self.channels == 1 or self.pixel_bytes not in (2, 4, 8):
            pixels = used.view(self.dtype).reshape(len(rows), self.shape[1], self.channels)
            for channel, plane in wanted:
                plane[here] = pixels[..., channel]
            return
        # Shifting whole pixels and keeping their lowest bits takes half as long as strided copies.
        whole = used.view(f"<u{self.pixel_bytes}")
        for channel in range(max((channel for channel, _ in wanted), default=-1) + 1):
            for _, plane in (pair for pair in wanted if pair[0] == channel):
                plane.view(f"u{self.dtype.itemsize}")[here] = whole
            whole >>= 8 * self.dtype.itemsize


def read_raw(stored: FrameBytes, layout: Layout, wanted: Wanted, scratch: Scratch) -> None:
    """Read channels of an uncompressed frame.

    Raises
    ------
    SourceError
        If the file ends before.
    """
    if (only := layout.bytes_of(wanted)) is not None:
        stored.read(only, 0)
        return
    for rows in layout.parts():
        data = scratch.get("rows", len(rows) * layout.row_bytes)
        stored.read(data, rows.start * layout.row_bytes)
        layout.separate(data, rows, wanted)


def read_lossless(stored: FrameBytes, layout: Layout, wanted: Wanted, scratch: Scratch) -> None:
    """Read channels of a compressed frame.

    Raises
    ------
    SourceError
        If the file ends before, or the frame has another size.
    zlib.error
        If the frame is damaged.
    """
    compressed = scratch.get("compressed", stored.size)
    stored.read(compressed, 0)
    only = layout.bytes_of(wanted)
    data = scratch.get("frame", layout.frame_bytes) if only is None else only
    _decompress(compressed, data, stored.where)
    if only is None:
        for rows in layout.parts():
            layout.separate(data[rows.start * layout.row_bytes : rows.stop * layout.row_bytes], rows, wanted)


def _decompress(compressed: Bytes, data: Bytes, where: str) -> None:
    """Decompress a frame into memory of its size: with libdeflate, which takes half as long as zlib."""
    decode: Any = imagecodecs.deflate_decode  # declared without arrays
    with suppress(imagecodecs.DeflateError):
        if decode(compressed, out=data).size == data.size:
            return
    found = zlib.decompress(compressed.data)  # says what is wrong
    if len(found) != data.size:
        raise SourceError(
            f"{where} has a different size: {len(found)} bytes instead of {data.size}. "
            "Fix: copy the file again, or leave out the frame"
        )
    data[:] = np.frombuffer(found, np.uint8)
