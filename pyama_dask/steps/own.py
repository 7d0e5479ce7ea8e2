"""Parts on blocks of steps of a user's own: images that are stored, and rows of tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyama_dask.methods.call import Chosen
from pyama_dask.methods.step_results import UnfitError, as_result, check_table
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.demand import is_of_stacks
from pyama_dask.steps.flow import Own, applies
from pyama_dask.steps.own_arrays import own_arrays
from pyama_dask.steps.own_images import step_call
from pyama_dask.steps.part import BlockPart
from pyama_dask.store import intermediate
from pyama_dask.store.layout import ArraySpec
from pyama_dask.workflow.graph import Step

if TYPE_CHECKING:
    import pandas as pd


class StoredImages(BlockPart):
    """Images that a step gives, in the store of its pipeline."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._own = context.flow.steps[step]
        specs = own_arrays(context.job, context.task.movie_shape).values()
        self._specs = [spec for spec in specs if spec.role == step]
        self._pixels: list[np.ndarray] = []
        self._is_of_stacks = is_of_stacks(self._own.step) and not any(image.planes for image in self._own.gives)

    def frame(self, k: int) -> None:
        """Make the batch's frame k."""
        context, place = self._context, 0
        if self._is_of_stacks:
            return
        if k == 0:
            self._pixels = [np.empty((len(context.frames), *spec.shape[1:]), spec.dtype) for spec in self._specs]
        for image in self._own.gives:
            made = context.own_images.frame(image, context.frames[k])
            for plane in made if image.planes else made[None]:
                self._pixels[place][k] = plane
                place += 1

    def batch(self) -> None:
        """Write the images; those of stacks as they were made, without a copy."""
        context, frames = self._context, self._context.frames
        if self._is_of_stacks:
            for spec, image in zip(self._specs, self._own.gives, strict=True):
                self._write(spec, context.own_images.stack(image, frames.start, frames.stop))
            return
        for spec, pixels in zip(self._specs, self._pixels, strict=True):
            self._write(spec, pixels)
        self._pixels = []

    def _write(self, spec: ArraySpec, pixels: np.ndarray) -> None:
        context = self._context
        context.store(context.job.fov_dir(context.task.fov) / spec.store, spec, pixels)


class Rows(BlockPart):
    """Rows of the table that a step gives, frame by frame."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._own = context.flow.steps[step]
        self._rows: list[pd.DataFrame] = []

    def frame(self, k: int) -> None:
        """Call the function for the batch's frame k, or for the whole batch at its first frame."""
        context, own = self._context, self._own
        if not applies(own.step, context.task.fov):
            return
        frames = context.frames
        if own.step.planned.per == "frame":
            self._add(context.at(frames[k]), frames[k], frames[k] + 1)
        elif k == 0:
            self._add(f"FOV {context.task.fov}, frames {frames.start}-{frames.stop - 1}", frames.start, frames.stop)

    def _add(self, where: str, start: int, stop: int) -> None:
        """Add the rows of frames start to stop, for each image that the function is called for."""
        images, step = self._context.own_images, self._own.step
        first, last = images.window(step, start, stop)
        for of in self._own.gets:
            data = images.given_to(step, of, first, None if step.planned.per == "frame" else last)
            table = checked_table(images.call(step), where, self._own, *data, frames=last - first)
            if step.planned.per == "stack":
                table["frame"] = table["frame"].astype("int64") + first
                table = table[table["frame"].between(start, stop - 1)]
            else:
                table.insert(0, "frame", start)
            if len(self._own.gets) > 1:
                table.insert(1, "channel", int(of[0].name) if of[0].name.isdigit() else of[0].name)
            self._rows.append(table)

    def end(self) -> None:
        """Write the rows of the block."""
        table = joined(self._own, self._rows, self._context.task.fov)
        self._context.wrote(save_rows(rows_file(self._context, self._own), table))


def rows_file(context: TaskContext, own: Own) -> Path:
    """Path of the rows of a step in the task's block."""
    return intermediate.block_file(context.work, rows_name(own), context.block)


def save_rows(path: Path, table: pd.DataFrame) -> Path:
    """Write a table without pickling; its columns may have any names."""
    arrays = {f"column{k}": _plain(table[name]) for k, name in enumerate(table.columns)}
    return intermediate.save(path, names=np.array([*table.columns], str), **arrays)


def load_rows(path: Path) -> pd.DataFrame:
    """Read a table that `save_rows` wrote."""
    import pandas as pd  # noqa: PLC0415

    held = intermediate.load(path)
    return pd.DataFrame({str(name): held[f"column{k}"] for k, name in enumerate(held["names"])})


def joined(own: Own, tables: Sequence[pd.DataFrame], fov: int) -> pd.DataFrame:
    """Rows of several tables of a step; without any, the columns that were found when the run was planned.

    Raises
    ------
    WrongReturnError
        If a column has numbers in some of them, and texts in others.
    """
    import pandas as pd  # noqa: PLC0415

    with_rows = [table for table in tables if len(table)]
    if not with_rows:
        found = [name for name in own.step.planned.columns if name != "frame"]
        return pd.DataFrame({name: [] for name in ("frame", *(["channel"] if len(own.gets) > 1 else []), *found)})
    table = pd.concat(with_rows, ignore_index=True).sort_values("frame", kind="stable", ignore_index=True)
    for name in own.step.planned.columns:
        if len({bool(pd.api.types.is_numeric_dtype(one[name])) for one in with_rows}) > 1:
            method = step_call(own.step, own.name)
            raise method.wrong(f"FOV {fov}", f"numbers and texts in the column {name!r}", "one of them in all frames")
    return table


def rows_name(own: Own) -> str:
    """Name of the tables of a step's rows by block."""
    return f"own_{own.name}"


def checked_table(
    method: Chosen, where: str, own: Own, *data: object, frames: int = 0, known: Collection[str] = ()
) -> pd.DataFrame:
    """Table that a function gives, with its own index, and the columns that were found when the run was planned.

    Parameters
    ----------
    method, where, own
        Function and its step, and name of the data for messages.
    *data
        Arguments of the function.
    frames
        Frames of the stack that it gets.
    known
        Columns of the table that it gets, which it may pass on.

    Raises
    ------
    WrongReturnError
        If it gives something else.
    """
    planned = ", as when the run was planned"
    try:
        table = as_result(method.lazy(where, *data)).table
        if table is None:
            raise method.wrong(where, "images", f"a table{planned}")
        check_table(table, own.step.planned.takes, frames)
    except UnfitError as error:
        raise method.unfit(where, error.problem, error.fix) from error
    wanted = own.step.planned.columns
    given = [name for name in table.columns if name in wanted or name not in known]
    if {*given} != {*wanted}:
        raise method.wrong(where, f"columns {', '.join(given)}", f"columns {', '.join(wanted)}{planned}")
    return table[[*wanted, *(name for name in table.columns if name not in wanted)]].copy()


def _plain(column: pd.Series) -> np.ndarray:
    """Column as an array that can be stored without pickling."""
    values = column.to_numpy()
    return values.astype(str) if values.dtype == object else values


def rows_of(context: TaskContext, own: Own) -> pd.DataFrame:
    """Rows of all blocks of a FOV, by frame."""
    return joined(own, [load_rows(file) for file in context.block_files(rows_name(own))], context.task.fov)
