"""Figure of the wells of a plate: median and quartiles of each, arranged as on the plate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from pyama_dask.analysis.figures import GREY, INK, Array, plain, time_scale
from pyama_dask.analysis.plot_traces import quartiles
from pyama_dask.analysis.quantities import value_label
from pyama_dask.analysis.result_tables import ResultTable
from pyama_dask.config.units import many
from pyama_dask.config.well_names import parse_well, row_name
from pyama_dask.files.palette import SERIES

_INSET = 0.06
"""Margin of a panel, as a fraction of a well's width."""
_PANEL = 0.75
"""Inches per well."""
_SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


@dataclass(frozen=True)
class _Curve:
    """Cells of one sample in one well."""

    row: int
    column: int
    colour: str
    values: Array
    """(4, N) times, medians and quartiles."""


def tables_of_plates(tables: Iterable[ResultTable]) -> dict[str, list[ResultTable]]:
    """Tables with wells, by feature and channel, and by movie; without those that have a single well."""
    groups = defaultdict[str, list[ResultTable]](list)
    for table in tables:
        for movie, traces in table.traces.by_movie.items():
            one = replace(table, traces=traces)
            if _wells_of(one):
                groups["_".join(filter(None, (table.measured, movie)))].append(one)
    return {name: of for name, of in groups.items() if len(set().union(*map(_wells_of, of))) > 1}


def _wells_of(table: ResultTable) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Cells of each well, by row and column from 0; empty if wells are not named by row and column."""
    names = table.traces.labels.get("well", np.empty(0, object))
    try:
        places = {name: parse_well(str(name)) for name in dict.fromkeys(names.tolist())}
    except ValueError:
        return {}
    return {places[name]: np.flatnonzero(names == name) for name in places}


def wells_figure(tables: Sequence[ResultTable]) -> Figure:
    """Draw a panel for each well, all on the same scale: the median of its cells, and a band between the quartiles.

    Parameters
    ----------
    tables
        Tables of one feature, one per sample. Samples have colours, if there are enough colours.
    """
    factor, label = time_scale(np.concatenate([table.traces.hours.ravel() for table in tables]))
    colours = SERIES if 1 < len(tables) <= len(SERIES) else [INK] * len(tables)
    curves = [curve for table, colour in zip(tables, colours, strict=False) for curve in _curves(table, colour, factor)]
    wells = {place for table in tables for place in _wells_of(table)}
    figure, axes = _plate(wells)
    cells = sum(len(table.traces.cells) for table in tables)
    named = f"{plain(tables[0].sample)}: " if len(tables) == 1 else ""
    counts = f"{many(cells, 'cell')} in {many(len(wells), 'well')}"
    axes.set_title(f"{named}{counts}, median and quartiles", loc="left")
    if len(set(colours)) > 1:
        lines = [
            Line2D([], [], color=of, label=plain(table.sample)) for table, of in zip(tables, colours, strict=False)
        ]
        figure.legend(handles=lines, loc="outside right upper", frameon=False)
    if curves:
        time, value = _draw(axes, curves)
        quantity = plain(value_label(tables[0].measured, tables[0].channel))
        axes.set_xlabel(f"each panel: {label} {time},\n{quantity} {value}")
    return figure


def _curves(table: ResultTable, colour: str, factor: float) -> Iterable[_Curve]:
    """Yield the curves of the wells of a table that have values."""
    times = np.broadcast_to(table.traces.hours * factor, table.traces.values.shape)
    for (row, column), of in _wells_of(table).items():
        values = np.stack(quartiles(times[of], table.traces.values[of]))
        if values.size:
            yield _Curve(row, column, colour, values)


def _plate(wells: Iterable[tuple[int, int]]) -> tuple[Figure, Axes]:
    """Figure with a frame for each well, below numbers of columns and beside names of rows."""
    rows, columns = zip(*wells, strict=True)
    top, bottom, left, right = min(rows), max(rows), min(columns), max(columns)
    size = (max(5.0, _PANEL * (right - left + 1) + 0.8), _PANEL * (bottom - top + 1) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(left, right + 1), ylim=(bottom + 1, top))
    axes.set_xticks(np.arange(left, right + 1) + 0.5, [str(k + 1) for k in range(left, right + 1)])
    axes.set_yticks(np.arange(top, bottom + 1) + 0.5, [row_name(k) for k in range(top, bottom + 1)])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    frames = [
        _SQUARE * (1 - _INSET) + _INSET / 2 + np.array([column, row]) for row, column in zip(rows, columns, strict=True)
    ]
    axes.add_collection(PolyCollection(frames, facecolors="none", edgecolors=GREY, linewidths=0.4))
    return figure, axes


def _draw(axes: Axes, curves: Sequence[_Curve]) -> tuple[str, str]:
    """Draw curves into their panels; return the range of times and of values."""
    every = np.concatenate([curve.values for curve in curves], axis=1)
    times, values = (float(every[0].min()), float(every[0].max())), (float(every[2].min()), float(every[3].max()))
    across, up = (1 - 2 * _INSET) / (np.ptp(times) or 1), (1 - 2 * _INSET) / (np.ptp(values) or 1)
    lines, bands, colours = [], [], [curve.colour for curve in curves]
    for curve in curves:
        x = curve.column + _INSET + (curve.values[0] - times[0]) * across
        median, low, high = curve.row + 1 - _INSET - (curve.values[1:] - values[0]) * up
        lines.append(np.column_stack([x, median]))
        bands.append(np.column_stack([np.r_[x, x[::-1]], np.r_[low, high[::-1]]]))
    axes.add_collection(PolyCollection(bands, facecolors=colours, alpha=0.25, linewidths=0))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1))
    short = EngFormatter(sep="", places=1)
    return f"{round(times[0], 1):g} to {round(times[1], 1):g}", f"{short(values[0])} to {short(values[1])}"
