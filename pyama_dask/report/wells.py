"""The plate on the page of a run: a square for each well, with its state and its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pyama_dask.config.units import many
from pyama_dask.config.well_names import parse_well, row_name
from pyama_dask.config.wells import plate_format
from pyama_dask.report.facts import RunFacts
from pyama_dask.report.figures import WIDTH
from pyama_dask.report.maps import SEQUENTIAL, colour_scale, shades
from pyama_dask.report.overview import BLUE, ORANGE, SKY, VERMILLION, Figure
from pyama_dask.runs.plate import normal_name, well_states

LEFT, TOP = 26.0, 34.0
"""Room for names of rows; and for the scale of colours, with numbers of columns below it."""
RIMS = {"failed": VERMILLION, "partial": ORANGE, "pending": SKY}
"""Colours of the rims of wells that are not done."""
SHADES = shades(SEQUENTIAL, 12)


@dataclass(frozen=True)
class Well:
    """A well of a run."""

    name: str
    state: str
    cells: int | None
    """Kept cells of its FOVs; None if the run finds no cells, or has not begun the well."""

    @property
    def tip(self) -> str:
        """Name, state and cells in words."""
        return f"{self.name}: {self.state}" + ("" if self.cells is None else f", {many(self.cells, 'cell')}")


def wells_of(run: RunFacts) -> list[Well]:
    """Wells of a run; FOVs outside of wells are left out."""
    states = well_states((fov.well, fov.report.status) for fov in run.fovs)
    cells = Counter[str | None]()
    for fov in run.fovs:
        cells[normal_name(fov.well)] += fov.report.cells or 0
    counted = {name for name, state in states.items() if run.finds_cells and state != "pending"}
    return [Well(name, state, cells[name] if name in counted else None) for name, state in states.items()]


def plate_figure(run: RunFacts) -> Figure | None:
    """Map of the wells of a run; None if its FOVs are in none."""
    wells = wells_of(run)
    if not wells:
        return None
    rims = {state: colour for state, colour in RIMS.items() if any(well.state == state for well in wells)}
    what = "Kept cells of each well." if run.finds_cells else "Wells of the run."
    marked = " Coloured rims mark wells that are not done." if rims else ""
    key = {} if run.finds_cells else {"done": BLUE}
    return Figure(
        f"Plate: {many(len(wells), 'well')}",
        what + marked,
        _svg(wells, run.metadata.get("plate_shape")),
        tuple((key | rims).items()),
    )


def _svg(wells: list[Well], stated: Sequence[int] | None) -> Markup:
    rows, columns = plate_format((well.name for well in wells), stated)
    side = (WIDTH - LEFT - 4) / columns
    counts = [well.cells for well in wells if well.cells is not None]
    most = max([*counts, 1])
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {TOP + rows * side + 4:.0f}" role="img" aria-label="Plate">',
        colour_scale(SHADES, ("0", "", f"{most:,}")) if counts else "",
        *_grid(rows, columns, side),
        *(_square(well, side, most) for well in wells),
        "</svg>",
    ]
    return Markup("".join(parts))  # names are those of wells, all else are numbers


def _grid(rows: int, columns: int, side: float) -> Iterator[str]:
    """Names of rows and columns, and faint lines between all places of wells."""
    for column in range(0, columns, 1 if side > 18 else 2 if side > 9 else 4):
        yield f'<text class="x" x="{LEFT + (column + 0.5) * side:.1f}" y="{TOP - 5:g}">{column + 1}</text>'
    for row in range(0, rows, 1 if side > 11 else 2):
        yield f'<text class="y" x="{LEFT - 5:g}" y="{TOP + (row + 0.5) * side + 4:.1f}">{row_name(row)}</text>'
    across = "".join(f"M{LEFT:g} {TOP + row * side:.1f}h{columns * side:.1f}" for row in range(rows + 1))
    down = "".join(f"M{LEFT + column * side:.1f} {TOP:g}v{rows * side:.1f}" for column in range(columns + 1))
    yield f'<path class="grid" d="{across}{down}"/>'


def _square(well: Well, side: float, most: int) -> str:
    """Square of a well; `most` are the cells of the well with the most."""
    row, column = parse_well(well.name)
    gap = side * 0.1
    x, y, width = LEFT + column * side + gap, TOP + row * side + gap, side - 2 * gap
    look = f' class="c{RIMS[well.state]}" stroke="currentColor" stroke-width="{gap:.1f}"' if well.state in RIMS else ""
    if well.cells is not None:
        look += f' fill="{SHADES[min(well.cells * len(SHADES) // most, len(SHADES) - 1)]}"'
    elif well.state == "done":
        look += f' class="bar c{BLUE}"'
    else:
        look += ' fill="none"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{width:.1f}"{look}><title>{well.tip}</title></rect>'
    )
