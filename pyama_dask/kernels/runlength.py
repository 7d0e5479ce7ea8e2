"""Connected components of masks from their runs: stretches of set pixels within a row.

A frame of cells has about ten thousand runs but millions of pixels, so components, areas and holes are cheap once the
runs are known. Runs are kept in raster order; parents form a union-find forest (Tarjan 1975) whose roots are the first
runs of their components.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels import scratch
from pyama_dask.kernels.bitmask import ALL, LAST, ONE, Bits, empty_words
from pyama_dask.kernels.compiled import compiled

Runs = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""(H + 1,) index of each row's first run, and the half-open columns of the runs: begins and ends."""

# The six highest bits of this de Bruijn sequence (1946) times a power of two are different for each power; the table
# maps them back to the exponent.
_SEQUENCE, _HIGHEST = np.uint64(0x03F79D71B4CB0A89), np.uint64(58)
_POWER = np.zeros(64, np.int64)
_POWER[[(int(_SEQUENCE) << k) % 2**64 >> 58 for k in range(64)]] = range(64)


class Dropped(NamedTuple):
    """Objects without label, as their sizes are out of limits."""

    too_small: int
    too_large: int
    large_area: int
    """Pixels of those that are too large."""


def solid(mask: Bits, min_size: int) -> tuple[Bits, int]:
    """Drop objects below `min_size` pixels, then fill holes; both 4-connected.

    Parameters
    ----------
    mask
        (H, W) bits.
    min_size
        Pixels; 0 to keep all objects.

    Returns
    -------
    New mask, and the number of dropped objects. A hole is a background component that does not touch the border of the
    frame.
    """
    words = empty_words(mask.shape)
    first, begins, ends = find_runs(mask)
    gaps = np.empty((2, begins.size + words.shape[0]), np.int32)  # a row has one more gap than runs, at most
    dropped = _solid(
        (first, begins, ends, *_components(begins.size)),
        (np.empty_like(first), gaps[0], gaps[1], *_components(gaps.shape[1])),
        min_size, mask.width, words,
    )  # fmt: skip
    return Bits(words, mask.width), int(dropped)


def label(mask: Bits, min_size: int, max_size: int) -> tuple[npt.NDArray[np.uint16], int, Dropped]:
    """Label the 4-connected objects of a mask as 1..N, in raster order of first pixels.

    Parameters
    ----------
    mask
        Packed (H, W) mask; see `kernels.bitmask`.
    min_size, max_size
        Smallest and largest area of a labelled object in pixels.

    Returns
    -------
    (H, W) uint16 labels, valid only if N fits 16 bits; N; and what was dropped.
    """
    out = scratch.zeros(mask.shape, np.uint16)
    first, begins, ends = find_runs(mask)
    number = np.zeros(begins.size, np.int64)
    found = _label(first, begins, ends, *_components(begins.size), min_size, max_size, number, out)
    count, *dropped = map(int, found)
    return out, count, Dropped(*dropped)


