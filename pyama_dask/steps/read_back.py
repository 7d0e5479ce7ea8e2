"""Stored images of pipelines that are read instead of being made again, where an earlier task has recorded them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pyama_dask.steps.flow import Flow, Image, applies
from pyama_dask.steps.own_arrays import specs_of
from pyama_dask.steps.task_shards import TaskShards
from pyama_dask.store.layout import ArraySpec
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Job, Task


def may_be_read(flow: Flow, needed: Iterable[tuple[Image, int]]) -> dict[Step, int]:
    """Steps that store any of the images that a task needs, by name.

    Parameters
    ----------
    flow
        What is made from what.
    needed
        Images, each with the number of frames around a frame, see `Image.needed`.

    Returns
    -------
    For each step, the largest number of frames around a frame for which its images are needed.
    """
    authors = {image: own.name for own in flow.own if own.is_stored for image in own.gives}
    found: dict[Step, int] = {}
    for image, reach in needed:
        if image in authors:
            found[authors[image]] = max(reach, found.get(authors[image], 0))
    return found


class Files(Protocol):
    """Files of a task, as `TaskContext` has them."""

    task: Task
    job: Job
    frames: range
    bytes_read: int
    shards: TaskShards
    written: dict[Step, dict[Path, tuple[int, int] | None]]


class StoredBefore:
    """Images that steps of a user's own have stored in earlier tasks on a FOV.

    Parameters
    ----------
    context
        Of a task, whose `Task.inputs` say what is recorded.
    flow
        What is made from what.
    """

    def __init__(self, context: Files, flow: Flow) -> None:
        task, job = context.task, context.job
        self._context, self._recorded, self._folder = context, task.inputs or {}, job.fov_dir(task.fov)
        self._specs: dict[Image, list[ArraySpec]] = {
            image: specs_of(job, own, image, task.movie_shape)
            for own in flow.own
            if own.is_stored and applies(own.step, task.fov)
            for image in own.gives
        }

    def has(self, image: Image, start: int, stop: int) -> bool:
        """Check whether frames start to stop of an image are recorded, or this task has stored them on its GPU."""
        output, specs = self._context.job.output, self._specs.get(image, ())
        files = [self._file(spec, block) for spec in specs for block, *_ in self._pieces(start, stop)]
        if not files or (image.on_gpu and self._has_written(files, start, stop)):
            return bool(files)
        return all(file.relative_to(output).as_posix() in self._recorded for file in files)

    def _has_written(self, files: Sequence[Path], start: int, stop: int) -> bool:
        """Check whether this task has written frames of its batch, in an earlier pass, to all of some files."""
        context = self._context
        written = {file for of in context.written.values() for file in of}
        return context.frames.start <= start and stop <= context.frames.stop and written.issuperset(files)

    def read(self, image: Image, start: int, stop: int) -> np.ndarray:
        """(T, H, W) pixels of frames start to stop, or (T, Z, H, W) where frames have planes.

        Raises
        ------
        DamagedError
            If a file is not as it was recorded.
        """
        specs, pieces = self._specs[image], [*self._pieces(start, stop)]
        planes = (image.planes,) if image.planes else ()
        pixels = np.empty((stop - start, *planes, *specs[0].shape[1:]), image.dtype)
        for z, spec in enumerate(specs):
            plane = pixels[:, z] if image.planes else pixels
            for _, first, last in pieces:
                self._context.shards.read(self._folder / spec.store, spec, first, plane[first - start : last - start])
        self._context.bytes_read += pixels.nbytes
        pixels.flags.writeable = False
        return pixels

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the blocks with frames start to stop, each with its first one of these, and the one after the last."""
        length = self._context.job.block_frames
        for block in range(start // length, -(-stop // length)):
            yield block, max(start, block * length), min(stop, (block + 1) * length)

    def _file(self, spec: ArraySpec, block: int) -> Path:
        return spec.shard_file(self._folder / spec.store, block)
