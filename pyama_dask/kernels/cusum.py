"""Changes of level in traces, by cumulative sums of deviations from a reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

GAUSSIAN = 0.6744897501960817
"""Median absolute value of a standard normal variable."""


def cusum(
    values: npt.NDArray[np.float64], *, threshold: float, drift: float, baseline: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find changes of level by two-sided cumulative sums (Page 1954, doi:10.1093/biomet/41.1-2.100).

    The reference starts as the median of the first samples and is then averaged with each sample close to it.
    Deviations above the reference, in units of the noise and reduced by `drift`, are added to a sum that never falls
    below 0; deviations below it are added to a second sum. When a sum exceeds `threshold`, the level has changed. The
    change is dated to the first sample, since the sum was last 0, that is closer to the new level than to the
    reference. The search restarts there.

    Parameters
    ----------
    values
        (times,) one trace without NaN.
    threshold
        Limit of the sums, in units of the noise.
    drift
        Deviation from the reference that is not counted, in units of the noise: half the smallest change to be found.
    baseline
        Number of samples that define a new reference.

    Returns
    -------
    samples
        (changes,) index of the first sample at each new level.
    sizes
        (changes,) rise (positive) or fall of the level: the difference of medians of `baseline` samples.
    sums
        (changes,) value of the sum, in units of the noise, when it exceeded the threshold.
    """
    values = np.ascontiguousarray(values, np.float64)
    places, sizes, sums = np.empty(len(values), np.int64), np.empty(len(values)), np.empty(len(values))
    scale = noise(values)
    count = _cusum(values, scale, threshold, drift, baseline, places, sizes, sums)
    return places[:count].copy(), sizes[:count].copy(), sums[:count].copy()


def noise(values: npt.NDArray[np.float64]) -> float:
    """Standard deviation of a trace's noise, from the median of its steps, which is robust to changes of level.

    If most steps are 0, it is computed from all steps; 0 for a constant trace.
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
    count, start = 0, 0
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
        places[count], sums[count], sizes[count] = change, max(above, below), level - reference
        count, start = count + 1, change
    return count
