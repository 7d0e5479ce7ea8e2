"""Trace tables of one FOV, from one file or from several that agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.tables import FEATURE
from pyama_dask.analysis.trace_tables import inspected, read_columns, read_traces_csv
from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.errors import TableError
from pyama_dask.store.layout import IMAGES
from pyama_dask.store.trace_csv import BASE_COLUMNS, PLACE_COLUMNS, TRACK_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TraceFile:
    """A trace table of a FOV."""

    path: Path
    """Path of the table."""
    channel: int | None = None
    """Channel of its features; None if their names include it."""
    original: Path | None = None
    """Original file if `path` is an inspected copy, else None."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names, as of features, of columns that steps of a user's own have given."""

    @classmethod
    def of(cls, path: Path, channel: int | None = None, names: Mapping[str, str] | None = None) -> TraceFile:
        """Replace the file by its inspected copy, if there is one."""
        taken = inspected(path)
        return cls(taken, channel, path if path != taken and path.exists() else None, names or {})

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, with current names for older ones."""
        if self.channel is None:
            return tuple(self.names.get(name, name) for name in read_columns(self.path))
        return tuple(read_traces_csv(self.path, channel=self.channel).columns)


@dataclass(frozen=True)
class Source:
    """Traces of a FOV, or the reason why they cannot be used."""

    fov: int
    directory: Path
    """Folder of the FOV, which may not exist."""
    files: tuple[TraceFile, ...] = ()
    """One table for all channels, or one per channel."""
    problem: str | None = None
    """Reason why its traces cannot be used; None if they can."""
    notes: tuple[str, ...] = ()
    """Warnings about usable traces."""
    interval: float | None = None
    """Minutes between frames, for tables and images without times."""
    units: float = 1.0
    """Minutes per unit of the tables' times."""
    remedy: str = "add the column"
    """Fix for missing times, for messages."""
    place: FovPlace | None = None
    """Name, well and site of the FOV; None if they are unknown."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of all its tables."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.columns))

    @property
    def features(self) -> tuple[str, ...]:
        """Feature columns."""
        return tuple(name for name in self.columns if FEATURE.fullmatch(name))

    @property
    def others(self) -> tuple[str, ...]:
        """Columns that are neither features nor standard trace columns."""
        known = {*BASE_COLUMNS, *TRACK_COLUMNS, *PLACE_COLUMNS, *self.features}
        return tuple(name for name in self.columns if name not in known)

    def read(self) -> tuple[pd.DataFrame, list[str]]:
        """Read its traces as one table with times in minutes, and warnings about inspected copies.

        Raises
        ------
        TableError
            If a table is unreadable, belongs to another FOV, or contradicts another table of the same FOV.
        """
        tables, warnings = [], []
        for file in self.files:
            table = self._read(file)
            tables.append((file.path, table))
            if file.original and not _same_cells(table, self._in_minutes(read_traces_csv(file.original, minutes=0))):
                warnings.append(f"{file.path.name} has rows that the regenerated traces lack. Fix: inspect them again")
        return (tables[0][1] if len(tables) == 1 else joined(tables)), warnings

    def _read(self, file: TraceFile) -> pd.DataFrame:
        has_times = "time" in file.columns
        minutes = None if has_times else self._times(file)
        table = read_traces_csv(file.path, channel=file.channel, minutes=minutes, names=file.names)
        if not (table["fov"] == self.fov).all():
            raise TableError(
                f"{file.path}: has rows of another FOV than {self.fov}. Fix: move it to the folder of its FOV"
            )
        return self._in_minutes(table) if has_times else table

    def _in_minutes(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(time=table["time"] * self.units) if self.units != 1 else table

    def _times(self, file: TraceFile) -> dict[int, float] | float:
        """Minutes of the frames, for traces without times."""
        images = self.directory / IMAGES
        try:
            return dict(enumerate(attributes_of(images)["times_min"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            if self.interval is not None:
                return self.interval
            raise TableError(
                f"{file.path}: has no column 'time', and {images} lacks the times of frames, too. Fix: {self.remedy}"
            ) from error


def attributes_of(images: Path) -> dict[str, Any]:
    """Attributes of a group or array of a store."""
    from pyama_dask.store import arrays  # noqa: PLC0415  (imports zarr, which merging rarely needs)

    return arrays.read_attributes(images)


def _same_cells(table: pd.DataFrame, original: pd.DataFrame) -> bool:
    """True if all rows of a copy are rows of its original."""
    key = ["cell", "frame" if "frame" in table and "frame" in original else "time"]
    return set(table[key].itertuples(index=False, name=None)) <= set(original[key].itertuples(index=False, name=None))


def joined(tables: Sequence[tuple[Path, pd.DataFrame]]) -> pd.DataFrame:
    """Join the tables of a FOV's channels by cell and frame.

    Columns in several tables must agree; a row is good if it is good in each table that contains it.

    Raises
    ------
    TableError
        If two tables contradict each other, or share neither frames nor times.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    last = next((name for name in ("frame", "time") if all(name in table for _, table in tables)), None)
    if last is None:
        raise TableError(
            f"{tables[0][0]}: shares neither 'frame' nor 'time' with {tables[1][0].name}. Fix: add one of these columns"
        )
    key = ["fov", "cell", last]
    rows = pd.concat([table[key] for _, table in tables]).drop_duplicates().sort_values(key)
    index = pd.MultiIndex.from_frame(rows)
    columns: dict[Any, pd.Series[Any]] = {"good": pd.Series(True, index)}
    for path, table in tables:
        placed = table.drop(columns="good").set_index(key).reindex(index)
        columns["good"] &= table.set_index(key)["good"].reindex(index, fill_value=True)
        for name in placed:
            before = columns.setdefault(name, placed[name])
            columns[name] = before.where(before.notna(), _agreeing(before, placed[name], path))
    table = pd.DataFrame(columns).reset_index()
    order = [*(name for name in BASE_COLUMNS if name in table), *(name for name in table if name not in BASE_COLUMNS)]
    return table[order]


def _agreeing(before: pd.Series[Any], values: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """Values of a column, after a check against those of earlier tables."""
    differ = before.notna() & values.notna() & (before != values)
    if differ.any():
        (_, cell, when), name = differ.index[int(differ.to_numpy().argmax())], values.name
        raise TableError(
            f"{path}: cell {cell}, {differ.index.names[2]} {when:g}: {name} is {values[differ].iloc[0]}, but "
            f"{before[differ].iloc[0]} in another table of the FOV. Fix: make both tables agree"
        )
    return values
