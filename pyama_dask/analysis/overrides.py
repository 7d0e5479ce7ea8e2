"""Manual overrides (``good.yaml``) of the ``good`` column; trace files stay unchanged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import StrictBool

from pyama_dask.analysis.given_outputs import MovieName, movie_name
from pyama_dask.analysis.trace_tables import frame_numbers
from pyama_dask.config.base import Model
from pyama_dask.config.fov_selection import FovSelection, chosen_fovs, is_numbers
from pyama_dask.config.load import config_text
from pyama_dask.config.messages import named_keys
from pyama_dask.config.units import Selection, as_ranges, parse_selection
from pyama_dask.config.yaml_text import dump_yaml, parse_yaml
from pyama_dask.errors import ConfigError
from pyama_dask.files.atomic import writable, write_bytes
from pyama_dask.runs.plate import recorded_places

if TYPE_CHECKING:
    import pandas as pd

GOOD = "good.yaml"
"""Default file of overrides in the output."""


class Override(Model):
    """Rows that are set good or bad."""

    movie: MovieName | None = None
    """Output of the movie, in a file for several of them, or ``all``; may be left out in the file of one output."""
    fov: FovSelection
    cells: Selection
    frames: Selection = "all"
    good: StrictBool
    note: str = ""
    """Free text for readers."""

    def is_of(self, movie: str) -> bool:
        """True if the override applies to a movie."""
        return self.movie in (None, "all", movie)

    def of(self, fov: int) -> bool:
        """True if the override applies to a FOV."""
        return self.fov == "all" or fov in parse_selection(self.fov)


class _Document(Model):
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class Overrides:
    """Contents of a ``good.yaml``; later overrides take precedence."""

    source: str = GOOD
    items: tuple[Override, ...] = ()
    movie: str = ""
    """Name of the output to which they are applied; overrides of other movies do not count."""

    def apply(self, table: pd.DataFrame, fov: int) -> Applied:
        """Set ``good`` in the traces of a FOV, and report named cells and frames that do not exist."""
        good, applied = table["good"].to_numpy(bool).copy(), Applied(table)
        cells, frames = table["cell"].to_numpy(), frame_numbers(table)
        for number, item in enumerate(self.items):
            if not (item.is_of(self.movie) and item.of(fov)):
                continue
            rows = _chosen(cells, item.cells) & _chosen(frames, item.frames)
            good[rows] = item.good
            applied.cells.update(cells[rows].tolist())
            where = f"{self.source}: overrides.{number}: FOV {fov}"
            applied.warnings += [f"{where} {what}" for what in _not_there(item, cells, frames, rows)]
        applied.table = table.assign(good=good) if applied.cells else table
        return applied

    def unknown_fovs(self, known: Collection[int]) -> Iterator[str]:
        """Notes on overrides for unknown FOVs."""
        for number, item in enumerate(self.items):
            named = [] if item.fov == "all" or not item.is_of(self.movie) else parse_selection(item.fov)
            if gone := [fov for fov in named if fov not in known]:
                yield f"{self.source}: overrides.{number}: the output has no FOV {as_ranges(gone)}"


@dataclass
class Applied:
    """Traces of a FOV with its overrides applied."""

    table: pd.DataFrame
    cells: set[int] = field(default_factory=set)
    """Cells with overridden rows."""
    warnings: list[str] = field(default_factory=list)


def _chosen(values: np.ndarray, selection: str) -> np.ndarray:
    return np.ones(len(values), bool) if selection == "all" else np.isin(values, parse_selection(selection))


def _not_there(item: Override, cells: np.ndarray, frames: np.ndarray, rows: np.ndarray) -> Iterator[str]:
    """Named cells and frames that a FOV lacks; ``fov: all`` is ignored, because other FOVs may have them."""
    if item.fov == "all":
        return
    found = False
    for what, values, selection in (("cell", cells, item.cells), ("frame", frames, item.frames)):
        known = set(values.tolist())
        if selection != "all" and (gone := [k for k in parse_selection(selection) if k not in known]):
            found = True
            yield f"has no {what} {as_ranges(gone)}"
    if not rows.any() and not found:
        yield f"has no rows of cell {item.cells} in frame {item.frames}"


def load_overrides(output: Path, path: Path | None = None) -> Overrides:
    """Read overrides from a file, or from the output's `GOOD` if that exists.

    Example: ``overrides: [{fov: 3, cells: "12, 15", good: false, note: "two cells"}, {fov: 4, cells: 7, frames:
    "0-20", good: false}]``. FOVs may be named, ``fov: B02 s1``.

    Raises
    ------
    ConfigError
        If the file is unreadable, a key or value is invalid, or a named FOV is not in the output; the message names
        every such key.
    """
    if path is None:
        path = output / GOOD
        if not path.exists():
            return Overrides()
    given, movie = _read(path), movie_name(output)
    items = tuple(_numbered(item, path, output) if item.is_of(movie) else item for item in given.items)
    return replace(given, items=items, movie=movie)


def movies_named(path: Path) -> list[str | None]:
    """Movies that the overrides in a file name, one for each of them; None where none is named.

    Raises
    ------
    ConfigError
        If the file is unreadable or invalid.
    """
    return [item.movie for item in _read(path).items]


def _numbered(item: Override, path: Path, output: Path) -> Override:
    """Override with numbers instead of names of FOVs."""
    if item.fov == "all" or is_numbers(item.fov):
        return item
    try:
        fovs = chosen_fovs(item.fov, recorded_places(output), output.name)
    except ValueError as error:
        raise ConfigError(f"{path}: fov: {error}") from error
    return item.model_copy(update={"fov": as_ranges(fovs)})


def _read(path: Path) -> Overrides:
    """Overrides as they are in a file."""
    document = parse_yaml(config_text(path), f"{path}: is not YAML")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold 'overrides:', such as 'overrides: [{{fov: 3, cells: 12, good: false}}]'")
    with named_keys(str(path), model=_Document):
        return Overrides(path.name, _Document.model_validate(document).overrides)


def write_overrides(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write overrides for further editing by hand, one per line.

    Raises
    ------
    ConfigError
        If the file already exists.
    OutputError
        If the file cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{path}: already exists. Fix: choose another file name")
    with writable(path):
        write_bytes(path, _text(rows).encode())


def set_override(path: Path, fov: int, cell: int, good: bool | None) -> None:
    """Set a whole cell good or bad in a file of overrides, or take that back; all else in the file stays as it is.

    A line about this cell alone is replaced, and its note kept; otherwise one is added at the end, where it takes
    precedence. A file that does not have one override per line is written again; it loses comments between overrides.

    Parameters
    ----------
    path
        File of overrides; created if it does not exist.
    fov, cell
        The cell.
    good
        None to remove the override of this cell.

    Raises
    ------
    ConfigError
        If the file is unreadable or invalid.
    OutputError
        If the file cannot be written.
    """
    items = _read(path).items if path.exists() else ()
    kept = [item for item in items if not _is_of(item, fov, cell)]
    note = next((item.note for item in items if item not in kept and item.note), "")
    mark = {"fov": fov, "cells": cell, "good": good} | ({"note": note} if note else {})
    marks = [] if good is None else [mark]
    rows = [item.model_dump(exclude_defaults=True) for item in kept] + marks
    before = config_text(path) if path.exists() else ""
    text = _edited(before, fov, cell, marks)
    if _items_of(text) != [Override.model_validate(row) for row in rows]:  # it is written in another way
        text = _leading_comments(before) + _text(rows)
    with writable(path):
        write_bytes(path, text.encode())


def _is_of(item: Override, fov: int, cell: int) -> bool:
    """True if an override is about all frames of this cell, and of no other one."""
    return (item.movie, item.fov, item.cells, item.frames) == (None, str(fov), str(cell), "all")


def _edited(text: str, fov: int, cell: int, marks: list[dict[str, Any]]) -> str:
    """Text without the lines of a cell, and with new ones; comments and everything else stay as they are."""
    kept = [line for line in text.splitlines() if not (str(cell) in line and _is_line_of(line, fov, cell))]
    indent = next((line[: len(line) - len(line.lstrip())] for line in kept if line.lstrip().startswith("- ")), "")
    if marks and "overrides: []" in kept:
        kept[kept.index("overrides: []")] = "overrides:"
    return "".join(f"{line}\n" for line in kept) + "".join(indent + _line(row) for row in marks)


def _is_line_of(line: str, fov: int, cell: int) -> bool:
    found = _items_of(f"overrides:\n{line}") if line.lstrip().startswith("- ") else None
    return bool(found) and all(_is_of(item, fov, cell) for item in found or ())


def _items_of(text: str) -> list[Override] | None:
    """Overrides in a text; None if it is invalid."""
    try:
        return list(_Document.model_validate(parse_yaml(text, "")).overrides)
    except (ConfigError, ValueError):
        return None


def _leading_comments(text: str) -> str:
    return "".join(f"{line}\n" for line in takewhile(lambda line: line.startswith("#"), text.splitlines()))


def _text(rows: Iterable[Mapping[str, Any]]) -> str:
    lines = [_line(row) for row in rows]
    return "overrides:\n" + "".join(lines) if lines else "overrides: []\n"


def _line(row: Mapping[str, Any]) -> str:
    inner = dump_yaml(dict(row), default_flow_style=True, width=2**20)
    return f"- {inner.strip()}\n"
