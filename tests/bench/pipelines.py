"""Pipelines: CPU of a chain of steps against its functions alone, of Dask against scipy, memory, and a large plan."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import tifffile
from support import steps
from support.movies import as_nd2
from support.strategies import movie, plan_of

import pyama_dask
from bench.commands import config
from bench.scale import in_new_process
from bench.spent import spent
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.kernels.filters import gaussian
from pyama_dask.kernels.flat_field import correct
from pyama_dask.kernels.projections import max_projection
from pyama_dask.methods.array_types import to_type
from pyama_dask.methods.call import Chosen
from pyama_dask.readers.base import FovInfo
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps.runner import peak_memory

REPEATS = 3
"""Runs in turns, of which the fastest count."""
FRAMES, PLANES, SIZE = 12, 3, 2048
SEVEN = {"name": "cells", "input": "prepare", "steps": "seven"}


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    return [*of_chain(directory / "chain"), of_dask(), *of_large_plan(), *of_memory(directory / "memory")]


def _planes(frames: int) -> np.ndarray:
    """(1, T, C, Z, H, W) of a movie whose planes differ in their light."""
    data = DemoMovie(fovs=1, frames=frames, shape=(SIZE, SIZE), cells=200)
    flat = np.stack([[data[0, frame, channel] for channel in range(2)] for frame in range(frames)])
    return np.stack([flat - np.uint16(8 * k) for k in range(PLANES)], axis=2)[None]


def of_chain(directory: Path) -> list[Row]:
    """CPU of flat-field, Gaussian, projection and the seven, against the seven and the functions bare."""
    directory.mkdir()
    pixels = _planes(FRAMES)
    source = as_nd2(directory / "movie.nd2", pixels)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    profile = (1.1 - 0.2 * (x**2 + y**2)).astype(np.float32)
    profile /= profile.mean()
    tifffile.imwrite(directory / "profile.tif", profile)
    chosen = [
        {"do": "flat_field", "channels": "all", "profile": str(directory / "profile.tif")},
        {"do": "gaussian", "channels": ["GFP"], "sigma": 1},
        {"do": "max_projection", "over": "z"},
    ]
    chain = config(source, directory / "out", pipelines=[{"name": "prepare", "steps": chosen}, SEVEN])
    seven = config(source, directory / "out")
    seven["params"] |= {"z": 0}  # reads one plane
    fastest = dict.fromkeys(("chain", "seven", "bare"), inf)

    def bare() -> None:
        for frame in pixels[0]:
            corrected = [np.stack([correct(plane, profile) for plane in channel]) for channel in frame]
            corrected[1] = np.stack([gaussian(plane, sigma=1) for plane in corrected[1]])
            for channel in corrected:
                max_projection(channel)

    def run(name: str, document: Mapping[str, Any]) -> Callable[[], None]:
        outputs = (directory / f"{name}{k}" for k in itertools.count())

        def call() -> None:
            assert not pyama_dask.run({**document, "output": next(outputs)}).exit_status

        return call

    calls = {"chain": run("chain", chain), "seven": run("seven", seven), "bare": bare}
    for _ in range(REPEATS + 1):  # the first compiles, and is never the fastest
        for name, call in calls.items():
            with spent() as used:
                call()
            fastest[name] = min(fastest[name], used.cpu / FRAMES * 1000)
    found = {name: f"{cpu:.0f}" for name, cpu in fastest.items()}
    alone = fastest["seven"] + fastest["bare"]
    what = (
        f"CPU of a frame of 2 x {PLANES} x {SIZE} x {SIZE} through flat-field, Gaussian, projection and the seven "
        f"steps ({found['chain']} ms), against the seven alone ({found['seven']} ms) + the functions bare "
        f"on frames in memory ({found['bare']} ms)"
    )
    return [(what, f"{fastest['chain'] / alone:.2f} times", "at most 1.15 times")]


def of_dask() -> Row:
    """CPU of a Gaussian step through dask-image for a block, against scipy on the same frames."""
    stack = np.random.default_rng(0).integers(0, 4000, (8, SIZE // 2, SIZE // 2), np.uint16)
    step, alone = Chosen("step", "dask_image.ndfilters:gaussian_filter", sigma=[0, 1, 1]), inf
    through = inf
    for _ in range(2 * REPEATS):
        with spent() as used:
            made = to_type(step.lazy("here", to_type(stack, "dask")), "numpy")
        through = min(through, used.cpu)
        with spent() as used:
            expected = scipy.ndimage.gaussian_filter(stack, (0, 1, 1))
        alone = min(alone, used.cpu)
    assert np.array_equal(made, expected)
    what = f"CPU of a Gaussian through dask-image, 8 x 1024 x 1024, against scipy ({alone / 8 * 1e3:.1f} ms a frame)"
    return what, f"{through / alone:.2f} times", ""


# ------------------------------------------------------------------------------------------------ plans


def of_large_plan() -> list[Row]:
    """CPU and memory of the plan of a plate with two pipelines, in a process of its own."""
    cpu, memory, tasks = in_new_process(_large_plan)
    what = f"plan of 384 wells x 9 sites x 48 frames x 2 pipelines ({tasks} tasks), without reading the plate"
    return [(what, f"{cpu:.1f} s CPU, {memory:.0f} MiB in all", "5 s, 500 MiB")]


def _large_plan() -> tuple[float, float, int]:
    wells = [f"{row}{column:02}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    fovs = tuple(
        FovInfo(f"{well}_s{site}", (SIZE, SIZE), well=well, site=site) for well in wells for site in range(1, 10)
    )
    plate = dataclasses.replace(movie(fovs=len(fovs), frames=48), fovs=fovs)
    chosen = [
        {"do": "gaussian", "channels": ["C1"], "sigma": 1},
        {"do": "dask_image.ndfilters:gaussian_filter", "sigma": [1, 0, 0], "channels": ["C1"]},
    ]
    pipelines = [{"name": "prepare", "steps": chosen}, SEVEN]
    plan_of(dataclasses.replace(plate, fovs=fovs[:1], times_min=plate.times_min[:1]), pipelines=pipelines)  # imports
    with spent() as used:
        plan = plan_of(plate, pipelines=pipelines)
    return used.cpu, peak_memory() / 2**20, len(plan.tasks)


# ----------------------------------------------------------------------------------------------- memory

MEAN = {"do": f"{steps.__file__}:mean_of_three", "halo": 1}
DASK = {"do": "dask_image.ndfilters:gaussian_filter", "sigma": [1, 1, 1]}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "frames": [{"do": "gaussian", "sigma": 1}, {"do": "top_hat", "radius": 5}],
    "stacks with a halo": [MEAN | {"channels": [1]}, {"do": "gaussian", "channels": [1]}],
    "stacks of both channels": [MEAN, MEAN],
    "Dask": [DASK | {"channels": [1]}, DASK | {"channels": [1]}],
    "planes": [{"do": "gaussian", "sigma": 1}, {"do": "max_projection", "over": "z"}],
}


def of_memory(
    directory: Path, blocks: Sequence[int] = (4, 16), chains: Sequence[str] = tuple(CHAINS), size: int = SIZE
) -> list[Row]:
    """Peak of a worker's tasks of chains against what the plan says of them, on frames of 2048 x 2048."""
    directory.mkdir()
    flat = DemoMovie(fovs=1, frames=2, shape=(size, size), cells=size // 20)
    frames = [np.stack([flat[0, frame, channel] for channel in range(2)]) for frame in range(2)]
    pixels = np.stack([frames[k % 2] for k in range(max(blocks))])[None]
    sources = {"plain": as_nd2(directory / "plain.nd2", pixels)}
    sources["planes"] = as_nd2(directory / "planes.nd2", np.stack([pixels[:, :4]] * 3, axis=3))
    rows = []
    for name, with_seven in product(chains, (False, True)):
        for block in blocks:
            pipelines = [{"name": "prepare", "steps": CHAINS[name]}, *([SEVEN] if with_seven else [])]
            document = config(
                sources["planes" if name == "planes" else "plain"], directory / "out", pipelines=pipelines,
                storage={"block_frames": block}, cluster={"workers": 1, "dashboard": "127.0.0.1:0"},
            )  # fmt: skip
            planned, peak = _planned_and_peak(document)
            what = f"peak of {name}{' and the seven' if with_seven else ''}, blocks of {block} x {size} x {size}"
            rows.append((what, f"{peak / 2**20:.0f} MiB, plan {planned / peak:.2f} times", "plan 1 to 2 times"))
            shutil.rmtree(directory / "out")
    return rows


def _planned_and_peak(document: dict[str, Any]) -> tuple[int, int]:
    """Memory that the plan says of the task that comes closest to it, or exceeds it most, and its peak in a worker."""
    plan = plan_run(parse_config(document))[0]
    memory = {task.key: task.memory for task in plan.tasks}
    assert not pyama_dask.run(document).exit_status
    entries = [json.loads(line) for line in (document["output"] / LEDGER).read_text().splitlines()]
    done = {entry["done"]["key"]: int(entry["done"]["peak_memory"]) for entry in entries if "done" in entry}
    key = min(memory, key=lambda key: memory[key] / done[key])
    return memory[key], done[key]
