"""Figures of traces and their fits: PNG for viewing, SVG for editing."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pyama_dask.analysis.fit_data import Traces
from pyama_dask.analysis.fit_tables import AT_BOUND, FAIR, GOOD, GRADES, Fitted, is_fitted, read_fitted, source_of
from pyama_dask.analysis.tables import read_analysis_csv
from pyama_dask.errors import ConfigError, TableError
from pyama_dask.files.atomic import check_names, has_content, writable, write_bytes
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.fitting import Model, find_model, model_identity
from pyama_dask.fitting.models import result_of
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES

FORMATS = ("png", "svg")
COLOURS: Mapping[str, str] = {"good": "#009e73", "fair": "#e69f00", "poor": "#d55e00", AT_BOUND: "#cc79a7"}
"""Colours of the grades of fits, distinguishable by colour-blind readers (Okabe and Ito 2008)."""
INK, PALE = "#0072b2", "#999999"
STYLE = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "pyama_dask"}
DRAWN = 500
"""Largest number of traces in an overview, evenly selected."""
MOST = 400
"""Largest number of cells that are drawn one by one."""
FEW, SHORT = 6, 12
"""Largest number of samples, and of letters in their names, that fit side by side."""
WIDE = 30.0
"""Ratio of a parameter's largest to smallest value above which its axis is logarithmic."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Figures that were drawn, and warnings."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    """A table of traces, with its fits if there are any."""

    path: Path
    """File that was passed."""
    traces: Traces
    fitted: Fitted | None = None
    model: Model | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def sample(self) -> str:
        return _parts(self._stem)[0].replace("$", r"\$")  # an unescaped $ would start a formula

    @property
    def measured(self) -> str:
        return _parts(self._stem)[1]

    @property
    def _stem(self) -> str:
        return Path(str(self.fitted.about["input"])).stem if self.fitted else self.path.stem


def _parts(stem: str) -> tuple[str, str]:
    """Sample, and feature with channel, from a table name of `merge_samples`; other names are all sample."""
    known = "|".join((*SHAPE_FEATURES, *INTENSITY_FEATURES))
    found = re.fullmatch(rf"(.+?)_((?:{known}|[^_]+)_ch_\d+)", stem)
    return (found[1], found[2]) if found else (stem, "")


