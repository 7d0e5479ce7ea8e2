"""What it takes to merge the traces of a whole experiment by sample, to export them, and to read the tables back."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from support.traces import write_output

from bench.table import Row

FOVS, CELLS, FRAMES = 100, 100, 180
FEATURES = ("area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1", "intensity_mean_ch_1")


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    write_output(directory / "results", FOVS, CELLS, FRAMES, FEATURES)
    command = [sys.executable, "-m", "bench.merge", str(directory / "results"), str(directory / "exported")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    name = (
        f"merge, export to Parquet and read back {FOVS} FOVs x {CELLS} cells x {FRAMES} frames, "
        f"{len(FEATURES)} features, 4 samples"
    )
    return [(name, f"{' + '.join(said[::2])} s, at most {' and '.join(said[1::2])} MiB", "under 30 s and 1024 MiB")]


def run(output: str, exported: str) -> Iterator[tuple[str, int]]:
    """Merge, export and read back in this process, imports and all; gives the seconds of each and the peak in MiB."""
    started = time.perf_counter()
    import pandas as pd

    from pyama_dask.analysis.export import export_traces
    from pyama_dask.analysis.merge import merge_samples
    from pyama_dask.analysis.tables import read_analysis_csv

    quarter = FOVS // 4
    samples = [{"name": f"s{k}", "fovs": f"{k * quarter}-{(k + 1) * quarter - 1}"} for k in range(4)]
    report = merge_samples(output, {"samples": samples})
    yield f"{time.perf_counter() - started:.1f}", _peak()
    started = time.perf_counter()
    written = export_traces(output, "parquet", exported)
    yield f"{time.perf_counter() - started:.1f}", _peak()
    started = time.perf_counter()
    rows = [len(read_analysis_csv(path)) for path in report.files]
    assert sum(rows) == FOVS * CELLS * FRAMES * len(FEATURES)
    for table in (report.table, written.directory / "traces.parquet"):
        assert len(pd.read_parquet(table)) == FOVS * CELLS * FRAMES
    yield f"{time.perf_counter() - started:.1f}", _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    print(*(value for part in run(*sys.argv[1:]) for value in part))
