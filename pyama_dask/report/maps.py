"""Heat maps of FOVs by frames, and what workers were busy with: pictures of a few colours within axes of SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup, escape

from pyama_dask.files.pictures import data_url, to_indexed_png
from pyama_dask.report.axes import Axis, axis, round_up
from pyama_dask.report.figures import BOTTOM, LETTER, RIGHT, TOP, WIDTH, Plot, Values, around

SEQUENTIAL = ("#f3f7fb", "#c9dcec", "#8fbadb", "#4b8fc4", "#1f639f", "#0b3a66")
DIVERGING = ("#8c3d04", "#d8772a", "#f2c48d", "#f4f3f0", "#a9cbe3", "#4b8fc4", "#0b4a86")
"""Colours from low to high, and from below 1 to above; blue and orange are told apart by colour-blind readers."""
SHADES = 64
"""Number of colours in a heat map."""


def shades(colours: Sequence[str], count: int = SHADES) -> list[str]:
    """Evenly spaced colours between some colours."""
    given = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours], float)
    at = np.linspace(0, len(colours) - 1, count)
    mixed = np.stack([np.interp(at, np.arange(len(colours)), given[:, k]) for k in range(3)], axis=1)
    return ["#" + "".join(f"{value:02x}" for value in row) for row in np.round(mixed).astype(int).tolist()]


def heat(values: Values, rows: Sequence[int], frames: Sequence[int], title: str, *, relative: bool = False) -> Markup:
    """Heat map of FOVs by frames.

    Parameters
    ----------
    values
        (N, T) values; nan is left blank.
    rows, frames
        Numbers of the FOVs and frames.
    title
        Description for readers who do not see the figure.
    relative
        True for ratios: 1 is neutral, and a half and twice are the ends of the scale.
    """
    if relative:
        with np.errstate(divide="ignore", invalid="ignore"):
            at, scale = (np.log2(values) + 1) / 2, ("0.5", "1", "2")
        colours = shades(DIVERGING)
    else:
        high = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
        at, scale = values / (high or 1.0), ("0", "", f"{high:,.0f}")
        colours = shades(SEQUENTIAL)
    return _map(
        at, colours, [str(row) for row in rows], _frames_axis(frames), "frame", title, colour_scale(colours, scale)
    )


def _frames_axis(frames: Sequence[int]) -> Axis:
    if len(frames) < 2:
        return around(np.array(frames, float))
    return axis([float(frame) for frame in (frames[0], frames[-1])], exact=True, most=6, whole=True)


def _map(at: Values, colours: Sequence[str], rows: Sequence[str], x: Axis, x_name: str, title: str, key: str) -> Markup:
    """Picture of numbers from 0 to 1, with axes."""
    numbers = np.full(at.shape, len(colours), np.uint8)
    known = np.isfinite(at)
    numbers[known] = np.clip(at[known] * len(colours), 0, len(colours) - 1).astype(np.uint8)
    url = data_url(to_indexed_png(numbers, colours), "png") if numbers.size else ""
    tall = TOP + 12 + BOTTOM + min(max(12.0 * len(rows), 48), 220)
    plot = Plot(x, Axis(0, 1, (), ()), 18 + LETTER * max(map(len, rows), default=1), tall)
    top, height = TOP + 12, tall - BOTTOM - TOP - 12
    each = height / max(len(rows), 1)
    step = round_up(14 / each)
    names = "".join(
        f'<text class="y" x="{plot.left - 6:g}" y="{top + (k + 0.5) * each + 4:.1f}">{escape(rows[k])}</text>'
        for k in range(0, len(rows), step)
    )
    picture = (
        f'<image x="{plot.left:g}" y="{top}" width="{WIDTH - RIGHT - plot.left:g}" height="{height:g}" '
        f'preserveAspectRatio="none" href="{url}"/>'
    )
    return plot.svg(names + key + (picture if url else ""), x_name, title)


def colour_scale(colours: Sequence[str], labels: tuple[str, str, str]) -> str:
    """Key of colours, at the top right."""
    width, x0, y = 90.0, WIDTH - RIGHT - 130.0, 2
    url = data_url(to_indexed_png(np.arange(len(colours), dtype=np.uint8)[None], colours), "png")
    low, middle, high = labels
    picture = f'<image x="{x0:g}" y="{y}" width="{width:g}" height="10" preserveAspectRatio="none" href="{url}"/>'
    mark = f'<path class="axis" d="M{x0 + width / 2:g} {y}v10"/>' if middle else ""
    low_text = f'<text class="y" x="{x0 - 5:g}" y="{y + 10}">{low}</text>'
    return picture + mark + low_text + f'<text class="k" x="{x0 + width + 5:g}" y="{y + 10}">{high}</text>'


# ------------------------------------------------------------------------------------------------ workers

BINS = 320
"""Largest number of columns of a timeline."""


def timeline(
    spans: Sequence[tuple[str, float, float, int]], colours: Sequence[str], shown: Callable[[str], str], title: str
) -> Markup:
    """Kinds of tasks that workers are busy with, over time.

    Parameters
    ----------
    spans
        Worker, begin and end in seconds, and number of the task's kind.
    colours
        Colours of the kinds.
    shown
        Name to show for a worker.
    title
        Description for readers who do not see the figure.
    """
    workers = {worker: row for row, worker in enumerate(sorted({worker for worker, *_ in spans}))}
    end = max((stop for _, _, stop, _ in spans), default=1.0) or 1.0
    numbers = np.full((len(workers), BINS), np.nan)
    for worker, start, stop, kind in spans:
        first = int(start / end * BINS)
        numbers[workers[worker], first : max(first + 1, round(stop / end * BINS))] = (kind + 0.5) / len(colours)
    unit, name = (60.0, "min") if end > 300 else (1.0, "s")
    x = axis([0.0, end / unit], exact=True, most=6)
    return _map(
        numbers, colours, [shown(worker) for worker in workers], x, f"time since the first task / {name}", title, ""
    )