def plot_fits(
    files: Sequence[str | Path],
    directory: str | Path | None = None,
    *,
    cells: int = 12,
    formats: Sequence[str] = FORMATS,
    force: bool = False,
) -> Drawn:
    """Draw traces with their fits, the parameters by sample, and the quality of the fits.

    Each file yields a figure ``{stem}_traces``: all traces, and a selection of cells with their fits, evenly spaced
    from best to worst. The fits of one feature and model yield ``{feature}_{model}_parameters``, the distributions of
    the fitted parameters by sample, and ``{feature}_{model}_quality``, the shares of good, fair and poor fits and of
    those with a parameter at a bound.

    Parameters
    ----------
    files
        Files of fits, which are drawn with the trace tables beside them, or trace tables without fits.
    directory
        Folder for the figures; by default ``plots`` beside the first file.
    cells
        Number of cells per file that are drawn one by one.
    formats
        ``png``, ``svg`` or both.
    force
        True to overwrite files that are not figures of an earlier call, or that were changed since.

    Raises
    ------
    ConfigError, TableError
        If a file cannot be drawn; nothing was written.
    OutputError
        If a figure cannot be written, or would overwrite another file.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"formats: {unknown[0]!r} is not a format of figures. Fix: choose from {', '.join(FORMATS)}")
    if not files:
        raise ConfigError("no table to draw. Fix: pass tables of traces or fits")
    if not 1 <= cells <= MOST:
        raise ConfigError(f"cells: must be from 1 to {MOST}, not {cells}")
    tables = _read(list(map(Path, files)))
    stems = Counter(table.path.stem for table in tables)
    if twice := next((stem for stem, count in stems.items() if count > 1), None):
        raise ConfigError(f"{twice}: two files have this name, so their figures would, too. Fix: draw them one by one")
    place = Path(directory) if directory is not None else tables[0].path.parent / "plots"
    figures: dict[str, Callable[[], Figure]] = {
        f"{table.path.stem}_traces": partial(_traces_figure, table, cells) for table in tables
    }
    for name, of in _by_model(tables).items():
        figures[f"{name}_parameters"] = partial(_parameters_figure, of)
        figures[f"{name}_quality"] = partial(_quality_figure, of)
    names = [f"{name}.{kind}" for name in figures for kind in formats]
    check_names(place, names)
    with mpl.rc_context(STYLE), writable(place):  # type: ignore[arg-type]
        check_free(place, names, force=force)
        with writing_into(place, "plot", force=force) as folder:
            for name, draw in figures.items():
                figure = draw()
                for kind in formats:
                    _save(figure, folder / f"{name}.{kind}")
    written = tuple(place / name for name in names)
    return Drawn(written, tuple(warning for table in tables for warning in table.warnings))


# --------------------------------------------------------------------------------------------- reading


def _read(files: Sequence[Path]) -> list[_Table]:
    """Tables of files; a table whose fits are among them is drawn with these only."""
    fits = {path: read_fitted(path) for path in files if is_fitted(path)}
    sources = {path: source_of(path, fitted) for path, fitted in fits.items()}
    drawn_already = {source.resolve() for source in sources.values()}
    tables = []
    for path in dict.fromkeys(files):
        if path in fits:
            units = fits[path].about.get("input_time_units")
            traces = Traces.of(read_analysis_csv(sources[path], units="h", default_units=units))
            model, warnings = _model_of(path, fits[path])
            if not has_content(sources[path], str(fits[path].about.get("input_digest"))):
                warnings.append(f"{path.name}: {sources[path].name} has changed since it was fitted. Fix: fit it again")
            tables.append(_Table(path, traces, _by_cell(path, fits[path], traces), model, warnings))
        elif path.resolve() not in drawn_already:
            tables.append(_Table(path, Traces.of(read_analysis_csv(path, units="h"))))
    return tables


def _by_cell(path: Path, fitted: Fitted, traces: Traces) -> Fitted:
    """Fits in the order of their traces; refuses fits of other cells."""
    ordered = fitted.table.sort_values(["fov", "cell"], kind="stable", ignore_index=True)
    if not np.array_equal(ordered[["fov", "cell"]].to_numpy(), np.stack([traces.fovs, traces.cells], axis=1)):
        raise TableError(f"{path}: {fitted.about['input']} has other cells now. Fix: fit it again")
    return replace(fitted, table=ordered)


def _model_of(path: Path, fitted: Fitted) -> tuple[Model | None, list[str]]:
    """Model of fits, None if it is not available any more, and warnings."""
    recorded = str(fitted.about["model"])
    name = recorded.rpartition("@")[0] or recorded
    try:
        model, now = find_model(name), model_identity(name)
    except ConfigError as error:
        return None, [f"{path.name}: drawn without the curves of its fits: {error}"]
    if set(model.names) != set(fitted.parameters):
        return None, [f"{path.name}: drawn without the curves of its fits: model {name} has different parameters now"]
    return model, [] if now == recorded else [
        f"{path.name}: model {name} has changed since these fits. Fix: fit the table again"
    ]


def _by_model(tables: Sequence[_Table]) -> dict[str, list[tuple[str, Fitted]]]:
    """Samples and their fits, by feature and model."""
    groups = defaultdict[str, list[tuple[str, Fitted]]](list)
    for table in tables:
        if table.fitted is not None and len(table.fitted.table):
            model = str(table.fitted.table["model"].iloc[0])
            name = "_".join(filter(None, (table.measured, model)))
            if any(of.parameters != table.fitted.parameters for _, of in groups[name]):
                raise ConfigError(
                    f"{table.path}: its {model} has different parameters from other files. Fix: draw it alone"
                )
            groups[name].append((table.sample, table.fitted))
    return groups


# ---------------------------------------------------------------------------------------------- traces


def _traces_figure(table: _Table, cells: int) -> Figure:
    """All traces above, and some of them one by one below."""
    chosen = _chosen(table, cells)
    rows = -(-len(chosen) // 4)
    figure = Figure(figsize=(8, 2.6 + 1.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows + 1, 4, height_ratios=[1.6, *[1.0] * rows])
    _draw_all(figure.add_subplot(grid[0, :]), table)
    for k, cell in enumerate(chosen):
        axes = figure.add_subplot(grid[1 + k // 4, k % 4])
        _draw_one(axes, table, cell)
        if k + 4 >= len(chosen):
            axes.set_xlabel("time (h)")
    return figure


def _chosen(table: _Table, cells: int) -> list[int]:
    """Rows of cells, evenly chosen: from the best fit to the worst, or in their order."""
    count = len(table.traces.cells)
    order = np.arange(count)
    if table.fitted is not None:
        order = np.argsort(-table.fitted.table["r_squared"].fillna(-np.inf).to_numpy(), kind="stable")
    return [int(order[k]) for k in _evenly(count, cells)]


def _evenly(count: int, wanted: int) -> npt.NDArray[np.intp]:
    """Indices of evenly spaced items, with the first and the last one."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.intp))