def find_runs(mask: Bits) -> Runs:
    """Find the runs of a mask in raster order."""
    h, w = mask.shape
    # memory for runs that do not occur is never touched, so the system does not allocate it
    first = np.empty(h + 1, np.int32)
    begins, ends = (scratch.empty((h * (w // 2 + 1),), np.int32) for _ in range(2))
    count = _find_runs(mask.words, w, first, begins, ends)
    return first, begins[:count], ends[:count]


def _components(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Parents of runs, each of which is a component as yet, and room for areas."""
    return np.arange(count), np.zeros(count, np.int64)


@compiled
def _find_runs(words: Any, width: int, first: Any, begins: Any, ends: Any) -> int:
    n = 0
    for y in range(words.shape[0]):
        first[y] = n
        inside = np.uint64(0)
        for j in range(words.shape[1]):
            word = words[y, j]
            changes = word ^ (word << ONE | inside)
            while changes:
                lowest = changes & (~changes + ONE)
                x = 64 * j + _POWER[lowest * _SEQUENCE >> _HIGHEST]
                if word & lowest:
                    begins[n] = x
                else:
                    ends[n] = x
                    n += 1
                changes ^= lowest
            inside = word >> LAST
        if inside:
            ends[n] = width
            n += 1
    first[words.shape[0]] = n
    return n


@compiled
def _draw(words: Any, begin: int, end: int) -> None:
    """Set the bits of a run in the words of its row."""
    first, last = begin >> 6, (end - 1) >> 6
    right, left = ALL << np.uint64(begin & 63), ALL >> np.uint64(63 - ((end - 1) & 63))
    if first == last:
        words[first] |= right & left
        return
    words[first] |= right
    words[first + 1 : last] = ALL
    words[last] |= left


@compiled
def _root(parent: Any, k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def _join(first: Any, begins: Any, ends: Any, parent: Any) -> None:
    """Write the root of each run's component."""
    for y in range(1, first.size - 1):
        a, b = first[y - 1], first[y]
        while a < first[y] and b < first[y + 1]:
            if begins[a] < ends[b] and begins[b] < ends[a]:
                upper, lower = _root(parent, a), _root(parent, b)
                parent[max(upper, lower)] = min(upper, lower)
            if ends[a] < ends[b]:
                a += 1
            else:
                b += 1
    for k in range(np.int64(first[-1])):
        parent[k] = _root(parent, k)


@compiled
def _areas(parent: Any, begins: Any, ends: Any, area: Any) -> None:
    for k in range(parent.size):
        area[parent[k]] += ends[k] - begins[k]


@compiled
def _label(
    first: Any, begins: Any, ends: Any, parent: Any, area: Any, min_size: int, max_size: int, number: Any, out: Any
) -> Any:
    _join(first, begins, ends, parent)
    _areas(parent, begins, ends, area)
    count = too_small = too_large = large_area = 0
    for k in range(parent.size):
        if parent[k] != k:
            continue
        if area[k] > max_size:
            too_large += 1
            large_area += area[k]
        elif area[k] < min_size:
            too_small += 1
        else:
            count += 1
            number[k] = count
    for y in range(out.shape[0]):
        for k in range(first[y], first[y + 1]):
            if number[parent[k]]:
                out[y, begins[k] : ends[k]] = number[parent[k]]
    return count, too_small, too_large, large_area


@compiled
def _solid(runs: Any, all_gaps: Any, min_size: int, width: int, out: Any) -> int:
    height = out.shape[0]
    first, begins, ends, parent, area = runs
    gap_first, gap_begins, gap_ends, gap_parent, opened = all_gaps
    _join(first, begins, ends, parent)
    _areas(parent, begins, ends, area)
    gaps = 0
    for y in range(height):
        gap_first[y] = gaps
        x = 0
        for k in range(first[y], first[y + 1]):
            if area[parent[k]] >= min_size:
                _draw(out[y], begins[k], ends[k])
                if begins[k] > x:
                    gap_begins[gaps], gap_ends[gaps] = x, begins[k]
                    gaps += 1
                x = ends[k]
        if x < width:
            gap_begins[gaps], gap_ends[gaps] = x, width
            gaps += 1
    gap_first[height] = gaps
    _fill_closed(gap_first, gap_begins, gap_ends, gap_parent, opened, width, out)
    dropped = 0
    for k in range(parent.size):
        if parent[k] == k and area[k] < min_size:
            dropped += 1
    return dropped


@compiled
def _fill_closed(first: Any, begins: Any, ends: Any, parent: Any, opened: Any, width: int, out: Any) -> None:
    """Fill the background runs whose component does not touch the border; `opened` counts its runs that do."""
    height = out.shape[0]
    _join(first, begins, ends, parent)
    for y in range(height):
        for k in range(first[y], first[y + 1]):
            if y in (0, height - 1) or begins[k] == 0 or ends[k] == width:
                opened[parent[k]] += 1
    for y in range(height):
        for k in range(first[y], first[y + 1]):
            if not opened[parent[k]]:
                _draw(out[y], begins[k], ends[k])
