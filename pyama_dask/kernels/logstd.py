"""Logarithm of the local standard deviation: its histogram and its threshold, without computing a logarithm a pixel.

In a window of n pixels the variance times n squared, ``n sum(v v) - sum(v)**2``, is a whole number. The logarithm of
its root grows with it, so that the edges of histogram bins, and a threshold, can be translated into whole numbers
once, and pixels compared with those. Whole numbers below 2**53 are held in float64, exactly. A window without variance
has the value 0 by definition, which is that of a variance of 1.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

MANTISSA_BITS = 10
"""Of a float64, that with its exponent choose where the search for a bin begins."""
_SHIFT = 52 - MANTISSA_BITS


class LocalDeviation:
    """Natural log of the local standard deviation of a frame, as float32 values that are never all in memory.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    window_size
        Odd width of the window in pixels, at most 37 for sums to be exact. At the borders the frame is mirrored with
        its edge pixels repeated.
    """

    def __init__(self, frame: np.ndarray, window_size: int = 3) -> None:
        self._frame = np.ascontiguousarray(frame)
        self._size = window_size
        half = window_size // 2
        self._rows, self._columns = (np.pad(np.arange(n), half, mode="symmetric") for n in frame.shape)
        self._unit = float(window_size**4)

    def values(self) -> npt.NDArray[np.float32]:
        """(H, W) all values."""
        out = np.empty(self._frame.shape, np.float32)
        _values(self._frame, self._rows, self._columns, self._size, self._unit, out)
        return out

    def value_of(self, scaled: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Values of variances that are scaled by the window's pixels squared."""
        return (0.5 * np.log(scaled / self._unit)).astype(np.float32)

    @cached_property
    def _extremes(self) -> npt.NDArray[np.float64]:
        found = np.array([np.iinfo(np.int64).max, 0])
        _extremes(self._frame, self._rows, self._columns, self._size, self._unit, found)
        return found.view(np.float64)

    def histogram(self, bins: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """(bins,) counts and (bins + 1,) edges between minimum and maximum, as `numpy.histogram` gives them."""
        edges = np.histogram_bin_edges(self.value_of(self._extremes), bins)
        starts = self.least_reaching(edges[:-1])
        counts = np.zeros((4, bins), np.int64)
        # every float64 of one exponent and leading mantissa begins its search at the bin of the smallest of them
        low, high = (int(bits) >> _SHIFT for bits in self._extremes.view(np.int64))
        smallest = (np.arange(low, high + 1, dtype=np.int64) << _SHIFT).view(np.float64)
        first_bin = np.clip(np.searchsorted(starts, smallest, side="right") - 1, 0, bins - 1).astype(np.int16)
        limits = np.append(starts[1:], np.inf)
        _histogram(self._frame, self._rows, self._columns, self._size, self._unit, first_bin, low, limits, counts)
        return counts.sum(0), edges

    def above(self, cut: float) -> npt.NDArray[np.uint8]:
        """(H, W) mask of 1 where the value is above a cut, compared in float32."""
        just_above = np.nextafter(np.float32(cut), np.float32(np.inf))
        least = float(self.least_reaching(np.array([just_above], np.float32))[0])
        out = np.empty(self._frame.shape, np.uint8)
        _above(self._frame, self._rows, self._columns, self._size, self._unit, least, out)
        return out

    def spread_up_to(self, cut: float) -> float:
        """Population standard deviation of the values up to and including a cut."""
        values = self.values()
        return float(values[values <= np.float32(cut)].std(dtype=np.float64))

    def least_reaching(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Smallest scaled variances whose values are at least the ones given; whole numbers, found by bisection."""
        below = np.zeros(len(values))
        reaching = np.full(len(values), self._extremes[1] + 1)
        while (reaching - below > 1).any():
            middle = np.floor((below + reaching) / 2)
            middle = np.where(reaching - below > 1, middle, reaching)
            enough = self.value_of(middle) >= values
            reaching = np.where(enough, middle, reaching)
            below = np.where(enough, below, middle)
        return reaching


@compiled
def _scaled_row(
    frame: Any, rows: Any, columns: Any, size: int, unit: float, y: int, down: Any, down2: Any, out: Any
) -> None:
    """Variance times n squared of one row; that of windows without variance is the one of value 0."""
    half, width = size // 2, out.size
    inner, inner2 = down[half : half + width], down2[half : half + width]
    if size == 3:
        above, row, below = frame[rows[y]], frame[rows[y + 1]], frame[rows[y + 2]]
        for x in range(width):
            a, b, c = np.float64(above[x]), np.float64(row[x]), np.float64(below[x])
            inner[x] = a + b + c
            inner2[x] = a * a + b * b + c * c
    else:
        inner[:] = 0.0
        inner2[:] = 0.0
        for k in range(size):
            row = frame[rows[y + k]]
            for x in range(width):
                a = np.float64(row[x])
                inner[x] += a
                inner2[x] += a * a
    for x in range(half):
        down[x], down2[x] = inner[columns[x]], inner2[columns[x]]
        right = half + width + x
        down[right], down2[right] = inner[columns[right]], inner2[columns[right]]
    n = np.float64(size * size)
    for x in range(width):
        if size == 3:
            s1 = down[x] + down[x + 1] + down[x + 2]
            s2 = down2[x] + down2[x + 1] + down2[x + 2]
        else:
            s1 = down[x : x + size].sum()
            s2 = down2[x : x + size].sum()
        scaled = n * s2 - s1 * s1
        out[x] = scaled if scaled > 0.0 else unit


@compiled
def _values(frame: Any, rows: Any, columns: Any, size: int, unit: float, out: Any) -> None:
    down, down2, scaled = np.empty(columns.size), np.empty(columns.size), np.empty(frame.shape[1])
    for y in range(frame.shape[0]):
        _scaled_row(frame, rows, columns, size, unit, y, down, down2, scaled)
        for x in range(scaled.size):
            out[y, x] = 0.5 * math.log(scaled[x] / unit)


@compiled
def _extremes(frame: Any, rows: Any, columns: Any, size: int, unit: float, found: Any) -> None:
    down, down2, scaled = np.empty(columns.size), np.empty(columns.size), np.empty(frame.shape[1])
    bits = scaled.view(np.int64)  # in the order of the numbers, as these are positive
    low, high = found[0], found[1]
    for y in range(frame.shape[0]):
        _scaled_row(frame, rows, columns, size, unit, y, down, down2, scaled)
        for x in range(scaled.size):
            low, high = min(low, bits[x]), max(high, bits[x])
    found[0], found[1] = low, high


@compiled
def _histogram(
    frame: Any, rows: Any, columns: Any, size: int, unit: float, first_bin: Any, low: int, limits: Any, counts: Any
) -> None:
    down, down2, scaled = np.empty(columns.size), np.empty(columns.size), np.empty(frame.shape[1])
    bits = scaled.view(np.int64)
    for y in range(frame.shape[0]):
        _scaled_row(frame, rows, columns, size, unit, y, down, down2, scaled)
        for x in range(scaled.size):
            k = np.int64(first_bin[(bits[x] >> _SHIFT) - low])
            while scaled[x] >= limits[k]:
                k += 1
            counts[x & 3, k] += 1  # neighbours are often in one bin: four counters wait less for each other


@compiled
def _above(frame: Any, rows: Any, columns: Any, size: int, unit: float, least: float, out: Any) -> None:
    down, down2, scaled = np.empty(columns.size), np.empty(columns.size), np.empty(frame.shape[1])
    for y in range(frame.shape[0]):
        _scaled_row(frame, rows, columns, size, unit, y, down, down2, scaled)
        for x in range(scaled.size):
            out[y, x] = scaled[x] >= least
