"""Connected components of masks by their runs: stretches of set pixels within a row.

A frame of cells has some ten thousand runs where it has millions of pixels, so that components, sizes and holes cost
next to nothing once the runs are found. Runs are kept in raster order; parents form a union-find forest (Tarjan 1975)
whose roots are the first runs of their components.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Mask = npt.NDArray[np.uint8]
"""(H, W) of 0 and 1."""


def solid(mask: Mask, min_size: int) -> Mask:
    """Drop objects below `min_size` pixels, then fill holes; both 4-connected.

    Parameters
    ----------
    mask
        (H, W) of 0 and 1.
    min_size
        Pixels; 0 keeps all objects.

    Returns
    -------
    New mask. A hole is a part of the background that does not reach the border of the frame.
    """
    out = np.zeros_like(mask)
    first, begins, ends = find_runs(mask)
    _solid(first, begins, ends, min_size, out)
    return out


def label(mask: Mask, min_size: int, max_size: int) -> tuple[npt.NDArray[np.uint16], int, int]:
    """Label the 4-connected objects of `min_size` to `max_size` pixels 1..N, in raster order of first pixels.

    Returns
    -------
    (H, W) labels, which are only right while N fits 16 bits; N; and the pixels of all objects that are too large.
    """
    out = np.zeros(mask.shape, np.uint16)
    first, begins, ends = find_runs(mask)
    count, too_large = _label(first, begins, ends, min_size, max_size, out)
    return out, int(count), int(too_large)


def widen(mask: Mask, radius: int) -> Mask:
    """Dilate with a disk of a radius in pixels: every run is drawn into the rows that the disk reaches."""
    first, begins, ends = find_runs(mask)
    out = np.zeros_like(mask)
    reach = np.array([math.isqrt(radius * radius - y * y) for y in range(-radius, radius + 1)])
    _widen(first, begins, ends, reach, out)
    return out


def find_runs(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Find the runs of a mask in raster order.

    Returns
    -------
    (H + 1,) number of the first run of every row, and the half-open columns where each run begins and ends.
    """
    mask = np.ascontiguousarray(mask)
    h, w = mask.shape
    # eight pixels at once where rows allow it; memory of runs that do not occur is never touched
    words = mask.view(np.uint64) if w % 8 == 0 and w else np.empty((h, 0), np.uint64)
    first = np.empty(h + 1, np.int32)
    begins, ends = (np.empty(h * (w // 2 + 1), np.int32) for _ in range(2))
    count = _find_runs(mask, words, first, begins, ends)
    return first, begins[:count], ends[:count]


@compiled
def _find_runs(mask: Any, words: Any, first: Any, begins: Any, ends: Any) -> int:
    n = 0
    width = mask.shape[1]
    step = 8 if words.shape[1] else width
    for y in range(mask.shape[0]):
        first[y] = n
        inside = np.uint8(0)
        for x0 in range(0, width, step):
            if step == 8 and words[y, x0 // 8] == (np.uint64(0x0101010101010101) if inside else np.uint64(0)):
                continue
            for x in range(x0, x0 + step):
                if mask[y, x] != inside:
                    if inside:
                        ends[n] = x
                        n += 1
                    else:
                        begins[n] = x
                    inside = mask[y, x]
        if inside:
            ends[n] = width
            n += 1
    first[mask.shape[0]] = n
    return n


@compiled
def _root(parent: Any, k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@compiled
def _join(first: Any, begins: Any, ends: Any) -> Any:
    """Root of every run's component."""
    parent = np.arange(first[-1])
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
    for k in range(parent.size):
        parent[k] = _root(parent, k)
    return parent


@compiled
def _areas(parent: Any, begins: Any, ends: Any) -> Any:
    area = np.zeros(parent.size, np.int64)
    for k in range(parent.size):
        area[parent[k]] += ends[k] - begins[k]
    return area


@compiled
def _label(first: Any, begins: Any, ends: Any, min_size: int, max_size: int, out: Any) -> Any:
    parent = _join(first, begins, ends)
    area = _areas(parent, begins, ends)
    number = np.zeros(parent.size, np.int64)
    count = too_large = 0
    for k in range(parent.size):
        if parent[k] == k and area[k] > max_size:
            too_large += area[k]
        elif parent[k] == k and area[k] >= min_size:
            count += 1
            number[k] = count
    for y in range(out.shape[0]):
        for k in range(first[y], first[y + 1]):
            if number[parent[k]]:
                out[y, begins[k] : ends[k]] = number[parent[k]]
    return count, too_large


@compiled
def _solid(first: Any, begins: Any, ends: Any, min_size: int, out: Any) -> None:
    height, width = out.shape
    parent = _join(first, begins, ends)
    area = _areas(parent, begins, ends)
    gap_first = np.empty(height + 1, np.int32)
    gap_begins = np.empty(begins.size + height, np.int32)
    gap_ends = np.empty(begins.size + height, np.int32)
    gaps = 0
    for y in range(height):
        gap_first[y] = gaps
        x = 0
        for k in range(first[y], first[y + 1]):
            if area[parent[k]] >= min_size:
                out[y, begins[k] : ends[k]] = 1
                if begins[k] > x:
                    gap_begins[gaps], gap_ends[gaps] = x, begins[k]
                    gaps += 1
                x = ends[k]
        if x < width:
            gap_begins[gaps], gap_ends[gaps] = x, width
            gaps += 1
    gap_first[height] = gaps
    _fill_closed(gap_first, gap_begins, gap_ends, out)


@compiled
def _fill_closed(first: Any, begins: Any, ends: Any, out: Any) -> None:
    """Fill the runs of background whose component does not reach the border."""
    height, width = out.shape
    parent = _join(first, begins, ends)
    opened = np.zeros(parent.size, np.bool_)
    for y in range(height):
        for k in range(first[y], first[y + 1]):
            if y in (0, height - 1) or begins[k] == 0 or ends[k] == width:
                opened[parent[k]] = True
    for y in range(height):
        for k in range(first[y], first[y + 1]):
            if not opened[parent[k]]:
                out[y, begins[k] : ends[k]] = 1


@compiled
def _widen(first: Any, begins: Any, ends: Any, reach: Any, out: Any) -> None:
    height, width = out.shape
    radius = reach.size // 2
    for y in range(height):
        for k in range(first[y], first[y + 1]):
            for to in range(max(y - radius, 0), min(y + radius + 1, height)):
                more = reach[to - y + radius]
                out[to, max(begins[k] - more, 0) : min(ends[k] + more, width)] = 1
