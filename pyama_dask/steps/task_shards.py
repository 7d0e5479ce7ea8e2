"""Shards that a task reads and writes frame by frame; what it reads is compared with its checksums."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from pyama_dask.errors import DamagedError, StoreError
from pyama_dask.files.checksums import MISSING, fault
from pyama_dask.store.crop_parts import PartReader
from pyama_dask.store.layout import ArraySpec
from pyama_dask.store.shards import ShardReader, ShardWriter
from pyama_dask.workflow.task import Job, Task

OPEN_READERS = 8
"""Largest number of shards that are open for reading."""
READ_WRONGLY = "was read with other bytes than recorded, which it has now"
"""Fault of a shard on a disk, or in memory, that is not to be trusted."""


class TaskShards:
    """Shards of a task, and parts of crops that it reads.

    Their bytes are compared as they are read, so that nothing is read twice: `check` does so at the end of the task,
    before its results are recorded.

    Parameters
    ----------
    task, job
        What is done; `Task.inputs` has the recorded checksums.
    """

    def __init__(self, task: Task, job: Job) -> None:
        self._inputs, self._job = task.inputs, job
        self._writers: dict[Path, ShardWriter] = {}
        self._readers: dict[Path, ShardReader] = {}
        self._parts: dict[Path, PartReader] = {}
        self._unchecked: dict[Path, None] = {}
        self._written: set[Path] = set()

    def write(self, images: Path, spec: ArraySpec, start: int, frames: np.ndarray) -> ShardWriter:
        """Add frames to the shard of a block, which is in its place when it has all frames.

        Parameters
        ----------
        images, spec
            The store, and its array.
        start
            First frame.
        frames
            (n, H, W) pixels of the array's type.
        """
        writer = self._writer(images, spec, start)
        writer.add(frames)
        return self._written_by(writer)

    def write_rows(self, images: Path, spec: ArraySpec, frame: int, row: int, rows: np.ndarray) -> ShardWriter:
        """Add rows of a frame to the shard of a block, as `ShardWriter.add_rows` takes them.

        Parameters
        ----------
        images, spec
            The store, and its array.
        frame, row
            The frame, and its first one of these rows.
        rows
            (h, W) pixels of the array's type.
        """
        writer = self._writer(images, spec, frame, is_begun=row > 0)
        writer.add_rows(row, rows)
        return self._written_by(writer)

    def _writer(self, images: Path, spec: ArraySpec, start: int, *, is_begun: bool = False) -> ShardWriter:
        """Writer of the shard with a frame; a new one for the first frame of a block, unless that is begun."""
        block, first = divmod(start, spec.block_frames)
        file = spec.shard_file(images, block)
        if first == 0 and not is_begun:
            self.drop(file)
            self._writers[file] = ShardWriter(images, spec, block, direct=self._direct(spec))
        return self._writers[file]

    def _written_by(self, writer: ShardWriter) -> ShardWriter:
        if writer.checksum is not None:
            self._written.add(writer.file)
            del self._writers[writer.file]
        return writer

    def read(self, images: Path, spec: ArraySpec, start: int, out: np.ndarray) -> None:
        """Read (n, H, W) frames of a block, from frame `start` on, into `out`.

        Raises
        ------
        DamagedError
            If the shard is not recorded.
        StoreError
            If it cannot be read.
        """
        block, first = divmod(start, spec.block_frames)
        self._reader(images, spec, block).read(first, out)

    def _reader(self, images: Path, spec: ArraySpec, block: int) -> ShardReader:
        file = spec.shard_file(images, block)
        if file not in self._readers:
            while len(self._readers) >= OPEN_READERS:
                self._check(next(iter(self._readers)))
            if file not in self._written:
                self._will_check(file)
            self._readers[file] = ShardReader(images, spec, block, direct=self._direct(spec))
        return self._readers[file]

    def part_of_crops(self, file: Path) -> PartReader:
        """Reader of a part of crops, which `check` compares; raises `DamagedError` if it is not recorded."""
        if file not in self._parts:
            self._will_check(file)
            self._parts[file] = PartReader(file, direct=self._job.direct_io)
        return self._parts[file]

    def _will_check(self, file: Path) -> None:
        if self._inputs is not None:
            if self._name(file) not in self._inputs:
                raise self._damaged(file, MISSING)
            self._unchecked[file] = None

    def _direct(self, spec: ArraySpec) -> bool:
        return self._job.direct_io and spec.shards is not None

    def drop(self, file: Path) -> None:
        """Give up a shard that is not complete, and remove what was written of it."""
        if file in self._writers:
            self._writers.pop(file).drop()

    def check(self) -> None:
        """Compare what was read with its recorded checksums.

        Raises
        ------
        DamagedError
            If one is not as it was recorded.
        """
        for file in [*self._unchecked]:
            self._check(file)

    def _check(self, file: Path) -> None:
        """Close a shard that was read, or a part, and compare it if that was not done."""
        reader, part = self._readers.pop(file, None), self._parts.pop(file, None)
        try:
            if file in self._unchecked and self._inputs is not None:
                recorded, found = self._inputs[self._name(file)], None
                with suppress(StoreError):
                    found = by.checksum() if (by := reader or part) else None
                problem = fault(file, recorded, deep=True) if found != recorded else None
                if problem or (by and found != recorded):
                    raise self._damaged(file, problem or READ_WRONGLY)
            self._unchecked.pop(file, None)
        finally:
            if reader:
                reader.close()

    def _name(self, file: Path) -> str:
        return file.relative_to(self._job.output).as_posix()

    def _damaged(self, file: Path, problem: str) -> DamagedError:
        return DamagedError(f"{file}: {problem}. Fix: run again, it is regenerated", self._name(file))

    def close(self) -> None:
        """Close all files, and remove shards that are not complete."""
        for file in [*self._writers]:
            self.drop(file)
        while self._readers:
            self._readers.popitem()[1].close()
