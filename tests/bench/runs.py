"""Whole runs: against the floor of reading and writing the same bytes, and on two workers against one."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import zarr

import pyama_dask
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import make_movie
from pyama_dask.files.atomic import write_bytes
from pyama_dask.launch import local_cluster
from pyama_dask.plan.resume import with_inputs
from pyama_dask.readers import open_reader
from pyama_dask.runs.planning import plan_run
from pyama_dask.store.arrays import write_block
from pyama_dask.store.crops import CellsWriter
from pyama_dask.store.layout import IMAGES, ArraySpec, layout
from pyama_dask.store.ngff import documents
from pyama_dask.workflow.task import Task

REPEATS = 2
"""Runs in turns, of which the fastest count."""


@dataclass
class Spent:
    """CPU and wall seconds."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def spent() -> Iterator[Spent]:
    """Measure what this process spends in the block."""
    found, cpu, wall = Spent(), _cpu(), time.perf_counter()
    yield found
    found.cpu, found.wall = _cpu() - cpu, time.perf_counter() - wall


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def config(movie: Path, output: Path, **more: Any) -> dict[str, Any]:
    """Config with all features of one fluorescence channel."""
    return {
        "input": movie,
        "output": output,
        "channels": {
            "pc": {"channel": 0, "features": ["area", "aspect_ratio"]},
            "fl": [{"channel": 1, "features": ["intensity_total", "intensity_mean"]}],
        },
        "params": {"tracking_params": {"min_frames": 2}},
        "cluster": {"kind": "serial"},
    } | more


def against_the_floor(directory: Path) -> list[Row]:
    """CPU of a run of 48 frames, 2048 x 2048, 200 cells, against that of reading and writing the same bytes alone."""
    frames = 48
    make_movie(directory / "large", fovs=1, frames=frames, shape=(2048, 2048), cells=200)
    movie = directory / "large" / "movie.czi"
    pyama_dask.run(
        config(movie, directory / "warm") | {"params": {"frames": "0-1", "tracking_params": {"min_frames": 1}}}
    )
    whole, floor, plain = [], [], []
    for _ in range(REPEATS):  # in turns, as the machine has better and worse minutes
        shutil.rmtree(directory / "whole", ignore_errors=True)
        with spent() as run:
            pyama_dask.run(config(movie, directory / "whole"))
        whole.append(run.cpu)
        for found, write in ((floor, write_block), (plain, write_with_zarr)):
            found.append(_floor(movie, directory / "whole", directory / "floor", write).cpu)
            shutil.rmtree(directory / "floor")
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
            with patch("pyama_dask.execute.loop.with_inputs", given_inputs), spent() as run:
                pyama_dask.run(config(movie, directory / "out", storage={"block_frames": 8}))
            shutil.rmtree(directory / "out")
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


def on_two_workers(directory: Path) -> list[Row]:
    """Wall time of a run's body on two workers against one, for four FOVs and for one."""
    rows = []
    for fovs, frames, target in ((4, 64, "at least 1.85"), (1, 128, "at least 1.7")):
        make_movie(directory / f"fovs{fovs}", fovs=fovs, frames=frames, shape=(1024, 1024), cells=60)
        movie = directory / f"fovs{fovs}" / "movie.czi"
        body: dict[int, list[float]] = {1: [], 2: []}
        for repeat in range(REPEATS):
            for workers, found in body.items():
                output = directory / f"out{fovs}_{workers}_{repeat}"
                found.append(_body(movie, output, workers))
                shutil.rmtree(output)
        one, two = (min(found) for found in body.values())
        what = f"{fovs} FOV{'s' * (fovs > 1)} x {frames} frames, 1024 x 1024"
        rows.append((f"wall time of {what}: 1 worker ({one:.1f} s) against 2", f"{one / two:.2f} times", target))
    return rows


def _body(movie: Path, output: Path, workers: int) -> float:
    """Seconds from the first task to the last, on workers that have done a run before."""
    given = parse_config(config(movie, output, cluster={"workers": workers}))
    started: list[float] = []
    with local_cluster(given.cluster) as client:
        warm: Callable[..., Any] = pyama_dask.run
        warm(config(movie, output.with_name(output.name + "_warm")) | {"storage": {"block_frames": 4}}, client=client)
        pyama_dask.run(given, client=client, on_start=lambda *_: started.append(time.perf_counter()))
        return time.perf_counter() - started[0]
