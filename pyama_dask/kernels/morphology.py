"""Binary morphology with disks, and bounding boxes of labels. Pixels outside the frame never count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.bitmask import Bits, Reach, dilate, erode, pack
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.runlength import find_runs


def disk(radius: int) -> Reach:
    """Reach of a disk: all pixels whose distance from the centre is at most the radius."""
    return np.array([math.isqrt(radius * radius - dy * dy) for dy in range(radius + 1)])


def repeated(reach: Reach, times: int) -> Reach:
    """Reach of the n-fold sum of a footprint with itself; for n = 0, a single pixel."""
    total = np.zeros(1, np.int64)
    for _ in range(times):
        longer = np.zeros(total.size + reach.size - 1, np.int64)
        for dy, more in enumerate(reach):
            part = longer[dy : dy + total.size]
            np.maximum(part, total + more, out=part)
        total = longer
    return total


def closing(mask: Bits, reach: Reach) -> Bits:
    """Dilate, then erode."""
    return erode(dilate(mask, reach), reach)


def opening(mask: Bits, reach: Reach) -> Bits:
    """Erode, then dilate."""
    return dilate(erode(mask, reach), reach)


def boxes(labels: np.ndarray) -> npt.NDArray[np.int32]:
    """Half-open bounding boxes (y0, x0, y1, x1) of the labels 1..N, in pixels.

    Parameters
    ----------
    labels
        (H, W) labels without gaps.

    Returns
    -------
    (N, 4) int32 boxes in label order.
    """
    return boxes_and_areas(labels)[0]


def boxes_and_areas(labels: np.ndarray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(N, 4) boxes of the labels of a frame, as from `boxes`, and (N,) areas in pixels."""
    count = int(labels.max(initial=0))
    h, w = labels.shape
    out, areas = np.tile(np.array([h, w, 0, 0], np.int32), (count, 1)), np.zeros(count, np.int64)
    _boxes(labels, *find_runs(pack(labels)), out, areas)
    return out, areas


@compiled
def _boxes(labels: Any, first: Any, begins: Any, ends: Any, out: Any, areas: Any) -> None:
    for y in range(labels.shape[0]):
        for k in range(first[y], first[y + 1]):
            begin = begins[k]
            for x in range(begins[k] + 1, ends[k] + 1):
                if x < ends[k] and labels[y, x] == labels[y, begin]:
                    continue
                areas[labels[y, begin] - 1] += x - begin
                box = out[labels[y, begin] - 1]
                box[0] = min(box[0], y)
                box[1] = min(box[1], begin)
                box[2] = max(box[2], y + 1)
                box[3] = max(box[3], x)
                begin = x
