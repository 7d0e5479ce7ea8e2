"""Figures of a page, as SVG whose colours follow the page: lines with bands, traces, and bars.

Widths are those of a phone, so that letters have the size of the page's on every screen; wide pages have more columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from pyama_dask.report.axes import Axis, axis

WIDTH, HEIGHT = 360, 210
"""Size of a figure in pixels of CSS, if its column has this width."""
LETTER = 6.4
"""Width of a digit of ticks in pixels, rounded up."""
TOP, RIGHT, BOTTOM = 10, 14, 36
"""Margins around the data; the name of the horizontal axis is below the ticks, on another line."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Line with bands around it."""

    y: Values
    """(T,) values; nan leaves a gap."""
    bands: tuple[tuple[Values, Values], ...] = ()
    """(T,) lower and upper limits, the widest band first."""
    name: str = ""
    colour: int = 0
    """Number of the colour in the page's palette."""


@dataclass(frozen=True)
class Plot:
    """Axes of a figure, and places of values in it."""

    x: Axis
    y: Axis
    left: float
    height: float = HEIGHT

    def across(self, value: float) -> float:
        """Horizontal place of a value in pixels."""
        return self.left + self.x.place(value) * (WIDTH - RIGHT - self.left)

    def down(self, value: float) -> float:
        """Vertical place of a value in pixels."""
        return self.height - BOTTOM - self.y.place(value) * (self.height - BOTTOM - TOP)

    @property
    def across_middle(self) -> float:
        """Middle of the horizontal axis in pixels."""
        return (self.left + WIDTH - RIGHT) / 2

    def svg(self, inside: str, x_name: str, title: str) -> Markup:
        """The whole figure; `inside` is markup."""
        lines = [
            f'<svg viewBox="0 0 {WIDTH} {self.height:g}" role="img" aria-label="{escape(title)}">',
            *(_tick_y(self, tick, label) for tick, label in zip(self.y.ticks, self.y.labels, strict=True)),
            inside,
            f'<path class="axis" d="M{self.left:g} {self.height - BOTTOM:g}H{WIDTH - RIGHT}"/>',
            *(_tick_x(self, tick, label) for tick, label in zip(self.x.ticks, self.x.labels, strict=True)),
            f'<text class="name" x="{self.across_middle:.0f}" y="{self.height - 5:g}">{escape(x_name)}</text>',
            "</svg>",
        ]
        return Markup("".join(lines))  # names are escaped, all else are numbers


def _tick_y(plot: Plot, tick: float, label: str) -> str:
    y = plot.down(tick)
    return (
        f'<path class="grid" d="M{plot.left:g} {y:.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="y" x="{plot.left - 6:g}" y="{y + 4:.1f}">{label}</text>'
    )


def _tick_x(plot: Plot, tick: float, label: str) -> str:
    half = len(label) * LETTER / 2
    x = min(max(plot.across(tick), half), WIDTH - half)
    return f'<text class="x" x="{x:.1f}" y="{plot.height - BOTTOM + 15:g}">{label}</text>'


def _plot(x: Axis, y: Axis, height: float = HEIGHT) -> Plot:
    return Plot(x, y, 12 + LETTER * max(map(len, y.labels), default=1), height)


# --------------------------------------------------------------------------------------------- lines, bands


def band(x: Values, lines: Sequence[Line], x_name: str, title: str, *, zero: bool = False) -> Markup:
    """Lines with bands of quantiles.

    Parameters
    ----------
    x
        (T,) places of the values, such as minutes.
    lines
        Lines to draw over each other; the first one is drawn last.
    x_name, title
        Name and unit of the horizontal axis, and a description for readers who do not see the figure.
    zero
        True to begin the vertical axis at 0.
    """
    every = [values for line in lines for values in (line.y, *(edge for pair in line.bands for edge in pair))]
    vertical = axis(np.concatenate([*every, np.zeros(0)]).tolist(), zero=zero)
    plot = _plot(axis(x.tolist(), exact=True, most=6) if len(x) > 1 else around(x), vertical)
    inside = "".join(_line(plot, x, line) for line in reversed(lines))
    return plot.svg(inside, x_name, title)


