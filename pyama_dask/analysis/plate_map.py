"""Plate maps: CSV files with the conditions of wells, such as drug and dose."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.analysis.samples import Samples, parse_samples
from pyama_dask.analysis.tables import FEATURE, TIDY
from pyama_dask.config.units import quoted
from pyama_dask.config.well_names import parse_well
from pyama_dask.errors import ConfigError
from pyama_dask.files.checked_csv import CsvText
from pyama_dask.runs.plate import normal_name
from pyama_dask.store.trace_csv import BASE_COLUMNS, PLACE_COLUMNS, TRACK_COLUMNS

_TAKEN = {"sample", "movie", *BASE_COLUMNS, *TRACK_COLUMNS, *PLACE_COLUMNS, *TIDY}
"""Columns of tables that a condition cannot be called."""
_NO_FILE_NAME = re.compile(r'[\x00-\x1f\x7f\ud800-\udfff/\\:*?"<>|]')


@dataclass(frozen=True)
class PlateMap:
    """Conditions of the wells of a plate."""

    path: Path
    columns: tuple[str, ...]
    """Names of the conditions."""
    wells: Mapping[str, tuple[str, ...]]
    """Values of the conditions as text, by well; a missing value is empty, and wells without any are left out."""

    @property
    def text_columns(self) -> list[str]:
        """Conditions with a value that is not a number."""
        return [name for k, name in enumerate(self.columns) if not self._is_number(k)]

    def of(self, well: str | None) -> dict[str, Any]:
        """Values of the conditions in a well: numbers, or text; NaN or None where it is missing."""
        values = self.wells.get(normal_name(well) or "", ("",) * len(self.columns))
        found: dict[str, Any] = {}
        for k, (name, value) in enumerate(zip(self.columns, values, strict=True)):
            found[name] = (float(value) if value else math.nan) if self._is_number(k) else value or None
        return found

    def samples(self, there: Collection[str]) -> Samples:
        """One sample for each combination of conditions, in the order of the wells.

        Its name joins the values; numbers have the name of their condition in front, such as ``DMSO_dose10``.

        Parameters
        ----------
        there
            Wells of the output.

        Raises
        ------
        ConfigError
            If two combinations would have the same name.
        """
        groups: dict[tuple[str, ...], list[str]] = {}
        for well in sorted(_as_wells(there), key=parse_well):
            if well in self.wells:
                groups.setdefault(self.wells[well], []).append(well)
        items = [{"name": self._name(values), "wells": ", ".join(wells)} for values, wells in groups.items()]
        return parse_samples({"samples": items}, str(self.path))

    def notes(self, there: Collection[str]) -> Iterator[str]:
        """Wells that only the map or only the output has.

        Parameters
        ----------
        there
            Wells of the output.

        Raises
        ------
        ConfigError
            If they have no well in common.
        """
        there = _as_wells(there)
        if not there.intersection(self.wells):
            has = f"has {_few(there)}" if there else "has no wells"
            raise ConfigError(f"{self.path}: has conditions of no well of the output, which {has}. Fix: check the file")
        if others := [well for well in self.wells if well not in there]:
            yield f"{self.path.name}: has wells that are not in the output: {_few(others)}"
        if without := [well for well in there if well not in self.wells]:
            yield f"{self.path.name}: has no conditions for these wells of the output: {_few(without)}"

    def _is_number(self, column: int) -> bool:
        values = [values[column] for values in self.wells.values() if values[column]]
        return bool(values) and all(map(_is_number, values))

    def _name(self, values: Sequence[str]) -> str:
        parts = [
            f"{name}{value}" if self._is_number(k) else value
            for k, (name, value) in enumerate(zip(self.columns, values, strict=True))
            if value
        ]
        return _NO_FILE_NAME.sub("-", "_".join(parts)).lstrip(".").strip()


def load_plate_map(path: Path) -> PlateMap:
    """Read a plate map: a CSV with a column ``well``, and one column for each condition.

    Wells are named in any form, such as ``B02`` or ``b2``. A row without any condition is an empty well.

    Raises
    ------
    TableError
        If the file cannot be read, names something that is no well, or a well twice; the message names the line.
    ConfigError
        If it has no conditions, or one is called like a column of the merged tables.
    """
    read = CsvText.read(path, {"Well": "well", "WELL": "well"}, missing=("",))
    read.needs("well")
    columns = tuple(name for name in read.names if name != "well")
    if not columns:
        raise ConfigError(f"{path}: has no conditions. Fix: add a column such as 'drug' beside 'well'")
    for name in columns:
        if not name or name in _TAKEN or FEATURE.fullmatch(name):
            raise ConfigError(f"{path}: a condition cannot be called {quoted(name)}. Fix: rename the column")
    names = [normal_name(name) for name in read.text("well")]
    unknown = np.array([name is None for name in names], bool)
    read.refuse_rows(unknown, "well", "is not a well such as 'B02'. Fix: correct it")
    again = np.array([name in names[:k] for k, name in enumerate(names)], bool)
    read.refuse_rows(again, "well", "has a line already. Fix: keep one")
    values = zip(*([(value or "").strip() for value in read.text(name)] for name in columns), strict=True)
    return PlateMap(path, columns, {str(well): of for well, of in zip(names, values, strict=True) if any(of)})


def _as_wells(names: Iterable[str]) -> set[str]:
    return {well for name in names if (well := normal_name(name)) is not None}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _few(wells: Collection[str]) -> str:
    """First names of a list, and how many more there are."""
    names = sorted(wells, key=parse_well)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
