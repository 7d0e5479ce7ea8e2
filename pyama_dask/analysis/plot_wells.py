"""Figure of the wells of a table: median and quartiles of each, arranged as on the plate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pyama_dask.analysis.figures import GREY, INK, Array, plain, time_scale
from pyama_dask.analysis.plot_traces import quartiles
from pyama_dask.analysis.quantities import value_label
from pyama_dask.analysis.result_tables import ResultTable
from pyama_dask.config.units import many
from pyama_dask.config.well_names import parse_well, row_name

_INSET = 0.06
"""Margin of a panel, as a fraction of a well's width."""
_PANEL = 0.75
"""Inches per well."""
_SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def wells_of(table: ResultTable) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Cells of each well, by row and column from 0; empty if a table has fewer than two wells."""
    names = table.traces.labels.get("well", np.empty(0, object))
    try:
        places = {name: parse_well(str(name)) for name in dict.fromkeys(names.tolist())}
    except ValueError:  # wells that are not named by row and column
        return {}
    found = {places[name]: np.flatnonzero(names == name) for name in places}
    return found if len(found) > 1 else {}


def wells_figure(table: ResultTable) -> Figure:
    """Draw a panel for each well, all on the same scale: the median of its cells, and a band between the quartiles.

    Parameters
    ----------
    table
        Traces of at least two wells.
    """
    cells = wells_of(table)
    factor, label = time_scale(table.traces.hours)
    times = np.broadcast_to(table.traces.hours * factor, table.traces.values.shape)
    curves = {place: np.stack(quartiles(times[of], table.traces.values[of])) for place, of in cells.items()}
    (top, bottom), (left, right) = ((min(ends), max(ends)) for ends in zip(*cells, strict=True))
    size = (max(5.0, _PANEL * (right - left + 1) + 0.8), _PANEL * (bottom - top + 1) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(left, right + 1), ylim=(bottom + 1, top))
    axes.set_xticks(np.arange(left, right + 1) + 0.5, [str(k + 1) for k in range(left, right + 1)])
    axes.set_yticks(np.arange(top, bottom + 1) + 0.5, [row_name(k) for k in range(top, bottom + 1)])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    counts = f"{many(len(table.traces.cells), 'cell')} in {many(len(cells), 'well')}"
    axes.set_title(f"{plain(table.sample)}: {counts}, median and quartiles", loc="left")
    if curves := {place: curve for place, curve in curves.items() if curve.size}:
        time, value = _draw(axes, curves)
        axes.set_xlabel(f"each panel: {label} {time}; {plain(value_label(table.measured, table.channel))} {value}")
    return figure


def _draw(axes: Axes, curves: Mapping[tuple[int, int], Array]) -> tuple[str, str]:
    """Draw the panels into one pair of axes; return their range of times and of values."""
    every = np.concatenate(list(curves.values()), axis=1)
    times, values = (float(every[0].min()), float(every[0].max())), (float(every[2].min()), float(every[3].max()))
    across, up = (1 - 2 * _INSET) / (np.ptp(times) or 1), (1 - 2 * _INSET) / (np.ptp(values) or 1)
    lines, bands, frames = [], [], []
    for (row, column), (time, median, low, high) in curves.items():
        x = column + _INSET + (time - times[0]) * across
        y = [row + 1 - _INSET - (of - values[0]) * up for of in (median, low, high)]
        lines.append(np.column_stack([x, y[0]]))
        bands.append(np.column_stack([np.r_[x, x[::-1]], np.r_[y[1], y[2][::-1]]]))
        frames.append(_SQUARE * (1 - _INSET) + _INSET / 2 + np.array([column, row]))
    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors=GREY, linewidths=0.4))
    axes.add_collection(PolyCollection(bands, facecolors=INK, alpha=0.25, linewidths=0))
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=1))
    short = EngFormatter(sep="", places=1)
    return f"{times[0]:g} to {times[1]:.4g}", f"{short(values[0])} to {short(values[1])}"