def around(x: Values) -> Axis:
    """Axis for one value, or none."""
    middle = float(x[0]) if len(x) else 0.0
    return Axis(middle - 0.5, middle + 0.5, (middle,), (f"{middle:g}",))


def _line(plot: Plot, x: Values, line: Line) -> str:
    shapes = [
        f'<path class="band c{line.colour}" d="{_area(plot, x[part], low[part], high[part])}"/>'
        for low, high in line.bands
        for part in _known(low + high)
    ]
    shapes += [
        f'<path class="line{" dot" * (part.stop - part.start == 1)} c{line.colour}" '
        f'd="{_path(plot, x[part], line.y[part])}"/>'
        for part in _known(line.y)
    ]
    return "".join(shapes)


def _known(values: Values) -> list[slice]:
    """Parts of values without nan in between."""
    edges = np.flatnonzero(np.diff(np.r_[0, np.isfinite(values).astype(np.int8), 0]))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _points(plot: Plot, x: Values, y: Values) -> list[str]:
    return [f"{plot.across(a):.1f} {plot.down(b):.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _path(plot: Plot, x: Values, y: Values) -> str:
    points = _points(plot, x, y)
    return f"M{points[0]}h.01" if len(points) == 1 else f"M{points[0]}L" + " ".join(points[1:])


def _area(plot: Plot, x: Values, low: Values, high: Values) -> str:
    if len(x) == 1:
        at, half = plot.across(float(x[0])), 6
        bottom, top = plot.down(float(low[0])), plot.down(float(high[0]))
        return f"M{at - half:.1f} {bottom:.1f}H{at + half:.1f}V{top:.1f}H{at - half:.1f}Z"
    return "M" + "L".join([*_points(plot, x, high), *_points(plot, x[::-1], low[::-1])]) + "Z"


def traces(x: Values, every: Values, x_name: str, title: str) -> Markup:
    """Thin lines of many cells, and their median.

    Parameters
    ----------
    x
        (T,) places of the values.
    every
        (N, T) values of the cells; nan where a cell is absent.
    x_name, title
        As for `band`.
    """
    vertical = axis(every[np.isfinite(every)].tolist())
    plot = _plot(axis(x.tolist(), exact=True, most=6) if len(x) > 1 else around(x), vertical)
    thin = "".join(_path(plot, x[part], cell[part]) for cell in every for part in _known(cell))
    middle = np.full(len(x), np.nan)
    present = np.isfinite(every).any(axis=0)
    middle[present] = np.nanmedian(every[:, present], axis=0)
    inside = f'<path class="thin" d="{thin}"/>' if thin else ""
    return plot.svg(inside + _line(plot, x, Line(middle)), x_name, title)


# -------------------------------------------------------------------------------------------------- bars


def bars(
    edges: Values, stacks: Sequence[tuple[str, int, Values]], x_name: str, title: str, *, x: Axis | None = None
) -> Markup:
    """Histogram, with one or several stacked counts in each bin.

    Parameters
    ----------
    edges
        (N + 1,) ascending edges of the bins.
    stacks
        Name, colour and (N,) counts, from the bottom up.
    x_name, title
        As for `band`.
    x
        Horizontal axis; None to choose ticks at whole numbers.
    """
    total = np.sum([counts for _, _, counts in stacks], axis=0)
    whole = axis(edges.tolist(), exact=True, most=6, whole=True)
    plot = _plot(x or whole, axis(total.tolist(), zero=True, whole=True))
    below, inside = np.zeros(len(total)), []
    for name, colour, counts in stacks:
        for k in np.flatnonzero(counts).tolist():
            left, right = plot.across(float(edges[k])), plot.across(float(edges[k + 1]))
            bottom, top = plot.down(float(below[k])), plot.down(float(below[k] + counts[k]))
            tip = f"{counts[k]:g} {name}"
            width = max(right - left - (1 if right - left > 3 else 0), 0.6)
            inside.append(
                f'<rect class="bar c{colour}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{bottom - top:.1f}"><title>{escape(tip)}</title></rect>'
            )
        below = below + counts
    return plot.svg("".join(inside), x_name, title)
