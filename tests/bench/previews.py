"""Time of a preview: nine settings on one frame of 2048 x 2048, in a new process and in one that has done it before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.table import Row

GRID = {"morph_size": [5, 7, 9], "morph_iterations": [1, 2, 3]}


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    import pyama_dask
    from pyama_dask.demo.movie import make_movie

    make_movie(directory / "large", fovs=1, frames=3, shape=(2048, 2048))
    document = {
        "input": str(directory / "large" / "movie.czi"),
        "output": str(directory / "results"),
        "channels": {"pc": {"channel": 0}},
    }
    config, sheet = directory / "run.yaml", directory / "sheet.png"
    config.write_text(yaml.safe_dump(document))
    pyama_dask.preview(config, grid=GRID).save(sheet)  # compiles once in an installation
    warm = min(_seconds(lambda: pyama_dask.preview(config, grid=GRID).save(sheet)) for _ in range(3))
    grid = [f"--grid={key}={','.join(map(str, values))}" for key, values in GRID.items()]
    command = [sys.executable, "-m", "pyama_dask.cli", "preview", config, "-o", sheet, *grid]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cold = min(_seconds(lambda: subprocess.run(command, check=True, **quiet)) for _ in range(3))
    figure = "preview of nine settings on a frame of 2048 x 2048"
    return [
        (f"{figure}, in a new process", f"{cold[0]:.1f} s, {cold[1]:.1f} s of CPU time", "under 10 s"),
        ("the same in a process that has done it before", f"{warm[0]:.1f} s, {warm[1]:.1f} s of CPU time", "under 4 s"),
    ]


def _seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that work takes: wall time, and CPU time with that of subprocesses."""
    started, before = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - started, sum(os.times()[:4]) - before
