"""Estimate the background of every fluorescence frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from pyama_dask.kernels.background import background_plane, tile_grid
from pyama_dask.kernels.histogram import FineLevels
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.levels import corrected_name, write_levels
from pyama_dask.steps.part import BlockPart
from pyama_dask.store.layout import background_name, labels_name, raw_name
from pyama_dask.workflow.graph import Step


class Background(BlockPart):
    """Background of every fluorescence frame: its tiles, and the full plane if it is stored."""

    def __init__(self, context: TaskContext, step: Step, channel: int) -> None:
        super().__init__(context, step)
        self._channel, self._raw, self._group = channel, raw_name("fl", channel), background_name(channel)
        self._is_stored = f"{self._group}/0" in context.specs
        self._levels = FineLevels()

    @classmethod
    def passes(cls, context: TaskContext, step: Step) -> Sequence[Self]:
        """One pass per channel, so that only one channel's full planes are in memory."""
        return [cls(context, step, channel) for channel in context.fl]

    def frame(self, k: int) -> None:
        """Measure the tiles of the batch's frame k, and count the grey levels of its background."""
        context, given = self._context, self._context.params.background_params
        raw, labels = context.seen(self.step, self._raw)[k], context.get(labels_name(context.phase))[k]
        grid = context.room(self._group, "tiles")[k] = tile_grid(raw, labels, **given)
        if np.isnan(grid[0, 0]):
            where = f"{context.at(context.frames[k])}, channel {self._channel}"
            context.warn(f"{where}: cells leave no background to measure")
        if self._is_stored:
            plane = background_plane(grid, given["tile_size"], context.room(self._group)[k])
        else:
            plane = context.background(self._channel, k)
        self._levels.add(plane)

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
        self._channel, self._levels = channel, FineLevels()

    @classmethod
    def passes(cls, context: TaskContext, step: Step) -> Sequence[Self]:
        """One pass per channel, as for the background."""
        return [cls(context, step, channel) for channel in context.fl]

    def frame(self, k: int) -> None:
        """Count the batch's frame k."""
        context = self._context
        raw, plane = context.seen(self.step, raw_name("fl", self._channel))[k], context.background(self._channel, k)
        self._levels.add_corrected(raw, plane, context.params.background_weight)

    def end(self) -> None:
        """Write the grey levels."""
        write_levels(self._context, {corrected_name(self._channel): self._levels.histogram()})
