"""Tables that steps of a user's own give of a FOV or well, and columns that they give to the traces."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyama_dask.config.units import many
from pyama_dask.files.atomic import replacing
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.step_results import CELLS_FIX, ORDER_FIX, is_reordered, wrong_cell
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.flow import TRACES, Own, applies
from pyama_dask.steps.own import checked_table, rows_of
from pyama_dask.steps.own_arrays import own_table_file, well_table_file
from pyama_dask.steps.own_images import step_call
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import DOCUMENT
from pyama_dask.store.trace_csv import columns_of_run, place_of, traces_file, write_traces
from pyama_dask.workflow.graph import Step

if TYPE_CHECKING:
    import pandas as pd

KEY = ["frame", "cell"]
"""Columns by which rows of frames are joined to the traces."""


def write_own_table(context: TaskContext) -> None:
    """Write the table that a step gives of a FOV, from its rows, or from the traces and tables of other steps."""
    own = context.flow.steps[context.step]
    if not applies(own.step, context.task.fov):
        return
    if own.tables:
        tables, method = _given(context, own, context.task.fov), step_call(own.step, own.name)
        known = {name for table in tables for name in table.columns}
        table = checked_table(method, f"FOV {context.task.fov}", own, *tables, known=known)
    else:
        table = _with_times(context, rows_of(context, own))
    attributes = read_attributes(context.verified(context.images / DOCUMENT).parent)
    table.insert(0, "fov", context.task.fov) if "fov" not in table else None
    for name, value in place_of(attributes.get("well"), attributes.get("site")).items():
        if name not in table:
            table[name] = value
    path = own_table_file(context.job.fov_dir(context.task.fov), context.job.source, context.task.fov, own)
    write_traces(path, table)
    context.wrote(path)
    context.note(rows=len(table))


def _with_times(context: TaskContext, table: pd.DataFrame) -> pd.DataFrame:
    """Table with the minutes of its frames after their numbers."""
    if "frame" in table and "time" not in table:
        times = np.array(read_attributes(context.images)["times_min"])
        table.insert([*table.columns].index("frame") + 1, "time", times[table["frame"]])
    return table


def _given(context: TaskContext, own: Own, fov: int) -> list[pd.DataFrame]:
    """Tables of a FOV that a function of tables gets, as they were written; traces without columns of later steps."""
    tables = [_written(context, name, fov) for name in own.tables]
    later = _later_columns(context, own)
    return [
        table if name else table.drop(columns=later & {*table}) for name, table in zip(own.tables, tables, strict=True)
    ]


def _later_columns(context: TaskContext, own: Own) -> set[str]:
    """Columns that only steps after one give to the traces."""
    place = context.flow.own.index(own)
    given = [{*one.step.planned.columns} if one.step.to == TRACES else set[str]() for one in context.flow.own]
    return set().union(*given[place:]).difference(columns_of_run(context.job.config), *given[:place])


def _written(context: TaskContext, step: Step, fov: int) -> pd.DataFrame:
    """Table of a FOV that a step has written; the traces for ''."""
    flow, folder, source = context.flow, context.job.fov_dir(fov), context.job.source
    of = [flow.steps[step]] if step else [own for own in flow.own if own.step.to == TRACES]
    texts = {name for own in of for name in own.step.planned.texts}
    path = own_table_file(folder, source, fov, of[0]) if step else traces_file(folder, source, fov)
    return read_written(context.verified(path), {*texts, "well"})


def read_written(path: Path, texts: Collection[str]) -> pd.DataFrame:
    """Read a table of a run.

    Parameters
    ----------
    path
        CSV.
    texts
        Columns of texts; those that look like numbers, or like a missing value, stay texts. An empty one is missing.
    """
    import pandas as pd  # noqa: PLC0415

    names = [*pd.read_csv(path, nrows=0).columns]
    types = {name: "str" for name in names if name in texts}
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_values={name: [""] for name in names})


def write_well_table(context: TaskContext) -> None:
    """Write the table that a step gives of a well, from the tables of its FOVs."""
    own = context.flow.steps[context.step]
    members = [fov for fov in context.task.group if applies(own.step, fov)]
    if not members:
        return
    given = {str(fov): _given(context, own, fov) for fov in members}
    tables = [{fov: of[k] for fov, of in given.items()} for k in range(len(own.tables))]
    well = read_attributes(context.verified(context.images / DOCUMENT).parent)["well"]
    known = {name for of in tables for table in of.values() for name in table.columns}
    table = checked_table(step_call(own.step, own.name), f"well {well}", own, *tables, known=known)
    path = well_table_file(context.job.output, context.job.source, well, own)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
    context.wrote(path)
    context.note(rows=len(table))


# ---------------------------------------------------------------------------------- columns of the traces


def with_own_columns(
    context: TaskContext, columns: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray] | pd.DataFrame:
    """Columns of the traces, or a table of them with the columns of steps that give some (``to: traces``)."""
    steps = [own for own in context.flow.own if own.step.to == TRACES and applies(own.step, context.task.fov)]
    if not steps:
        return columns
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    table = pd.DataFrame(columns)
    for own in steps:
        table = _with_columns(context, own, table)
    return table


def _with_columns(context: TaskContext, own: Own, table: pd.DataFrame) -> pd.DataFrame:
    """Traces with the columns that one step gives, from rows of frames, or from the traces themselves."""
    method, where = step_call(own.step, own.name), f"FOV {context.task.fov}"
    if not own.tables:
        rows = joinable(rows_of(context, own), method, where)
        warn_of_lost_rows(context, own, rows, table)
        return table.merge(rows, on=KEY, how="left")
    given = [_written(context, name, context.task.fov) if name else table.copy() for name in own.tables]
    made = checked_table(method, where, own, *given, known={name for of in given for name in of.columns})
    if len(made) != len(table):
        raise method.wrong(where, f"{len(made)} rows", f"one row for each of {len(table)} rows of the traces")
    if is_reordered(made):
        raise method.unfit(where, "returned its rows in another order than it got them", ORDER_FIX)
    made = made.reset_index(drop=True)
    for name in table.columns.intersection(made.columns):
        if not table[name].reset_index(drop=True).equals(made[name]):
            raise method.wrong(where, f"another column {name!r} than the traces have", "it under another name")
    new = [name for name in own.step.planned.columns if name not in table]
    return table.assign(**{name: made[name].to_numpy() for name in new})


def joinable(rows: pd.DataFrame, method: Chosen, where: str) -> pd.DataFrame:
    """Rows of frames with whole numbers as `KEY`, none of which occurs twice.

    Raises
    ------
    WrongReturnError
        If a row belongs to no cell, or to one that has another row in its frame.
    """
    if wrong := wrong_cell(rows):
        at, problem = wrong
        raise method.unfit(f"{where}, frame {int(rows['frame'].iloc[at])}", problem, CELLS_FIX)
    return rows.astype(dict.fromkeys(KEY, "int64"))


def warn_of_lost_rows(context: TaskContext, own: Own, rows: pd.DataFrame, traces: pd.DataFrame) -> None:
    """Warn of rows that have no row of the traces to be joined to, unless the limits of tracking drop their cell.

    The image ``tracked`` has all tracks, and the traces only those that are long enough and away from the border.
    """
    joined = rows[KEY].merge(traces[KEY].astype("int64"), how="left", indicator="found")["found"].to_numpy() == "both"
    dropped = np.setdiff1d(context.tracks["ids"], [0, *context.cells["ids"]])  # objects that no track has are 0
    lost = rows[~joined & ~np.isin(rows["cell"], dropped)]
    if len(lost):
        frame, cell = (int(lost[name].iloc[0]) for name in KEY)
        context.warn(
            f"{context.task.place}: step {own.name} gives {many(len(lost), 'row')} that the traces have no row for, "
            f"such as cell {cell} in frame {frame}; they are left out. Fix: number cells as in the image 'tracked' of "
            "the same frame, where 0 is the background"
        )
