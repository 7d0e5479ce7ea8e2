"""Time before anything is done: the help of the command line, a first look, and the first task of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.table import Row


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    from pyama_dask.demo.movie import make_movie

    helped = min(_seconds_of("--help") for _ in range(5))
    make_movie(directory / "tiny", fovs=1, frames=4, shape=(256, 256), cells=4)
    movie = directory / "tiny" / "movie.czi"
    _in_new_process(movie, directory / "tiny" / "warm")  # loops are compiled once in an installation
    first, whole = min(_in_new_process(movie, directory / "tiny" / f"output{k}") for k in range(3))
    figure = f"first task of a run on 2 new workers done, imports and all (the whole run: {whole:.1f} s)"
    make_movie(directory / "large", fovs=1, frames=3, shape=(2048, 2048))
    large, config = directory / "large" / "movie.czi", directory / "large" / "run.yaml"
    plain, looked = (
        min(_seconds_of("init", large, "-o", config, "--force", *more) for _ in range(3))
        for more in (["--no-look"], [])
    )
    return [
        ("pyama-dask --help", f"{helped:.2f} s", "under 0.4 s"),
        ("pyama-dask init --no-look", f"{plain:.1f} s", "under 2 s"),
        ("pyama-dask init, which tries all methods on three frames of 2048 x 2048", f"{looked:.1f} s", "under 20 s"),
        (figure, f"{first:.1f} s", "under 4 s"),
    ]


def _seconds_of(*arguments: str | Path) -> float:
    """Seconds that a command takes."""
    command = [sys.executable, "-m", "pyama_dask.cli", *map(str, arguments)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _in_new_process(movie: Path, output: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "bench.startup", str(movie), str(output)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(said[0]), float(said[1])


def run(movie: str, output: str) -> tuple[float, float]:
    """Run as the command line does; gives the seconds until the first task has ended, and until all is done."""
    ended: list[float] = []
    config: dict[str, Any] = {
        "input": movie,
        "output": output,
        "channels": {
            "pc": {"channel": 0, "features": ["area"]},
            "fl": [{"channel": 1, "features": ["intensity_total"]}],
        },
        "params": {"tracking_params": {"min_frames": 1}},
        "cluster": {"workers": 2},
    }
    started = time.perf_counter()
    from pyama_dask.runs.driver import run as run_all

    run_all(config, progress=lambda _: ended.append(time.perf_counter()))
    return ended[0] - started, time.perf_counter() - started


if __name__ == "__main__":
    print(*run(*sys.argv[1:]))
