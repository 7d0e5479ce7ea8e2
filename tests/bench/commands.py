"""The command line as measured commands: a run on a config that is written for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

AGAINST = "BENCH_AGAINST"
"""Environment variable with the interpreter of another checkout, which is measured in turns with this one."""


def interpreters() -> list[str]:
    """The interpreter of this checkout, and that of ``BENCH_AGAINST`` if it is set."""
    return [sys.executable, *filter(None, [os.environ.get(AGAINST)])]


def config(movie: Path, output: Path, **more: Any) -> dict[str, Any]:
    """Config with all features of one fluorescence channel; `more` replaces its sections."""
    return {
        "input": movie,
        "output": output,
        "channels": {
            "pc": {"channel": 0, "features": ["area", "aspect_ratio"]},
            "fl": [{"channel": 1, "features": ["intensity_total", "intensity_mean"]}],
        },
        "params": {"tracking_params": {"min_frames": 2}},
        "cluster": {"kind": "serial"},
    } | more


def run_command(movie: Path, output: Path, *, python: str = sys.executable, **more: Any) -> Sequence[str | Path]:
    """Command that runs a config, which is written beside the output."""
    path = output.with_name(f"{output.name}.yaml")
    written = config(movie, output, **more) | {"input": str(movie), "output": str(output)}
    path.write_text(yaml.safe_dump(written))
    return [python, "-P", "-m", "pyama_dask.cli", "run", path]
