"""Write the display levels of every channel and product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pyama_dask.errors import CancelledError, DamagedError
from pyama_dask.files.atomic import disk_error
from pyama_dask.kernels import display
from pyama_dask.steps.background import Rebuilt
from pyama_dask.steps.context import DISPLAY_FAULTS, TaskContext
from pyama_dask.steps.part import BlockPart
from pyama_dask.store.layout import background_name
from pyama_dask.workflow.graph import Step


class Display(BlockPart):
    """Display levels of every product; errors become warnings, as no result depends on display levels."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._groups = [spec.group for spec in context.specs.values() if spec.level == 1]
        self._backgrounds = {
            channel: group for channel in context.fl if (group := background_name(channel)) in self._groups
        }

    def frame(self, k: int) -> None:
        """Scale the backgrounds of the batch's frame k, which are rebuilt frame by frame."""
        context = self._context
        with self._forgiven():
            for channel, group in self._backgrounds.items():
                low, high = context.display_windows[group].tolist()
                plane, shown = context.shared(Rebuilt, channel).plane(k)[None], context.room(group, 1)[k : k + 1]
                display.show_intensities(plane, low, high, shown)

    def batch(self) -> None:
        """Scale and write all products."""
        with self._forgiven():
            for group in self._groups:
                self._context.put(group, self._shown(group), 1)

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Turn errors into a warning, and leave the block without display levels."""
        context = self._context
        try:
            yield
        except DISPLAY_FAULTS as error:
            if isinstance(error, CancelledError | DamagedError) or disk_error(error, context.job.output):
                raise
            context.warn(f"{context.task.place}: no display level from frame {context.task.start} on: {error}")
            for group in self._groups:
                context.remove(group, 1)
            self._groups, self._backgrounds = [], {}

    def _shown(self, group: str) -> np.ndarray:
        context = self._context
        shown = context.room(group, 1)
        if group.startswith("seg_"):
            top = int(context.tracks["count" if "tracked" in group else "objects"])
            display.show_labels(context.get(group), top, shown)
        elif not group.startswith("fl_background"):
            low, high = context.display_windows[group].tolist()
            display.show_intensities(context.get(group), low, high, shown)
        return shown
