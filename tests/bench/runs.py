"""Whole runs against the floor of reading and writing the same bytes, and with and without checks of inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import zarr
from support.shards import write_block

import pyama_dask
from bench.commands import config
from bench.spent import Spent, spent
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import make_movie
from pyama_dask.files.atomic import write_bytes
from pyama_dask.plan.resume import with_inputs
from pyama_dask.readers import open_reader
from pyama_dask.runs.planning import plan_run
from pyama_dask.store.crops import CellsWriter
from pyama_dask.store.layout import IMAGES, ArraySpec, layout
from pyama_dask.store.ngff import documents
from pyama_dask.workflow.task import Task

REPEATS = 2
"""Runs in turns, of which the fastest count."""


def against_the_floor(directory: Path) -> list[Row]:
    """CPU of a run of 48 frames, 2048 x 2048, 200 cells, against that of reading and writing the same bytes alone."""
    frames = 48
    make_movie(directory / "large", fovs=1, frames=frames, shape=(2048, 2048), cells=200)
    movie = directory / "large" / "movie.czi"
    pyama_dask.run(
        config(movie, directory / "warm") | {"params": {"frames": "0-1", "tracking_params": {"min_frames": 1}}}
    )
    whole, floor, plain = [], [], []
    for repeat in range(REPEATS):  # in turns, as the machine has better and worse minutes
        with spent() as run:
            pyama_dask.run(config(movie, directory / f"whole{repeat}"))
        whole.append(run.cpu)
        for found, write in ((floor, write_block), (plain, write_with_zarr)):
            output = directory / f"{write.__name__}{repeat}"
            found.append(_floor(movie, directory / f"whole{repeat}", output, write).cpu)
    ms, least, usual = (min(of) / frames * 1e3 for of in (whole, floor, plain))
    against = f"CPU of a whole run ({ms:.0f} ms a frame) against its floor"
    return [
        (f"{against}: the same bytes read and written ({least:.0f} ms)", f"{ms / least:.2f} times", "at most 2.0"),
        (f"the same, where zarr-python writes the floor ({usual:.0f} ms)", f"{ms / usual:.2f} times", ""),
    ]


def of_checksums(directory: Path) -> list[Row]:
    """CPU of a run in blocks of 8 frames that compares its inputs with their checksums, against one that does not."""
    movie, frames = directory / "checked" / "movie.czi", 48
    make_movie(movie.parent, fovs=1, frames=frames, shape=(2048, 2048), cells=200)
    spent_by = {with_inputs: list[float](), trusting: list[float]()}
    for repeat in range(2 * REPEATS + 1):  # the first compiles
        for given_inputs, cpu in spent_by.items():
            output = directory / f"{given_inputs.__name__}{repeat}"
            with patch("pyama_dask.execute.loop.with_inputs", given_inputs), spent() as run:
                pyama_dask.run(config(movie, output, storage={"block_frames": 8}))
            cpu.extend([run.cpu] * (repeat > 0))
    checked, unchecked = map(min, spent_by.values())
    what = f"CPU of checking what tasks read, against a run that does not ({unchecked / frames * 1e3:.0f} ms a frame)"
    return [(what, f"{checked / unchecked - 1:+.1%}", "at most +3 %")]


def trusting(task: Task, *_: object) -> Task:
    """Leave a task without the checksums of its inputs."""
    return task


def write_with_zarr(images: Path, spec: ArraySpec, start: int, data: np.ndarray) -> None:
    """Write a block as one would with zarr-python."""
    array = zarr.open_array(images / spec.path, mode="r+").with_config({"write_empty_chunks": True})
    array[start : start + len(data)] = data


def _floor(movie: Path, done: Path, output: Path, write: Callable[..., object]) -> Spent:
    plan, _ = plan_run(parse_config(config(movie, done)))
    job, shape = plan.job, plan.tasks[0].shape
    specs = layout(job, shape)
    arrays = {path: zarr.open_array(done / "fov_000" / IMAGES / path, mode="r")[:] for path in specs}
    crops = _crops(done / "fov_000" / "cells.zarr")
    images = output / "fov_000" / IMAGES
    with spent() as found:
        for path, content in documents(specs, scale=(1.0, 1.0), attributes={}).items():
            write_bytes(images / path, content)
        with open_reader(movie) as reader:
            for frame in range(job.n_frames):
                reader.read_frame(0, frame, channels=[0, 1])
        for path, spec in specs.items():
            for start, stop in job.blocks:
                write(images, spec, start, arrays[path][start:stop])
        with CellsWriter(output / "fov_000" / "cells.zarr") as writer:
            for product in {product for product, _, _ in crops}:
                writer.product(product, None)
            for product, cell, levels in crops:
                writer.crop(product, cell, levels)
    return found


def _crops(store: Path) -> list[tuple[str, int, list[np.ndarray]]]:
    found = []
    for group in sorted(store.glob("*_ch_*/*/zarr.json")) + sorted(store.glob("mask/*/zarr.json")):
        levels = [np.asarray(zarr.open_array(group.parent / level, mode="r")[:]) for level in "01"]
        found.append((group.parent.parent.name, int(group.parent.name), levels))
    return found
