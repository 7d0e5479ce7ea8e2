"""Several movies on two workers: wall time against the best packing of the measured tasks.

Segmentation sleeps instead of working, so that the load of the machine hardly matters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from support.ledgers import costs_of

import pyama_dask
from bench.commands import config
from bench.table import Row
from pyama_dask.demo.movie import make_movie
from pyama_dask.runs.final_page import final_pages
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost
from pyama_dask.workflow.task import parse_key

FOVS, FRAMES, WORKERS = (5, 1, 4, 6), 4, 2
SLEEPER = """
import time
import numpy as np

def asleep(frame):
    time.sleep(1)
    labels = np.zeros(frame.shape, np.uint16)
    labels[20:40, 20:40] = 1
    return labels
"""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    movies = [directory / f"{number}" for number in range(len(FOVS))]
    for movie, fovs in zip(movies, FOVS, strict=True):
        make_movie(movie, fovs=fovs, frames=FRAMES, shape=(64, 64), cells=2)
        (movie / "movie.czi").rename(directory / f"{movie.name}.czi")
    (directory / "sleeper.py").write_text(SLEEPER)
    settings = config(
        directory / "*.czi", directory / "results", cluster={"kind": "local", "workers": WORKERS},
        params={
            "segmentation_method": f"{directory / 'sleeper.py'}:asleep",
            "tracking_params": {"min_frames": 1, "border_margin": 0},
        },
        storage={"block_frames": 2},
    )  # fmt: skip
    with final_pages(True):
        report = pyama_dask.run(settings, progress=False)
    assert report.exit_status == 0, report
    costs = [costs_of(Ledger(directory / "results" / movie.name / LEDGER)) for movie in movies]
    tasks = [task for of in costs for task in of]
    wall = max(task.end for task in tasks) - min(task.begun for task in tasks)
    least = max(sum(task.seconds for task in tasks) / WORKERS, *map(_longest, costs))
    figure = f"{len(movies)} movies of {', '.join(map(str, FOVS))} FOVs on {WORKERS} workers: wall {wall:.1f} s"
    return [
        (f"{figure}, more than the best packing of their {len(tasks)} tasks", f"{wall / least - 1:.1%}", "under 5 %")
    ]


def _longest(tasks: Sequence[Cost]) -> float:
    """Longest chain of tasks of a FOV that need each other: the slowest of each kind, one after the other."""
    slowest: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for task in tasks:
        kind, fov = parse_key(task.key)[:2]
        slowest[fov][kind] = max(slowest[fov].get(kind, 0.0), task.seconds)
    return max(sum(of.values()) for of in slowest.values())
