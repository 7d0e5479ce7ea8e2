"""Reading and writing of tables: traces of cells, and values of one feature for analysis.

Input tables may come from older programs or a spreadsheet: they are checked value by value and converted to one form.
Written tables are read back equal.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import quoted
from pyama_dask.errors import TableError
from pyama_dask.files.atomic import write_bytes
from pyama_dask.files.checked_csv import LARGEST, CsvText
from pyama_dask.store.trace_csv import BASE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


TIDY = ("time", "fov", "cell", "value")
"""Columns of an analysis table."""
_NAMES = {
    1 / 60_000: ("ms", "msec", "millisecond", "milliseconds"),
    1 / 60: ("s", "sec", "second", "seconds"),
    1.0: ("min", "m", "minute", "minutes"),
    60.0: ("h", "hr", "hrs", "hour", "hours"),
    1440.0: ("d", "day", "days"),
}
MINUTES = {name: minutes for minutes, names in _NAMES.items() for name in names}
"""Minutes per unit of time."""
_UNITS = re.compile(r"(?i)#\s*time units?:\s*([^\s,]+)[\s,]*")
CHANNEL = "# Channel: "
"""Start of the comment that names a table's channel."""
_WHOLE = ("fov", "cell", "frame")
CELL = re.compile(r"(?:(?:fov_)?(\d{1,9})_(?:cell_)?)?(\d{1,9})")
"""Pattern of the columns of wide tables: FOV, if any, and cell."""
TEXT = ("movie", "well")
"""Columns of text, even if all of it looks like numbers."""
_PLACES = BASE_COLUMNS[5:]
"""Columns of pixels along an axis."""
_CONVERTED = {"filled": np.bool_} | dict.fromkeys(("parent", "site", "tile"), np.int64)
"""Types of columns that only some tables have."""
OLDER_NAMES = {"cell_id": "cell", "x_centroid": "position_x", "y_centroid": "position_y"}
"""Current names of renamed columns in older traces."""
FEATURE = re.compile(r'[^\x00-\x1f\x7f/\\:*?"<>|]+_ch_\d+')
"""Pattern of feature columns, ``{feature}_ch_{channel}``, with characters allowed in file names."""


def _column(read: CsvText, name: str) -> npt.NDArray[Any]:
    """Values of a column, converted to its type; unknown text columns stay text."""
    if name in _WHOLE:
        return read.whole(name)
    if name == "good":
        return read.flags(name)
    if name in TEXT:
        return read.text(name)
    if name in _CONVERTED:
        return _converted(name, read.plain(name))
    is_known = name in BASE_COLUMNS or name in TIDY or FEATURE.fullmatch(name)
    if not is_known:
        return read.plain(name)
    values = read.numbers(name, empty=name != "time")
    if name in _PLACES:
        read.refuse_rows(np.abs(values) > LARGEST, name, "is not a position in an image")
    return values


