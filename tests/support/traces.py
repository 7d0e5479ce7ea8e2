"""Outputs with traces and without images, made from arrays in no time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyama_dask.files.checksums import checksum
from pyama_dask.runs.status import LEDGER, PLAN
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.trace_csv import trace_columns, write_traces
from pyama_dask.workflow.task import Receipt

FEATURES = ("area_ch_0", "intensity_total_ch_1")


def table(fov: int, cells: int, frames: int, features: Sequence[str] = FEATURES) -> pd.DataFrame:
    """Traces of cells from 1 that are seen in all frames, 10 minutes apart."""
    rng = np.random.default_rng(fov)
    cell, frame = np.repeat(np.arange(1, cells + 1), frames), np.tile(np.arange(frames), cells)
    corner = rng.integers(0, 2000, (len(cell), 2))
    columns = {"cell": cell, "frame": frame, "bbox": np.hstack([corner, corner + 30])}
    values = {name: rng.lognormal(8, 2, len(cell)) for name in features}
    return pd.DataFrame(trace_columns([columns | values], fov, np.arange(frames) * 10.0, features))


def traces_path(output: Path, fov: int) -> Path:
    """CSV of a FOV."""
    return output / f"fov_{fov:03d}" / f"movie_fov_{fov:03d}_traces.csv"


def write_output(output: Path, fovs: int, cells: int = 3, frames: int = 4, features: Sequence[str] = FEATURES) -> Path:
    """Write an output of which all FOVs are done."""
    for fov in range(fovs):
        traces_path(output, fov).parent.mkdir(parents=True)
        write_traces(traces_path(output, fov), table(fov, cells, frames, features))
    write_plan(output, fovs)
    record_traces(output)
    return output


def write_plate_output(output: Path, wells: Mapping[str, int], cells: int = 3, frames: int = 4) -> Path:
    """Write an output of which all FOVs are done: sites of wells, whose numbers are by well."""
    sites = [(well, site) for well, count in wells.items() for site in range(1, count + 1)]
    places = {
        f"fov{k}": {"name": f"{well} s{site}", "well": well, "site": site} for k, (well, site) in enumerate(sites)
    }
    for fov, (well, site) in enumerate(sites):
        traces_path(output, fov).parent.mkdir(parents=True)
        write_traces(traces_path(output, fov), table(fov, cells, frames).assign(well=well, site=site))
    write_plan(output, len(sites), **places)
    record_traces(output)
    return output


def record_traces(output: Path) -> None:
    """Record the traces of all FOVs as those of the run that made the output, whatever they hold now."""
    found = sorted(output.glob("fov_*/*_traces.csv"))
    with Ledger(output / LEDGER) as ledger:
        for path in found:
            files = {"extract": {path.relative_to(output).as_posix(): checksum(path)}}
            key = f"gather-{path.parent.name.replace('_', '')}"
            ledger.record(Receipt(key, {"extract": "recorded"}, files, 0.0, 0, 0, 0))


def write_plan(output: Path, fovs: int, **changes: Any) -> None:
    """Write the plan of an output; `changes` by ``fov3`` are of that FOV."""
    planned = [
        {"fov": k, "problem": None, "kinds": {}, "settings": "a"} | changes.get(f"fov{k}", {}) for k in range(fovs)
    ]
    keys = {"input": "movie.nd2", "identity": "", "first_identity": "", "warnings": [], "settings": {}, "current": "a"}
    (output / PLAN).parent.mkdir(parents=True, exist_ok=True)
    (output / PLAN).write_text(json.dumps(keys | {"fovs": planned}))


def left(*steps: str) -> dict[str, Any]:
    """Part of a plan of a FOV of which these steps are not done."""
    return {"kinds": {"gather": {"tasks": 1, "steps": {step: ["digest"] for step in steps}}}}
