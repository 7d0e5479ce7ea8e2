"""Traces: one row per cell and frame, as a table and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.config.function_names import title_and_name
from pyama_dask.config.models import Config
from pyama_dask.files.atomic import TEMPORARY, longest_name, replacing, shortened
from pyama_dask.readers import movie_stem
from pyama_dask.workflow.task import fov_name

if TYPE_CHECKING:
    import pandas as pd

BASE_COLUMNS = (
    "fov", "cell", "frame", "time", "good",
    "position_x", "position_y", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1",
)  # fmt: skip

TRACK_COLUMNS = ("filled", "parent", "shift_y", "shift_x")
"""Columns after the features: with some trackers, whether a row's mask was moved from another frame, and the cell's
mother, or 0; with registered frames, the shift of the frame in pixels, whose two columns come first."""
PLACE_COLUMNS = ("well", "site", "tile")
"""Columns at the end: the well and site of a FOV, or its well and, in each row, the site that shows the cell best; 0 if
none does."""
TRACES, SHIFTS = "_traces.csv", "_shifts.csv"
"""Endings of the names of tables of traces, and of shifts of frames."""
ROWS_AT_ONCE = 2**12
"""Rows that are texts in memory together, which take several times as much of it as their numbers."""
SHIFTS_HEAD = "frame,time,shift_y,shift_x,measured"
"""First line of tables of shifts of frames."""


def feature_columns(config: Config) -> list[str]:
    """Names of the feature columns: phase first, then fluorescence by channel, features in config order."""
    chosen = [config.channels.pc] if config.channels.pc else []
    chosen += sorted(config.channels.fl, key=lambda choice: int(choice.channel))
    return [feature_column(name, int(choice.channel)) for choice in chosen for name in choice.features]


def columns_of_run(config: Config) -> set[str]:
    """Names of all columns that traces may have, but for those that steps of a user's own give."""
    return {*BASE_COLUMNS, *TRACK_COLUMNS, *PLACE_COLUMNS, *feature_columns(config)}


def feature_column(name: str, channel: int) -> str:
    """Column of a feature in a channel; features from a module or file are named by their title or function."""
    return f"{title_and_name(name)[0]}_ch_{channel}"


