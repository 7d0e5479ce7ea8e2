"""Config of the demo, and the comparison at its end."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pyama_dask.analysis.output import open_output
from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.demo.compare import compare
from pyama_dask.demo.movie import MOVIE
from pyama_dask.demo.plate import PLATE
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.runs.status import LEDGER, recorded_traces
from pyama_dask.store.ledger import Ledger


def demo_config(directory: Path, workers: int | None = None, *, plate: bool = False) -> Config:
    """Config that processes the movie, or the plate, of a directory into ``results``, with the default methods."""
    return parse_config(
        {
            "input": directory / (PLATE if plate else MOVIE),
            "output": directory / "results",
            "channels": {
                "pc": {"channel": "Phase", "features": list(SHAPE_FEATURES)},
                "fl": [{"channel": "GFP", "features": list(INTENSITY_FEATURES)}],
            },
            "params": {"stitch": "register", "tracking_params": {"min_frames": 10}} if plate else {},
            "cluster": {} if workers is None else {"workers": workers},
        }
    )


def judge(directory: Path) -> str:
    """Compare the traces with the truth of the movie, and name the files of both."""
    output = open_output(directory / "results")
    movie = output.metadata
    verdict = compare(
        pd.read_csv(directory / "truth.csv"),
        output.traces(),
        n_frames=movie["n_frames"],
        shape=tuple(movie["fovs"][0]["shape"]),
        border_margin=output.config["params"]["tracking_params"]["border_margin"],
    )
    recorded = recorded_traces(Ledger(output.directory / LEDGER), output.fovs[0])
    assert recorded is not None
    first = output.directory / recorded[0]
    return f"{verdict}\nTraces: {first} and so on; truth: {directory / 'truth.csv'}"
