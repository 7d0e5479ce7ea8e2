"""Drift of the stage: pairs of frames measured by block, and the shifts of all frames of a FOV that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

import numpy as np

from pyama_dask.config.units import as_ranges
from pyama_dask.kernels.drift_path import EVERY, Pair, PairsOfBlock, Path, frames_before, solved
from pyama_dask.readers.frames import read_planes
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.flow import Own, applies
from pyama_dask.steps.own_arrays import own_table_file
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import registers
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import DOCUMENT, raw_name
from pyama_dask.store.trace_csv import read_shifts, shifts_file, write_shifts
from pyama_dask.workflow.graph import Step

LARGEST = 40.0
"""Largest shift in pixels along each axis from one frame to the next that is looked for."""
NEARLY = 0.9
"""Fraction of the largest shift beyond which shifts are close to what cannot be measured."""


class _Pairs(BlockPart):
    """Shifts between pairs of frames; the second frame of each is in the block."""

    table = "pairs"
    """Name of the table of a block."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._block = PairsOfBlock(context.task.start, max_shift=LARGEST)
        self._pairs: list[Pair] = []

    def frame(self, k: int) -> None:
        """Compare the batch's frame k with those before; the first one of the block with those of other blocks."""
        context, frame = self._context, self._context.frames[k]
        if frame == context.task.start:
            for before in frames_before(frame):
                self._block.add(before, self._earlier(before))
            context.movie.check()
        self._pairs += self._block.add(frame, self._current(k))

    def _earlier(self, frame: int) -> np.ndarray:
        """(H, W) frame of another block."""
        raise NotImplementedError

    def _current(self, k: int) -> np.ndarray:
        """(H, W) frame k of the batch."""
        raise NotImplementedError

    def end(self) -> None:
        """Write the pairs, from which shifts are found."""
        file = intermediate.block_file(self._context.work, self.table, self._context.block)
        self._context.wrote(intermediate.save(file, pairs=np.array(self._pairs, np.float64).reshape(-1, 5)))


class PairsOfFrames(_Pairs):
    """Shifts between pairs of phase-contrast frames."""

    def _current(self, k: int) -> np.ndarray:
        plane: np.ndarray = self._context.get(raw_name("pc", self._context.phase))[k]
        return plane

    def _earlier(self, frame: int) -> np.ndarray:
        """(H, W) phase-contrast frame of another block, which may not be copied yet."""
        context = self._context
        if context.flow.own:
            return context.grey_levels(context.flow.seen["copy"][str(context.phase)], frame)
        number, z = context.job.frames[frame], context.params.z
        planes = read_planes(context.movie.reader, context.task.fov, number, [context.phase], z)
        context.bytes_read += planes.nbytes
        plane: np.ndarray = planes[0]
        return plane


class PairsOfImages(_Pairs):
    """Shifts between pairs of frames of an image, for a step that undoes the drift."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._own = context.flow.steps[step]
        self.table = own_pairs(self._own)

    def frame(self, k: int) -> None:
        """Compare the batch's frame k with those before, if the step is done for the FOV."""
        if applies(self._own.step, self._context.task.fov):
            super().frame(k)

    def _current(self, k: int) -> np.ndarray:
        return self._earlier(self._context.frames[k])

    def _earlier(self, frame: int) -> np.ndarray:
        by = self._own.gives[0].by
        assert by is not None
        plane: np.ndarray = self._context.own_images.frame(by, frame)
        return plane


def own_pairs(own: Own) -> str:
    """Name of the tables of pairs of a step by block."""
    return f"pairs_{own.pipeline}_{own.title}"


def find_own_shifts(context: TaskContext) -> None:
    """Write the shifts of the FOV's frames against the first one, for a step that undoes the drift."""
    own = context.flow.steps[context.step]
    if applies(own.step, context.task.fov):
        file = own_table_file(context.job.fov_dir(context.task.fov), context.job.source, context.task.fov, own)
        _find(context, own_pairs(own), file, f"leave out the step {own.name}")
        context.note(rows=context.job.n_frames)


