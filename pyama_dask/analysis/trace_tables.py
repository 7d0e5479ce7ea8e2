"""Tables of traces: one row per cell and frame."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.tables import _WHOLE, FEATURE, OLDER_NAMES, _column, _fov_of, _frame, _times
from pyama_dask.errors import TableError
from pyama_dask.files.atomic import open_file, replacing, write_bytes
from pyama_dask.files.checked_csv import CsvText, split_names
from pyama_dask.store.trace_csv import BASE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


INSPECTED = "_inspected"
"""What the name of a trace file ends with when a person has gone through it."""


def inspected(path: Path) -> Path:
    """Give the copy of a trace file that a person has gone through, if there is one beside it; else the file."""
    copy = path.with_name(f"{path.stem}{INSPECTED}{path.suffix}")
    return copy if copy.exists() else path


def read_traces_csv(
    path: str | Path, *, channel: int | None = None, minutes: float | Mapping[int, float] | None = None
) -> pd.DataFrame:
    """Read a processing CSV: one row a cell and frame.

    Understood are, beside what this program writes: files without ``time``, without boxes, without ``good`` (all are),
    without ``fov`` (as in the file's name, such as ``movie_fov_003_traces.csv``), with ``time`` but without ``frame``;
    the older names ``cell_id``, ``x_centroid`` and ``y_centroid``; and files of one channel, whose features have
    no channel in their name.

    Parameters
    ----------
    path
        The file.
    channel
        Channel of the features that do not say it: ``intensity_total`` becomes ``intensity_total_ch_1``.
    minutes
        Time of the frames, for a file without ``time``: the minutes between them, or of each. Without it, the
        table has no ``time`` either.

    Returns
    -------
    Table with those of `BASE_COLUMNS` that there are, then all others. ``fov``, ``cell`` and ``frame`` are int64,
    ``good`` is bool, and all others are float64, except for columns of text that are no features.

    Raises
    ------
    TableError
        If the file cannot be read, or is no table of traces; names the line or column.
    """
    read = CsvText.read(path, OLDER_NAMES)
    read.needs("cell")
    if not {"frame", "time"} & set(read.names):
        read.refuse("has neither a column 'frame' nor 'time'; tables of traces have one of them at least")
    columns = {name: _column(read, name) for name in read.names}
    if "fov" not in columns:
        columns["fov"] = np.full(len(read), _fov_of(read.path))
    columns.setdefault("good", np.ones(len(read), bool))
    if "time" not in columns and minutes is not None:
        columns["time"] = _times(read, columns["frame"], minutes)
    if channel is not None:
        columns = {_with_channel(name, values, channel): values for name, values in columns.items()}
    order = [*(name for name in BASE_COLUMNS if name in columns), *(n for n in columns if n not in BASE_COLUMNS)]
    table = _frame({name: columns[name] for name in order})
    key = ["fov", "cell", "frame" if "frame" in columns else "time"]
    read.refuse_rows(table.duplicated(key).to_numpy(), key[-1], "stands there a second time for the same cell")
    return table


def write_traces_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table of traces with every digit, so that `read_traces_csv` gives an equal one."""
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())


def read_columns(path: Path) -> list[str]:
    """Names of the columns of a CSV, older ones as they are now; reads no more than its head."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            head = next((line for line in file if line.strip() and not line.startswith("#")), "")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    return [OLDER_NAMES.get(name, name) for name in split_names(head)]


def frame_numbers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Frames of the rows of a FOV's traces; of a table with times only, the frames in which any cell was seen."""
    if "frame" in table:
        return table["frame"].to_numpy(np.int64)
    return np.unique(table["time"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def _with_channel(name: str, values: npt.NDArray[Any], channel: int) -> str:
    is_feature = name not in BASE_COLUMNS and values.dtype.kind == "f" and not FEATURE.fullmatch(name)
    return f"{name}_ch_{channel}" if is_feature else name


class ParquetFile:
    """A Parquet file that grows table by table, in a row group each.

    Columns are ``sample`` (text), those of `BASE_COLUMNS`, and features (float64); what a table lacks is null.

    Parameters
    ----------
    writer
        Of pyarrow.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    @contextmanager
    def writing(cls, path: Path, columns: Sequence[str]) -> Iterator[ParquetFile]:
        """Write a file that takes its place at the end of the block, whole or not at all."""
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        types = {"sample": pa.string(), "good": pa.bool_()} | dict.fromkeys(_WHOLE, pa.int64())
        schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns], {"time_units": "min"})
        with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield cls(writer)

    def add(self, table: pd.DataFrame) -> None:
        """Write the rows of a table; columns that the file does not have are left out."""
        import pyarrow as pa  # noqa: PLC0415

        schema = self._writer.schema
        there = [pa.field(one.name, one.type) for one in schema if one.name in table.columns]
        rows = pa.Table.from_pandas(table, schema=pa.schema(there), preserve_index=False)
        columns = [rows[one.name] if one.name in table.columns else pa.nulls(len(table), one.type) for one in schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))
