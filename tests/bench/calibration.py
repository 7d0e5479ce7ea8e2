"""The time that ``plan --calibrate`` predicts, beside that of the run that follows."""

from __future__ import annotations

import time
from pathlib import Path

from bench.table import Row

TRIALS = 3
"""Trials, of which the fastest counts, as other programs on the machine slow one or the other down."""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    from support.movies import as_czi, config, pixels

    import pyama_dask
    from pyama_dask.config.load import parse_config
    from pyama_dask.runs.calibrate import calibrate
    from pyama_dask.runs.timings import predict

    movie = as_czi(directory / "movie.czi", pixels(fovs=6, frames=16, shape=(512, 512), cells=20))
    changes = {"storage.block_frames": 8, "cluster": {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0"}}
    predictions, runs = [], []
    for trial in range(TRIALS):
        given = parse_config(config(movie, directory / f"output{trial}", changes))
        predicted = predict(*calibrate(given), workers=2)
        began = time.monotonic()
        report = pyama_dask.run(given)
        runs.append((time.monotonic() - began, sum(step.seconds for step in report.steps)))
        predictions.append((predicted.seconds, predicted.worker_seconds))
    fastest = [map(min, zip(*found, strict=True)) for found in (predictions, runs)]
    figures = ("seconds of a run that --calibrate predicts", "seconds of all its workers that --calibrate predicts")
    return [
        (figure, f"{said:.1f} s, measured {took:.1f} s", "within 30 % of the run")
        for figure, said, took in zip(figures, *fastest, strict=True)
    ]
