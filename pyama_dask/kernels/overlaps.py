"""Pairs of overlapping rectangles of two sets, found by a sweep, so that no table of all pairs is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Rectangles = npt.NDArray[np.float64]
"""(N, 4) rectangles (y0, x0, y1, x1) in pixels."""
Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""(P,) indices into the first and the second set."""


def overlapping(a: Rectangles, b: Rectangles) -> Pairs:
    """Pairs of rectangles that share a point, borders included.

    The second set is sorted by its upper sides, so that for each rectangle of the first only those are looked at that
    begin within reach.

    Parameters
    ----------
    a, b
        (N, 4) and (M, 4) rectangles.

    Returns
    -------
    (P,) indices into `a`, ascending, and into `b`.
    """
    if not (len(a) and len(b)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(b[:, 0], kind="stable")
    swept = np.ascontiguousarray(b[order])
    tallest = float((b[:, 2] - b[:, 0]).max())
    begin = np.searchsorted(swept[:, 0], a[:, 0] - tallest, side="left")
    end = np.searchsorted(swept[:, 0], a[:, 2], side="right")
    counts = np.zeros(len(a), np.int64)
    _sweep(a, swept, begin, end, counts, np.zeros(0, np.int64))
    found = np.empty(int(counts.sum()), np.int64)
    _sweep(a, swept, begin, end, counts, found)
    return np.repeat(np.arange(len(a)), counts), order[found]


@compiled
def _sweep(a: Any, b: Any, begin: Any, end: Any, counts: Any, found: Any) -> None:
    """Count the partners of each rectangle, or write them if there is room for them."""
    place = 0
    for i in range(a.shape[0]):
        y0, x0, y1, x1 = a[i]
        count = 0
        for j in range(begin[i], end[i]):
            if b[j, 2] >= y0 and b[j, 0] <= y1 and b[j, 3] >= x0 and b[j, 1] <= x1:
                if found.size:
                    found[place] = j
                    place += 1
                count += 1
        counts[i] = count


def centres(boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(N, 2) centres y and x of (N, 4) boxes."""
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2.0)


def sides(boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(N,) sides of the squares with the areas of (N, 4) boxes."""
    return np.asarray(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1)))


def squares(points: npt.NDArray[np.float64], reach: float | npt.NDArray[np.float64]) -> Rectangles:
    """(N, 4) squares around (N, 2) points, which reach so far to each side."""
    wide = np.broadcast_to(np.asarray(reach, np.float64), len(points))[:, None]
    return np.hstack([points - wide, points + wide])
