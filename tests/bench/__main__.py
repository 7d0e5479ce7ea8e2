"""``make bench``: one table with each figure beside its target."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"):
    os.environ[name] = "1"  # before numpy is imported


def main() -> None:
    """Measure everything, or the parts that are named, and print the table."""
    from bench import (
        calibration,
        fits,
        joints,
        kernels,
        memory,
        merge,
        pipelines,
        plates,
        previews,
        reports,
        runs,
        scale,
        startup,
        summaries,
        tracking,
    )
    from bench.table import print_table

    parts = {
        "kernels": lambda _: kernels.measure(),
        "fits": lambda _: fits.measure(),
        "runs": lambda directory: [*runs.against_the_floor(directory), *runs.on_two_workers(directory)],
        "checksums": runs.of_checksums,
        "memory": lambda directory: [*memory.against_length(directory), *memory.of_long_movies(directory)],
        "scale": scale.measure,
        "startup": startup.measure,
        "joints": joints.measure,
        "plates": plates.measure,
        "pipelines": pipelines.measure,
        "previews": previews.measure,
        "merge": merge.measure,
        "reports": reports.measure,
        "summaries": summaries.measure,
        "tracking": lambda _: tracking.measure(),
        "calibration": calibration.measure,
    }
    rows = []
    for part in sys.argv[1:] or parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="pyama-bench-") as folder:
            rows += parts[part](Path(folder))
    print_table(rows)


if __name__ == "__main__":
    main()
