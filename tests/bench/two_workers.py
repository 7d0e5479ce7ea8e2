"""Two workers, against one and against two independent processes without Dask that share the same frames."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyama_dask
from bench.commands import config
from bench.movies import CELLS, SIDE, BackAndForth, write_nd2
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.launch import local_cluster

REPEATS = 2
FRAMES = 64
"""Of the movie of one FOV."""
HALVES_OF_FOVS = ({"fovs": "0-1"}, {"fovs": "2-3"})
HALVES_OF_FRAMES = ({"frames": f"0-{FRAMES // 2 - 1}"}, {"frames": f"{FRAMES // 2}-{FRAMES - 1}"})
TRACKING = {"tracking_params": {"min_frames": 2}}


def measure(directory: Path, four_fovs: Path) -> list[Row]:
    """Rows of the table, for a movie of four FOVs and for one FOV of 64 frames; both are 2048 x 2048."""
    short = DemoMovie(fovs=1, frames=8, shape=(SIDE, SIDE), cells=CELLS)
    one_fov = write_nd2(directory / "one_fov.nd2", BackAndForth(short, FRAMES))
    return [
        *compare(directory / "four", four_fovs, "4 FOVs", HALVES_OF_FOVS, "97 %"),
        *compare(directory / "one", one_fov, "1 FOV", HALVES_OF_FRAMES, "93 %"),
    ]


def compare(
    directory: Path, movie: Path, name: str, halves: Sequence[Mapping[str, str]], target: str, repeats: int = REPEATS
) -> list[Row]:
    """Rows for a movie whose halves two independent processes take; all take turns, and start-up is left out."""
    directory.mkdir()
    ways: dict[str, Callable[[Path], float]] = {
        "one": lambda output: with_dask(movie, output, 1),
        "two": lambda output: with_dask(movie, output, 2),
        "alone": lambda output: independent(movie, output, halves),
    }
    least = dict.fromkeys(ways, float("inf"))
    for repeat in range(repeats):
        for way, run in ways.items():
            least[way] = min(least[way], run(directory / f"{way}{repeat}"))
    one, two, alone = least.values()
    return [
        (f"{name}, wall time: 1 worker ({one:.1f} s) against 2 ({two:.1f} s)", f"{one / two:.2f} times", ""),
        (
            f"{name}, 2 workers: share of the speed of two independent processes without Dask ({alone:.1f} s)",
            f"{alone / two:.0%}",
            target,
        ),
    ]


def with_dask(movie: Path, output: Path, workers: int) -> float:
    """Seconds from the first task to the end, on workers that have done a small run before."""
    given = parse_config(config(movie, output, cluster={"workers": workers}))
    small = {"params": TRACKING | {"frames": "0-3"}, "storage": {"block_frames": 1}}
    started: list[float] = []
    with local_cluster(given.cluster) as client:
        warm: Callable[..., Any] = pyama_dask.run
        warm(config(movie, output.with_name(f"{output.name}_warm"), **small), client=client)
        report = pyama_dask.run(given, client=client, on_start=lambda *_: started.append(time.perf_counter()))
        seconds = time.perf_counter() - started[0]
    if report.exit_status:
        raise ArithmeticError(f"{output}: the run is not complete")
    return seconds


def independent(movie: Path, output: Path, halves: Sequence[Mapping[str, str]]) -> float:
    """Seconds until each of two processes has done its half, after they have started together."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(halves))
    with ProcessPoolExecutor(len(halves), mp_context=context, initializer=_meet_at, initargs=(start,)) as pool:
        done = [pool.submit(alone, movie, Path(f"{output}_{k}"), params) for k, params in enumerate(halves)]
        return max(future.result() for future in done)


_START: list[threading.Barrier] = []
"""Where the processes of `independent` wait for each other."""


def _meet_at(start: threading.Barrier) -> None:
    _START.append(start)


def alone(movie: Path, output: Path, params: Mapping[str, str]) -> float:
    """Process a part of a movie in this process, without Dask, once the other process is ready; gives the seconds."""
    small = {"params": TRACKING | {"frames": "0-1"}}
    pyama_dask.run(config(movie, output.with_name(f"{output.name}_warm"), **small))
    _START[0].wait(timeout=300)
    started: list[float] = []
    given = config(movie, output, params=TRACKING | dict(params))
    report = pyama_dask.run(given, on_start=lambda *_: started.append(time.perf_counter()))
    if report.exit_status:
        raise ArithmeticError(f"{output}: the run is not complete")
    return time.perf_counter() - started[0]
