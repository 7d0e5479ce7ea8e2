"""``make chaos``: runs that are killed, and disks that are full; ends with status 1 when anything is lost or wrong."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"):
    os.environ[name] = "1"  # before numpy is imported


def main() -> None:
    """Do all parts, or those that are named: kills, disk, flips, input, fuzz; print their tables."""
    from chaos import bad_input, disk, flips, fuzz, kills
    from chaos.table import print_tables

    parts = {
        "kills": kills.measure,
        "disk": disk.measure,
        "flips": flips.measure,
        "input": bad_input.measure,
        "fuzz": fuzz.measure,
    }
    tables = []
    for part in sys.argv[1:] or parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="pyama-chaos-") as folder:
            tables.append(parts[part](Path(folder)))
    print_tables(tables)
    sys.exit(any(table.problems for table in tables))


if __name__ == "__main__":
    main()
