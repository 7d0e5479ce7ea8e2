"""Watershed of maxima by persistence: one pass over the pixels from high to low, with union-find.

A maximum starts a basin. Where two basins meet, the one with the lower peak is joined to the other, unless its peak
rises above the meeting point by at least `depth`. The basins are those of a watershed from the h-maxima
(Soille 2003, Morphological Image Analysis, chapters 6 and 9).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

LEVELS = 4096
"""Number of levels to which heights are rounded, so that pixels can be sorted by counting."""


def persistence_watershed(
    landscape: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], depth: float
) -> tuple[npt.NDArray[np.int32], int]:
    """Divide a mask into the basins of the maxima of a landscape.

    Parameters
    ----------
    landscape
        (H, W) float32 heights, finite within the mask; they are rounded down to one of `LEVELS` between the lowest
        and the highest of them.
    mask
        (H, W) pixels to divide.
    depth
        Smallest height of a peak above the pass to a higher peak of the same 8-connected region of the mask; basins of
        lower peaks are joined to the higher one.

    Returns
    -------
    (H, W) int32 labels, 0 outside the mask and 1..N in raster order of the basins' first pixels, and N.
    """
    height, width = landscape.shape
    levels = np.full((height + 2, width + 2), -1, np.int16)  # a frame of pixels outside, so that all have neighbours
    scale = _round(landscape, mask, levels)
    least = max(depth * scale, 0.5)  # pixels of one level are never divided
    order = _from_high_to_low(levels.ravel())
    labels = np.zeros(levels.shape, np.int32)
    parents = _flood(levels.ravel(), order, width + 2, least, labels.ravel())
    found = np.empty(landscape.shape, np.int32)
    return found, int(_number(labels, parents, found))


@compiled
def _round(landscape: Any, mask: Any, levels: Any) -> float:
    """Write the levels of the mask's pixels; return the levels per unit of height."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                low, high = min(low, landscape[y, x]), max(high, landscape[y, x])
    scale = (LEVELS - 1) / np.float64(high - low) if high > low else 0.0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                levels[y + 1, x + 1] = min(int(np.float64(landscape[y, x] - low) * scale), LEVELS - 1)
    return scale


@compiled
def _from_high_to_low(levels: Any) -> Any:
    """Places of the pixels of the mask, by level from high to low; those of a level in raster order."""
    starts = np.zeros(LEVELS + 1, np.int32)
    for level in levels:
        if level >= 0:
            starts[LEVELS - level] += 1
    for k in range(LEVELS):
        starts[k + 1] += starts[k]
    order = np.empty(starts[LEVELS], np.int32)
    for place in range(levels.size):
        if levels[place] >= 0:
            k = LEVELS - 1 - levels[place]
            order[starts[k]] = place
            starts[k] += 1
    return order


@compiled
def _root(parents: Any, basin: int) -> int:
    while parents[basin] != basin:
        parents[basin] = parents[parents[basin]]
        basin = parents[basin]
    return basin


@compiled
def _flood(levels: Any, order: Any, width: int, depth: float, labels: Any) -> Any:
    """Label the pixels by basin; return the basin that each basin was joined to, itself for those that remain."""
    around = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    parents, peaks = np.zeros(order.size + 1, np.int32), np.zeros(order.size + 1, np.int16)
    met = np.empty(8, np.int32)
    count = 0
    for place in order:
        level, highest, nearest, meeting = levels[place], -1, 0, 0
        for step in around:
            label = labels[place + step]
            if label > 0:
                if levels[place + step] > highest:
                    highest, nearest = levels[place + step], label
                if meeting == 0 or label != met[meeting - 1]:
                    met[meeting] = label
                    meeting += 1
        if meeting == 0:
            count += 1
            parents[count], peaks[count], labels[place] = count, level, count
            continue
        if meeting > 1:
            _join(parents, peaks, met[:meeting], level, depth)
        labels[place] = _root(parents, nearest)
    return parents[: count + 1]


@compiled
def _join(parents: Any, peaks: Any, met: Any, level: int, depth: float) -> None:
    """Join the basins that meet at a level and rise less than `depth` above it to the one with the highest peak."""
    best = _root(parents, met[0])
    for basin in met[1:]:
        root = _root(parents, basin)
        if peaks[root] > peaks[best]:
            best = root
    for basin in met:
        root = _root(parents, basin)
        if root != best and peaks[root] - level < depth:
            parents[root] = best


@compiled
def _number(labels: Any, parents: Any, found: Any) -> int:
    """Write the numbers of the basins that remain, without the frame around; return their count."""
    numbers = np.zeros(parents.size, np.int32)
    count = 0
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            label = labels[y + 1, x + 1]
            if label == 0:
                found[y, x] = 0
                continue
            root = _root(parents, label)
            if numbers[root] == 0:
                count += 1
                numbers[root] = count
            found[y, x] = numbers[root]
    return count
