"""Tables of traces: one row per cell and frame."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.tables import (
    _WHOLE,
    FEATURE,
    OLDER_NAMES,
    _column,
    _fov_of,
    _frame,
    _times,
    cell_key,
)
from pyama_dask.errors import TableError
from pyama_dask.files.atomic import open_file, replacing, write_bytes
from pyama_dask.files.checked_csv import CsvText, split_names
from pyama_dask.store.trace_csv import BASE_COLUMNS, TRACK_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


INSPECTED = "_inspected"
"""Suffix of an inspected copy of a trace file, before the extension."""


def inspected(path: Path) -> Path:
    """Return the inspected copy beside a trace file if there is one, else the file."""
    copy = path.with_name(f"{path.stem}{INSPECTED}{path.suffix}")
    return copy if copy.exists() else path


def read_traces_csv(
    path: str | Path,
    *,
    channel: int | None = None,
    minutes: float | Mapping[int, float] | None = None,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read a processing CSV: one row per cell and frame.

    Besides this program's files, these are accepted: files without ``time``, boxes, ``good`` (all rows are good) or
    ``fov`` (taken from the file name, such as ``movie_fov_003_traces.csv``); with ``time`` but without ``frame``; with
    the older names ``cell_id``, ``x_centroid`` and ``y_centroid``; and files of one channel whose feature names do not
    include the channel.

    Parameters
    ----------
    path
        The file.
    channel
        Channel of features without one in their names: ``intensity_total`` becomes ``intensity_total_ch_1``.
    minutes
        Times of the frames, for a file without ``time``: the minutes between frames, or one value per frame. If None,
        the table has no ``time`` either.
    names
        Other names for some columns.

    Returns
    -------
    Table with the available `BASE_COLUMNS`, then all others. ``fov``, ``cell`` and ``frame`` are int64, ``good`` is
    bool, and all others are float64, except text columns that are not features.

    Raises
    ------
    TableError
        If the file is unreadable or not a trace table; the message names the line or column.
    """
    read = CsvText.read(path, OLDER_NAMES)
    read.needs("cell")
    if not {"frame", "time"} & set(read.names):
        read.refuse("has neither a column 'frame' nor 'time'. Fix: add one")
    columns = {name: _column(read, name) for name in read.names}
    if "fov" not in columns:
        columns["fov"] = np.full(len(read), _fov_of(read.path))
    columns.setdefault("good", np.ones(len(read), bool))
    if "time" not in columns and minutes is not None:
        columns["time"] = _times(read, columns["frame"], minutes)
    columns = {(names or {}).get(name, name): values for name, values in columns.items()}
    if channel is not None:
        columns = {_with_channel(name, values, channel): values for name, values in columns.items()}
    order = [*(name for name in BASE_COLUMNS if name in columns), *(n for n in columns if n not in BASE_COLUMNS)]
    table = _frame({name: columns[name] for name in order})
    key = [*cell_key(table), "frame" if "frame" in columns else "time"]
    read.refuse_rows(table.duplicated(key).to_numpy(), key[-1], "appears twice for the same cell")
    return table


def write_traces_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a trace table with full precision, so that `read_traces_csv` returns an equal one."""
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())


def read_columns(path: Path) -> list[str]:
    """Column names of a CSV, with current names for older ones; reads only its header."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            head = next((line for line in file if line.strip() and not line.startswith("#")), "")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    return [OLDER_NAMES.get(name, name) for name in split_names(head)]


def frame_numbers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Frames of the rows in a FOV's traces; without a frame column, indices of the times at which any cell was seen."""
    if "frame" in table:
        return table["frame"].to_numpy(np.int64)
    return np.unique(table["time"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def mothers_of(table: pd.DataFrame) -> dict[int, int]:
    """Mothers of divided cells in the traces of a FOV, by daughter; a mother may have no rows."""
    if "parent" not in table or table["parent"].dtype.kind != "i":
        return {}
    born = table[table["parent"] > 0].drop_duplicates("cell")
    return dict(zip(born["cell"].tolist(), born["parent"].tolist(), strict=True))


def _with_channel(name: str, values: npt.NDArray[Any], channel: int) -> str:
    is_feature = (
        name not in (*BASE_COLUMNS, *TRACK_COLUMNS) and values.dtype.kind == "f" and not FEATURE.fullmatch(name)
    )
    return f"{name}_ch_{channel}" if is_feature else name


class ParquetFile:
    """A Parquet file that grows table by table, one row group each.

    Columns are ``sample``, ``movie`` and ``well`` (text), `BASE_COLUMNS`, and features (float64); missing values are
    null.

    Parameters
    ----------
    writer
        Open pyarrow writer.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    @contextmanager
    def writing(cls, path: Path, columns: Sequence[str], text: Collection[str] = ()) -> Iterator[ParquetFile]:
        """Yield a writer whose file is moved into place at the end of the block, if it is complete.

        Parameters
        ----------
        path
            The file.
        columns
            All columns.
        text
            Further columns of text.
        """
        import pyarrow as pa  # noqa: PLC0415  (takes long to import)
        from pyarrow import parquet  # noqa: PLC0415  (takes long to import)

        flags = dict.fromkeys(("good", "filled"), pa.bool_())
        whole = dict.fromkeys((*_WHOLE, "parent", "site", "tile"), pa.int64())
        types = dict.fromkeys(("sample", "movie", "well", *text), pa.string()) | flags | whole
        schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns], {"time_units": "min"})
        with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield cls(writer)

    def add(self, table: pd.DataFrame) -> None:
        """Write the rows of a table; columns that the file lacks are dropped."""
        import pyarrow as pa  # noqa: PLC0415  (takes long to import)

        schema = self._writer.schema
        there = [pa.field(one.name, one.type) for one in schema if one.name in table.columns]
        rows = pa.Table.from_pandas(table, schema=pa.schema(there), preserve_index=False)
        columns = [rows[one.name] if one.name in table.columns else pa.nulls(len(table), one.type) for one in schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))
