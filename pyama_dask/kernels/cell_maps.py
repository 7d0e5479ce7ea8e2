"""Labels from the maps of a network: where cells are, where they touch, and how far inside each pixel lies.

Maps are decoded at a quarter of the resolution of the network's input, and outlines are cut at full resolution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.ndimage`, which takes a while, when it is used

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.losses import Losses, note
from pyama_dask.kernels.persistence import persistence_watershed
from pyama_dask.kernels.resize import between, interpolate_row, reduce_area

DECODED = 4
"""Pixels of the network's input per pixel of the landscape, by axis."""
BLUR = 0.5
"""Standard deviation of the Gaussian over the landscape, in its pixels."""
Maps = npt.NDArray[np.float32]


def decode(maps: Maps, shape: tuple[int, int], *, depth: float, touch: float, smallest: int) -> npt.NDArray[np.uint16]:
    """Find the cells in the three maps of a network.

    Parameters
    ----------
    maps
        (3, h, w) float32 at half the resolution of the network's input: logit of being in a cell, logit of touching
        another cell, and distance to the cell's border as a fraction of the largest one within the cell.
    shape
        (H, W) of the network's input without padding, at most (2 h, 2 w).
    depth
        Smallest depth of the valley between two cells, in units of the distance map.
    touch
        Weight of the probability of touching another cell, which is subtracted from the distance.
    smallest
        Smallest area of a cell, in pixels of the network's input.

    Returns
    -------
    (H, W) labels, 0 for background and 1..N for cells.

    Raises
    ------
    OverflowError
        If there are more than 65535 cells.
    """
    inside, touching, distance = (reduce_area(of, DECODED // 2) for of in maps)
    landscape = distance - np.float32(touch) * _probability(touching)
    landscape = scipy.ndimage.gaussian_filter(landscape, BLUR, mode="nearest")
    labels, count = persistence_watershed(landscape, inside > 0, depth)
    return _outlined(_numbered(labels, count, smallest), maps[0], DECODED // 2, shape)


def decode_mask(
    inside: Maps, shape: tuple[int, int], *, depth: float, smallest: int, factor: int = 2
) -> npt.NDArray[np.uint16]:
    """Find the cells in one map of a network, and part those in contact by the distance to the mask's border.

    Parameters
    ----------
    inside
        (h, w) float32 logit of being in a cell.
    shape
        (H, W) of the network's input without padding, at most (factor * h, factor * w).
    depth
        Smallest depth of the valley between two cells, as a fraction of the smaller one's largest distance.
    smallest
        Smallest area of a cell, in pixels of the network's input.
    factor
        Pixels of the network's input per pixel of the map, by axis: 1, 2 or 4.

    Returns
    -------
    (H, W) labels, 0 for background and 1..N for cells.

    Raises
    ------
    OverflowError
        If there are more than 65535 cells.
    """
    mask = reduce_area(inside, DECODED // factor) > 0
    distance = scipy.ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float32)
    landscape = scipy.ndimage.gaussian_filter(np.log(np.maximum(distance, 0.5)), BLUR, mode="nearest")
    labels, count = persistence_watershed(landscape, mask, -math.log1p(-min(depth, 0.999)))
    return _outlined(_numbered(labels, count, smallest), inside, factor, shape)


def _probability(logit: Maps) -> Maps:
    """Logistic function, without overflow."""
    probability: Maps = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * logit)
    return probability


def _numbered(labels: npt.NDArray[np.int32], count: int, smallest: int) -> npt.NDArray[np.uint16]:
    """Drop labels of too small an area, and note how many; number the others without gaps.

    Each grows by one pixel, to be cut.
    """
    area = np.bincount(labels.ravel(), minlength=count + 1) * DECODED**2
    kept = area >= smallest
    kept[0] = False
    note(Losses(too_small=count - int(kept.sum()), too_large=0, lost=0.0))
    if kept.sum() > np.iinfo(np.uint16).max:
        raise OverflowError(f"{kept.sum()} objects in one frame do not fit 16-bit labels. Fix: raise 'smallest'")
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.uint16)
    out = np.empty(labels.shape, np.uint16)
    _grow(labels, numbers, out)
    return out


@compiled
def _grow(labels: Any, numbers: Any, out: Any) -> None:
    """Write the numbers of labels; pixels without label take that of a neighbour above, left, right or below."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0 and y > 0:
                label = labels[y - 1, x]
            if label == 0 and x > 0:
                label = labels[y, x - 1]
            if label == 0 and x + 1 < width:
                label = labels[y, x + 1]
            if label == 0 and y + 1 < height:
                label = labels[y + 1, x]
            out[y, x] = numbers[label]


def _outlined(
    labels: npt.NDArray[np.uint16], inside: Maps, factor: int, shape: tuple[int, int]
) -> npt.NDArray[np.uint16]:
    """Enlarge labels, and clear the pixels where the interpolated logit is not positive."""
    out = np.empty(shape, np.uint16)
    at = between(inside.shape, shape, (1 / factor, 1 / factor))
    _cut(labels, np.ascontiguousarray(inside), at, out)
    return without_gaps(out)


def without_gaps(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Number labels 1..N in their order, if some numbers up to the highest do not occur.

    Parameters
    ----------
    labels
        (H, W) labels; they may be changed in place.
    """
    seen = np.zeros(np.iinfo(np.uint16).max + 1, np.bool_)
    _mark(labels, seen)
    seen[0] = False
    numbers = np.where(seen, np.cumsum(seen), 0).astype(np.uint16)
    if numbers.max(initial=0) < np.flatnonzero(seen).max(initial=0):
        _replace(labels, numbers)
    return labels


@compiled
def _cut(labels: Any, inside: Any, at: Any, out: Any) -> None:
    blend, logit = np.empty(inside.shape[1], np.float32), np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        interpolate_row(inside, at, y, blend, logit)
        row = labels[y // DECODED]
        for x in range(logit.size):
            out[y, x] = row[x // DECODED] if logit[x] > 0 else 0


@compiled
def _mark(labels: Any, seen: Any) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            seen[labels[y, x]] = True


@compiled
def _replace(labels: Any, numbers: Any) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[y, x] = numbers[labels[y, x]]
