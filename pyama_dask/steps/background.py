"""Estimate the background of every fluorescence frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from pyama_dask.kernels.background import CountedPlanes, tile_grid
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

    def add(self, k: int, out: np.ndarray | None = None) -> None:
        """Make the background of the batch's frame k, unless another part has done so.

        Parameters
        ----------
        k
            Number of the frame in the batch.
        out
            (H, W) array for the background; None if it is only counted.
        """
        context = self._context
        if context.frames[k] == self._last:
            return
        self._last, grid = context.frames[k], context.get(background_name(self._channel), "tiles")[k]
        tile_size, weight = context.params.background_params["tile_size"], context.params.background_weight
        self._counted.add(grid, tile_size, out, self._corrected_frame(k), weight)

    def _corrected_frame(self, k: int) -> np.ndarray | None:
        """(H, W) grey levels of the batch's frame k that are corrected; its warnings count for the step that asks."""
        if self._corrected_in is None:
            return None
        context, now = self._context, self._context.step
        context.begin(self._corrected_in)
        frame: np.ndarray = context.seen(self._corrected_in, raw_name("fl", self._channel))[k]
        context.begin(now)
        return frame


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
        self._planes.add(k, context.room(self._group)[k] if self._is_stored else None)

    def batch(self) -> None:
        """Write the tiles and planes; no later step needs the planes at full resolution."""
        context = self._context
        context.put(self._group, context.room(self._group, "tiles"), "tiles")
        if self._is_stored:
            context.put(self._group, context.room(self._group))
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
