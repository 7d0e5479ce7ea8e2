"""Figure of the traces of a table: all of them, and some cells with their fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from pyama_dask.analysis.figures import (
    DRAWN,
    GRADE_COLOURS,
    GREY,
    INK,
    Array,
    evenly,
    legend_above,
    plain,
    time_scale,
    with_short_numbers,
)
from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.quantities import value_label
from pyama_dask.analysis.result_tables import ResultTable
from pyama_dask.fitting.models import result_of

if TYPE_CHECKING:
    import pandas as pd

_ACROSS = 4
"""Cells side by side."""
NAMED = 2
"""Largest number of parameters at a bound that fit above a cell."""


def traces_figure(table: ResultTable, cells: int) -> Figure:
    """Draw all traces above, and some of them one by one below, on the same scale.

    Parameters
    ----------
    table
        Traces, with or without fits.
    cells
        Number of cells that are drawn one by one: evenly chosen, from the best fit to the worst.

    Raises
    ------
    ConfigError
        If the curve of the model fails.
    """
    chosen = _chosen(table, cells)
    rows = -(-len(chosen) // _ACROSS)
    heights = [2.7, 1.5 * rows + 0.6][: 2 if rows else 1]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    above, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    _draw_all(above.subplots(), table)
    if below:
        grid = below[0].subplots(rows, _ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, cell in zip(grid, chosen, strict=False):
            _draw_one(axes, table, cell)
        with_short_numbers(grid[0])
        _without_empty(grid, len(chosen))
        below[0].supxlabel(time_scale(table.traces.hours)[1], fontsize=8)
        below[0].supylabel(_label(table), fontsize=8)
        _explain_colours(below[0], table, chosen)
    return figure


def _label(table: ResultTable) -> str:
    return plain(value_label(table.measured, table.channel))


def _chosen(table: ResultTable, cells: int) -> list[int]:
    """Rows of cells, evenly chosen: from the best fit to the worst, or in their order."""
    count = len(table.traces.cells)
    order = np.arange(count)
    if table.fitted is not None:
        order = np.argsort(-table.fitted.table["r_squared"].fillna(-np.inf).to_numpy(), kind="stable")
    return [int(order[k]) for k in evenly(count, cells)]


def _draw_all(axes: Axes, table: ResultTable) -> None:
    traces = table.traces
    count = len(traces.cells)
    some = evenly(count, DRAWN)
    factor, label = time_scale(traces.hours)
    times = np.broadcast_to(traces.hours * factor, traces.values.shape)
    lines = [np.column_stack([times[k], traces.values[k]]) for k in some]
    axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.4, alpha=0.5, rasterized=True))
    middle, median, low, high = quartiles(times, traces.values)
    axes.fill_between(middle, low, high, color=INK, alpha=0.25, linewidth=0, label="quartiles")
    axes.plot(middle, median, color=INK, label="median")
    drawn = f"{len(some)} of {count} cells" if len(some) < count else f"{count} cells"
    axes.set_title(f"{plain(table.sample)}: {drawn}", loc="left")
    axes.set(xlabel=label, ylabel=_label(table))
    axes.autoscale()
    with_short_numbers(axes)
    if count:
        axes.plot([], [], color=GREY, linewidth=0.8, label="single cells")
        legend_above(axes, 3)


def quartiles(times: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Mean time, median and quartiles of the samples in each interval of time."""
    there = np.isfinite(values) & np.isfinite(times)
    at, samples = times[there], values[there]
    stretches = min(60, times.shape[1])
    if not samples.size:
        return np.empty(0), np.empty(0), np.empty(0), np.empty(0)
    edges = np.linspace(at.min(), at.max(), stretches + 1)
    place = np.clip(np.searchsorted(edges, at, "right") - 1, 0, stretches - 1)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(1, stretches))
    parts = zip(np.split(at[order], cuts), np.split(samples[order], cuts), strict=True)
    found = [(when.mean(), *np.quantile(of, (0.25, 0.5, 0.75))) for when, of in parts if of.size]
    middle, low, median, high = np.array(found).T
    return middle, median, low, high


def _draw_one(axes: Axes, table: ResultTable, cell: int) -> None:
    """Draw the samples of a cell, and the curve of its fit."""
    traces, fitted = table.traces, table.fitted
    factor, _ = time_scale(traces.hours)
    hours = np.broadcast_to(traces.hours, traces.values.shape)[cell]
    axes.plot(hours * factor, traces.values[cell], ".", color=GREY, markersize=2.5)
    title = f"{_title(traces, cell)}, cell {traces.cells[cell]}"
    if fitted is not None:
        row = fitted.table.iloc[cell]
        title += f"\n{_result(row)}"
        if table.model is not None and row["success"]:
            fine = np.linspace(np.nanmin(hours), np.nanmax(hours), 300)
            parameters = np.array([[float(row[name]) for name in table.model.names]])
            where = f"{table.path.name}: the curve of model {table.model.name!r}"
            curve = result_of(where, table.model.curve, (1, fine.size), fine[None], parameters)
            axes.plot(fine * factor, curve[0], color=GRADE_COLOURS[str(row["grade"])], linewidth=1.2)
    axes.set_title(title, fontsize=7, loc="left")


def _title(traces: Traces, cell: int) -> str:
    """FOV of a cell, with its movie among several, well and site: ``night1, FOV 3 (B02 s2)``."""
    place = [plain(str(traces.labels[name][cell])) for name in ("well", "site") if name in traces.labels]
    movie = f"{plain(str(traces.labels['movie'][cell]))}, " if "movie" in traces.labels else ""
    return f"{movie}FOV {traces.fovs[cell]}" + (f" ({' s'.join(place)})" if place else "")


def _result(fit: pd.Series) -> str:
    """Quality of a fit in words, with the parameters at a bound."""
    if not fit["success"]:
        return "not converged"
    names = str(fit["at_bound"]).split()
    bound = f", {', '.join(names) if len(names) <= NAMED else f'{len(names)} parameters'} at bound" if names else ""
    return f"$R^2$ = {fit['r_squared']:.3f}{bound}"


def _without_empty(grid: npt.NDArray[Any], used: int) -> None:
    """Remove axes without a cell; those above them get labels of the time."""
    for axes in grid[used:]:
        axes.remove()
    for axes in grid[max(used - _ACROSS, 0) : used]:
        axes.tick_params(labelbottom=True)


def _explain_colours(figure: SubFigure, table: ResultTable, cells: Sequence[int]) -> None:
    """Legend of the grades of the drawn curves."""
    if table.fitted is None or table.model is None:
        return
    there = set(table.fitted.grades[cells])
    lines = [Line2D([], [], color=colour, label=grade) for grade, colour in GRADE_COLOURS.items() if grade in there]
    dots = Line2D([], [], color=GREY, marker=".", linestyle="", label="data")
    figure.legend(handles=[dots, *lines], loc="outside upper right", ncols=len(lines) + 1, frameon=False)
