"""Common shift of all cells from one frame to the next, as after a jump of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.overlaps import centres, sides

FEWEST = 8
"""Smallest number of cells in both frames."""
BIN = 0.15
"""Width of the bins in which shifts are counted, in cells."""
RISE = 1.5
"""Smallest ratio of votes for a shift to those for none."""
SHARE = 0.3
"""Smallest ratio of votes for a shift to the number of cells."""


def common_shift(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], max_shift: float
) -> npt.NDArray[np.float64]:
    """Shift that most cells share, by votes of all pairs of centres.

    Parameters
    ----------
    before, after
        (N, 4) and (M, 4) boxes of two frames.
    max_shift
        Largest shift along each axis in cells, which are as wide as the median side of the boxes before.

    Returns
    -------
    (2,) shift y, x in pixels; 0 if there are too few cells, or no shift has clearly more votes than none.
    """
    if min(len(before), len(after)) < FEWEST or not max_shift:
        return np.zeros(2)
    cell = float(np.median(sides(before)))
    width, reach = max(2.0, BIN * cell), max_shift * cell
    zero = int(np.ceil(reach / width)) + 1
    a, b = centres(before), centres(after)
    b = b[np.argsort(b[:, 0], kind="stable")]
    begin, end = (np.searchsorted(b[:, 0], a[:, 0] + to) for to in (-reach, reach))
    votes = np.zeros((2 * zero + 1, 2 * zero + 1), np.int64)
    _vote(a, b, begin, end, reach, width, votes)
    padded = np.pad(votes, 1)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).sum((2, 3))
    row, column = divmod(int(np.argmax(around)), len(votes))
    if around[row, column] < max(RISE * around[zero, zero], SHARE * min(len(a), len(b))):
        return np.zeros(2)
    steps = np.empty((int(around[row, column]), 2))
    _voters(a, b, begin, end, reach, width, zero, row, column, steps)
    return np.asarray(np.median(steps, axis=0))


@compiled
def _vote(a: Any, b: Any, begin: Any, end: Any, reach: float, width: float, votes: Any) -> None:
    """Count the steps from each centre to all centres within reach, by bins."""
    zero = votes.shape[0] // 2
    for i in range(a.shape[0]):
        for j in range(begin[i], end[i]):
            dx = b[j, 1] - a[i, 1]
            if abs(dx) < reach:
                row = int(np.floor((b[j, 0] - a[i, 0]) / width + 0.5)) + zero
                votes[row, int(np.floor(dx / width + 0.5)) + zero] += 1


@compiled
def _voters(
    a: Any, b: Any, begin: Any, end: Any, reach: float, width: float, zero: int, row: int, column: int, steps: Any
) -> None:
    """Write the steps that are counted in a bin and in those around it."""
    count = 0
    for i in range(a.shape[0]):
        for j in range(begin[i], end[i]):
            dy, dx = b[j, 0] - a[i, 0], b[j, 1] - a[i, 1]
            near_y = abs(int(np.floor(dy / width + 0.5)) + zero - row) <= 1
            if abs(dx) < reach and near_y and abs(int(np.floor(dx / width + 0.5)) + zero - column) <= 1:
                steps[count, 0] = dy
                steps[count, 1] = dx
                count += 1


def total_shifts(per_frame: Sequence[npt.NDArray[np.float64]], max_shift: float) -> npt.NDArray[np.float64]:
    """(T, 2) shift of every frame from the first, as the sum of `common_shift` from frame to frame."""
    shifts = np.zeros((len(per_frame), 2))
    for t in range(1, len(per_frame)):
        shifts[t] = common_shift(per_frame[t - 1], per_frame[t], max_shift)
    return np.cumsum(shifts, axis=0)
