"""Wells of a plate: selections such as ``B02, C03:D05, row:E, col:1-6``, plate formats, and maps of plates as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import dist
from typing import NamedTuple

from pyama_dask.config.units import quoted
from pyama_dask.config.well_names import parse_well, row_name, well_name

FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of plates with 6, 12, 24, 48, 96, 384 and 1536 wells."""
WIDEST = 24
"""Most columns that are drawn with a number above each."""
_PARTS = {
    re.compile(r"row:([A-Z]{1,2})(?:-([A-Z]{1,2}))?", re.IGNORECASE | re.ASCII): ("{}1", "{}99"),
    re.compile(r"col:0*([1-9]\d?)(?:-0*([1-9]\d?))?", re.IGNORECASE | re.ASCII): ("A{}", "ZZ{}"),
    re.compile(r"([A-Z]+\d+)(?::([A-Z]+\d+))?", re.IGNORECASE | re.ASCII): ("{}", "{}"),
    re.compile("(all)", re.IGNORECASE): ("A1", "ZZ99"),
}
"""Parts of a selection, and its first and last well as formats of what they name."""
HOW = "Fix: write 'all', or wells and ranges such as 'B02, C03:D05, row:E, col:1-6'"


class Block(NamedTuple):
    """Rectangle of wells that one part of a selection names; rows and columns from 0, limits included."""

    text: str
    first: tuple[int, int]
    last: tuple[int, int]

    def holds(self, row: int, column: int) -> bool:
        """True if a well is in the block; row and column from 0."""
        return self.first[0] <= row <= self.last[0] and self.first[1] <= column <= self.last[1]


def select_wells(text: str, wells: Iterable[str]) -> list[str]:
    """Choose wells of a plate.

    Parameters
    ----------
    text
        ``all``, or wells (``B02``), rectangles (``C03:D05``), rows (``row:E``, ``row:A-C``) and columns (``col:3``,
        ``col:1-6``), separated by commas, in any case; see `parse_wells`.
    wells
        Names of the wells on the plate.

    Returns
    -------
    The names in `wells` that are chosen, each once: by row, then by column.

    Raises
    ------
    ValueError
        If the text is no selection, names a well that is not on the plate, or has a part without any well.
    """
    places = {parse_well(name): name for name in wells}
    chosen: set[tuple[int, int]] = set()
    for block in parse_wells(text):
        inside = {place for place in places if block.holds(*place)}
        if not inside:
            raise ValueError(_not_there(block, places))
        chosen |= inside
    return [places[place] for place in sorted(chosen)]


def parse_wells(text: str) -> list[Block]:
    """Parse a selection of wells without a plate.

    Parameters
    ----------
    text
        See `select_wells`.

    Raises
    ------
    ValueError
        If the text is no selection.
    """
    return [_block("".join(part.split())) for part in text.split(",")]


def plate_format(wells: Iterable[str], stated: Sequence[int] | None = None) -> tuple[int, int]:
    """Rows and columns of a plate.

    Parameters
    ----------
    wells
        Names of wells that it must have.
    stated
        Rows and columns as the movie states them; None if it does not.

    Returns
    -------
    What is stated if that has all the wells, else the smallest usual plate that has them.
    """
    rows, columns = (max(ends) + 1 for ends in zip((0, 0), *map(parse_well, wells), strict=True))
    sizes = ((stated[0], stated[1]), *FORMATS) if stated else FORMATS
    return next((size for size in sizes if rows <= size[0] and columns <= size[1]), (rows, columns))


def draw_plate(
    marks: Mapping[str, str],
    *,
    stated: Sequence[int] | None = None,
    legend: Mapping[str, str] | None = None,
    empty: str = ".",
) -> str:
    """Draw a plate as text, a line per row, at most 75 characters wide.

    Parameters
    ----------
    marks
        One character per well, by name.
    stated
        Rows and columns of the plate as the movie states them; see `plate_format`.
    legend
        Meaning of the marks; a last line has those that occur.
    empty
        Mark of all other wells.

    Returns
    -------
    Lines without a line break at the end. Plates with more than 24 columns have one character per column, below its
    number in two lines.
    """
    rows, columns = plate_format(marks, stated)
    by_place = {parse_well(name): mark for name, mark in marks.items()}
    grid = [[by_place.get((row, column), empty) for column in range(columns)] for row in range(rows)]
    heads: list[Sequence[object]] = [range(1, columns + 1)] if columns <= WIDEST else _digits(columns)
    width = 3 if columns <= WIDEST else 1
    named = [*(("", head) for head in heads), *((row_name(row), line) for row, line in enumerate(grid))]
    lines = [f"{name:>2} " + "".join(f"{mark:>{width}}" for mark in line) for name, line in named]
    meanings = [f"{mark} {meaning}" for mark, meaning in (legend or {}).items() if any(mark in line for line in grid)]
    return "\n".join(line.rstrip() for line in (*lines, *(["   " + "   ".join(meanings)] if meanings else [])))


def _digits(columns: int) -> list[Sequence[object]]:
    """Tens and ones of the numbers of columns."""
    tens, ones = zip(*(f"{column:>2}" for column in range(1, columns + 1)), strict=True)
    return [tens, ones]


def _block(part: str) -> Block:
    matches = ((pattern.fullmatch(part), ends) for pattern, ends in _PARTS.items())
    match, ends = next(((match, ends) for match, ends in matches if match), (None, ("", "")))
    if match is None:
        raise ValueError(f"{quoted(part)} is neither a well nor a range of wells. {HOW}")
    named = match[1], match[match.lastindex or 1]
    first, last = (parse_well(end.format(name)) for end, name in zip(ends, named, strict=True))
    if first[0] > last[0] or first[1] > last[1]:
        raise ValueError(f"range {part!r} runs backwards. Fix: put its first row and column first")
    return Block(part, first, last)


def _not_there(block: Block, places: Mapping[tuple[int, int], str]) -> str:
    """Message that no well of the plate is in a block."""
    if block.first != block.last or not places:
        return f"no well of the plate is in {block.text!r}. Fix: choose wells that 'pyama-dask inspect' shows"
    name, nearest = well_name(*block.first), min(sorted(places), key=lambda place: dist(place, block.first))
    return f"well {name} is not on the plate; the nearest is {places[nearest]}. Fix: choose a well of the plate"
