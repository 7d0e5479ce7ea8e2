"""Watershed of maxima by persistence: ascent to the next peak, and a union-find of peaks from high to low.

Each pixel belongs to the peak that it reaches by steepest ascent. Where the basins of two peaks meet, the one with the
lower peak is joined to the other, unless its peak rises above the meeting point by at least `depth`. The basins are
those of a watershed from the h-maxima (Soille 2003, Morphological Image Analysis, chapters 6 and 9).

Of pixels of equal height, the one that comes first in raster order counts as the higher one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

LEAST = 1e-37
"""Smallest depth that divides."""


def persistence_watershed(
    landscape: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], depth: float
) -> tuple[npt.NDArray[np.int32], int]:
    """Divide a mask into the basins of the maxima of a landscape.

    Parameters
    ----------
    landscape
        (H, W) float32 heights, finite within the mask.
    mask
        (H, W) pixels to divide.
    depth
        Smallest height of a peak above the pass to a higher peak of the same 8-connected region of the mask; basins of
        lower peaks are joined to the higher one. Pixels of equal height are never divided.

    Returns
    -------
    (H, W) int32 labels, 0 outside the mask and 1..N in raster order of the basins' first pixels, and N.
    """
    height, width = landscape.shape
    size = (height + 2) * (width + 2)  # with a frame of pixels outside the mask, so that all pixels have neighbours
    heights, links = np.empty(size, np.float32), np.zeros(size, np.int32)
    places = np.empty(np.count_nonzero(mask), np.int32)
    _spread(landscape, mask, heights, links, places)
    _ascend(heights, links, places, width + 2)
    passes = _meeting_points(heights, links, places, width + 2)
    order = np.argsort(-heights[passes], kind="stable")
    _join(heights, links, passes[order], width + 2, np.float32(max(depth, LEAST)))
    labels = np.zeros(landscape.shape, np.int32)
    return labels, int(_number(links, places, labels))


@compiled
def _spread(landscape: Any, mask: Any, heights: Any, links: Any, places: Any) -> None:
    """Write the places of the mask's pixels in the wider frame, their heights, and a link from each to itself."""
    count = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                place = (y + 1) * (mask.shape[1] + 2) + x + 1
                heights[place], links[place], places[count] = landscape[y, x], place, place
                count += 1


@compiled
def _around(width: int) -> Any:
    """Distances to the eight neighbours of a pixel in rows of a width."""
    return np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])


@compiled
def _ascend(heights: Any, links: Any, places: Any, width: int) -> None:
    """Link each pixel of the mask to its highest neighbour, and then to the peak that these links lead to."""
    around = _around(width)
    for place in places:
        best, top = place, heights[place]
        for step in around:
            at, height = place + step, heights[place + step]
            higher = (links[at] != 0) & ((height > top) | ((height == top) & (at < best)))
            best, top = (at, height) if higher else (best, top)
        links[place] = best
    for place in places:
        links[place] = _peak(links, place)


@compiled
def _peak(links: Any, place: int) -> int:
    """Place that all links from a pixel lead to; the links are shortened."""
    while links[place] != place:
        links[place] = links[links[place]]
        place = links[place]
    return place


@compiled
def _meeting_points(heights: Any, links: Any, places: Any, width: int) -> Any:
    """Places of the pixels beside which a pixel at least as high has another peak."""
    around = _around(width)
    found, count = np.empty(places.size, np.int32), 0
    for place in places:
        meets = False
        for step in around:
            at = place + step
            meets |= (links[at] != 0) & (links[at] != links[place]) & (heights[at] >= heights[place])
        found[count] = place
        count += meets
    return found[:count].copy()


@compiled
def _join(heights: Any, links: Any, passes: Any, width: int, depth: Any) -> None:
    """Join the basins that meet at a pixel and rise less than `depth` above it to the one with the highest peak."""
    around = _around(width)
    met = np.empty(9, np.int32)
    for place in passes:
        met[0], count = _peak(links, place), 1
        best = met[0]
        for step in around:
            at = place + step
            if links[at] and heights[at] >= heights[place]:
                met[count] = _peak(links, at)
                best = _higher(heights, best, met[count])
                count += 1
        for peak in met[:count]:
            if peak != best and heights[peak] < heights[place] + depth:
                links[peak] = best


@compiled
def _higher(heights: Any, one: int, other: int) -> int:
    if heights[other] > heights[one] or (heights[other] == heights[one] and other < one):
        return other
    return one


@compiled
def _number(links: Any, places: Any, labels: Any) -> int:
    """Write the numbers of the basins that remain, without the frame around; return their count."""
    width = labels.shape[1]
    numbers = np.zeros(links.size, np.int32)
    count = 0
    for place in places:
        peak = _peak(links, place)
        if numbers[peak] == 0:
            count += 1
            numbers[peak] = count
        labels[place // (width + 2) - 1, place % (width + 2) - 1] = numbers[peak]
    return count
