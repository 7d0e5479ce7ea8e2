"""Grey levels of a whole FOV from its blocks: additive histograms, and percentiles computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

FINE = 16
"""Bins per grey level for non-integer values; percentiles are accurate to 1/16 grey level."""
_SPAN = 65536


@dataclass(frozen=True)
class Histogram:
    """Counts of the grey levels that occur: exact for integers, in bins of 1/`FINE` otherwise. NaN is ignored.

    The sum of the blocks' histograms equals the histogram of all blocks, in any order.
    """

    values: npt.NDArray[np.float64]
    """(K,) ascending values, or lower edges of bins."""
    counts: npt.NDArray[np.int64]
    """(K,) number of occurrences of each value."""
    bin_width: float
    """0 for integers."""
    minimum: float
    maximum: float

    @classmethod
    def of_counts(
        cls,
        values: npt.NDArray[np.float64],
        counts: npt.NDArray[np.int64],
        width: float,
        limits: tuple[float, float],
    ) -> Histogram:
        """Histogram of counted values; empty if there are no values.

        Parameters
        ----------
        values, counts
            (K,) ascending values or lower edges of bins, and their numbers of occurrences.
        width
            Width of a bin; 0 for integers.
        limits
            Smallest and largest value.
        """
        low, high = limits if values.size else (np.nan, np.nan)
        return cls(values, counts, width, float(low), float(high))

    @classmethod
    def sum(cls, parts: Sequence[Histogram]) -> Histogram:
        """Sum of histograms, which must all have the same bin width."""
        values, place = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
        counts = np.zeros(values.size, np.int64)
        np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
        low = np.nanmin([part.minimum for part in parts]) if values.size else np.nan
        high = np.nanmax([part.maximum for part in parts]) if values.size else np.nan
        return cls(values, counts, parts[0].bin_width, float(low), float(high))

    def percentile(self, percent: float) -> float:
        """Percentile with linear interpolation between ranks, as `numpy.percentile`; NaN if the histogram is empty."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        rank = percent / 100 * (total - 1)
        lower = self._ranked(int(rank))
        upper = self._ranked(min(int(rank) + 1, total - 1))
        return lower + (upper - lower) * (rank - int(rank))

    def _ranked(self, rank: int) -> float:
        """Value at a 0-based rank; values in one bin are assumed to be spread evenly over it."""
        upto = self.counts.cumsum()
        k = int(np.searchsorted(upto, rank, side="right"))
        within = (rank - (upto[k] - self.counts[k]) + 0.5) / self.counts[k]
        value = float(self.values[k] + within * self.bin_width) if self.bin_width else float(self.values[k])
        return min(max(value, self.minimum), self.maximum)

    def window(self) -> tuple[float, float]:
        """1st and 99th percentile; minimum and maximum if the two percentiles are equal."""
        low, high = self.percentile(1), self.percentile(99)
        return (low, high) if high > low else (self.minimum, self.maximum)


class WholeLevels:
    """Counter of whole grey levels, frame by frame."""

    def __init__(self) -> None:
        self._counts = np.zeros(_SPAN, np.int64)

    def add(self, values: npt.NDArray[np.unsignedinteger]) -> None:
        """Count an array of uint8 or uint16."""
        _count_integers(values.reshape(-1), self._counts)

    def histogram(self) -> Histogram:
        """Exact histogram of all counted values."""
        values = np.flatnonzero(self._counts)
        limits = values.min(initial=_SPAN), values.max(initial=0)
        return Histogram.of_counts(values.astype(np.float64), self._counts[values], 0.0, limits)


class FineLevels:
    """Counter of float values, frame by frame, in bins of 1/`FINE` grey level from -65536 to 65536; NaN is ignored."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, 2 * _SPAN * FINE), np.uint32)
        self._limits = np.array([np.inf, -np.inf])

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count an array of values."""
        if values.size and np.isnan(values.min()):
            values = values[~np.isnan(values)]
        if values.size:
            _count_values(values.reshape(-1, values.shape[-1]), self._counts, self._limits)

    def add_corrected(self, frame: np.ndarray, background: npt.NDArray[np.float32], weight: float) -> None:
        """Count the values of ``frame - weight * background``.

        Parameters
        ----------
        frame
            (H, W) grey levels.
        background
            (H, W) background in grey levels; pixels with NaN are not counted.
        weight
            Factor of the background, usually from 0 to 1.
        """
        if background.size and np.isnan(background.min()):
            measured = ~np.isnan(background)
            frame, background = frame[measured], background[measured]
        if background.size:
            rows, columns = -1, background.shape[-1]
            _count_corrected(
                frame.reshape(rows, columns), background.reshape(rows, columns), weight, self._counts, self._limits
            )

    def histogram(self) -> Histogram:
        """Histogram of all counted values."""
        bins = np.flatnonzero(self._counts[0] | self._counts[1])
        counts = self._counts[:, bins].sum(0, dtype=np.int64)
        low, high = self._limits.tolist()
        return Histogram.of_counts(bins / FINE - _SPAN, counts, 1.0 / FINE, (low, high))


@compiled
def _count_integers(values: Any, counts: Any) -> None:
    for value in values:
        counts[value] += 1


@compiled
def _count_values(values: Any, counts: Any, limits: Any) -> None:
    row, places, lows, highs = _columns(values.shape[1])
    for y in range(values.shape[0]):
        for x in range(row.size):
            row[x] = values[y, x]
        _count_row(row, places, lows, highs, counts)
    limits[0], limits[1] = min(limits[0], lows.min()), max(limits[1], highs.max())


@compiled
def _count_corrected(frame: Any, background: Any, weight: float, counts: Any, limits: Any) -> None:
    row, places, lows, highs = _columns(frame.shape[1])
    for y in range(frame.shape[0]):
        for x in range(row.size):
            row[x] = np.float64(frame[y, x]) - weight * np.float64(background[y, x])
        _count_row(row, places, lows, highs, counts)
    limits[0], limits[1] = min(limits[0], lows.min()), max(limits[1], highs.max())


@compiled
def _columns(width: int) -> Any:
    """Buffers for one row: its values, their bins, and limits per column (one per row would serialize the loop)."""
    return np.empty(width), np.empty(width, np.int32), np.full(width, np.inf), np.full(width, -np.inf)


@compiled
def _count_row(row: Any, places: Any, lows: Any, highs: Any, counts: Any) -> None:
    last = np.float64(counts.shape[1] - 1)
    for x in range(row.size):
        lows[x], highs[x] = min(lows[x], row[x]), max(highs[x], row[x])
        places[x] = np.int32(min(max((row[x] + 65536.0) * 16.0, 0.0), last))
    for x in range(row.size):
        counts[x & 1, places[x]] += 1  # neighbours often share a bin: two counters avoid waiting for the last write
