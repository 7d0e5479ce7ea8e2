"""Binary masks as bits: 64 pixels to a word, so that a row is moved and combined in a few steps.

Pixel x of a row is bit ``x % 64`` of word ``x // 64``. Footprints are held as their reach: how many pixels they extend
to either side in the row of their centre, in the row next to it, and so on; no row may reach further than one that is
nearer to the centre. Such footprints make repeated steps cheap: a pixel gets anywhere in the sum of n footprints by n
moves that never turn back and so never leave the frame, for which reason n dilations equal one with the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Reach = npt.NDArray[np.int64]
"""(R + 1,) pixels that a footprint extends to the left and right, in rows 0 to R from its centre."""
ONE, LAST = np.uint64(1), np.uint64(63)
ALL = np.uint64(2**64 - 1)
GATHER, TOP_BYTE = np.uint64(0x0102040810204080), np.uint64(56)


@dataclass(frozen=True)
class Bits:
    """Mask of a frame."""

    words: npt.NDArray[np.uint64]
    """(H, ceil(W / 64)); bits beyond the width of the frame are 0."""
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.words.shape[0], self.width

    def __invert__(self) -> Bits:
        return Bits(_within(~self.words, self.width), self.width)


def empty_words(shape: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Words of a mask of (H, W) without any pixel."""
    return np.zeros((shape[0], -(-shape[1] // 64)), np.uint64)


def pack(mask: np.ndarray) -> Bits:
    """Bits of an (H, W) array: the pixels that are not 0."""
    words = empty_words(mask.shape)
    _pack(np.ascontiguousarray(mask), words)
    return Bits(words, mask.shape[1])


def unpack(bits: Bits) -> npt.NDArray[np.uint8]:
    """(H, W) of 0 and 1."""
    return np.unpackbits(bits.words.view(np.uint8), axis=1, count=bits.width, bitorder="little")


@compiled
def _pack(mask: Any, words: Any) -> None:
    flags = np.zeros(64 * words.shape[1], np.uint8)
    for y in range(mask.shape[0]):
        row = mask[y]
        for x in range(row.size):
            flags[x] = row[x] != 0
        pack_row(flags, words[y])


@compiled
def pack_row(flags: Any, out: Any) -> None:
    """Bits of a row of bytes of 0 and 1, 64 for every word of the output."""
    eight = flags.view(np.uint64)
    for j in range(out.size):
        word = np.uint64(0)
        for k in range(8):
            # the product has the lowest bits of the eight bytes side by side in its highest byte
            word |= (eight[8 * j + k] * GATHER >> TOP_BYTE) << np.uint64(8 * k)
        out[j] = word


# ------------------------------------------------------------------------------------ dilation, erosion


def dilate(bits: Bits, reach: Reach) -> Bits:
    """Set all pixels that the footprint reaches from a set pixel."""
    words = np.zeros_like(bits.words)
    _dilate(bits.words, reach, words)
    return Bits(_within(words, bits.width), bits.width)


def erode(bits: Bits, reach: Reach) -> Bits:
    """Keep the pixels around which all that the footprint reaches, and the frame has, is set."""
    return ~dilate(~bits, reach)


def _within(words: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Unset the bits beyond the width, in place."""
    if width % 64:
        words[:, -1] &= ALL >> np.uint64(64 - width % 64)
    return words


@compiled
def _dilate(words: Any, reach: Any, out: Any) -> None:
    height, n = words.shape
    row, wider = np.zeros(n + 2, np.uint64), np.zeros(n + 2, np.uint64)  # with a word to either side
    for y in range(height):
        if not _any(words[y]):
            continue
        row[1:-1] = words[y]
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
    found = np.uint64(0)
    for j in range(words.size):
        found |= words[j]
    return found != 0


@compiled
def _widen(row: Any, out: Any) -> None:
    """Widen all runs of a row by a pixel to either side."""
    for j in range(1, row.size - 1):
        out[j] = row[j] | row[j] << ONE | row[j - 1] >> LAST | row[j] >> ONE | row[j + 1] << LAST


@compiled
def _add(row: Any, out: Any) -> None:
    for j in range(out.size):
        out[j] |= row[j + 1]
