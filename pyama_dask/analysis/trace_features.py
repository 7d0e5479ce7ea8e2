"""Features of traces besides fits: changes of level, areas under the curve, onsets, values per area.

All functions take tidy tables ``time,fov,cell,value``, as from `read_analysis_csv`, and leave them unchanged. Rows
without a value are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.tables import by_cell, cell_key
from pyama_dask.errors import ConfigError, TableError
from pyama_dask.kernels.cusum import cusum, noise

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


def detect_events(
    table: pd.DataFrame, *, threshold: float = 10.0, drift: float = 1.0, baseline: int = 10
) -> pd.DataFrame:
    """Find the times at which the level of a trace changes, such as a cell's death or a division; see `cusum`.

    A steadily rising trace has many such changes; fit a model to find its slope.

    Parameters
    ----------
    table
        Tidy table.
    threshold, drift
        In units of each trace's noise. With the defaults, noise alone causes an event in about 2 % of traces with 200
        samples, and a rise by 3 times the noise is found within two samples in 95 % (Gaussian noise, by simulation).
    baseline
        Number of samples that define a level; faster successive changes are not resolved.

    Returns
    -------
    One row per event, by FOV, cell and time: ``fov``, ``cell``, ``time`` of the first sample at the new level, ``size``
    of the rise (negative for a fall), and ``sum`` in units of the noise when it exceeded the threshold.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    TableError
        If a cell has two values at one time.
    """
    if not threshold > 0 or not drift >= 0 or baseline < 1:
        raise ConfigError(
            f"threshold {threshold}, drift {drift}, baseline {baseline}: must be above 0, at least 0, at least 1"
        )
    found = [
        (*cell, times[k], size, total)
        for cell, times, values in _traces(table)
        for k, size, total in zip(
            *cusum(values, threshold=threshold, drift=drift, baseline=baseline), strict=True
        )
    ]  # fmt: skip
    return _table(found, cell_key(table), "time", "size", "sum")


def area_under_curve(table: pd.DataFrame, *, start: float = -np.inf, stop: float = np.inf) -> pd.DataFrame:
    """Integrate each trace by the trapezoidal rule, over the samples from one time to another.

    Parameters
    ----------
    table
        Tidy table.
    start, stop
        First and last time, inclusive, in the table's time unit; by default the whole trace.

    Returns
    -------
    One row per cell that has values: ``fov``, ``cell``, ``area`` in the value's unit times the table's time unit, the
    ``time`` span, and the number of ``points``; the area is NaN for fewer than two points.

    Raises
    ------
    TableError
        If a cell has two values at one time.
    """
    found = []
    for cell, times, values in _traces(table):
        within = (times >= start) & (times <= stop)
        t, v = times[within], values[within]
        found.append(
            (
                *cell,
                float(np.trapezoid(v, t)) if len(t) > 1 else np.nan,
                float(np.ptp(t)) if len(t) else 0.0,
                len(t),
            )
        )
    return _table(found, cell_key(table), "area", "time", "points").astype({"points": "int64"})


def onset_times(table: pd.DataFrame, *, sigmas: float = 5.0, hold: int = 3, baseline: int = 5) -> pd.DataFrame:
    """Find the time at which each trace rises out of its noise.

    The onset is the time at which a trace crosses the median of its first `baseline` samples plus `sigmas` times its
    noise (interpolated between two samples) and stays above it for `hold` samples.

    Parameters
    ----------
    table
        Tidy table.
    sigmas
        Height of the level above the baseline, in units of each trace's noise.
    hold, baseline
        Numbers of samples, from 1.

    Returns
    -------
    One row per cell that has values: ``fov``, ``cell``, ``time``, which is NaN if the trace does not rise or is too
    short, and the ``level`` that it crosses.

    Raises
    ------
    ConfigError
        If `hold` or `baseline` is out of range.
    TableError
        If a cell has two values at one time.
    """
    if baseline < 1 or hold < 1:
        raise ConfigError(f"hold {hold}, baseline {baseline}: must be at least 1")
    found = []
    for cell, times, values in _traces(table):
        if len(values) < baseline + hold:
            found.append((*cell, np.nan, np.nan))
            continue
        level = float(np.median(values[:baseline])) + sigmas * noise(values)
        stays = np.lib.stride_tricks.sliding_window_view(values > level, hold).min(axis=1)
        first = int(np.argmax(stays))
        found.append((*cell, _crossing(times, values, level, first) if stays[first] else np.nan, level))
    return _table(found, cell_key(table), "time", "level")


def normalised_by_area(table: pd.DataFrame, areas: pd.DataFrame) -> pd.DataFrame:
    """Divide the values of a table by the cells' areas at the same times, for instance to compare total intensities.

    Returns
    -------
    Table like the first one; the value is NaN where the area is 0 or NaN.

    Raises
    ------
    TableError
        If a row has no area, or two: the tables do not belong to the same cells.
    """
    key = ["time", *cell_key(table)]
    found = areas.set_index(key)["value"]
    if not found.index.is_unique:
        raise TableError("areas: a cell has two values at one time. Fix: pass the table of one sample and channel")
    places = found.index.get_indexer(table.set_index(key).index)
    if (places < 0).any():
        row = table.iloc[int(np.argmax(places < 0))]
        movie = f"{row['movie']}, " if "movie" in table else ""
        raise TableError(
            f"{movie}FOV {row['fov']:.0f}, cell {row['cell']:.0f} has no area at time {row['time']:g}. Fix: pass the "
            "areas of the same sample, in the same units of time"
        )
    area = found.to_numpy(float)[places]
    values = table["value"].to_numpy(float)
    return table.assign(value=np.divide(values, area, out=np.full_like(values, np.nan), where=area != 0))


def _traces(table: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], Array, Array]]:
    """Cell (movie among several, FOV, number), times and values of each trace, in order of time."""
    ordered, first = by_cell(table[table["value"].notna()])
    times, values = (ordered[name].to_numpy() for name in ("time", "value"))
    cells = ordered[cell_key(table)].iloc[first].itertuples(index=False, name=None)
    for cell, (start, stop) in zip(cells, pairwise([*first, len(ordered)]), strict=True):
        yield cell, times[start:stop], values[start:stop]


def _crossing(times: Array, values: Array, level: float, first: int) -> float:
    """Time at which a trace passes a level on its way to a sample that is above it."""
    if first == 0:
        return float(times[0])
    share = (level - values[first - 1]) / (values[first] - values[first - 1])
    return float(times[first - 1] + share * (times[first] - times[first - 1]))


def _table(rows: Sequence[tuple[Any, ...]], key: Sequence[str], *columns: str) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    table = pd.DataFrame(rows, columns=[*key, *columns])
    return table.astype(dict.fromkeys(columns, float) | {"fov": "int64", "cell": "int64"})
