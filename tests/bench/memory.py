"""Peak memory of a worker against the length of the movie, and against what the plan says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyama_dask
from bench.commands import config
from bench.movies import BackAndForth, write_nd2
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.demo.write_czi import write_czi
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER

LENGTHS = (32, 256)
LONG = (96, 288, 600, 2400)
"""Frames of ND2 movies that are read by workers of 1 GiB."""


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
        peaks.append(peak_memory(directory / f"memory{frames}"))
        movie.unlink()
    mib = [f"{peak / 2**20:.0f}" for peak in peaks]
    name = f"peak memory of a worker, 2048 x 2048, 2 channels, {LENGTHS[0]} and {LENGTHS[1]} frames"
    errors = [abs(plan / peak - 1) for plan, peak in zip(planned, peaks, strict=True)]
    return [
        (name, f"{mib[0]} and {mib[1]} MiB, {abs(peaks[1] / peaks[0] - 1):.0%} apart", "at most 1 GiB, 10 % apart"),
        ("what `plan` says of it", f"{max(errors):.0%} off", "at most 25 % off"),
    ]


def of_long_movies(directory: Path, lengths: Sequence[int] = LONG) -> list[Row]:
    """Peak of two workers of 1 GiB on ND2 movies of 1024 x 1024, two channels; none may be lost at any length."""
    short, peaks, failed = DemoMovie(fovs=1, frames=8, shape=(1024, 1024), cells=50), [], 0
    for frames in lengths:
        output = directory / f"long{frames}"
        movie = write_nd2(directory / f"movie{frames}.nd2", BackAndForth(short, frames))
        pyama_dask.run(config(movie, output, cluster={"workers": 2, "memory": "1GiB"}))
        peaks.append(peak_memory(output))
        failed += (output / LEDGER).read_text().count('{"failed"')
        movie.unlink()
        shutil.rmtree(output)
    mib = [peak / 2**20 for peak in peaks]
    name = f"peak memory of workers of 1 GiB, ND2 of 1024 x 1024, {', '.join(map(str, lengths))} frames"
    found = f"{', '.join(f'{peak:.0f}' for peak in mib)} MiB, {max(mib) - min(mib):.0f} apart, {failed} tasks failed"
    return [(name, found, "at most 60 MiB apart, 0 failed")]


def peak_memory(output: Path) -> int:
    """Largest resident memory that a receipt tells of."""
    entries = [json.loads(line) for line in (output / LEDGER).read_text().splitlines()]
    return max(int(entry["done"]["peak_memory"]) for entry in entries if "done" in entry)
