"""The report of a run with hundreds of FOVs: seconds as at the end of a run, and the size of the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.reports import write_made_output

from bench.table import Row

FOVS, CELLS, FRAMES = 500, 200, 180
CODE = """
import sys, time
import pyama_dask.runs.driver
started = time.perf_counter()
from pyama_dask.report import write_report_page
imported = time.perf_counter()
path = write_report_page(sys.argv[1])
print(imported - started, time.perf_counter() - imported, time.process_time(), path.stat().st_size)
"""
"""Writes a report in a process that has just done a run."""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    output = write_made_output(directory / "results", fovs=FOVS, cells=CELLS, frames=FRAMES)
    command = [sys.executable, "-c", CODE, str(output)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    imports, drawn, _, size = map(float, said)
    name = f"report of {FOVS} FOVs x {CELLS} cells x {FRAMES} frames of 2048 x 2048"
    return [(name, f"{imports:.1f} + {drawn:.1f} s, {size / 1e6:.2f} MB", "under 5 s and 3 MB")]
