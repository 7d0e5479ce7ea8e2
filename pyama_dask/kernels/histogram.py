"""Grey levels of a whole FOV from its blocks: additive histograms, and percentiles computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

FINE = 16
"""Bins per grey level for non-integer values; percentiles are accurate to 1/16 grey level."""
_SPAN = 65536
_FINE_BINS = 2 * _SPAN * FINE


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
    def sum(cls, parts: Iterable[Histogram]) -> Histogram:
        """Sum of histograms, at least one, which must all have the same bin width.

        They are added one by one, so that those of a generator are never in memory together.
        """
        return reduce(cls._plus, parts)

    def _plus(self, other: Histogram) -> Histogram:
        """Sum of two histograms."""
        values = np.union1d(self.values, other.values)
        counts = np.zeros(values.size, np.int64)
        for part in (self, other):
            counts[np.searchsorted(values, part.values)] += part.counts
        limits = np.fmin(self.minimum, other.minimum), np.fmax(self.maximum, other.maximum)  # nan if both are empty
        return Histogram.of_counts(values, counts, self.bin_width, limits)

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
        # One bin more for NaN. Memory for bins that stay empty is never touched, so the system does not allocate it.
        self._counts = np.zeros((2, _FINE_BINS + 1), np.uint32)
        self._places = np.empty(0, np.int32)
        self._limits = np.array([[np.inf], [-np.inf]])

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count an array of values."""
        if values.size:
            self._fit(values.shape[-1])
            _count_values(values.reshape(-1, values.shape[-1]), self._places, self._limits, self._counts)

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
        if background.size:
            rows, columns = -1, background.shape[-1]
            self._fit(columns)
            _count_corrected(
                frame.reshape(rows, columns), background.reshape(rows, columns), weight,
                self._places, self._limits, self._counts,
            )  # fmt: skip

    def _fit(self, width: int) -> None:
        """Make room for the bins and limits of a row; one limit per column, as one per row would serialize loops."""
        if self._places.size != width:
            self._places = np.empty(width, np.int32)
            low, high = self._limits[0].min(), self._limits[1].max()
            self._limits = np.array([[low], [high]]).repeat(width, axis=1)

    def histogram(self) -> Histogram:
        """Histogram of all counted values."""
        low, high = float(self._limits[0].min()), float(self._limits[1].max())
        first, last = (int(np.clip((limit + _SPAN) * FINE, 0, _FINE_BINS - 1)) for limit in (low, high))
        counts = self._counts[:, first : last + 1].sum(0, dtype=np.int64)
        occupied = np.flatnonzero(counts)
        return Histogram.of_counts((first + occupied) / FINE - _SPAN, counts[occupied], 1.0 / FINE, (low, high))


@compiled
def _count_integers(values: Any, counts: Any) -> None:
    for value in values:
        counts[value] += 1


@compiled
def _count_values(values: Any, places: Any, limits: Any, counts: Any) -> None:
    for y in range(values.shape[0]):
        for x in range(places.size):
            value = np.float64(values[y, x])
            limits[0, x], limits[1, x] = min(limits[0, x], value), max(limits[1, x], value)
            places[x] = _bin(value)
        _count_row(places, counts)


@compiled
def _count_corrected(frame: Any, background: Any, weight: float, places: Any, limits: Any, counts: Any) -> None:
    for y in range(frame.shape[0]):
        for x in range(places.size):
            value = np.float64(frame[y, x]) - weight * np.float64(background[y, x])
            limits[0, x], limits[1, x] = min(limits[0, x], value), max(limits[1, x], value)
            places[x] = _bin(value)
        _count_row(places, counts)


@compiled
def _bin(value: float) -> Any:
    place = min(max((value + 65536.0) * 16.0, 0.0), _FINE_BINS - 1.0)
    return np.int32(_FINE_BINS) if np.isnan(value) else np.int32(place)


@compiled
def _count_row(places: Any, counts: Any) -> None:
    for x in range(places.size):
        # neighbours often share a bin: two counters avoid waiting for the last write
        counts[x & 1, np.uint32(places[x])] += np.uint32(1)
