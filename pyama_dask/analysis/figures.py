"""Style of all figures: colours, time axes, legends, and files with the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, ScalarFormatter

from pyama_dask.analysis.fit_tables import AT_BOUND
from pyama_dask.errors import ConfigError
from pyama_dask.files.atomic import check_names, writable, write_bytes
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.files.palette import SERIES

FORMATS = ("png", "svg")
GRADE_COLOURS: Mapping[str, str] = {"good": SERIES[2], "fair": SERIES[1], "poor": SERIES[5], AT_BOUND: SERIES[3]}
"""Colours of the grades of fits, distinguishable by colour-blind readers."""
INK, GREY = SERIES[0], "#999999"
STYLE = {
    "font.size": 8, "axes.titlesize": 8, "legend.fontsize": 7.5, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "pyama_dask",
}  # fmt: skip
DRAWN = 500
"""Largest number of cells in one overview, evenly or randomly selected."""
SHORTEST = 3.0
"""Hours below which time axes are in minutes."""
_LARGE = 1e4
"""Value from which numbers on an axis are shortened."""
_LINES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")
Array = npt.NDArray[np.float64]


def check_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats of figures.

    Raises
    ------
    ConfigError
        If a format is not in `FORMATS`, or the list is empty.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"formats: {unknown[0]!r} is not a format of figures. Fix: choose from {', '.join(FORMATS)}")
    if not formats:
        raise ConfigError(f"formats: has no format. Fix: choose from {', '.join(FORMATS)}")


def plain(text: str) -> str:
    """Text for a figure: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def time_scale(hours: npt.ArrayLike) -> tuple[float, str]:
    """Factor from hours to the unit of a time axis, and its label: minutes for short movies, hours otherwise."""
    known = np.asarray(hours, float)
    known = known[np.isfinite(known)]
    return (60.0, "time (min)") if known.size and np.ptp(known) < SHORTEST else (1.0, "time (h)")


def sample_style(k: int) -> dict[str, Any]:
    """Colour and line style of sample k; line styles change when the colours are used up."""
    return {"color": SERIES[k % len(SERIES)], "linestyle": _LINES[k // len(SERIES) % len(_LINES)]}


def sample_marker(k: int) -> dict[str, Any]:
    """Colour and marker of sample k; markers change when the colours are used up."""
    return {"color": SERIES[k % len(SERIES)], "marker": _MARKERS[k // len(SERIES) % len(_MARKERS)]}


def evenly(count: int, wanted: int) -> npt.NDArray[np.intp]:
    """Indices of evenly spaced items, with the first and the last one."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.intp))


def legend_above(axes: Axes, columns: int) -> None:
    """Legend above the right end of the axes, where it covers no data; the title is at the left."""
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, frameon=False, borderaxespad=0.2, columnspacing=1.2
    )


def write_results(
    place: Path,
    texts: Mapping[str, str],
    figures: Mapping[str, Callable[[], Figure]],
    formats: Sequence[str],
    by: str,
    *,
    force: bool,
) -> tuple[Path, ...]:
    """Draw figures and write them into a folder with tables, all of them or none.

    Parameters
    ----------
    place
        The folder; created if necessary.
    texts
        Contents of tables, by file name.
    figures
        Functions that draw, by file name without suffix.
    formats
        Some of `FORMATS`.
    by
        Command, for the manifest.
    force
        True to overwrite files that are not in the manifest or were changed since.

    Returns
    -------
    Written files.

    Raises
    ------
    OutputError
        If a file cannot be written, or would overwrite another file.
    """
    names = [*texts, *(f"{name}.{kind}" for name in figures for kind in formats)]
    check_names(place, names)
    with mpl.rc_context(STYLE), writable(place):  # type: ignore[arg-type]  # keys of STYLE are those of matplotlib
        check_free(place, names, force=force)
        with writing_into(place, by, force=force) as folder:
            for name, text in texts.items():
                write_bytes(folder / name, text.encode())
            for name, draw in figures.items():
                save_figure(draw(), folder / name, formats)
    return tuple(place / name for name in names)


def save_figure(figure: Figure, stem: Path, formats: Sequence[str]) -> None:
    """Write a figure in some formats, the same bytes each time."""
    for kind in formats:
        held = io.BytesIO()
        options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
        figure.savefig(held, format=kind, **options)
        figure.set_layout_engine("none")  # the first format has laid it out
        write_bytes(stem.with_name(f"{stem.name}.{kind}"), held.getvalue())


def with_short_numbers(axes: Axes) -> None:
    """Label the y axis as 250k or 1.5M instead of a power of ten above it, if its values are large."""
    if axes.get_yscale() == "linear":
        large = max(map(abs, axes.get_ylim())) >= _LARGE
        axes.yaxis.set_major_formatter(EngFormatter(sep="") if large else ScalarFormatter(useOffset=False))
