"""Sharpness and light of frames, by which drifts of focus, of the lamp and of the camera are seen.

The sharpness is the mean squared difference of neighbours in a row: the measure of focus of Brenner et al. (1976, J.
Histochem. Cytochem. 24, 100) with a distance of one pixel. It depends on the content and the light of a frame, so it is
compared between frames of one FOV, not between movies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyama_dask.kernels.compiled import compiled

ROWS = 4
"""Every fourth row is measured for sharpness."""
STRIDE = 4
"""Every fourth pixel of every fourth row is measured for level and spread."""


def sharpness(frame: np.ndarray) -> float:
    """Mean squared difference of horizontal neighbours in every fourth row.

    Parameters
    ----------
    frame
        (H, W) uint8, uint16 or floats.

    Returns
    -------
    Squared grey levels, from an exact sum for integers; nan for a frame of one column.
    """
    pairs = int(-(-frame.shape[0] // ROWS) * (frame.shape[1] - 1))
    if not pairs:
        return math.nan
    if frame.dtype.kind == "f":
        return float(np.square(np.diff(frame[::ROWS].astype(np.float64))).sum()) / pairs
    return int(_squared_differences(frame, ROWS)) / pairs


def level_and_spread(frame: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of every fourth pixel of every fourth row.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.

    Returns
    -------
    Grey levels, from exact sums.
    """
    count = math.prod(-(-n // STRIDE) for n in frame.shape)
    total, squares = map(int, _sums(frame, STRIDE))
    return total / count, math.sqrt(squares * count - total**2) / count


@compiled
def _squared_differences(frame: Any, step: int) -> Any:
    total = np.uint64(0)
    for y in range(0, frame.shape[0], step):
        row = frame[y]
        for x in range(row.size - 1):
            difference = np.int64(row[x + 1]) - np.int64(row[x])
            total += np.uint64(difference * difference)
    return total


@compiled
def _sums(frame: Any, stride: int) -> Any:
    total, squares = np.uint64(0), np.uint64(0)
    for y in range(0, frame.shape[0], stride):
        row = frame[y]
        for x in range(0, row.size, stride):
            value = np.uint64(row[x])
            total += value
            squares += value * value
    return total, squares
