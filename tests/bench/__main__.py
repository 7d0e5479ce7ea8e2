"""``make bench``: one table with each figure beside its target."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"):
    os.environ[name] = "1"  # before numpy is imported


def main() -> None:
    """Measure everything, and print the table."""
    from bench import kernels, runs, scale, startup

    with tempfile.TemporaryDirectory(prefix="pyama-bench-") as folder:
        directory = Path(folder)
        rows = [
            *kernels.measure(),
            *runs.against_the_floor(directory),
            *runs.on_two_workers(directory),
            *scale.measure(directory),
            *startup.measure(directory),
        ]
    print(f"{os.cpu_count()} cores")
    print("| figure | found | target |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
