"""Medians of samples over time, with confidence bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyama_dask.analysis.compared_samples import Settings, TracesOf, count, groups_of, noun, unit_of
from pyama_dask.analysis.resampling import FEWEST, Array, interval, resampled_medians
from pyama_dask.analysis.trace_sources import ALIKE

if TYPE_CHECKING:
    import pandas as pd

MOST_STEPS = 120
"""Largest number of times with a median; longer movies are averaged over a few frames."""


def medians_of(samples: Sequence[TracesOf], settings: Settings, warnings: list[str]) -> pd.DataFrame:
    """Median over the cells of each sample at common steps of time, with the bootstrap interval of the median.

    Within a step, which is the longest frame interval of the samples or a multiple of it, the values of a cell are
    averaged.

    Parameters
    ----------
    samples
        Traces of one feature.
    settings
        Unit of the bootstrap, number of draws, and seed.
    warnings
        New warnings are added: few cells or FOVs, different times.

    Returns
    -------
    Table ``sample,time,cells,fovs,median,low,high``: time in hours, cells with a value, FOVs of the sample; low and
    high are NaN where fewer than `FEWEST` cells have a value. Where all cells have wells, ``wells`` follows ``fovs``.

    Raises
    ------
    ConfigError
        If wells are the unit, and a cell has none.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    start, step = _steps(samples, warnings)
    unit, rows = unit_of(samples, settings), []
    for sample in samples:
        times, values = _in_steps(sample, start, step)
        sizes, name = (count(sample, "fov"), count(sample, "well")), noun(unit)
        counts = settings.resample(sample.name, groups_of(sample, unit))
        for time, column in zip(times, values.T, strict=True):
            if cells := int(np.isfinite(column).sum()):
                band = interval(resampled_medians(column, counts)) if cells >= FEWEST else (np.nan, np.nan)
                rows.append((sample.name, time, cells, *sizes, float(np.nanmedian(column)), *band))
        if not values.size:
            warnings.append(f"sample {sample.name}: has no values")
        elif len(sample.fovs) < FEWEST:
            warnings.append(f"sample {sample.name}: has fewer than {FEWEST} cells, so its median has no band")
        elif count(sample, unit) == 1:
            warnings.append(
                f"sample {sample.name}: has one {name}, so its intervals lack the variation between {name}s"
            )
    table = pd.DataFrame(rows, columns=["sample", "time", "cells", "fovs", "wells", "median", "low", "high"])
    return table if all(of.wells is not None for of in samples) else table.drop(columns="wells")


def _steps(samples: Sequence[TracesOf], warnings: list[str]) -> tuple[float, float]:
    """First time and length of a step, in hours; adds warnings about different times."""
    spans = {of.name: _span(of) for of in samples}
    intervals = {of.name: _interval(of) for of in samples}
    start, end = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
    step = max(intervals.values()) or 1.0
    if any(0 < hours < step * (1 - ALIKE) for hours in intervals.values()):
        said = ", ".join(f"{name} {hours * 60:.3g} min" for name, hours in intervals.items())
        warnings.append(f"frame intervals differ: {said}. Values are averaged in steps of {step * 60:.3g} min")
    if any(max(abs(low - start), abs(high - end)) > step for low, high in spans.values()):
        said = ", ".join(f"{name} {low:.3g} to {high:.3g} h" for name, (low, high) in spans.items())
        warnings.append(f"times differ: {said}. Compare medians only where all samples have values")
    frames = (end - start) / step + 1
    return start, step * max(1.0, float(np.ceil(frames / MOST_STEPS)))


def _span(sample: TracesOf) -> tuple[float, float]:
    known = np.concatenate([of[np.isfinite(of)] for of in sample.hours])
    return float(known.min()), float(known.max())


def _interval(sample: TracesOf) -> float:
    """Median time between frames in hours; 0 for a single frame."""
    steps = np.concatenate([np.diff(of, axis=1).ravel() for of in sample.hours])
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) if steps.size else 0.0


def _in_steps(sample: TracesOf, start: float, step: float) -> tuple[Array, Array]:
    """Mean time of each step, and (cells, steps) mean value of each cell in it; NaN without a value."""
    cells = [len(of) for of in sample.values]
    places, times, values = [], [], []
    for first, hours, of in zip(np.cumsum([0, *cells[:-1]]), sample.hours, sample.values, strict=True):
        row = np.broadcast_to(first + np.arange(len(of))[:, None], of.shape)
        there = np.isfinite(hours) & np.isfinite(of)
        number = np.floor((hours[there] - start) / step + 0.5 + 1e-6).astype(np.int64)
        places.append(np.stack([row[there], number]))
        times.append(hours[there])
        values.append(of[there])
    row, number = np.concatenate(places, axis=1)
    steps = int(number.max(initial=-1)) + 1
    counts, sums = (
        np.bincount(row * steps + number, weights, sum(cells) * steps).reshape(sum(cells), steps)
        for weights in (None, np.concatenate(values))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        at = np.bincount(number, np.concatenate(times), steps) / np.bincount(number, minlength=steps)
        return at, sums / counts
