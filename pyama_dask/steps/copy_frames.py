"""Copy frames of the movie to the raw arrays, and measure their sharpness and light."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyama_dask.kernels.histogram import WholeLevels
from pyama_dask.kernels.sharpness import level_and_spread, sharpness
from pyama_dask.readers.frames import digest_of, read_planes
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.levels import write_levels
from pyama_dask.steps.part import BlockPart
from pyama_dask.store import intermediate
from pyama_dask.workflow.graph import Step


class Copy(BlockPart):
    """Frames of the movie in the raw shards, their grey levels, and how sharp and bright each is."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._movie = context.movie
        self._channels = [*([] if context.pc is None else [context.pc]), *context.fl]
        self._levels = {group: WholeLevels() for group in context.raw_groups}
        self._sharpness: list[float] = []
        self._light: list[list[tuple[float, float]]] = []

    def frame(self, k: int) -> None:
        """Read the batch's frame k, and measure it."""
        context = self._context
        copies = [context.room(group)[k] for group in context.raw_groups]
        if context.flow.own:
            self._make(context.frames[k], copies)
        else:
            self._read(context.frames[k], copies)
        self._sharpness.append(np.nan if context.pc is None else sharpness(copies[0]))
        self._light.append([level_and_spread(copy) for copy in copies])
        for levels, copy in zip(self._levels.values(), copies, strict=True):
            levels.add(copy)

    def _make(self, frame: int, copies: Sequence[np.ndarray]) -> None:
        """Make the channels of a frame of the output by the steps that come before."""
        images = self._context.flow.seen["copy"]
        for channel, copy in zip(self._channels, copies, strict=True):
            copy[...] = self._context.grey_levels(images[str(channel)], frame)

    def _read(self, frame: int, copies: Sequence[np.ndarray]) -> None:
        """Read the channels of a frame of the output, straight into the copies if they are of the movie's type."""
        context, reader = self._context, self._movie.reader
        what = context.task.fov, context.job.frames[frame], self._channels, context.params.z
        if reader.metadata.pixel_type(self._channels) == np.uint16:
            planes = read_planes(reader, *what, copies)
        else:
            planes = read_planes(reader, *what)
            for copy, plane in zip(copies, planes, strict=True):
                copy[...] = plane
        context.bytes_read += sum(plane.nbytes for plane in planes)
        context.frames_read[frame] = digest_of(planes)

    def batch(self) -> None:
        """Check that the movie is unchanged, and write the raw channels."""
        self._movie.check()
        for group in self._levels:
            self._context.put(group, self._context.room(group))

    def end(self) -> None:
        """Write the grey levels for `link`, and (C, n) level and spread and (n,) sharpness of n frames for `gather`."""
        context = self._context
        write_levels(context, {group: levels.histogram() for group, levels in self._levels.items()})
        level, spread = np.moveaxis(np.array(self._light), (2, 1), (0, 1))
        file = intermediate.block_file(context.work, "light", context.block)
        context.wrote(intermediate.save(file, sharpness=self._sharpness, level=level, spread=spread))
