"""Context of a task: the arrays of its block, its tables, and a record of what it read and wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pyama_dask.errors import DamagedError, PlanError
from pyama_dask.files.checksums import MISSING, fault
from pyama_dask.kernels import scratch
from pyama_dask.readers import SharedMovie, shared_movie
from pyama_dask.steps.flow import COPIED, Flow, Image, flow_of
from pyama_dask.steps.own_arrays import own_table_file
from pyama_dask.steps.own_images import OwnImages, as_stored
from pyama_dask.steps.read_back import StoredBefore
from pyama_dask.steps.task_shards import TaskShards
from pyama_dask.store import intermediate
from pyama_dask.store.cancel import check_wanted
from pyama_dask.store.crop_parts import PartReader
from pyama_dask.store.layout import (
    IMAGES,
    ArraySpec,
    Level,
    channel_indices,
    channel_of,
    layout,
    raw_name,
)
from pyama_dask.store.shards import ShardWriter
from pyama_dask.store.trace_csv import read_shifts
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Job, Task

Shared = TypeVar("Shared")

DISPLAY_FAULTS = (OSError, RuntimeError, ValueError, ArithmeticError)
"""Errors that lose a display level and give a warning, instead of failing the FOV."""

SINGLE_FRAMES = 4
"""Number of frames that are kept in memory of those read one by one."""


class TaskContext:
    """Reads and writes the data of the parts of a task, and keeps them in memory for later parts.

    It holds one batch of frames at a time, `frames`: the whole block, unless the task uses smaller batches.

    Parameters
    ----------
    task, job
        What is to be done.
    """

    def __init__(self, task: Task, job: Job) -> None:
        self.task, self.job, self.params = task, job, job.config.params
        self.pc, self.fl = channel_indices(job.config)
        self.images = job.fov_dir(task.fov) / IMAGES
        self.work = job.work_dir(task.fov)
        self.specs = layout(job, task.shape)
        self.spent: dict[Step, float] = dict.fromkeys(task.digests, 0.0)
        """Seconds of work for each step."""
        self.step: Step = next(iter(task.digests))
        """Current step."""
        self._since = time.perf_counter()
        self.shards = TaskShards(task, job)
        """Shards of arrays that the task reads and writes."""
        self.written: dict[Step, dict[Path, tuple[int, int] | None]] = {step: {} for step in task.digests}
        """Files that each step has written, with size and CRC-32C where these are known."""
        self.warnings: list[tuple[Step, str]] = []
        self.notes: dict[Step, dict[str, int]] = {}
        self.provides: dict[Step, dict[str, list[str]]] = {step: {} for step in task.digests}
        """Digests of what parts on blocks read from each step; see `Receipt`."""
        self.bytes_read = self.bytes_written = 0
        self.frames_read: dict[int, int] = {}
        """CRC-32C of every frame of the block that was read from the movie, by its number in the output."""
        self.frames = range(task.start, task.stop)
        self._held: dict[str, np.ndarray] = {}
        self.drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Tracks and boxes of the fills that were drawn, by frame."""
        self._single: dict[tuple[str, int], np.ndarray] = {}
        self._verified: set[Path] = set()
        self._shifts: dict[Step, np.ndarray] = {}
        self._shared: dict[tuple[object, int], Any] = {}

    @property
    def phase(self) -> int:
        """Index of the phase channel; raises `PlanError` without one."""
        if self.pc is None:
            raise PlanError(f"{self.task.key}: needs a phase-contrast channel (channels.pc)")
        return self.pc

    @property
    def movie(self) -> SharedMovie:
        """Open movie, which must be the one that the run was planned for."""
        if self.job.snapshot is None:
            raise PlanError(f"{self.task.key}: needs a snapshot of the movie to read frames")
        return shared_movie(self.job.snapshot)

    def begin(self, step: Step) -> None:
        """Switch to a step: time, files and warnings count for it from now on."""
        now = time.perf_counter()
        self.spent[self.step] += now - self._since
        self.step, self._since = step, now

    def batches(self) -> Iterator[range]:
        """Yield the batches of frames one by one; memory of the previous one is used again."""
        length = self.task.frames_at_once
        for start in range(self.task.start, self.task.stop, length):
            self._held.clear()
            self.own_images.forget()
            self.frames = range(start, min(start + length, self.task.stop))
            yield self.frames

    def close(self) -> None:
        """Close all files, and free all arrays; else they would stay until Python looks for cycles of objects."""
        self.shards.close()
        self._held.clear()
        self._single.clear()
        self._shared.clear()
        self.own_images.forget()

    @cached_property
    def flow(self) -> Flow:
        """Flow of images through the pipelines of the config."""
        return flow_of(self.job.config)

    @cached_property
    def own_images(self) -> OwnImages:
        """Images that steps of a user's own give."""
        return OwnImages(self, self.flow, StoredBefore(self, self.flow))

    @property
    def block(self) -> int:
        """Number of the block."""
        return self.task.start // self.job.block_frames

    @property
    def raw_groups(self) -> list[str]:
        """Groups of the raw channels, phase first."""
        phase = [] if self.pc is None else [raw_name("pc", self.pc)]
        return phase + [raw_name("fl", channel) for channel in self.fl]

    def get(self, group: str, level: Level = 0) -> np.ndarray:
        """Current batch's piece of an array, from memory if the task has it."""
        spec = self.spec(group, level)
        if spec.path not in self._held:
            array = self._empty(spec)
            self.shards.read(self.images, spec, self.frames.start, array)
            self.bytes_read += array.nbytes
            self._held[spec.path] = array
        return self._held[spec.path]

    def _empty(self, spec: ArraySpec) -> np.ndarray:
        """Array for the current batch's piece of an array."""
        return scratch.empty((len(self.frames), *spec.shape[1:]), spec.dtype)

    def seen(self, step: Step, group: str) -> np.ndarray:
        """(frames of the batch, H, W) grey levels of a raw channel as one of the seven steps gets them.

        They are those of the raw array, unless steps of the user's own come between.
        """
        image = self.flow.seen.get(step, {}).get(str(channel_of(group)))
        if image is None or image.origin == COPIED:
            return self.get(group)
        key = f"{group} for {step}"
        if key not in self._held:
            self._held[key] = np.stack([self.grey_levels(image, frame) for frame in self.frames])
        return self._held[key]

    def grey_levels(self, image: Image, frame: int) -> np.ndarray:
        """(H, W) 16-bit grey levels of an image of a pipeline; warns of those that are out of range."""
        levels, out_of_range = as_stored(self.own_images.frame(image, frame))
        if out_of_range:
            self.warn(
                f"FOV {self.task.fov}: {image.made_by} gives grey levels below 0 or above 65535, which are clipped. "
                "Fix: scale its result to 16 bits"
            )
        return levels

    def shifts_for(self, step: Step) -> np.ndarray:
        """(T, 2) shifts y, x in pixels of the FOV's frames that a step of a user's own undoes."""
        if step not in self._shifts:
            own, fov = self.flow.steps[step], self.task.fov
            path = own_table_file(self.job.fov_dir(fov), self.job.source, fov, own)
            self._shifts[step] = read_shifts(self.verified(path))
        return self._shifts[step]

    def one_frame(self, group: str, frame: int) -> np.ndarray:
        """(H, W) frame of an array at full resolution, of any block whose files the task may read."""
        spec = self.spec(group)
        if frame in self.frames and spec.path in self._held:
            return np.asarray(self._held[spec.path][frame - self.frames.start])
        if (spec.path, frame) not in self._single:
            if len(self._single) >= SINGLE_FRAMES:
                self._single.pop(next(iter(self._single)))
            pixels = scratch.empty((1, *spec.shape[1:]), spec.dtype)
            self.shards.read(self.images, spec, frame, pixels)
            self._single[spec.path, frame] = pixels[0]
            self.bytes_read += spec.frame_bytes
        return self._single[spec.path, frame]

    def room(self, group: str, level: Level = 0) -> np.ndarray:
        """Array for the current batch's piece, which a part fills frame by frame and then passes to `put`."""
        spec = self.spec(group, level)
        if spec.path not in self._held:
            self._held[spec.path] = self._empty(spec)
        return self._held[spec.path]

    def put(self, group: str, data: np.ndarray, level: Level = 0) -> None:
        """Write the current batch's piece of an array, and keep it in memory for later parts of the task.

        Parameters
        ----------
        group
            Group of the array, such as ``seg_labeled_ch_0``.
        data
            (frames of the batch, H, W) in the array's dtype.
        level
            Level in the group.
        """
        spec = self.spec(group, level)
        self.store(self.images, spec, data)
        self._held[spec.path] = data

    def store(self, folder: Path, spec: ArraySpec, data: np.ndarray) -> None:
        """Write the current batch's piece of an array of any store, (frames of the batch, H, W)."""
        self.check()
        if data.size:
            self._stored(self.shards.write(folder, spec, self.frames.start, data), data)

    def put_rows(self, group: str, k: int, row: int, rows: np.ndarray) -> None:
        """Write a part of the batch's frame k at full resolution; it is not kept.

        Parameters
        ----------
        group
            Group of the array.
        k
            Number of the frame in the batch.
        row
            Number of the first row; all rows of the array come in order.
        rows
            (h, W) in the array's dtype: all rows of some chunks.
        """
        if rows.size:
            self._stored(self.shards.write_rows(self.images, self.spec(group), self.frames[k], row, rows), rows)

    def _stored(self, shard: ShardWriter, data: np.ndarray) -> None:
        self.bytes_written += data.nbytes
        if shard.checksum is not None:
            self.wrote(shard.file, shard.checksum)

    def drop(self, group: str) -> None:
        """Free a piece at full resolution that none of the seven steps needs any more.

        Steps of a user's own may need it, and read it again. That is impossible before its shard has all frames.
        """
        if self.flow.own and len(self.frames) < self.task.stop - self.task.start:
            return
        self._held.pop(f"{group}/0", None)
        self._held.pop(f"{group} for {self.step}", None)

    def remove(self, group: str, level: Level) -> None:
        """Remove the files written to an array."""
        file = self.spec(group, level).shard_file(self.images, self.block)
        self.shards.drop(file)
        file.unlink(missing_ok=True)
        self.written[self.step].pop(file, None)

    def shared(self, make: Callable[[TaskContext, int], Shared], channel: int) -> Shared:
        """Object of a channel that several parts of the task use; the first one that asks makes it."""
        if (make, channel) not in self._shared:
            self._shared[make, channel] = make(self, channel)
        found: Shared = self._shared[make, channel]
        return found

    def verified(self, path: Path) -> Path:
        """Compare a file that is about to be read with its recorded checksum, and return its path.

        Wrong bytes must not go into a result. Files that this task has written itself are not compared.

        Raises
        ------
        DamagedError
            If the file is not as it was recorded.
        """
        mine = path in self._verified or any(path in files for files in self.written.values())
        if not mine and self.task.inputs is not None:
            name = path.relative_to(self.job.output).as_posix()
            recorded = self.task.inputs.get(name)
            found = MISSING if recorded is None else fault(path, recorded, deep=True)
            if found:
                raise DamagedError(f"{path}: {found}. Fix: run again, it is regenerated", name)
            self._verified.add(path)
        return path

    def has(self, path: Path) -> bool:
        """Check whether a file is recorded that older versions do not write."""
        if self.task.inputs is None:
            return path.exists()
        return path.relative_to(self.job.output).as_posix() in self.task.inputs

    def check(self) -> None:
        """Check that the task may continue; called for every frame, and for every cell while cells are written.

        Raises
        ------
        CancelledError
            If the run was cancelled.
        """
        check_wanted(self.job)

    def warn(self, message: str) -> None:
        """Add a warning of the current step to the report, once."""
        if (self.step, message) not in self.warnings:
            self.warnings.append((self.step, message))

    def note(self, **counts: int) -> None:
        """Record counts for the report."""
        self.notes[self.step] = counts

    def wrote(self, path: Path, checksum: tuple[int, int] | None = None) -> None:
        """Record a written file for the receipt, with its size and CRC-32C if these are known."""
        self.written[self.step][path] = checksum

    def checksum_of(self, file: Path) -> tuple[int, int] | None:
        """Size and CRC-32C of a file that this task, or an earlier one, has written; None if they are not known."""
        mine = next((files[file] for files in self.written.values() if file in files), None)
        return mine or (self.task.inputs or {}).get(file.relative_to(self.job.output).as_posix())

    def spec(self, group: str, level: Level = 0) -> ArraySpec:
        """Spec of an array; see `fitted`."""
        return self.fitted(self.specs[f"{group}/{level}"])

    def fitted(self, spec: ArraySpec) -> ArraySpec:
        """Spec with the dtype that holds all ids, if it is one of tracked labels."""
        return spec.for_tracks(int(self.tracks["count"])) if spec.is_tracked else spec

    @cached_property
    def tracks(self) -> dict[str, np.ndarray]:
        """Tracks of the FOV: ``boxes`` and track ``ids`` of the objects of every frame, and the number of tracks."""
        return intermediate.load(self.verified(intermediate.tracks_file(self.work)))

    @cached_property
    def cells(self) -> dict[str, np.ndarray]:
        """The kept cells: ``ids`` (N,), ``boxes`` (N, T, 4), and ``valid`` (N, T), the frames they were seen in."""
        return intermediate.load(self.verified(intermediate.cells_file(self.work)))

    @property
    def display_windows_file(self) -> Path:
        """File with the grey levels between which display levels are scaled."""
        return intermediate.windows_file(self.work)

    @property
    def crop_windows_file(self) -> Path:
        """File with the grey levels between which crops are scaled."""
        return self.work / "crop_windows.npz"

    @cached_property
    def display_windows(self) -> dict[str, np.ndarray]:
        """Grey levels (low, high) by group between which display levels are scaled."""
        return intermediate.load(self.verified(self.display_windows_file))

    @cached_property
    def crop_windows(self) -> dict[str, np.ndarray]:
        """Grey levels (low, high) by group between which crops are scaled."""
        return intermediate.load(self.verified(self.crop_windows_file))

    def block_files(self, what: str) -> list[Path]:
        """Verified files of all blocks with a table."""
        files = (intermediate.block_file(self.work, what, block) for block in range(len(self.job.blocks)))
        return [self.verified(file) for file in files]

    def parts_of_crops(self, product: str) -> list[PartReader]:
        """Parts of a product's crops of all blocks."""
        files = (intermediate.part_file(self.work, product, block) for block in range(len(self.job.blocks)))
        return [self.shards.part_of_crops(file) for file in files]

    def at(self, frame: int) -> str:
        """Name of a frame for messages, with its number in the movie if that differs."""
        number = self.job.frames[frame]
        return f"{self.task.place}, frame {frame}" + ("" if number == frame else f" (frame {number} of the movie)")
