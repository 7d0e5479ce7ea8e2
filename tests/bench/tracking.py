"""Linking of long movies of many cells by the tracker `lap`, and the traces that it keeps whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from support.dense import Found, made_masks, mean_share

from bench.table import Row
from pyama_dask.kernels import filling, lap, tracking

CELLS, FRAMES = 2000, 2000
BLOCK = 16
WIDTH = 2048
COMPOSITE = Path(__file__).parents[3] / "shared/data/composite/labels_PTYX.npz"


def crowded(cells: int, frames: int, *, missing: float = 0.05, false: float = 0.02) -> list[np.ndarray]:
    """(N, 4) boxes per frame of cells that wander on a grid in contact with their neighbours."""
    rng = np.random.default_rng(0)
    edge = int(np.ceil(np.sqrt(cells)))
    pitch = WIDTH / edge
    at = (np.indices((edge, edge)).reshape(2, -1).T[:cells] + 0.5) * pitch
    half = rng.uniform(0.4, 0.7, (cells, 2)) * pitch
    movie = []
    for _ in range(frames):
        at = np.clip(at + rng.normal(0, 0.06 * pitch, at.shape), 0, WIDTH)
        seen = rng.random(cells) >= missing
        extra = rng.uniform(0, WIDTH, (rng.binomial(cells, false), 2))
        low = np.vstack([at[seen] - half[seen], extra - pitch / 2])
        high = np.vstack([at[seen] + half[seen], extra + pitch / 2])
        movie.append(np.clip(np.hstack([low, high]).round(), 0, WIDTH + 1).astype(np.int32))
    return movie


def link_alone() -> None:
    """Link the long movie and plan its fills; print seconds of CPU and MiB at most of both, and the number of fills.

    In a separate process, because of the memory.
    """
    import resource
    import time

    lap.link(crowded(50, 5), divide=True)  # compiled
    movie = crowded(CELLS, FRAMES)
    started = time.process_time()
    ids, _ = lap.link(movie, divide=True)
    linked = time.process_time()
    print(linked - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    fills = filling.plan_fills(movie, ids, BLOCK, fill_gaps=True)
    print(time.process_time() - linked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(fills))


def measure() -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    code = "from bench.tracking import link_alone; link_alone()"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, memory, planning, of_both, fills = map(float, done.stdout.split())
    what = f"linking {CELLS:,} cells in each of {FRAMES:,} frames with `lap`"
    return [
        (f"{what}: CPU", f"{seconds:.0f} s", "120 s"),
        (f"{what}: memory", f"{memory:.0f} MiB", "1536 MiB"),
        (
            f"planning how {fills:,.0f} masks fill their gaps: CPU; memory of both",
            f"{planning:.1f} s, {of_both:.0f} MiB",
            "",
        ),
        *whole_traces(),
    ]


def whole_traces() -> list[Row]:
    """Share of long traces that are kept whole with faults of segmentation."""
    movies = {"synthetic movie": [Found.of(made_masks())]}
    if COMPOSITE.exists():
        movies["composite"] = [Found.of(masks) for masks in np.load(COMPOSITE)["labels"]]
    rows = []
    for name, of in movies.items():
        for what, spoil, target in (
            ("5 % missing", lambda found, seed: found.with_faults(seed, missing=0.05), 0.72),
            (
                "5 % missing, 3 % merged, 5 % false",
                lambda found, seed: found.with_faults(seed, missing=0.05, merged=0.03, false=0.05),
                0.65,
            ),
            ("jumps of two cells in 15 % of the frames", lambda found, seed: found.with_jumps(seed), 0.80),
        ):
            by_lap = mean_share(of, spoil, lap.link)
            by_iou = mean_share(of, spoil, tracking.link)
            rows.append((f"{name}, {what}: whole traces (`iou` {by_iou:.2f})", f"{by_lap:.2f}", f"{target}"))
    return rows