def _converted(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flags, ids and sites with their types; a column of that name with other values stays as it is."""
    fits = values.dtype.kind == "f" and bool((np.isfinite(values) & (values == np.floor(values))).all())
    return values.astype(_CONVERTED[name]) if fits else values


def _fov_of(path: Path) -> int:
    """FOV number in the name of a file or its folder."""
    for name in (path.name, path.parent.name):
        if found := re.findall(r"fov_?(\d{1,9})", name):
            return int(found[-1])
    raise TableError(
        f"{path}: has no column 'fov' and no FOV in its name. Fix: name it as in 'movie_fov_003_traces.csv'"
    )


def _times(read: CsvText, frames: npt.NDArray[Any], minutes: float | Mapping[int, float]) -> npt.NDArray[np.float64]:
    if not isinstance(minutes, Mapping):
        return frames * float(minutes)
    known = np.array([frame in minutes for frame in frames.tolist()], bool)
    read.refuse_rows(~known, "frame", "is a frame without a known time")
    return np.array([minutes[frame] for frame in frames.tolist()], float)


def read_analysis_csv(path: str | Path, units: str = "min", default_units: str | None = None) -> pd.DataFrame:
    """Read an analysis CSV, in tidy or wide form, as a tidy table.

    A tidy file has the columns ``time,fov,cell,value``; for wide files see `read_wide_csv`. Leading lines that begin
    with ``#`` are comments, such as ``# Time units: min``.

    Parameters
    ----------
    path
        The file.
    units
        Units of the returned times: ms, s, min, h or d.
    default_units
        Units of a file that does not state them.

    Returns
    -------
    Table with ``time`` (float64), ``fov``, ``cell`` (int64), ``value`` (float64, NaN if missing), then other columns.
    For a wide file, the rows with a value, sorted by FOV, cell and time.

    Raises
    ------
    TableError
        If the file is unreadable, states no units, or is not such a table; the message names the line or column.
    """
    read = CsvText.read(path, {})
    if "value" not in read.names:
        return as_tidy(_wide(read, units, default_units))
    read.needs(*TIDY)
    columns = {name: _column(read, name) for name in dict.fromkeys((*TIDY, *read.names))}
    columns["time"] = _in_units(read, columns["time"], units, default_units)
    return _frame(columns)


def write_analysis_csv(path: str | Path, table: pd.DataFrame, units: str = "min") -> None:
    """Write a tidy table with its units, so that `read_analysis_csv` returns an equal one.

    Parameters
    ----------
    path
        The file.
    table
        Table with the columns ``time,fov,cell,value``; others are not written.
    units
        Units of its times.
    """
    write_bytes(path, analysis_head(units) + analysis_rows(table))


def analysis_head(units: str = "min", others: Sequence[str] = (), channel: str = "") -> bytes:
    """First lines of a tidy analysis CSV; other columns follow the value.

    Parameters
    ----------
    units
        Units of the times: ms, s, min, h or d.
    others
        Further columns.
    channel
        Name of the channel in the movie, for a comment; '' if unknown.
    """
    named = f"{CHANNEL}{' '.join(channel.split())}\n" if channel.strip() else ""
    return f"{_comment(units)}{named}{','.join([*TIDY, *others])}\n".encode()


def analysis_rows(table: pd.DataFrame, others: Sequence[str] = ()) -> bytes:
    """Rows of a tidy analysis CSV, each number with the digits needed to read it back equal."""
    import pyarrow as pa  # noqa: PLC0415  (takes long to import)
    from pyarrow import csv as arrow_csv  # noqa: PLC0415  (takes long to import)

    held = io.BytesIO()
    rows = pa.Table.from_pandas(table[[*TIDY, *others]], preserve_index=False)
    arrow_csv.write_csv(rows, held, arrow_csv.WriteOptions(include_header=False))
    return held.getvalue()


def read_wide_csv(path: str | Path, units: str = "min", default_units: str | None = None) -> pd.DataFrame:
    """Read an analysis CSV in wide form: one row per time, one column per cell.

    Columns are named ``fov_003_cell_12`` or ``3_12``; a plain number is a cell of FOV 0. The first column is ``time``
    or unnamed.

    Parameters
    ----------
    path, units, default_units
        As for `read_analysis_csv`.

    Returns
    -------
    (times, cells) values, float64, NaN if missing; the index is ``time``, columns are pairs of FOV and cell.

    Raises
    ------
    TableError
        If the file is unreadable, states no units, or is not such a table; the message names the line or column.
    """
    return _wide(CsvText.read(path, {}), units, default_units)


def write_wide_csv(path: str | Path, wide: pd.DataFrame, units: str = "min") -> None:
    """Write a table in wide form, as from `as_wide`, so that `read_wide_csv` returns an equal one.

    Parameters
    ----------
    path
        The file.
    wide
        (times, cells) values; the index is ``time``, columns are pairs of FOV and cell.
    units
        Units of the times: ms, s, min, h or d.
    """
    named = wide.set_axis([f"fov_{fov:03d}_cell_{cell}" for fov, cell in _cells(wide)], axis="columns")
    write_bytes(path, (_comment(units) + named.to_csv(index_label="time", lineterminator="\n")).encode())


def cell_key(table: pd.DataFrame) -> list[str]:
    """Columns by which cells are told apart: FOV and cell, and in tables of several outputs the movie, too."""
    return [*(["movie"] if "movie" in table else []), "fov", "cell"]


def by_cell(table: pd.DataFrame) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Sort a tidy table by FOV, cell and time, or by movie first; return it, and the first row of each cell.

    Raises
    ------
    TableError
        If a cell has two values at one time.
    """
    key = cell_key(table)
    ordered = table.sort_values([*key, "time"], kind="stable", ignore_index=True)
    time = ordered["time"].to_numpy()
    begins = np.ones(len(ordered), bool)
    begins[1:] = np.any([of[1:] != of[:-1] for of in (ordered[name].to_numpy() for name in key)], axis=0)
    if (twice := ~begins[1:] & (time[1:] == time[:-1])).any():
        at = int(np.argmax(twice))
        *movie, fov, cell = (ordered[name].iloc[at] for name in key)
        where = "".join(f"{name}, " for name in movie)
        raise TableError(f"{where}FOV {fov}, cell {cell} has two values at time {time[at]:g}. Fix: keep one")
    return ordered, np.flatnonzero(begins)


def as_wide(table: pd.DataFrame) -> pd.DataFrame:
    """Convert a tidy table to wide form: times down, pairs of FOV and cell across, both sorted; gaps are NaN.

    Raises
    ------
    TableError
        If a cell has two values at one time, or the cells are of several movies.
    """
    by_cell(table)
    if "movie" in table and table["movie"].nunique() > 1:
        raise TableError("cells of several movies do not fit in one wide table. Fix: take one movie at a time")
    wide = table.pivot(index="time", columns=["fov", "cell"], values="value").sort_index(axis="columns")
    return _wide_frame(wide.index.to_numpy(), _cells(wide), wide.to_numpy())


def as_tidy(wide: pd.DataFrame) -> pd.DataFrame:
    """Convert a table in wide form to tidy form: all values by FOV, cell and time."""
    ordered = wide.sort_index(axis="index").sort_index(axis="columns")
    values = ordered.to_numpy().T
    there = ~np.isnan(values)
    cells = np.array(_cells(ordered), np.int64).reshape(-1, 2)
    number = np.nonzero(there)[0]
    times = np.broadcast_to(ordered.index.to_numpy(), values.shape)
    return _frame({
        "time": times[there], "fov": cells[number, 0], "cell": cells[number, 1], "value": values[there],
    })  # fmt: skip


def _wide(read: CsvText, units: str, default_units: str | None) -> pd.DataFrame:
    first, *others = read.names
    if first not in ("", "time", "Time"):
        read.refuse(
            f"begins with a column {quoted(first)}, unlike tables for analysis (time,fov,cell,value, or a first column "
            "time). Fix: merge traces with 'pyama-dask merge'"
        )
    cells = []
    for name in others:
        found = CELL.fullmatch(name)
        if found is None:
            read.refuse(f"column {quoted(name)} is not a cell. Fix: name it as in 'fov_003_cell_12'")
        cells.append((int(found[1] or 0), int(found[2])))
    if twice := [name for name, cell in zip(others, cells, strict=True) if cells.count(cell) > 1]:
        read.refuse(f"columns {', '.join(twice)} are the same cell. Fix: keep one")
    values = [read.numbers(name, empty=True) for name in others]
    times = _in_units(read, read.numbers(first, empty=False), units, default_units)
    return _wide_frame(times, cells, np.array(values, float).reshape(len(others), len(times)).T)


def _wide_frame(times: npt.NDArray[Any], cells: Iterable[tuple[int, int]], values: npt.NDArray[Any]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    fovs, numbers = np.array(list(cells), np.int64).reshape(-1, 2).T
    columns = pd.MultiIndex.from_arrays([fovs, numbers], names=["fov", "cell"])
    return pd.DataFrame(values, pd.Index(np.asarray(times, float), name="time"), columns, float)


def _cells(wide: pd.DataFrame) -> list[tuple[int, int]]:
    pairs: list[Any] = wide.columns.tolist()
    return [(int(fov), int(cell)) for fov, cell in pairs]


def _comment(units: str) -> str:
    _minutes_of(units)
    return f"# Time units: {units}\n"


def _minutes_of(units: str) -> float:
    if units.strip().lower() not in MINUTES:
        raise TableError(f"{quoted(units)}: is not a unit of time. Fix: use one of ms, s, min, h, d")
    return MINUTES[units.strip().lower()]


def _in_units(read: CsvText, times: npt.NDArray[Any], units: str, default_units: str | None) -> npt.NDArray[np.float64]:
    stated = [found[1] for line in read.comments if (found := _UNITS.fullmatch(line))] or [default_units or ""]
    if not stated[0]:
        read.refuse(
            "does not state the units of its times. Fix: begin it with a line '# Time units: min', if they are minutes"
        )
    if unknown := [name for name in stated if name.lower() not in MINUTES]:
        read.refuse(f"has times in {quoted(unknown[0])}, which is not a unit of time. Fix: use one of ms, s, min, h, d")
    if len({MINUTES[name.lower()] for name in stated}) > 1:
        read.refuse(
            f"has contradicting lines '# Time units: ...' in front: {', '.join(stated)}. Fix: keep the right one"
        )
    theirs, ours = MINUTES[stated[0].lower()], _minutes_of(units)
    return times if theirs == ours else times * (theirs / ours)


def _frame(columns: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    return pd.DataFrame(dict(columns))