def _draw_all(axes: Axes, table: _Table) -> None:
    traces = table.traces
    count = len(traces.cells)
    some = _evenly(count, DRAWN)
    hours = np.broadcast_to(traces.hours, traces.values.shape)
    lines = [np.column_stack([hours[k], traces.values[k]]) for k in some]
    axes.add_collection(LineCollection(lines, colors=PALE, linewidths=0.4, alpha=0.5, rasterized=True))
    middle, median, low, high = _quartiles(hours, traces.values)
    axes.fill_between(middle, low, high, color=INK, alpha=0.25, linewidth=0, label="quartiles")
    axes.plot(middle, median, color=INK, label="median")
    drawn = f"{len(some)} of {count} cells" if len(some) < count else f"{count} cells"
    axes.set(title=f"{table.sample}: {drawn}", xlabel="time (h)", ylabel=_label(table.measured))
    axes.autoscale()
    if count:
        axes.legend(frameon=False)


def _quartiles(hours: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Mean time, median and quartiles of the samples in each interval of time."""
    there = np.isfinite(values) & np.isfinite(hours)
    times, samples = hours[there], values[there]
    stretches = min(60, hours.shape[1])
    if not samples.size:
        return np.empty(0), np.empty(0), np.empty(0), np.empty(0)
    edges = np.linspace(times.min(), times.max(), stretches + 1)
    place = np.clip(np.searchsorted(edges, times, "right") - 1, 0, stretches - 1)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(1, stretches))
    parts = zip(np.split(times[order], cuts), np.split(samples[order], cuts), strict=True)
    found = [(at.mean(), *np.quantile(of, (0.25, 0.5, 0.75))) for at, of in parts if of.size]
    middle, low, median, high = np.array(found).T
    return middle, median, low, high


def _draw_one(axes: Axes, table: _Table, cell: int) -> None:
    """Samples of a cell, and the curve of its fit."""
    traces, fitted = table.traces, table.fitted
    hours = np.broadcast_to(traces.hours, traces.values.shape)[cell]
    axes.plot(hours, traces.values[cell], ".", color=PALE, markersize=2.5)
    title, colour = f"FOV {traces.fovs[cell]}, cell {traces.cells[cell]}", "black"
    if fitted is not None:
        row, grade = fitted.table.iloc[cell], str(fitted.grades[cell])
        colour = COLOURS[grade]
        title += f"\n$R^2$ = {row['r_squared']:.3f}" if row["success"] else "\nnot converged"
        if table.model is not None and row["success"]:
            fine = np.linspace(np.nanmin(hours), np.nanmax(hours), 300)
            parameters = np.array([[float(row[name]) for name in table.model.names]])
            where = f"{table.path.name}: the curve of model {table.model.name!r}"
            curve = result_of(where, table.model.curve, (1, fine.size), fine[None], parameters)
            axes.plot(fine, curve[0], color=colour, linewidth=1.2)
    axes.set_title(title, fontsize=7, color=colour)
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))


# ---------------------------------------------------------------------------------- parameters, quality


def _parameters_figure(samples: Sequence[tuple[str, Fitted]]) -> Figure:
    """Boxes and cells of each fitted parameter, by sample; for converged fits."""
    first = samples[0][1]
    names = [name for name in first.parameters if name not in first.fixed]
    figure, grid, turned = _beside_or_below(len(names), [sample for sample, _ in samples])
    for axes, name in zip(grid, names, strict=True):
        values = [of.table.loc[of.table["success"], name].to_numpy(float) for _, of in samples]
        _draw_distributions(axes, values)
        counts = [f"{sample}\nn = {len(of)}" for (sample, _), of in zip(samples, values, strict=True)]
        axes.set_xticks(range(len(samples)), counts, rotation=turned)
        unit = first.about["parameters"].get(name, {}).get("unit")
        axes.set_title(f"{name} ({unit})" if unit else name)
    return figure


def _beside_or_below(count: int, samples: Sequence[str]) -> tuple[Figure, Sequence[Axes], int]:
    """Figure with axes side by side; stacked, with rotated names, if there are many or long names."""
    if len(samples) <= FEW and max(map(len, samples)) <= SHORT:
        figure = Figure(figsize=(1.6 + count * (0.8 + 0.5 * len(samples)), 3.2), layout="constrained")
        return figure, list(np.atleast_1d(figure.subplots(1, count))), 0
    figure = Figure(figsize=(2.5 + 0.4 * len(samples), 1.5 + 2 * count), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(count, 1, sharex=True))), 90


def _draw_distributions(axes: Axes, values: Sequence[Array]) -> None:
    jitter = np.random.default_rng(0)
    for k, of in enumerate(values):
        some = of if len(of) <= DRAWN else jitter.choice(of, DRAWN, replace=False)
        places = k + jitter.uniform(-0.25, 0.25, len(some))
        axes.plot(places, some, ".", color=INK, markersize=3, alpha=0.4, rasterized=True)
    outline = {"color": "black", "linewidth": 0.9}
    axes.boxplot(
        [of if len(of) else [np.nan] for of in values], positions=range(len(values)), widths=0.6, showfliers=False,
        medianprops={"color": "black", "linewidth": 1.6}, boxprops=outline, whiskerprops=outline, capprops=outline,
    )  # fmt: skip
    every = np.concatenate([*values, np.empty(0)])
    low, high = np.quantile(every, (0.01, 0.99)) if every.size else (0.0, 0.0)
    if every.size and every.min() > 0 and high > WIDE * low:
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))


def _quality_figure(samples: Sequence[tuple[str, Fitted]]) -> Figure:
    """Shares of the grades of fits, by sample."""
    figure = Figure(figsize=(5, 1.2 + 0.35 * len(samples)), layout="constrained")
    axes = figure.subplots()
    names = [f"{sample} (n = {len(of.table)})" for sample, of in samples]
    before = np.zeros(len(samples))
    least = {"good": f"good ($R^2$ ≥ {GOOD:g})", "fair": f"fair ($R^2$ ≥ {FAIR:g})"}
    for grade in GRADES:
        shares = np.array([float((of.grades == grade).mean()) for _, of in samples])
        bars = axes.barh(names, shares, left=before, color=COLOURS[grade], label=least.get(grade, grade))
        axes.bar_label(
            bars, [f"{share:.0%}" if share > 0.05 else "" for share in shares], label_type="center", color="white"
        )
        before += shares
    axes.set(xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(GRADES), frameon=False)
    return figure


def _label(measured: str) -> str:
    return measured.replace("_ch_", ", channel ").replace("_", " ").replace("$", r"\$") or "value"


def _save(figure: Figure, path: Path) -> None:
    """Write a figure, the same bytes each time."""
    held = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 150}
    figure.savefig(held, format=path.suffix[1:], **options)
    write_bytes(path, held.getvalue())
