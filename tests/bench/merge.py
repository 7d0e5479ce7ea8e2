"""What it takes to merge the traces of a whole experiment by sample, and to read the tables back."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from support.traces import write_output

from bench.table import Row

FOVS, CELLS, FRAMES = 100, 100, 180
FEATURES = ("area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1", "intensity_mean_ch_1")


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    write_output(directory / "results", FOVS, CELLS, FRAMES, FEATURES)
    command = [sys.executable, "-m", "bench.merge", str(directory / "results")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    name = f"merge and read back {FOVS} FOVs x {CELLS} cells x {FRAMES} frames, {len(FEATURES)} features, 4 samples"
    return [(name, f"{said[0]} + {said[2]} s, at most {said[1]} and {said[3]} MiB", "under 30 s and 1024 MiB")]


def run(output: str) -> tuple[str, int, str, int]:
    """Merge and read back in this process, imports and all; gives the seconds and the peak in MiB of either."""
    started = time.perf_counter()
    import pandas as pd

    from pyama_dask.samples import merge_samples
    from pyama_dask.tables import read_analysis_csv

    quarter = FOVS // 4
    samples = [{"name": f"s{k}", "fovs": f"{k * quarter}-{(k + 1) * quarter - 1}"} for k in range(4)]
    report = merge_samples(output, {"samples": samples})
    merged, peak = time.perf_counter(), _peak()
    rows = [len(read_analysis_csv(path)) for path in report.files]
    assert sum(rows) == FOVS * CELLS * FRAMES * len(FEATURES)
    assert len(pd.read_parquet(report.table)) == FOVS * CELLS * FRAMES
    return f"{merged - started:.1f}", peak, f"{time.perf_counter() - merged:.1f}", _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    print(*run(*sys.argv[1:]))
