"""``make bench``: one table with each figure beside its target."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from bench.spent import ONE_THREAD, busy

os.environ.update(ONE_THREAD)  # before numpy is imported


def main() -> None:
    """Measure everything, or the parts that are named, and print the table."""
    noise = busy()
    from bench import (
        calibration,
        fits,
        joints,
        kernels,
        limits,
        memory,
        merge,
        pipelines,
        plates,
        previews,
        reports,
        runs,
        scale,
        slurm,
        startup,
        summaries,
        tracking,
    )
    from bench.table import print_table

    parts = {
        "kernels": lambda _: kernels.measure(),
        "fits": lambda _: fits.measure(),
        "limits": limits.measure,
        "runs": runs.against_the_floor,
        "checksums": runs.of_checksums,
        "scale": scale.measure,
        "slurm": slurm.measure,
        "startup": startup.measure,
        "joints": joints.measure,
        "plates": plates.measure,
        "previews": previews.measure,
        "merge": merge.measure,
        "reports": reports.measure,
        "summaries": summaries.measure,
        "tracking": lambda _: tracking.measure(),
        "calibration": calibration.measure,
        "pipelines": pipelines.measure,
        "memory": lambda directory: [*memory.against_length(directory), *memory.of_long_movies(directory)],
    }  # the last two remove outputs, which slows down what is measured in the next minutes
    if unknown := [part for part in sys.argv[1:] if part not in parts]:
        sys.exit(f"BENCH={' '.join(unknown)}: no such part. Fix: choose from {', '.join(parts)}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="pyama-bench-") as folder:
        for part in sys.argv[1:] or parts:
            print(f"{part} ...", file=sys.stderr, flush=True)
            directory = Path(folder) / part
            directory.mkdir()
            rows += parts[part](directory)
    print_table(rows, noise)


if __name__ == "__main__":
    main()
