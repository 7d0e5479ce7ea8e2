"""Binary masks as bits: 64 pixels per word, so that rows are shifted and combined quickly.

Pixel x of a row is bit ``x % 64`` of word ``x // 64``. A footprint is stored as its reach: the number of pixels it
extends to either side in its centre row, in the next row, and so on; no row may reach further than a row nearer to the
centre. For such footprints, n dilations equal one dilation by the sum of n footprints, also at the image border: every
pixel of the sum is reached by n moves that never reverse direction and therefore never leave the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels import scratch
from pyama_dask.kernels.compiled import compiled

Reach = npt.NDArray[np.int64]
"""(R + 1,) pixels that a footprint extends to the left and right, in rows 0 to R from its centre row."""
ONE, LAST = np.uint64(1), np.uint64(63)
ALL = np.uint64(2**64 - 1)
GATHER, TOP_BYTE = np.uint64(0x0102040810204080), np.uint64(56)


@dataclass(frozen=True)
class Bits:
    """Binary mask of one frame."""

    words: npt.NDArray[np.uint64]
    """(H, ceil(W / 64)); bits beyond the width of the frame are 0."""
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.words.shape[0], self.width

    @property
    def area(self) -> int:
        """Number of set pixels."""
        return int(np.bitwise_count(self.words).sum())

    def __invert__(self) -> Bits:
        words = np.invert(self.words, out=scratch.empty(self.words.shape, np.uint64))
        return Bits(_within(words, self.width), self.width)


def empty_words(shape: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Words of an empty mask of shape (H, W)."""
    return scratch.zeros((shape[0], -(-shape[1] // 64)), np.uint64)


def pack(mask: np.ndarray) -> Bits:
    """Pack an (H, W) array into bits; nonzero pixels are set."""
    words = empty_words(mask.shape)
    flags = np.zeros(64 * words.shape[1], np.uint8)
    _pack(np.ascontiguousarray(mask), flags, flags.view(np.uint64), words)
    return Bits(words, mask.shape[1])


def unpack(bits: Bits) -> npt.NDArray[np.uint8]:
    """(H, W) array of 0 and 1."""
    return np.unpackbits(bits.words.view(np.uint8), axis=1, count=bits.width, bitorder="little")


@compiled
def _pack(mask: Any, flags: Any, eight: Any, words: Any) -> None:
    for y in range(mask.shape[0]):
        row = mask[y]
        for x in range(row.size):
            flags[x] = row[x] != 0
        pack_row(eight, words[y])


@compiled
def pack_row(eight: Any, out: Any) -> None:
    """Pack a row of bytes (0 or 1), seen as words of eight, into the words of the output, 64 per word."""
    for j in range(out.size):
        word = np.uint64(0)
        for k in range(8):
            # the top byte of the product collects the lowest bits of the eight bytes
            word |= (eight[8 * j + k] * GATHER >> TOP_BYTE) << np.uint64(8 * k)
        out[j] = word


# ------------------------------------------------------------------------------------ dilation, erosion


def dilate(bits: Bits, reach: Reach) -> Bits:
    """Set every pixel within the footprint's reach of a set pixel."""
    words = scratch.zeros(bits.words.shape, np.uint64)
    _dilate(bits.words, reach, np.zeros((2, words.shape[1] + 2), np.uint64), words)
    return Bits(_within(words, bits.width), bits.width)


def erode(bits: Bits, reach: Reach) -> Bits:
    """Keep the pixels whose footprint, clipped to the frame, is entirely set."""
    return ~dilate(~bits, reach)


def _within(words: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Clear the bits beyond the width, in place."""
    if width % 64:
        words[:, -1] &= ALL >> np.uint64(64 - width % 64)
    return words


@compiled
def _dilate(words: Any, reach: Any, rows: Any, out: Any) -> None:
    height, n = words.shape
    row, wider = rows[0], rows[1]  # padded by one word on either side
    for y in range(height):
        if not _any(words[y]):
            continue
        for j in range(n):
            row[j + 1] = words[y, j]
        reached = 0
        for dy in range(reach.size - 1, -1, -1):
            while reached < reach[dy]:
                _widen(row, wider)
                row, wider = wider, row
                reached += 1
            if y >= dy:
                _add(row, out[y - dy])
            if dy and y + dy < height:
                _add(row, out[y + dy])


@compiled
def _any(words: Any) -> Any:
    combined = np.uint64(0)
    for j in range(words.size):
        combined |= words[j]
    return combined != 0


@compiled
def _widen(row: Any, out: Any) -> None:
    """Widen all runs of a row by one pixel on either side."""
    for j in range(1, row.size - 1):
        out[j] = row[j] | row[j] << ONE | row[j - 1] >> LAST | row[j] >> ONE | row[j + 1] << LAST


@compiled
def _add(row: Any, out: Any) -> None:
    for j in range(out.size):
        out[j] |= row[j + 1]
