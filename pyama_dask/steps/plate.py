"""Write the image of a FOV in the plate: the arrays of ``images.zarr`` under second names, and at half size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyama_dask.files.atomic import give_second_name
from pyama_dask.kernels.display import halve, subsample
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.part import BlockPart
from pyama_dask.store.layout import ArraySpec
from pyama_dask.store.plate import PLATE, image_arrays
from pyama_dask.workflow.graph import Step


class _InPlate(BlockPart):
    """Some arrays of an image in the plate; which, and how they are halved, is up to its subclasses."""

    def __init__(
        self,
        context: TaskContext,
        step: Step,
        wanted: Callable[[ArraySpec], bool],
        halve_frame: Callable[[np.ndarray, np.ndarray], None],
    ) -> None:
        super().__init__(context, step)
        self._image = context.job.output / PLATE / context.task.in_plate
        arrays = image_arrays(context.job, context.task.shape)
        self._full, self._half = (
            {group: context.fitted(of[level]) for group, of in arrays.items() if wanted(of[level])} for level in (0, 1)
        )
        self._halve = halve_frame
        self._halves: dict[str, np.ndarray] = {}

    def frame(self, k: int) -> None:
        """Halve the batch's frame k."""
        context = self._context
        for group, half in self._half.items():
            if k == 0:
                self._halves[group] = np.empty((len(context.frames), *half.shape[1:]), half.dtype)
            self._halve(context.get(group)[k], self._halves[group][k])

    def batch(self) -> None:
        """Write the halves."""
        context = self._context
        for group, half in self._half.items():
            context.store(self._image, half, self._halves.pop(group))

    def end(self) -> None:
        """Give the complete shards at full size their names in the plate."""
        context = self._context
        for group, full in self._full.items():
            if full.frame_bytes:
                name, file = (
                    full.shard_file(self._image, context.block),
                    context.spec(group).shard_file(context.images, context.block),
                )
                give_second_name(file, name)
                context.wrote(name, context.checksum_of(file))


class FramesInPlate(_InPlate):
    """Raw frames of a block in the plate; halves are means."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step, lambda spec: spec.is_raw, halve)


class LabelsInPlate(_InPlate):
    """Labels of single frames and tracked labels of a block in the plate; halves are every second pixel."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step, lambda spec: spec.is_labels, subsample)
