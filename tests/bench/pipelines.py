"""Pipelines: CPU of a chain of steps against its functions alone, of Dask against scipy, memory, and a large plan."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from support.movies import as_nd2

import pyama_dask
from bench.runs import config, spent
from bench.table import Row
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.kernels.filters import gaussian
from pyama_dask.kernels.flat_field import correct
from pyama_dask.kernels.projections import max_projection

REPEATS = 3
"""Runs in turns, of which the fastest count."""
FRAMES, PLANES, SIZE = 12, 3, 2048
SEVEN = {"name": "cells", "input": "prepare", "steps": "seven"}


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    return of_chain(directory / "chain")


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
    steps = [
        {"do": "flat_field", "channels": "all", "profile": str(directory / "profile.tif")},
        {"do": "gaussian", "channels": ["GFP"], "sigma": 1},
        {"do": "max_projection", "over": "z"},
    ]
    chain = config(source, directory / "out", pipelines=[{"name": "prepare", "steps": steps}, SEVEN])
    seven = config(source, directory / "out")
    seven["params"] |= {"z": 0}  # reads one plane
    fastest = dict.fromkeys(("chain", "seven", "bare"), inf)

    def bare() -> None:
        for frame in pixels[0]:
            corrected = [np.stack([correct(plane, profile) for plane in channel]) for channel in frame]
            corrected[1] = np.stack([gaussian(plane, sigma=1) for plane in corrected[1]])
            for channel in corrected:
                max_projection(channel)

    def run(document: Mapping[str, Any]) -> Callable[[], None]:
        def call() -> None:
            assert not pyama_dask.run(document).exit_status
            shutil.rmtree(directory / "out")

        return call

    calls = {"chain": run(chain), "seven": run(seven), "bare": bare}
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
