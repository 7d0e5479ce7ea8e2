"""Frames of the movie in a task, as steps of a user's own ask for them: read once, and kept if asked for again."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pyama_dask.config.models import Params
from pyama_dask.readers import SharedMovie
from pyama_dask.readers.frames import digest_of, read_planes, read_stacks
from pyama_dask.steps.demand import Demand
from pyama_dask.steps.flow import Image
from pyama_dask.workflow.task import Job, Task


class Frames(Protocol):
    """Frames and arrays of a task, as `TaskContext` has them."""

    task: Task
    job: Job
    params: Params
    pc: int | None
    fl: tuple[int, ...]
    frames: range
    bytes_read: int
    frames_read: dict[int, int]

    @property
    def movie(self) -> SharedMovie:
        """Open movie."""
        ...

    def get(self, group: str) -> np.ndarray:
        """Current batch's piece of an array."""
        ...

    def at(self, frame: int) -> str:
        """Name of a frame for messages."""
        ...

    def shifts_for(self, step: str) -> np.ndarray:
        """(T, 2) shifts of the FOV's frames that a step undoes."""
        ...


class MovieFrames:
    """Frames of the movie by number in the output, with their channels.

    Parameters
    ----------
    context
        Task, and its open movie.
    demand
        Who asks for what.
    """

    def __init__(self, context: Frames, demand: Demand) -> None:
        self._context, self._demand = context, demand
        self._read: dict[int, dict[str, np.ndarray]] = {}

    def forget(self) -> None:
        """Drop all frames."""
        self._read.clear()

    def read(self, image: Image, frame: int) -> np.ndarray:
        """(H, W) pixels of a frame of a channel, or (Z, H, W) if steps get all planes; not to be written to."""
        name, is_last = image.name, self._demand.only_by_stack(image)
        if name in self._read.get(frame, {}):
            return self._read[frame].pop(name) if is_last else self._read[frame][name]
        found = self._read_frame(frame)
        if not self._demand.again(image, inside=frame in self._context.frames):
            self._read = {frame: found}
            return found[name]
        wanted = {channel for channel in found if self._demand.is_asked(channel)} - ({name} if is_last else set())
        if len(wanted) == len(found):
            self._read[frame] = found
        else:  # copies, so that the others are not kept
            self._read[frame] = {channel: found[channel].copy() for channel in wanted}
        return found[name]

    def _read_frame(self, frame: int) -> dict[str, np.ndarray]:
        """Channels of a frame of the movie by name."""
        context = self._context
        channels = [*([] if context.pc is None else [context.pc]), *context.fl]
        number, z = context.job.frames[frame], context.params.z
        reader = context.movie.reader
        fov = context.task.fov
        if z == "all":
            planes = read_stacks(reader, fov, number, channels)
        else:
            planes = read_planes(reader, fov, number, channels, z)
        context.bytes_read += planes.nbytes
        if context.task.start <= frame < context.task.stop:
            context.frames_read[frame] = digest_of(planes)
        planes.flags.writeable = False
        return {str(channel): planes[k] for k, channel in enumerate(channels)}
