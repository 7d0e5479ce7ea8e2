"""Free space on the output's file system, compared with what a run still needs."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyama_dask.errors import DiskError, OutputError
from pyama_dask.files.atomic import disk_error
from pyama_dask.plan.plan import Plan
from pyama_dask.steps.own_arrays import own_arrays
from pyama_dask.store.layout import ArraySpec, layout, products
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.plate import half_arrays, is_second_name

USUAL = {"raw": 0.6, "labels": 0.05, "background": 0.5, "display": 0.3}
"""Compressed fraction of an array's size in typical movies of cells, by role."""
LEAST = {"raw": 0.2, "labels": 0.0, "background": 0.0, "display": 0.0}
"""Smallest possible fraction, because the noise of a camera cannot be compressed."""


@dataclass(frozen=True)
class Room:
    """Bytes that a run needs, and free bytes."""

    least: int
    """Bytes that it needs even with the best compression."""
    about: int
    """Bytes for typical movies of cells, without crops, whose number is unknown."""
    free: int
    takes_files: bool
    """False if the file system allows no more files."""

    def __str__(self) -> str:
        files = "" if self.takes_files else ", but no further file (its inodes are used up)"
        return f"about {gib(self.about)} are still to be written, and {gib(self.free)} are free{files}"


def room(plan: Plan, ledger: Ledger) -> Room:
    """Compare the bytes that the tasks of a plan write with the free space; files to be replaced count as free."""
    exists = next(folder for folder in (plan.job.output, *plan.job.output.parents) if folder.exists())
    replaced = sum(
        size
        for task in plan.tasks
        for step in task.digests
        for path, (size, _) in ledger.task(task.key).files.get(step, {}).items()
        if not is_second_name(path) and (plan.job.output / path).exists()
    )
    written = _frames_written(plan)
    least, about = (int(sum(n * _stored(spec, part) for spec, n in written.items())) for part in (LEAST, USUAL))
    disk = shutil.disk_usage(exists)
    free = disk.free if disk.total else sys.maxsize  # some file systems do not say
    inodes = os.statvfs(exists)
    return Room(least, about, free + replaced, inodes.f_favail > 0 or not inodes.f_files)


def check_room(plan: Plan, ledger: Ledger) -> list[str]:
    """Refuse a run that cannot fit.

    Returns
    -------
    Warning if the run may not fit.

    Raises
    ------
    OutputError
        If the pixels cannot fit even with the best compression.
    """
    there = room(plan, ledger)
    if there.free >= there.about:
        return []
    remedy = "free space, choose another 'output', or store less ('storage')"
    message = f"{plan.job.output}: has too little room: {there}. Fix: {remedy}"
    if there.free < there.least:
        raise OutputError(message)
    return [message]


@contextmanager
def amounts_told(left: Plan, ledger: Ledger) -> Iterator[None]:
    """Add needed and free bytes to the message of a disk-full error inside the block.

    Raises
    ------
    DiskError
        If a write in the block finds the disk full; it replaces the original error.
    """
    try:
        yield
    except OSError as error:
        if stop := disk_error(error, left.job.output):
            raise with_amounts(stop, left, ledger) from error
        raise


def with_amounts(error: DiskError, left: Plan, ledger: Ledger) -> DiskError:
    """Error with the needed and free bytes added; a disk that became read-only may have any amount free.

    Inodes that were used up may be free again, as files that were not complete are removed.
    """
    there = room(left, ledger)
    is_full = os.strerror(errno.ENOSPC) in str(error)
    puzzling = is_full and there.takes_files and there.free > there.about
    more = ". If that is enough for the crops, too, its inodes or a quota were used up: see 'df -i'" if puzzling else ""
    return DiskError(f"{error}; {there}{more}")


def _frames_written(plan: Plan) -> Counter[ArraySpec]:
    """Number of frames that the tasks of a plan write, by array; equal arrays of several FOVs count together."""
    job, frames = plan.job, Counter[ArraySpec]()
    shapes = {task.movie_shape: task.shape for task in plan.tasks}
    specs = {
        movie: layout(job, shape) | half_arrays(job, shape) | own_arrays(job, movie) for movie, shape in shapes.items()
    }
    for task in plan.tasks:
        for spec in (
            spec
            for step in task.digests
            for spec in products(specs[task.movie_shape], plan.graph.by_kind[task.kind, step])
        ):
            frames[spec] += task.stop - task.start
    return frames


def _stored(spec: ArraySpec, part: Mapping[str, float]) -> float:
    """Estimated bytes of a compressed frame."""
    if spec.codec == "none" or spec.level == "tiles":
        return spec.frame_bytes
    kind = (
        "display" if spec.role == "display" else "raw" if spec.is_raw else "labels" if spec.is_labels else "background"
    )
    return spec.frame_bytes * part[kind]


def gib(size: int) -> str:
    """Format a number of bytes, such as ``1.5 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
