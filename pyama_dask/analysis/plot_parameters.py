"""Figures of fits by sample: fitted parameters, and grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from pyama_dask.analysis.figures import (
    DRAWN,
    GRADE_COLOURS,
    Array,
    plain,
    sample_marker,
    with_short_numbers,
)
from pyama_dask.analysis.fit_tables import AT_BOUND, FAIR, GOOD, GRADES, Fitted, at_bounds
from pyama_dask.analysis.result_tables import ResultTable

FEW, SHORT = 6, 12
"""Largest number of samples, and of letters in their names, that fit side by side."""
WIDE = 30.0
"""Ratio of a parameter's largest to smallest value above which its axis is logarithmic."""


def parameters_figure(tables: Sequence[ResultTable]) -> Figure:
    """Draw boxes and cells of each fitted parameter, by sample; for converged fits.

    Cells at a bound of the parameter are triangles, and the bound is a dashed line.

    Parameters
    ----------
    tables
        Tables with fits of one model, one per sample.
    """
    fits = [table.fitted for table in tables if table.fitted is not None]
    samples = [plain(table.sample) for table in tables]
    names = [name for name in fits[0].parameters if name not in fits[0].fixed]
    figure, grid, turned = _beside_or_below(len(names), samples)
    marked = False
    for axes, name in zip(grid, names, strict=True):
        values, bounds = zip(*(_values(of, name) for of in fits), strict=True)
        _draw_distributions(axes, values, bounds)
        marked |= any(bound.any() for bound in bounds)
        axes.set_xticks(range(len(samples)), list(map(_counts, samples, bounds)), rotation=turned)
        unit = fits[0].about["parameters"].get(name, {}).get("unit")
        axes.set_title(f"{name} ({unit})" if unit else name)
    if marked:
        mark = Line2D([], [], linestyle="", color=GRADE_COLOURS[AT_BOUND], **_AT_BOUND, label="at a bound of the fit")
        figure.legend(handles=[mark], loc="outside upper right", frameon=False)
    return figure


_AT_BOUND: Mapping[str, Any] = {"marker": "^", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.4}


def _values(fitted: Fitted, name: str) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Values of a parameter of the converged fits, and mask of those at a bound."""
    converged = fitted.table["success"].to_numpy(bool)
    bound = at_bounds(fitted.table, fitted.about["parameters"]).get(name, np.zeros_like(converged))
    return fitted.table[name].to_numpy(float)[converged], bound[converged]


def _counts(sample: str, bound: npt.NDArray[np.bool_]) -> str:
    """Name of a sample with its numbers of cells."""
    return f"{sample}\nn = {len(bound)}" + (f"\n{bound.sum()} at bound" if bound.any() else "")


def _beside_or_below(count: int, samples: Sequence[str]) -> tuple[Figure, Sequence[Axes], int]:
    """Figure with axes side by side; stacked, with rotated names, if there are many or long names."""
    if len(samples) <= FEW and max(map(len, samples)) <= SHORT:
        width = 0.9 + max(0.5, 0.08 * max(map(len, samples))) * len(samples)
        figure = Figure(figsize=(0.4 + count * width, 3.2), layout="constrained")
        return figure, list(np.atleast_1d(figure.subplots(1, count))), 0
    figure = Figure(figsize=(2.5 + 0.4 * len(samples), 1.5 + 2 * count), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(count, 1))), 90


def _draw_distributions(axes: Axes, values: Sequence[Array], bounds: Sequence[npt.NDArray[np.bool_]]) -> None:
    jitter = np.random.default_rng(0)
    for k, (of, bound) in enumerate(zip(values, bounds, strict=True)):
        some = np.sort(jitter.choice(len(of), min(len(of), DRAWN), replace=False))
        places, inside = k + jitter.uniform(-0.25, 0.25, len(some)), ~bound[some]
        dots: Mapping[str, Any] = {"linestyle": "", "alpha": 0.6, "rasterized": True}
        axes.plot(places[inside], of[some][inside], markersize=2.5, **sample_marker(k), **dots)
        axes.plot(places[~inside], of[some][~inside], color=GRADE_COLOURS[AT_BOUND], **_AT_BOUND, **dots)
    for at in np.unique(np.concatenate([of[bound] for of, bound in zip(values, bounds, strict=True)])):
        axes.axhline(at, color=GRADE_COLOURS[AT_BOUND], linestyle="--", linewidth=0.8, zorder=0)
    outline = {"color": "black", "linewidth": 0.9}
    axes.boxplot(
        [of if len(of) else [np.nan] for of in values], positions=range(len(values)), widths=0.6, showfliers=False,
        medianprops={"color": "black", "linewidth": 1.6}, boxprops=outline, whiskerprops=outline, capprops=outline,
    )  # fmt: skip
    every = np.concatenate([*values, np.empty(0)])
    low, high = np.quantile(every, (0.01, 0.99)) if every.size else (0.0, 0.0)
    if every.size and every.min() > 0 and high > WIDE * low:
        axes.set_yscale("log")
    with_short_numbers(axes)


def quality_figure(tables: Sequence[ResultTable]) -> Figure:
    """Draw the shares of the grades of fits, by sample.

    Parameters
    ----------
    tables
        Tables with fits of one model, one per sample.
    """
    grades = [table.fitted.grades for table in tables if table.fitted is not None]
    figure = Figure(figsize=(5, 1.4 + 0.35 * len(tables)), layout="constrained")
    axes = figure.subplots()
    names = [f"{plain(table.sample)} (n = {len(of)})" for table, of in zip(tables, grades, strict=True)]
    before = np.zeros(len(tables))
    least = {"good": f"good ($R^2$ ≥ {GOOD:g})", "fair": f"fair ($R^2$ ≥ {FAIR:g})"}
    for grade in GRADES:
        shares = np.array([float((of == grade).mean()) for of in grades])
        bars = axes.barh(names, shares, left=before, color=GRADE_COLOURS[grade], label=least.get(grade, grade))
        axes.bar_label(
            bars, [f"{share:.0%}" if share > 0.05 else "" for share in shares], label_type="center", color="black"
        )
        before += shares
    axes.set(xlim=(0, 1), xlabel="share of the fits")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(GRADES), frameon=False)
    return figure