def own_shifts_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Shifts of the frames that a block's images may be made from, for a step that undoes the drift.

    Those of all earlier frames count, as pairs are also measured with some of these.
    """
    if not applies(context.flow.steps[context.step].step, context.task.fov):
        return [[] for _ in context.job.blocks]
    shifts, reach = context.shifts_for(context.step), context.flow.reach
    return [[shifts[: stop + reach]] for _, stop in context.job.blocks]


def find_shifts(context: TaskContext) -> None:
    """Write the shifts of the FOV's frames against the first one."""
    file = shifts_file(context.job.fov_dir(context.task.fov), context.job.source, context.task.fov)
    _find(context, "pairs", file, "set params.register to off, and params.tracking_method to lap")


def _find(context: TaskContext, table: str, file: FilePath, instead: str) -> None:
    """Solve the pairs of all blocks, and write the shifts to a file; warnings say what to do instead."""
    rows = [row for path in context.block_files(table) for row in intermediate.load(path)["pairs"].tolist()]
    pairs = [Pair(int(first), int(second), *of) for first, second, *of in rows]
    path = solved(pairs, context.job.n_frames)
    times = read_attributes(context.verified(context.images / DOCUMENT).parent)["times_min"]
    write_shifts(file, np.array(times), path.shifts, path.measured)
    context.wrote(file)
    by = f"step {context.step}: " if context.flow.steps.get(context.step) else ""
    for doubt in doubts_about_drift(pairs, path, context.task.shape, context.job.frames, file.name, instead):
        context.warn(f"{context.task.place}: {by}{doubt}")


def doubts_about_drift(
    pairs: Sequence[Pair], path: Path, shape: tuple[int, int], frames: Sequence[int], table: str, instead: str
) -> Iterator[str]:
    """Describe what is doubtful in the drift of a FOV: frames without a shift, weak links, and shifts near the largest.

    Parameters
    ----------
    pairs, path
        All pairs, and the path that they are solved for.
    shape
        (H, W) of a frame in pixels.
    frames
        Numbers of the frames in the movie.
    table, instead
        Name of the table of shifts, and what to do if they are of no use.
    """
    largest, check = min(LARGEST, min(shape) // 2), f"Fix: check the shifts in {table}, and the tracks at these frames"
    if unknown := np.flatnonzero(~path.measured).tolist():
        yield (
            f"the drift of the stage could not be measured at frames {_named(unknown, frames)}, whose shifts are "
            "interpolated: they have few distinct features, or the stage moved by more than "
            f"{largest:g} px from one frame to the next. Fix: look at these frames with 'pyama-dask preview'; if "
            f"tracks break there, {instead}"
        )
    if weak := _without_near_pair(pairs, path):
        yield (
            f"the drift of the stage at frames {_named(weak, frames)} was measured against frames {EVERY} apart only, "
            f"as they match none of those just before. {check}"
        )
    steps = {pair.second: max(abs(pair.dy), abs(pair.dx)) for pair in pairs if pair.second - pair.first == 1}
    if far := sorted(t for t, step in steps.items() if step > NEARLY * largest):
        yield (
            f"the stage moved by up to {max(steps[t] for t in far):.0f} px from one frame to the next, at frames "
            f"{_named(far, frames)}; more than {largest:g} px cannot be measured. {check}"
        )


def _named(indices: Sequence[int], frames: Sequence[int]) -> str:
    """Frames in the movie, as ranges."""
    return as_ranges([frames[t] for t in indices])


def _without_near_pair(pairs: Sequence[Pair], path: Path) -> list[int]:
    """Measured frames that no pair closer than `EVERY` connects with any measured frame before them."""
    near = {pair.second for pair in pairs if pair.weight and pair.second - pair.first < EVERY}
    return [t for t in np.flatnonzero(path.measured).tolist()[1:] if t not in near]


def shifts_of(context: TaskContext) -> np.ndarray | None:
    """(T, 2) shifts y, x in pixels of the FOV's frames against the first one; None if they are not registered."""
    if not registers(context.job.config):
        return None
    file = shifts_file(context.job.fov_dir(context.task.fov), context.job.source, context.task.fov)
    return read_shifts(context.verified(file))
