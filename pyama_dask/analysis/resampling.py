"""Bootstrap of cells in clusters, and comparison of two samples.

Cells of one FOV are alike, as they share illumination, density and treatment, so clusters are resampled first, and then
the cells in each (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8, strategy 2).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]
FEWEST = 3
"""Smallest number of values with an interval or a test."""
_AT_ONCE = 2_000_000
"""Numbers that are sorted into place at once, so that memory stays small."""


def resampled(clusters: npt.ArrayLike, draws: int, rng: np.random.Generator) -> Counts:
    """Draw clusters with replacement, and cells with replacement in each drawn cluster.

    Parameters
    ----------
    clusters
        (N,) cluster of each cell; with a single cluster, only its cells are resampled.
    draws
        Number of resamples.

    Returns
    -------
    (draws, N) number of times that each cell is in each resample.
    """
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.zeros((draws, len(members)), np.int32)
    if not len(names):
        return counts
    often = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    for k in range(len(names)):
        cells = np.flatnonzero(members == k)
        counts[:, cells] = rng.multinomial(often[:, k] * len(cells), np.full(len(cells), 1 / len(cells)))
    return counts


def resampled_medians(values: Array, counts: Counts) -> Array:
    """Medians of resamples, as `numpy.nanmedian` of the repeated values.

    Parameters
    ----------
    values
        (N,) value of each cell; NaN if missing.
    counts
        (draws, N) as from `resampled`.

    Returns
    -------
    (draws,) medians; NaN for resamples without a value.
    """
    order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    if not len(order):
        return np.full(len(counts), np.nan)
    ordered, step = values[order], max(1, _AT_ONCE // len(order))
    parts = [_medians(ordered, counts[first : first + step, order]) for first in range(0, len(counts), step)]
    return np.concatenate(parts)


def _medians(ordered: Array, counts: Counts) -> Array:
    """Medians of sorted values that are repeated ``counts`` times."""
    upto = np.cumsum(counts, axis=1)
    total = upto[:, -1:]
    below, above = ((upto <= rank).sum(1) for rank in ((total - 1) // 2, total // 2))
    last = len(ordered) - 1
    found = (ordered[np.minimum(below, last)] + ordered[np.minimum(above, last)]) / 2
    return np.where(total[:, 0] > 0, found, np.nan)


def interval(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled estimates; NaN if there are no estimates."""
    known = draws[np.isfinite(draws)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def cliffs_delta(first: Array, second: Array) -> float:
    """Probability that a value of the second sample is larger, minus the probability that it is smaller.

    1 or -1 if the samples do not overlap, 0 if neither is larger (Cliff 1993, doi:10.1037/0033-2909.114.3.494). Both
    samples are finite; NaN if one is empty.
    """
    ones = (np.ones((1, len(of)), np.int32) for of in (first, second))
    return float(resampled_deltas(first, second, *ones)[0])


def resampled_deltas(first: Array, second: Array, first_counts: Counts, second_counts: Counts) -> Array:
    """`cliffs_delta` of resamples.

    Parameters
    ----------
    first, second
        (N,) and (M,) finite values of two samples.
    first_counts, second_counts
        (draws, N) and (draws, M) as from `resampled`.

    Returns
    -------
    (draws,) deltas; NaN for resamples without a value.
    """
    order = np.argsort(first, kind="stable")
    lower, upper = (np.searchsorted(first[order], second, side) for side in ("left", "right"))
    found = []
    step = max(1, _AT_ONCE // max(1, len(first) + len(second)))
    for begin in range(0, len(first_counts), step):
        weights = second_counts[begin : begin + step].astype(float)
        upto = np.cumsum(first_counts[begin : begin + step, order], axis=1, dtype=float)
        upto = np.concatenate([np.zeros((len(upto), 1)), upto], axis=1)
        larger = upto[:, lower] - (upto[:, -1:] - upto[:, upper])
        pairs = upto[:, -1] * weights.sum(1)
        found.append(np.divide((weights * larger).sum(1), pairs, out=np.full(len(upto), np.nan), where=pairs > 0))
    return np.concatenate(found)


def rank_test(first: Array, second: Array) -> float:
    """Two-sided p of the Mann-Whitney U test; exact for small samples without ties.

    NaN for fewer than `FEWEST` values in a sample, or if all values are equal.
    """
    if min(len(first), len(second)) < FEWEST or np.ptp(np.concatenate([first, second])) == 0:
        return np.nan
    return float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)


def holm(p: Array) -> Array:
    """Adjust p values of several tests, so that all of them together err with the chosen probability (Holm 1979).

    Parameters
    ----------
    p
        (N,) p values; NaN for missing tests, which do not count.

    Returns
    -------
    (N,) adjusted p values, at most 1.
    """
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted
