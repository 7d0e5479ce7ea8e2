"""Binary masks and labels: disks, closing and opening, boxes.

Masks are (H, W) uint8 of 0 and 1. OpenCV's results equal SciPy's bit by bit; pixels outside the frame never count.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.runs import Mask


def disk(radius: int) -> Mask:
    """(2 r + 1, 2 r + 1) disk: 1 where the distance from the centre is at most the radius."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    inside: Mask = (y * y + x * x <= radius * radius).astype(np.uint8)
    return inside


def closing(mask: Mask, footprint: Mask, iterations: int) -> Mask:
    """Dilate, then erode, each `iterations` times."""
    return erode(dilate(mask, footprint, iterations), footprint, iterations)


def opening(mask: Mask, footprint: Mask, iterations: int) -> Mask:
    """Erode, then dilate, each `iterations` times."""
    return dilate(erode(mask, footprint, iterations), footprint, iterations)


def dilate(mask: Mask, footprint: Mask, iterations: int = 1) -> Mask:
    """Binary dilation, `iterations` times."""
    return np.asarray(cv2.dilate(mask, footprint, iterations=iterations), np.uint8) if iterations else mask


def erode(mask: Mask, footprint: Mask, iterations: int = 1) -> Mask:
    """Binary erosion, `iterations` times."""
    return np.asarray(cv2.erode(mask, footprint, iterations=iterations), np.uint8) if iterations else mask


def boxes(labels: np.ndarray) -> npt.NDArray[np.int32]:
    """Half-open boxes (y0, x0, y1, x1) in pixels of the labels 1..N.

    Parameters
    ----------
    labels
        (H, W) labels without gaps.

    Returns
    -------
    (N, 4) boxes in label order.
    """
    count = int(labels.max(initial=0))
    h, w = labels.shape
    found = np.tile(np.array([h, w, 0, 0], np.int32), (count, 1))
    _boxes(labels, found)
    return found


@compiled
def _boxes(labels: Any, found: Any) -> None:
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label:
                box = found[label - 1]
                box[0] = min(box[0], y)
                box[1] = min(box[1], x)
                box[2] = max(box[2], y + 1)
                box[3] = max(box[3], x + 1)
