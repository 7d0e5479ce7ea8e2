"""Estimate the background of every fluorescence frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from pyama_dask.kernels import scratch
from pyama_dask.kernels.background import CountedPlanes, background_plane, tile_grid
from pyama_dask.kernels.histogram import FineLevels
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.levels import corrected_name, write_levels
from pyama_dask.steps.part import BlockPart
from pyama_dask.store.layout import background_name, labels_name, raw_name
from pyama_dask.workflow.graph import Step


class Planes:
    """Backgrounds of a channel. Each is made once, and its grey levels are counted meanwhile for all parts that ask.

    Parameters
    ----------
    context
        Arrays and files of the task.
    channel
        Index of the fluorescence channel.
    """

    def __init__(self, context: TaskContext, channel: int) -> None:
        self._context, self._channel = context, channel
        self._counted, self._last = CountedPlanes(context.task.shape), -1
        self._corrected_in: Step | None = None

    def count_background(self) -> FineLevels:
        """Counter of the grey levels of the backgrounds."""
        self._counted.background = FineLevels()
        return self._counted.background

    def count_corrected(self, step: Step) -> FineLevels:
        """Counter of the grey levels after background subtraction, of the frames that a step gets."""
        self._counted.corrected, self._corrected_in = FineLevels(), step
        return self._counted.corrected

    def add(self, k: int) -> None:
        """Count the background of the batch's frame k, unless another part has done so."""
        if self._context.frames[k] != self._last:
            for _ in self.strips(k):
                pass

    def strips(self, k: int, height: int | None = None) -> Iterator[np.ndarray]:
        """Make the background of the batch's frame k.

        Parameters
        ----------
        k
            Number of the frame in the batch.
        height
            Rows of a strip; None for as many as are made and counted together.

        Yields
        ------
        Strips from top to bottom, (rows, W); the next one takes the same memory.
        """
        context = self._context
        self._last, grid = context.frames[k], context.get(background_name(self._channel), "tiles")[k]
        tile_size, weight = context.params.background_params["tile_size"], context.params.background_weight
        return self._counted.strips(grid, tile_size, self._corrected_frame(k), weight, height)

    def _corrected_frame(self, k: int) -> np.ndarray | None:
        """(H, W) grey levels of the batch's frame k that are corrected; its warnings count for the step that asks."""
        if self._corrected_in is None:
            return None
        context, now = self._context, self._context.step
        context.begin(self._corrected_in)
        frame: np.ndarray = context.seen(self._corrected_in, raw_name("fl", self._channel))[k]
        context.begin(now)
        return frame


class Rebuilt:
    """Backgrounds of a channel that are rebuilt from their stored tiles, one at a time, for all parts that ask.

    Parameters
    ----------
    context
        Arrays and files of the task.
    channel
        Index of the fluorescence channel.
    """

    def __init__(self, context: TaskContext, channel: int) -> None:
        self._context, self._group, self._last = context, background_name(channel), -1
        self._plane: np.ndarray | None = None

    def plane(self, k: int) -> np.ndarray:
        """(H, W) float32 background of the batch's frame k."""
        context = self._context
        if self._plane is None or context.frames[k] != self._last:
            tiles = context.specs[f"{self._group}/tiles"].tiles
            assert tiles is not None
            self._plane = None  # its memory is free, unless a function of a user has kept it
            room = scratch.empty(context.task.shape, np.float32)
            self._plane = background_plane(context.get(self._group, "tiles")[k], tiles.size, room)
            self._last = context.frames[k]
        return self._plane


class Background(BlockPart):
    """Background of every fluorescence frame: its tiles, and the full plane if it is stored."""

    def __init__(self, context: TaskContext, step: Step, channel: int) -> None:
        super().__init__(context, step)
        self._channel, self._raw, self._group = channel, raw_name("fl", channel), background_name(channel)
        self._is_stored = f"{self._group}/0" in context.specs
        self._planes = context.shared(Planes, channel)
        self._levels = self._planes.count_background()

    @classmethod
    def passes(cls, context: TaskContext, step: Step) -> Sequence[Self]:
        """One pass per channel, so that only one channel's full planes are in memory."""
        return [cls(context, step, channel) for channel in context.fl]

    def frame(self, k: int) -> None:
        """Measure the tiles of the batch's frame k, and make its background."""
        context, given = self._context, self._context.params.background_params
        raw, labels = context.seen(self.step, self._raw)[k], context.get(labels_name(context.phase))[k]
        grid = context.room(self._group, "tiles")[k] = tile_grid(raw, labels, **given)
        if np.isnan(grid[0, 0]):
            where = f"{context.at(context.frames[k])}, channel {self._channel}"
            context.warn(f"{where}: cells leave no background to measure")
        if self._is_stored:
            self._store(k)
        else:
            self._planes.add(k)

    def _store(self, k: int) -> None:
        """Make the background of the batch's frame k, and write it while it is in the processor's cache.

        Of the seven steps, none needs it at full resolution after that.
        """
        context, row = self._context, 0
        plane = context.room(self._group)[k] if context.flow.own else None
        for strip in self._planes.strips(k, context.spec(self._group).chunks[1]):
            context.put_rows(self._group, k, row, strip)
            if plane is not None:
                plane[row : row + len(strip)] = strip
            row += len(strip)

    def batch(self) -> None:
        """Write the tiles."""
        context = self._context
        context.put(self._group, context.room(self._group, "tiles"), "tiles")
        context.drop(self._group)
        context.drop(self._raw)

    def end(self) -> None:
        """Write the grey levels of the background."""
        write_levels(self._context, {self._group: self._levels.histogram()})


class CorrectedLevels(BlockPart):
    """Grey levels of the fluorescence channels after background subtraction."""

    def __init__(self, context: TaskContext, step: Step, channel: int) -> None:
        super().__init__(context, step)
        self._channel, self._planes = channel, context.shared(Planes, channel)
        self._levels = self._planes.count_corrected(step)

    @classmethod
    def passes(cls, context: TaskContext, step: Step) -> Sequence[Self]:
        """One pass per channel, as for the background."""
        return [cls(context, step, channel) for channel in context.fl]

    def frame(self, k: int) -> None:
        """Count the batch's frame k."""
        self._planes.add(k)

    def end(self) -> None:
        """Write the grey levels."""
        write_levels(self._context, {corrected_name(self._channel): self._levels.histogram()})
