"""Trace tables of one FOV, from one file or from several that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.tables import FEATURE
from pyama_dask.analysis.trace_tables import inspected, read_columns, read_traces_csv
from pyama_dask.errors import TableError
from pyama_dask.store.layout import IMAGES
from pyama_dask.store.trace_csv import BASE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TraceFile:
    """A table of traces of a FOV."""

    path: Path
    """What is read."""
    channel: int | None = None
    """Of its features; None where they say it themselves."""
    original: Path | None = None
    """What `path` is an inspected copy of."""

    @classmethod
    def of(cls, path: Path, channel: int | None = None) -> TraceFile:
        """Take the copy that a person has gone through, if there is one."""
        taken = inspected(path)
        return cls(taken, channel, path if path != taken and path.exists() else None)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, as they are when it is read."""
        if self.channel is None:
            return tuple(read_columns(self.path))
        return tuple(read_traces_csv(self.path, channel=self.channel).columns)


@dataclass(frozen=True)
class Source:
    """The traces of a FOV, or why there are none to go on with."""

    fov: int
    directory: Path
    """Of the FOV, whether it is there or not."""
    files: tuple[TraceFile, ...] = ()
    """One of all channels, or one a channel."""
    problem: str | None = None
    """Why its traces cannot be used."""
    notes: tuple[str, ...] = ()
    """What is to be said of them though they can."""
    interval: float | None = None
    """Minutes between frames, for tables without times, where no images say them."""
    units: float = 1.0
    """Minutes of a unit of the tables' times."""
    remedy: str = "add the column"
    """What to do about times that are nowhere."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of all of its tables."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.columns))

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of features."""
        return tuple(name for name in self.columns if FEATURE.fullmatch(name))

    @property
    def others(self) -> tuple[str, ...]:
        """Columns that are neither features, nor those of all traces."""
        return tuple(name for name in self.columns if name not in (*BASE_COLUMNS, *self.features))

    def read(self) -> tuple[pd.DataFrame, list[str]]:
        """Read its traces as one table, with times in minutes, and what is to be said of inspected copies.

        Raises
        ------
        TableError
            If a table cannot be read, is of another FOV, or says something else than another one of the FOV.
        """
        tables, said = [], []
        for file in self.files:
            table = self._read(file)
            tables.append((file.path, table))
            if file.original and not _same_cells(table, self._in_minutes(read_traces_csv(file.original, minutes=0))):
                said.append(
                    f"{file.path.name} has rows that the traces have not, which were made anew since; look through "
                    "them again"
                )
        return (tables[0][1] if len(tables) == 1 else joined(tables)), said

    def _read(self, file: TraceFile) -> pd.DataFrame:
        has_times = "time" in file.columns
        table = read_traces_csv(file.path, channel=file.channel, minutes=None if has_times else self._times(file))
        if not (table["fov"] == self.fov).all():
            raise TableError(f"{file.path}: has rows of another FOV than {self.fov}; put it where it belongs")
        return self._in_minutes(table) if has_times else table

    def _in_minutes(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(time=table["time"] * self.units) if self.units != 1 else table

    def _times(self, file: TraceFile) -> dict[int, float] | float:
        """Minutes of the frames, for traces that do not say them."""
        images = self.directory / IMAGES
        try:
            return dict(enumerate(read_attributes(images)["times_min"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            if self.interval is not None:
                return self.interval
            raise TableError(
                f"{file.path}: has no column 'time', and {images} does not say the times of the frames either; "
                f"{self.remedy}"
            ) from error


def read_attributes(images: Path) -> dict[str, Any]:
    """Attributes of a group or array of a store."""
    from pyama_dask.store import arrays  # noqa: PLC0415  (it loads zarr, which hardly any merge needs)

    return arrays.read_attributes(images)


def _same_cells(table: pd.DataFrame, original: pd.DataFrame) -> bool:
    """Whether a copy has no rows but those of what it was copied from."""
    key = ["cell", "frame" if "frame" in table and "frame" in original else "time"]
    return set(table[key].itertuples(index=False, name=None)) <= set(original[key].itertuples(index=False, name=None))


def joined(tables: Sequence[tuple[Path, pd.DataFrame]]) -> pd.DataFrame:
    """Put the tables of the channels of a FOV side by side, row by row of the same cell and frame.

    What more than one of them says must be the same; a row is good if it is so in each that has it.

    Raises
    ------
    TableError
        If two say something else of the same row, or they have neither frames nor times in common.
    """
    import pandas as pd  # noqa: PLC0415

    last = next((name for name in ("frame", "time") if all(name in table for _, table in tables)), None)
    if last is None:
        raise TableError(
            f"{tables[0][0]}: has no column in common with {tables[1][0].name}, 'frame' or 'time'; add one"
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
    """Values of a column, none of which is another than what was said before."""
    differ = before.notna() & values.notna() & (before != values)
    if differ.any():
        (_, cell, when), name = differ.index[int(differ.to_numpy().argmax())], values.name
        raise TableError(
            f"{path}: cell {cell}, {differ.index.names[2]} {when:g}: {name} is {values[differ].iloc[0]}, but "
            f"{before[differ].iloc[0]} in another table of the FOV; tables of one FOV must agree on what both have"
        )
    return values
