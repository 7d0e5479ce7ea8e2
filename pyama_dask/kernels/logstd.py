"""Logarithm of the local standard deviation: its histogram and threshold, without one logarithm per pixel.

In a window of n pixels, the variance times n squared, ``n sum(v v) - sum(v)**2``, is an integer. The logarithm of its
square root grows with it, so histogram edges and thresholds are converted to integers once and pixels are compared with
these. A window with zero variance has the value 0 by definition, like a window with variance 1.

The variance is at most a quarter of the window's squared range (Popoviciu 1935). Sums that overflow are still correct
modulo the word size, so 32 bits suffice for a frame in which n * range stays below 2**17 in every window.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels import scratch
from pyama_dask.kernels.bitmask import Bits, empty_words, pack_row
from pyama_dask.kernels.compiled import compiled

MANTISSA_BITS = 7
"""Leading mantissa bits of a float32 that, with the exponent, select the bin where the search starts."""
_SHIFT = 23 - MANTISSA_BITS


class LocalDeviation:
    """Natural log of a frame's local standard deviation, as float32 values that are computed row by row.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    window_size
        Odd width of the window in pixels, at most 37 so that scaled variances are exact in float64. At the borders
        the frame is mirrored, with the edge pixels repeated.
    """

    def __init__(self, frame: np.ndarray, window_size: int = 3) -> None:
        self._frame = np.ascontiguousarray(frame)
        self._size = window_size
        half = window_size // 2
        self._rows, self._columns = (np.pad(np.arange(n), half, mode="symmetric") for n in frame.shape)

    @cached_property
    def _word(self) -> type[np.unsignedinteger[Any]]:
        """Integer type that holds the scaled variances."""
        if self._size == 3 and min(self._frame.shape) >= 3:
            largest_range = _largest_range(self._frame, np.empty((2, self._frame.shape[1]), self._frame.dtype))
        else:
            largest_range = int(self._frame.max()) - int(self._frame.min())
        return np.uint32 if self._size**2 * largest_range < 2**17 else np.uint64

    def _source(self) -> Any:
        """Arguments of the loops over scaled variances: frame, mirrored rows and columns, window size, row buffers."""
        down, scaled = np.empty((2, self._columns.size), self._word), np.empty(self._frame.shape[1], self._word)
        return self._frame, self._rows, self._columns, self._size, down, scaled

    def values(self) -> npt.NDArray[np.float32]:
        """(H, W) values of all pixels."""
        out = scratch.empty(self._frame.shape, np.float32)
        _values(self._source(), out)
        return out

    def value_of(self, scaled: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Values of scaled variances (variance times n squared)."""
        return (0.5 * np.log(scaled / float(self._size**4))).astype(np.float32)

    @cached_property
    def _extremes(self) -> npt.NDArray[np.float64]:
        extremes = np.array([np.iinfo(self._word).max, 0], self._word)
        _extremes(self._source(), extremes)
        return extremes.astype(np.float64)

    def histogram(self, bins: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """(bins,) counts and (bins + 1,) edges between minimum and maximum, as `numpy.histogram` returns them."""
        edges = np.histogram_bin_edges(self.value_of(self._extremes), bins)
        starts = self.least_reaching(edges[:-1])
        # All numbers with the same exponent and leading mantissa start their search at the bin of the smallest of
        # them (just below the boundary, because numbers are rounded to float32); `steps` bounds the length of a search.
        low, high = (int(bits) >> _SHIFT for bits in self._extremes.astype(np.float32).view(np.int32))
        boundaries = (np.arange(low, high + 2, dtype=np.int32) << _SHIFT).view(np.float32)
        smallest = np.ceil(np.nextafter(boundaries[:-1], np.float32(0)))
        first_bin = np.clip(np.searchsorted(starts, smallest, side="right") - 1, 0, None).astype(np.int32)
        steps = int((np.searchsorted(starts, boundaries[1:]) - 1 - first_bin).max())
        limits = np.append(starts[1:].astype(self._word), self._word(np.iinfo(self._word).max))
        counts = np.zeros((4, bins), np.uint32)
        rounded = np.empty(self._frame.shape[1], np.float32)
        bits = rounded.view(np.int32)  # shared memory
        _histogram(self._source(), low, first_bin, limits[first_bin], steps, limits, rounded, bits, counts)
        return counts.sum(0, dtype=np.int64), edges

    def above(self, cut: float) -> Bits:
        """Mask of the pixels whose value exceeds a cut, compared as float32."""
        just_above = np.nextafter(np.float32(cut), np.float32(np.inf))
        least = self.least_reaching(np.array([just_above], np.float32)).astype(self._word)
        words = empty_words(self._frame.shape)
        flags = np.zeros(64 * words.shape[1], np.uint8)
        _above(self._source(), least, flags, flags.view(np.uint64), words)
        return Bits(words, self._frame.shape[1])

    def spread_up_to(self, cut: float) -> float:
        """Population standard deviation of the values up to and including a cut."""
        values = self.values()
        return float(values[values <= np.float32(cut)].std(dtype=np.float64))

    def least_reaching(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Smallest scaled variances (integers, found by bisection) whose values are at least the given ones."""
        below = np.zeros(len(values))
        reaching = np.full(len(values), self._extremes[1] + 1)
        while (reaching - below > 1).any():
            middle = np.floor((below + reaching) / 2)
            middle = np.where(reaching - below > 1, middle, reaching)
            enough = self.value_of(middle) >= values
            reaching = np.where(enough, middle, reaching)
            below = np.where(enough, below, middle)
        return reaching


# ----------------------------------------------------------------------------------------- loops over rows


@compiled
def _largest_range(frame: Any, rows: Any) -> Any:
    """Largest difference between two pixels of any 3 x 3 window."""
    high, low = rows[0], rows[1]
    largest = 0
    for y in range(1, frame.shape[0] - 1):
        _highest_lowest(frame[y - 1], frame[y], frame[y + 1], high, low)
        largest = max(largest, _row_range(high, low))
    return largest


@compiled
def _highest_lowest(above: Any, row: Any, below: Any, high: Any, low: Any) -> None:
    for x in range(high.size):
        high[x] = max(above[x], row[x], below[x])
        low[x] = min(above[x], row[x], below[x])


@compiled
def _row_range(high: Any, low: Any) -> Any:
    largest = np.uint16(0)
    for x in range(high.size - 2):
        difference = max(high[x], high[x + 1], high[x + 2]) - min(low[x], low[x + 1], low[x + 2])
        largest = max(largest, np.uint16(difference))
    return largest


@compiled
def _scaled_row(source: Any, y: int) -> Any:
    """Scaled variances of one row; zero variance is replaced by the one whose value is 0."""
    frame, rows, columns, size, down, out = source
    half, width = size // 2, out.size
    total, squares = down[0, half : half + width], down[1, half : half + width]
    if size == 3:
        _sum_three(frame[rows[y]], frame[rows[y + 1]], frame[rows[y + 2]], total)
        _sum_three_squares(frame[rows[y]], frame[rows[y + 1]], frame[rows[y + 2]], squares)
    else:
        down[:] = 0
        for k in range(y, y + size):
            _add(frame[rows[k]], total, squares)
    for x in range(half):
        right = half + width + x
        down[0, x], down[0, right] = total[columns[x]], total[columns[right]]
        down[1, x], down[1, right] = squares[columns[x]], squares[columns[right]]
    if size == 3:
        _combine_three(down[0], down[1], out)
    else:
        _combine(down[0], down[1], size, out)
    for x in range(width):
        if out[x] == 0:
            out[x] = size**4
    return out


@compiled
def _sum_three(above: Any, row: Any, below: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = above[x] + row[x] + below[x]


@compiled
def _sum_three_squares(above: Any, row: Any, below: Any, out: Any) -> None:
    for x in range(out.size):
        a, b, c = np.uint64(above[x]), np.uint64(row[x]), np.uint64(below[x])
        out[x] = a * a + b * b + c * c


@compiled
def _add(row: Any, total: Any, squares: Any) -> None:
    for x in range(row.size):
        a = np.uint64(row[x])
        total[x] += a
        squares[x] += a * a


@compiled
def _combine_three(total: Any, squares: Any, out: Any) -> None:
    for x in range(out.size):
        s1 = total[x] + total[x + 1] + total[x + 2]
        s2 = squares[x] + squares[x + 1] + squares[x + 2]
        out[x] = np.uint64(9) * s2 - s1 * s1


@compiled
def _combine(total: Any, squares: Any, size: int, out: Any) -> None:
    for x in range(out.size):
        s1, s2 = np.uint64(0), np.uint64(0)
        for k in range(x, x + size):
            s1 += total[k]
            s2 += squares[k]
        out[x] = np.uint64(size * size) * s2 - s1 * s1


@compiled
def _values(source: Any, out: Any) -> None:
    unit = float(source[3] ** 4)
    for y in range(source[0].shape[0]):
        scaled = _scaled_row(source, y)
        for x in range(scaled.size):
            out[y, x] = 0.5 * math.log(scaled[x] / unit)


@compiled
def _extremes(source: Any, extremes: Any) -> None:
    low, high = extremes[0], extremes[1]
    for y in range(source[0].shape[0]):
        scaled = _scaled_row(source, y)
        for x in range(scaled.size):
            low, high = min(low, scaled[x]), max(high, scaled[x])
    extremes[0], extremes[1] = low, high


@compiled
def _histogram(
    source: Any, low: int, first_bin: Any, least: Any, steps: int, limits: Any, rounded: Any, bits: Any, counts: Any
) -> None:
    """Count values; unsigned indices skip numba's wraparound."""
    for y in range(source[0].shape[0]):
        scaled = _scaled_row(source, y)
        for x in range(scaled.size):
            rounded[x] = scaled[x]
        for x in range(scaled.size):
            key = np.uint32((bits[x] >> _SHIFT) - low)
            k = np.uint32(first_bin[key] + np.int32(scaled[x] >= least[key]))
            for _ in range(1, steps):
                k += np.uint32(scaled[x] >= limits[k])
            # neighbours often share a bin: four counters avoid waiting for the last one
            counts[x & 3, k] += np.uint32(1)


@compiled
def _above(source: Any, least: Any, flags: Any, eight: Any, words: Any) -> None:
    cut = least[0]
    for y in range(source[0].shape[0]):
        scaled = _scaled_row(source, y)
        for x in range(scaled.size):
            flags[x] = scaled[x] >= cut
        pack_row(eight, words[y])
