"""Figures of compared samples: medians with confidence bands, and effect sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyama_dask.analysis.compare_parameters import SIGNIFICANT
from pyama_dask.analysis.figures import plain, sample_style, time_scale, with_short_numbers
from pyama_dask.config.units import many
from pyama_dask.files.palette import DARK, SERIES

if TYPE_CHECKING:
    import pandas as pd

_ACROSS = 3
"""Parameters side by side."""


def medians_figure(medians: pd.DataFrame, label: str) -> Figure:
    """Draw the median of each sample with its confidence band.

    Parameters
    ----------
    medians
        As from `compare_medians.medians_of`.
    label
        Quantity, channel and unit of the values.
    """
    samples = medians["sample"].nunique()
    alpha = 0.2 if samples <= len(SERIES) else 0.1
    figure = Figure(figsize=(7, max(3.6, 0.4 + 0.34 * samples)), layout="constrained")
    axes = figure.subplots()
    factor, time = time_scale(medians["time"])
    for k, (sample, of) in enumerate(medians.groupby("sample", sort=False)):
        style = sample_style(k)
        times = of["time"] * factor
        axes.fill_between(times, of["low"], of["high"], color=style["color"], alpha=alpha, linewidth=0)
        cells, fovs = int(of["cells"].max()), int(of["fovs"].max())
        counts = f"{many(cells, 'cell')}, {many(fovs, 'FOV')}"
        counts += f", {many(int(of['wells'].max()), 'well')}" if "wells" in of else ""
        axes.plot(times, of["median"], linewidth=1.5, label=f"{plain(str(sample))}\n{counts}", **style)
    axes.set(xlabel=time, ylabel=plain(label))
    axes.set_title("median of the cells, with 95 % confidence band", loc="left")
    with_short_numbers(axes)
    figure.legend(loc="outside right upper", frameon=False, handlelength=3, labelspacing=0.8)
    return figure


def effects_figure(tests: pd.DataFrame) -> Figure:
    """Draw Cliff's delta of each parameter and pair of samples, with its interval and the adjusted p.

    Parameters
    ----------
    tests
        As from `compare_parameters.tests_of`.
    """
    samples = zip(tests["sample_a"], tests["sample_b"], strict=True)
    pairs = [f"{plain(second)} - {plain(first)}" for first, second in samples]
    tests = tests.assign(pair=pairs)
    names, several = list(dict.fromkeys(tests["parameter"])), tests["pair"].nunique() > 1
    if several:
        panels = [(name, "pair", tests[tests["parameter"] == name]) for name in names]
    else:
        panels = [(pairs[0], "parameter", tests)]
    columns = min(len(panels), _ACROSS)
    lines = -(-len(panels) // columns)
    height = 0.5 + lines * (0.6 + 0.28 * max(len(of) for _, _, of in panels))
    width = 0.9 + 0.07 * max(map(len, tests["pair" if several else "parameter"])) + (2.3 if several else 4.5) * columns
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes in grid[max(len(panels) - columns, 0) :]:
        axes.tick_params(labelbottom=True)
    for axes, (title, rows, of) in zip(grid, panels, strict=False):
        _draw_effects(axes, of, list(of[rows]))
        axes.set_title(title, loc="left")
    figure.supxlabel("Cliff's delta with 95 % interval: 1 if all values of the first sample are larger", fontsize=8)
    return figure


def _draw_effects(axes: Axes, of: pd.DataFrame, names: list[str]) -> None:
    """Draw a row for each test: effect size, interval, and adjusted p at the right; filled if significant."""
    axes.axvline(0, color=DARK, linewidth=0.6, zorder=0)
    for row, (_, test) in enumerate(of.iterrows()):
        p, delta = test["p_holm"], test["cliffs_delta"]
        axes.plot([test["delta_low"], test["delta_high"]], [row, row], color=SERIES[0], linewidth=1.2)
        filled = bool(p <= SIGNIFICANT)
        axes.plot(delta, row, "o", color=SERIES[0], markersize=5, markerfacecolor=SERIES[0] if filled else "white")
        words = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001" if np.isfinite(p) else "not tested"
        axes.annotate(words, (1.03, row), xycoords=("axes fraction", "data"), fontsize=7, verticalalignment="center")
    axes.set(xlim=(-1.08, 1.08), ylim=(len(names) - 0.5, -0.5))
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["-1", "-0.5", "0", "0.5", "1"])
    axes.set_yticks(range(len(names)), names)
