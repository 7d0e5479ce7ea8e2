"""Grey levels of a whole FOV from blocks of it: histograms that add up, and the percentiles they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

FINE = 16
"""Bins a grey level for values that are not whole numbers: their percentiles are within 1/16 grey level."""
_SPAN = 65536


@dataclass(frozen=True)
class Histogram:
    """Counts of the grey levels that occur: exact for whole numbers, in bins of 1/`FINE` otherwise. NaN is left out.

    Sums of histograms of blocks equal the histogram of all blocks, in any order.
    """

    values: npt.NDArray[np.float64]
    """(K,) ascending values, or lower edges of bins."""
    counts: npt.NDArray[np.int64]
    """(K,) how often each occurs."""
    bin_width: float
    """0 for whole numbers."""
    minimum: float
    maximum: float

    @classmethod
    def of_integers(cls, block: npt.NDArray[np.unsignedinteger]) -> Histogram:
        """Exact histogram of an array of uint8 or uint16."""
        counts = np.zeros(_SPAN, np.int64)
        _count_integers(block.reshape(-1), counts)
        values = np.flatnonzero(counts)
        return cls._from(
            values.astype(np.float64), counts[values], 0.0, [values.min(initial=_SPAN), values.max(initial=0)]
        )

    @classmethod
    def of_floats(cls, block: npt.NDArray[np.float32]) -> Histogram:
        """Fine histogram of float values."""
        return cls.of_corrected(None, block, -1.0)

    @classmethod
    def of_corrected(cls, block: np.ndarray | None, background: npt.NDArray[np.float32], weight: float) -> Histogram:
        """Fine histogram of ``block - weight * background``; without a block of ``-weight * background``."""
        counts = np.zeros((2, 2 * _SPAN * FINE), np.uint32)
        limits = np.array([np.inf, -np.inf])
        back = background.reshape(-1)
        raw = np.zeros(1, np.uint16) if block is None else block.reshape(-1)
        _count_corrected(raw, back, weight, counts, limits)
        bins = np.flatnonzero(counts[0] | counts[1])
        counts = counts[:, bins].sum(0, dtype=np.int64)
        return cls._from(bins / FINE - _SPAN, counts, 1.0 / FINE, limits.tolist())

    @classmethod
    def _from(
        cls,
        values: npt.NDArray[np.float64],
        counts: npt.NDArray[np.int64],
        width: float,
        limits: Sequence[float],
    ) -> Histogram:
        low, high = limits if values.size else (np.nan, np.nan)
        return cls(values, counts, width, float(low), float(high))

    @classmethod
    def sum(cls, parts: Sequence[Histogram]) -> Histogram:
        """Histogram of all parts together; they must be of one kind."""
        values, place = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
        counts = np.zeros(values.size, np.int64)
        np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
        low = np.nanmin([part.minimum for part in parts]) if values.size else np.nan
        high = np.nanmax([part.maximum for part in parts]) if values.size else np.nan
        return cls(values, counts, parts[0].bin_width, float(low), float(high))

    def percentile(self, percent: float) -> float:
        """Percentile with linear interpolation between ranks, as `numpy.percentile`; NaN of nothing."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        rank = percent / 100 * (total - 1)
        lower = self._ranked(int(rank))
        upper = self._ranked(min(int(rank) + 1, total - 1))
        return lower + (upper - lower) * (rank - int(rank))

    def _ranked(self, rank: int) -> float:
        """Value at a rank from 0; values of one bin count as spread evenly over it."""
        upto = self.counts.cumsum()
        k = int(np.searchsorted(upto, rank, side="right"))
        within = (rank - (upto[k] - self.counts[k]) + 0.5) / self.counts[k]
        value = float(self.values[k] + within * self.bin_width) if self.bin_width else float(self.values[k])
        return min(max(value, self.minimum), self.maximum)

    def window(self) -> tuple[float, float]:
        """1st and 99th percentile; minimum and maximum where these two are equal."""
        low, high = self.percentile(1), self.percentile(99)
        return (low, high) if high > low else (self.minimum, self.maximum)


@compiled
def _count_integers(values: Any, counts: Any) -> None:
    for value in values:
        counts[value] += 1


@compiled
def _count_corrected(raw: Any, background: Any, weight: Any, counts: Any, limits: Any) -> None:
    step = 0 if raw.size == 1 else 1
    low, high = limits[0], limits[1]
    last = np.float64(counts.shape[1] - 1)
    for k in range(background.size):
        value = np.float64(raw[k * step]) - weight * np.float64(background[k])
        if not np.isnan(value):
            low, high = min(low, value), max(high, value)
            place = np.int64(min(max((value + 65536.0) * 16.0, 0.0), last))
            counts[k & 1, place] += 1  # neighbours are often in one bin: two counters wait less for each other
    limits[0], limits[1] = low, high
