"""Changes of level in traces: cumulative sums of what lies above and below a reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

GAUSSIAN = 0.6744897501960817
"""Median of the absolute value of a normal number with variance 1."""


def cusum(
    values: npt.NDArray[np.float64], *, threshold: float, drift: float, baseline: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find changes of level by two-sided cumulative sums, as by Page (1954), doi:10.1093/biomet/41.1-2.100.

    The reference is the median of the first samples, and comes nearer to the mean with each sample that is close to it.
    What a sample lies above it, in units of the noise and less `drift`, is added to a sum that never falls below 0;
    another sum takes what lies below. When a sum passes `threshold`, the level has changed: at the first sample, of
    those since when the sum has been above 0, that is closer to the new level than to the reference. All begins anew
    there.

    Parameters
    ----------
    values
        (times,) one trace without NaN.
    threshold
        Of the sums, in units of the noise.
    drift
        What a sample may lie away from the reference without being counted, in units of the noise: half the smallest
        change to be found.
    baseline
        Samples by which a reference begins.

    Returns
    -------
    samples
        (changes,) index at which each new level begins.
    sizes
        (changes,) by how much the level rises, or falls: the difference of medians of `baseline` samples.
    sums
        (changes,) value of the sum, in units of the noise, when it had passed the threshold.
    """
    values = np.ascontiguousarray(values, np.float64)
    places, sizes, sums = np.empty(len(values), np.int64), np.empty(len(values)), np.empty(len(values))
    scale = noise(values)
    found = _cusum(values, scale, threshold, drift, baseline, places, sizes, sums)
    return places[:found].copy(), sizes[:found].copy(), sums[:found].copy()


def noise(values: npt.NDArray[np.float64]) -> float:
    """Standard deviation of a trace's noise, from the median of its steps, which changes of level hardly move.

    Where most steps are 0 it is that of all steps; 0 for a trace that never changes.
    """
    steps = np.diff(values)
    if not steps.size:
        return 0.0
    scale = float(np.median(np.abs(steps))) / (GAUSSIAN * math.sqrt(2))
    return scale or float(np.sqrt(np.mean(steps**2) / 2))


@compiled
def _cusum(
    values: Any, scale: float, threshold: float, drift: float, baseline: int, places: Any, sizes: Any, sums: Any
) -> int:
    found, start = 0, 0
    while scale > 0 and len(values) - start > baseline:
        reference = np.median(values[start : start + baseline])
        above = below = 0.0
        rise = fall = change = -1
        known = baseline
        for k in range(start + 1, len(values)):
            away = (values[k] - reference) / scale
            above, below = max(0.0, above + away - drift), max(0.0, below - away - drift)
            rise = -1 if above == 0 else (k if rise < 0 else rise)
            fall = -1 if below == 0 else (k if fall < 0 else fall)
            if k >= start + baseline and above == 0 and below == 0:
                known += 1
                reference += (values[k] - reference) / known
            if max(above, below) > threshold:
                change = rise if above > below else fall
                break
        if change < 0:
            break
        level = np.median(values[change : change + baseline])
        while abs(values[change] - level) > abs(values[change] - reference):
            change += 1
        places[found], sums[found], sizes[found] = change, max(above, below), level - reference
        found, start = found + 1, change
    return found
