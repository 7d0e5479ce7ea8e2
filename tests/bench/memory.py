"""Peak memory of a worker against the length of the movie, and against what the plan says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import pyama_dask
from bench.runs import config
from bench.table import Row
from pyama_dask.config import parse_config
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.demo.write_czi import write_czi
from pyama_dask.pipeline import plan_run
from pyama_dask.report import LEDGER

LENGTHS = (32, 256)


class BackAndForth:
    """A movie of any length that runs through a short one, back and forth."""

    def __init__(self, movie: DemoMovie, frames: int) -> None:
        fovs, self._period, *rest = movie.shape
        self.shape, self.dtype = (fovs, frames, *rest), movie.dtype
        self._planes = {index: movie[index] for index in np.ndindex(*movie.shape[:3])}

    def __getitem__(self, index: tuple[int, int, int]) -> np.ndarray:
        fov, frame, channel = index
        there, back = frame % (2 * self._period - 2), -frame % (2 * self._period - 2)
        return self._planes[fov, min(there, back), channel]


def against_length(directory: Path) -> list[Row]:
    """Peak of one worker for a short and a long movie, 2048 x 2048, two channels, 200 cells."""
    short = DemoMovie(fovs=1, frames=8, shape=(2048, 2048), cells=200)
    peaks, planned = [], []
    for frames in LENGTHS:
        movie = directory / f"movie{frames}.czi"
        write_czi(movie, BackAndForth(short, frames), channel_names=short.channel_names)
        document = config(movie, directory / f"memory{frames}", cluster={"workers": 1})
        planned.append(plan_run(parse_config(document))[0].memory)
        pyama_dask.run(document)
        peaks.append(_peak(directory / f"memory{frames}"))
        movie.unlink()
    mib = [f"{peak / 2**20:.0f}" for peak in peaks]
    name = f"peak memory of a worker, 2048 x 2048, 2 channels, {LENGTHS[0]} and {LENGTHS[1]} frames"
    errors = [abs(plan / peak - 1) for plan, peak in zip(planned, peaks, strict=True)]
    return [
        (name, f"{mib[0]} and {mib[1]} MiB, {abs(peaks[1] / peaks[0] - 1):.0%} apart", "at most 1 GiB, 10 % apart"),
        ("what `plan` says of it", f"{max(errors):.0%} off", "at most 25 % off"),
    ]


def _peak(output: Path) -> int:
    """Largest resident memory that a receipt tells of."""
    entries = [json.loads(line) for line in (output / LEDGER).read_text().splitlines()]
    return max(int(entry["done"]["peak_memory"]) for entry in entries if "done" in entry)