def trace_columns(
    rows: Sequence[dict[str, np.ndarray]],
    fov: int,
    times: np.ndarray,
    features: Sequence[str],
    mothers: Mapping[int, int] | None = None,
    place: Mapping[str, Any] | None = None,
    shifts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Join the rows of all blocks to the columns of one table.

    Parameters
    ----------
    rows
        For every block its columns ``cell``, ``frame``, ``bbox`` (N, 4) as (y0, x0, y1, x1), the features, and
        ``filled`` if gaps are filled.
    fov
        Number of the FOV.
    times
        (T,) minutes of the frames.
    features
        Columns of features, in their order.
    mothers
        Mother of each daughter, by id; None if the tracker finds no divisions.
    place
        Values of `PLACE_COLUMNS` for all rows, see `place_of`; None for a FOV outside of wells.
    shifts
        (T, 2) shifts y, x of the frames in pixels; None if frames are not registered.

    Returns
    -------
    (N,) values by name: `BASE_COLUMNS`, the features, and `TRACK_COLUMNS` and `PLACE_COLUMNS` if there are any, sorted
    by cell and frame.
    """
    others = ["filled"] if rows and "filled" in rows[0] else []
    names = ("cell", "frame", "bbox", *features, *others)
    order = np.lexsort([np.concatenate([block[name] for block in rows]) for name in ("frame", "cell")])
    column = {name: np.concatenate([block[name] for block in rows])[order] for name in names}
    y0, x0, y1, x1 = column["bbox"].T
    base = {
        "fov": np.full(len(y0), fov), "cell": column["cell"], "frame": column["frame"],
        "time": times[column["frame"]], "good": np.ones(len(y0), bool),
        "position_x": (x0 + x1) / 2, "position_y": (y0 + y1) / 2,
        "bbox_x0": x0, "bbox_y0": y0, "bbox_x1": x1, "bbox_y1": y1,
    }  # fmt: skip
    if shifts is not None:
        column |= dict(zip(("shift_y", "shift_x"), shifts[column["frame"]].T, strict=True))
        others = ["shift_y", "shift_x", *others]
    if mothers is not None:
        column["parent"] = np.array([mothers.get(cell, 0) for cell in column["cell"].tolist()], np.int64)
        others.append("parent")
    types = {"well": object, "site": np.int64}
    everywhere = {name: np.full(len(y0), value, types[name]) for name, value in (place or {}).items()}
    return base | {name: column[name] for name in (*features, *others)} | everywhere


def place_of(well: str | None, site: int | None) -> dict[str, Any]:
    """Values of `PLACE_COLUMNS` for all rows of a FOV; empty for one outside of wells."""
    return {} if well is None else {"well": well} | ({} if site is None else {"site": site})


def traces_file(fov_dir: Path, source: Path, fov: int) -> Path:
    """Path of a FOV's CSV; a name too long for the file system is truncated."""
    return _file_of(fov_dir, source, fov, TRACES)


def shifts_file(fov_dir: Path, source: Path, fov: int) -> Path:
    """Path of the shifts of a FOV's frames; a name too long for the file system is truncated."""
    return _file_of(fov_dir, source, fov, SHIFTS)


def _file_of(fov_dir: Path, source: Path, fov: int, what: str) -> Path:
    ending = f"_{fov_name(fov)}{what}"
    return fov_dir / (shortened(movie_stem(source), longest_name(fov_dir) - len(ending) - TEMPORARY) + ending)


def write_traces(path: Path, table: Mapping[str, np.ndarray] | pd.DataFrame) -> None:
    """Write a table of traces; floats keep ten digits.

    Columns of numbers and texts get the same bytes as in a table of pandas, which takes longer to import than to use.
    """
    with replacing(path) as temporary:
        if not isinstance(table, Mapping):
            table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table)
            for start in range(0, len(next(iter(table.values()), ())), ROWS_AT_ONCE):
                columns = (_words(column[start : start + ROWS_AT_ONCE]) for column in table.values())
                writer.writerows(zip(*columns, strict=True))


def _words(column: np.ndarray) -> list[Any]:
    """Values of a column as pandas writes them: unknown ones are empty."""
    values: list[Any] = column.tolist()
    return ["" if isnan(value) else f"{value:.10g}" for value in values] if column.dtype.kind == "f" else values


# ------------------------------------------------------------------------------------------------ shifts


def write_shifts(path: Path, times: np.ndarray, shifts: np.ndarray, measured: np.ndarray) -> None:
    """Write the shifts of the frames of a FOV.

    Parameters
    ----------
    path
        As from `shifts_file`.
    times
        (T,) minutes of the frames.
    shifts
        (T, 2) y, x in pixels of the content of each frame against the first one; they keep four decimals.
    measured
        (T,) False for frames whose shift is interpolated.
    """
    rows = zip(times.tolist(), (np.round(shifts, 4) + 0.0).tolist(), measured.tolist(), strict=True)  # no "-0"
    lines = [f"{t},{time:.10g},{y:.10g},{x:.10g},{known}" for t, (time, (y, x), known) in enumerate(rows)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([SHIFTS_HEAD, *lines, ""]))


def read_shifts(path: Path) -> np.ndarray:
    """(T, 2) shifts y, x in pixels from a file of `write_shifts`."""
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=(2, 3), ndmin=2)


def read_shift_table(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T,) minutes, (T, 2) shifts y, x in pixels, and (T,) whether they are measured, from a file of `write_shifts`."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    values = np.array([row[1:4] for row in rows], np.float64)
    return values[:, 0], values[:, 1:], np.array([row[4] == "True" for row in rows])
