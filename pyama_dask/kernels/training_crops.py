"""Crops of annotated frames for training a network: geometric warp, and the maps that the network learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

UNKNOWN = -1
"""Label of pixels that are not annotated, or outside the frame."""
_TOUCH = np.array([(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if 0 < dy * dy + dx * dx <= 5])
"""Offsets (dy, dx) of the pixels within reach of a touch."""
_STRAIGHT, _DIAGONAL = 0.955, 1.3693
"""Lengths of the two steps of a chamfer distance (Borgefors 1986, doi:10.1016/S0734-189X(86)80047-0)."""


def warp(
    frame: np.ndarray, labels: np.ndarray, matrix: np.ndarray, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Cut a crop out of a frame and its labels by an affine map.

    Parameters
    ----------
    frame
        (H, W) float32; reflected beyond its edges.
    labels
        (H, W) int32; `UNKNOWN` beyond its edges.
    matrix
        (2, 3) float64: the pixel (x, y) of the crop shows ``matrix @ (x, y, 1)`` of the frame.
    size
        Side of the crop in pixels; even.

    Returns
    -------
    (size, size) float32 by bilinear interpolation, and (size / 2, size / 2) int32 labels of the nearest pixels.
    """
    crop = np.empty((size, size), np.float32)
    found = np.empty((size // 2, size // 2), np.int32)
    _warp(frame, labels, matrix, crop, found)
    return crop, found


def learned_maps(labels: np.ndarray) -> npt.NDArray[np.float32]:
    """Maps that a network learns from labels.

    Parameters
    ----------
    labels
        (H, W) int32; 0 or less is background.

    Returns
    -------
    (3, H, W) float32: foreground (0 or 1), touch (1 where two cells are within 2 pixels), and distance to the cell's
    border divided by the largest distance in this cell (0 in the background).
    """
    maps = np.zeros((3, *labels.shape), np.float32)
    _learned_maps(labels, _TOUCH, np.zeros(max(int(labels.max(initial=0)), 0) + 1, np.float32), maps)
    return maps


@compiled
def _warp(frame: Any, labels: Any, matrix: Any, crop: Any, found: Any) -> None:
    for y in range(crop.shape[0]):
        for x in range(crop.shape[1]):
            u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
            v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
            crop[y, x] = _bilinear(frame, v, u)
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            middle_x, middle_y = 2 * x + 0.5, 2 * y + 0.5
            u = matrix[0, 0] * middle_x + matrix[0, 1] * middle_y + matrix[0, 2]
            v = matrix[1, 0] * middle_x + matrix[1, 1] * middle_y + matrix[1, 2]
            row, column = math.floor(v + 0.5), math.floor(u + 0.5)
            inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
            found[y, x] = labels[row, column] if inside else UNKNOWN


@compiled
def _bilinear(frame: Any, y: Any, x: Any) -> Any:
    top, left = math.floor(y), math.floor(x)
    fy, fx = np.float32(y - top), np.float32(x - left)
    y0, y1 = _reflected(top, frame.shape[0]), _reflected(top + 1, frame.shape[0])
    x0, x1 = _reflected(left, frame.shape[1]), _reflected(left + 1, frame.shape[1])
    above = frame[y0, x0] + (frame[y0, x1] - frame[y0, x0]) * fx
    below = frame[y1, x0] + (frame[y1, x1] - frame[y1, x0]) * fx
    return above + (below - above) * fy


@compiled
def _reflected(at: Any, size: Any) -> Any:
    """Index within ``range(size)``, mirrored at the first and the last pixel."""
    if 0 <= at < size:
        return at
    if size == 1:
        return 0
    at = abs(at) % (2 * size - 2)
    return min(at, 2 * size - 2 - at)


@compiled
def _learned_maps(labels: Any, touch: Any, largest: Any, maps: Any) -> None:
    h, w = labels.shape
    distance = np.full((h + 2, w + 2), np.float32(h + w))  # with a border, so that all pixels have neighbours
    for y in range(h):
        for x in range(w):
            if labels[y, x] > 0:
                maps[0, y, x] = 1
            if labels[y, x] <= 0 or _on_border(labels, y, x):
                distance[y + 1, x + 1] = 0
            maps[1, y, x] = _touches(labels, touch, y, x)
    _chamfer(distance)
    _divide_by_largest(labels, distance, largest, maps[2])


@compiled
def _divide_by_largest(labels: Any, distance: Any, largest: Any, out: Any) -> None:
    """Write the distance to the border of each cell, as a fraction of the largest one within the cell."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                out[y, x] = distance[y + 1, x + 1] + 1
                largest[labels[y, x]] = max(largest[labels[y, x]], out[y, x])
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                out[y, x] /= largest[labels[y, x]]


@compiled
def _touches(labels: Any, touch: Any, y: Any, x: Any) -> Any:
    """True if there are two different cells within reach of a pixel, which may be of one of them."""
    one = max(labels[y, x], 0)
    for k in range(touch.shape[0]):
        ny, nx = y + touch[k, 0], x + touch[k, 1]
        if 0 <= ny < labels.shape[0] and 0 <= nx < labels.shape[1] and labels[ny, nx] > 0:
            if one > 0 and labels[ny, nx] != one:
                return True
            one = labels[ny, nx]
    return False


@compiled
def _on_border(labels: Any, y: Any, x: Any) -> Any:
    """True if one of the eight neighbours has another label; those outside the crop do not count."""
    for ny in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
        for nx in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
            if max(labels[ny, nx], 0) != labels[y, x]:
                return True
    return False


@compiled
def _chamfer(distance: Any) -> None:
    """Distance to the nearest 0 within the border, in two passes."""
    h, w = distance.shape
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            straight = min(distance[y, x - 1], distance[y - 1, x])
            diagonal = min(distance[y - 1, x - 1], distance[y - 1, x + 1])
            distance[y, x] = min(distance[y, x], straight + _STRAIGHT, diagonal + _DIAGONAL)
    for y in range(h - 2, 0, -1):
        for x in range(w - 2, 0, -1):
            straight = min(distance[y, x + 1], distance[y + 1, x])
            diagonal = min(distance[y + 1, x + 1], distance[y + 1, x - 1])
            distance[y, x] = min(distance[y, x], straight + _STRAIGHT, diagonal + _DIAGONAL)
