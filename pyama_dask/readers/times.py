"""Times of frames from the time stamps in a file: choice of the source, and start of the movie."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NOMINAL = "nominal interval of the file"
"""Name of the source of times that were not recorded."""


@dataclass(frozen=True)
class Stamps:
    """Time stamps of one source, relative to any clock."""

    source: str
    """Name of the source, as in the file."""
    seconds: Array
    """(FOVs, frames) seconds; NaN where there is no stamp."""


def choose_times(sources: Sequence[Stamps], held: npt.NDArray[np.bool_], interval_min: float | None) -> dict[str, Any]:
    """Choose the source of each FOV's times: the first with usable stamps for half of its frames, else the best.

    Parameters
    ----------
    sources
        Time stamps, best source first.
    held
        (FOVs, frames) mask of the frames with at least one plane in the file.
    interval_min
        Nominal interval in minutes, for FOVs without stamps; None to leave them without times.

    Returns
    -------
    Values for `Metadata.times_min` and `Metadata.time_source`, by field name.
    """
    counted = [_from_start(source, held) for source in sources]
    times = np.full(held.shape, np.nan)
    names: list[str | None] = [None] * len(held)
    for fov in range(len(held)):
        half = (held[fov].sum() + 1) // 2
        ranks = [(min(usable(minutes[fov]).sum(), half), np.isfinite(minutes[fov]).any()) for minutes in counted]
        best = max(range(len(ranks)), key=ranks.__getitem__, default=None)
        if best is not None and ranks[best][1]:
            times[fov], names[fov] = counted[best][fov], sources[best].source
        elif interval_min is not None:
            times[fov], names[fov] = np.where(held[fov], interval_min * np.arange(held.shape[1]), np.nan), NOMINAL
    same = len(set(names)) == 1
    return {
        "times_min": None if np.isnan(times).all() else times,
        "time_source": names[0] if same else tuple(names),
    }


def _from_start(stamps: Stamps, held: npt.NDArray[np.bool_]) -> Array:
    """(FOVs, frames) minutes since the first frame of the movie."""
    seconds = np.where(held & np.isfinite(stamps.seconds), stamps.seconds, np.nan)
    starts, steps = [], []
    for row in seconds:
        chosen = np.flatnonzero(usable(row))
        if len(chosen) >= min(2, len(row)):
            step = typical_step(row)
            starts.append((row[chosen[0]] - chosen[0] * step, chosen[0]))
            steps.append(step)
    if not starts:
        return (seconds - np.nanmin(seconds)) / 60 if np.isfinite(seconds).any() else seconds
    earliest = min(start for start, _ in starts)
    # A stamp of the first frame is exact; otherwise the start is an estimate.
    recorded = min((start for start, first in starts if first == 0), default=np.inf)
    return np.asarray((seconds - (recorded if recorded - earliest < max(steps) else earliest)) / 60)


def typical_step(stamps: Array) -> float:
    """Median time from one frame to the next, from usable stamps; 0 for fewer than two."""
    chosen = np.flatnonzero(usable(stamps))
    return float(np.median(np.diff(stamps[chosen]) / np.diff(chosen))) if len(chosen) > 1 else 0.0


def usable(stamps: Array) -> npt.NDArray[np.bool_]:
    """Find the stamps of one FOV that are in order.

    The longest strictly increasing series is chosen; among alternatives for a stamp, the one that best fits the pace of
    the others.

    Parameters
    ----------
    stamps
        (T,) stamps; NaN where a frame has no stamp.

    Returns
    -------
    (T,) mask; all False if fewer than half of the stamps are in order.
    """
    finite = np.isfinite(stamps)
    places = np.flatnonzero(finite)
    if len(places) < 2 or (np.diff(stamps[places]) > 0).all():
        return finite
    chosen = places[_increasing(places, stamps[places])]
    mask = np.zeros(len(stamps), bool)
    mask[chosen] = len(chosen) >= max(2, len(places) / 2)
    return mask


def _increasing(places: npt.NDArray[np.intp], values: Array) -> list[int]:
    """Indices of a longest increasing series of values."""
    rank = _longest_before(values)  # values before each one in the longest series that ends with it
    after = _longest_before(-values[::-1])[::-1]
    longest = int(rank.max()) + 1
    alternatives: list[list[int]] = [[] for _ in range(longest)]
    for i in np.flatnonzero(rank + after == longest - 1).tolist():  # part of some longest series
        alternatives[rank[i]].append(i)
    certain = [options[0] for options in alternatives if len(options) == 1]
    expected = _along(places, places[certain], values[certain])
    series: list[int] = []
    for options in alternatives:
        possible = [i for i in options if not series or (i > series[-1] and values[i] > values[series[-1]])]
        series.append(min(possible, key=lambda i: abs(values[i] - expected[i])))
    return series


def _longest_before(values: Array) -> npt.NDArray[np.intp]:
    lowest: list[float] = []  # lowest last value of the series of each length
    ranks = np.empty(len(values), np.intp)
    for i, value in enumerate(values.tolist()):
        ranks[i] = rank = bisect_left(lowest, value)
        lowest[rank : rank + 1] = [value]
    return ranks


def _along(at: npt.NDArray[np.intp], places: npt.NDArray[np.intp], values: Array) -> Array:
    """Values at indices between and beyond known ones, by the typical step; 0 if none is known."""
    if not len(places):
        return np.zeros(len(at))
    step = float(np.median(np.diff(values) / np.diff(places))) if len(places) > 1 else 0.0
    return extended(at, places, values, step)


def extended(at: npt.NDArray[np.intp], places: npt.NDArray[np.intp], values: Array, step: float) -> Array:
    """Values at indices: interpolated between known ones, extrapolated beyond them.

    Parameters
    ----------
    at
        (N,) indices.
    places, values
        (K,) ascending indices with known values, at least one, and these values.
    step
        Change of the value per index beyond the known ones.

    Returns
    -------
    (N,) values.
    """
    beyond = np.minimum(at - places[0], 0) + np.maximum(at - places[-1], 0)
    return np.asarray(np.interp(at, places, values) + step * beyond)
