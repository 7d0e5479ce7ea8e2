"""Copy frames of the movie to the raw arrays."""

from __future__ import annotations

import google_crc32c
import numpy as np

from pyama_dask.kernels.histogram import Histogram
from pyama_dask.readers import Reader
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.levels import write_levels
from pyama_dask.steps.part import BlockPart
from pyama_dask.workflow.graph import Step


class Copy(BlockPart):
    """Frames of the movie in the raw shards, and their grey levels."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._movie = context.movie
        self._channels = [*([] if context.pc is None else [context.pc]), *context.fl]
        self._levels: dict[str, list[Histogram]] = {group: [] for group in context.raw_groups}

    def frame(self, k: int) -> None:
        """Read the batch's frame k."""
        context = self._context
        number = context.job.frames[context.frames[k]]
        planes = read_planes(self._movie.reader, context.task.fov, number, self._channels, context.params.z)
        context.bytes_read += planes.nbytes
        context.frames_read.append(digest_of(planes))
        for group, plane in zip(context.raw_groups, planes, strict=True):
            context.room(group)[k] = plane

    def batch(self) -> None:
        """Check that the movie is unchanged; write the raw channels and count their grey levels."""
        self._movie.check()
        for group, levels in self._levels.items():
            raw = self._context.room(group)
            self._context.put(group, raw)
            levels.append(Histogram.of_integers(raw))

    def end(self) -> None:
        """Write the grey levels for `link`."""
        write_levels(self._context, {group: Histogram.sum(levels) for group, levels in self._levels.items()})


def read_planes(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
    """Read the channels of one frame.

    Parameters
    ----------
    reader
        Open movie.
    fov, frame
        Numbers in the movie, from 0.
    channels
        Channels in the order to return them.
    z
        Plane from 0; None for the first one; ``max`` for the maximum over all planes.

    Returns
    -------
    (C, H, W) grey levels.
    """
    if z != "max":
        return reader.read_frame(fov, frame, channels=channels, z=int(z or 0))
    highest = reader.read_frame(fov, frame, channels=channels, z=0)
    for plane in range(1, reader.metadata.z_planes):
        np.maximum(highest, reader.read_frame(fov, frame, channels=channels, z=plane), out=highest)
    return highest


def digest_of(planes: np.ndarray) -> int:
    """CRC-32C of the channels (C, H, W) of a frame as they were read."""
    return int(google_crc32c.value(np.ascontiguousarray(planes)))
