"""Runs on a real Slurm of four nodes: how busy its workers are, and how soon they begin and end.

The nodes are virtual, on this machine: tasks that sleep keep more workers busy than it has cores.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support import slurm
from support.ledgers import costs_of
from support.strategies import movie, plan_of

import pyama_dask
from bench.commands import config
from bench.movies import BackAndForth, write_nd2
from bench.scale import SHAPE, asleep, in_new_process
from bench.table import Row
from pyama_dask.config.cluster import Cluster
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.loop import execute
from pyama_dask.launch.queued import queued
from pyama_dask.launch.settings import own_settings
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost

NODES = len(slurm.NODES)
CORES = 4
"""Of each node, and worker processes of each job of tasks that sleep."""
ASLEEP = 64, 64
REAL = 8, 48
"""FOVs and frames."""
SIDE = 1024
"""Of frames of the real tasks, in pixels."""
JOBS: dict[str, Any] = {
    "kind": "slurm", "jobs": NODES, "walltime": "00:30:00", "interface": "lo", "dashboard": "127.0.0.1:0",
    "prologue": [f"export PYTHONPATH={Path(__file__).parents[1]}"],
}  # fmt: skip
LEAVING = 60.0
"""Seconds within which the jobs of a run must leave the queue."""


def measure(directory: Path) -> list[Row]:
    """Rows of the table: figure, what was found, target; one that says why if no Slurm can be started."""
    if why := slurm.unavailable():
        return [("workers on a real Slurm", f"not measured: {why}", "")]
    fovs, frames = REAL
    drawn = DemoMovie(fovs=fovs, frames=4, shape=(SIDE, SIDE), cells=50)
    path = write_nd2(directory / "movie.nd2", BackAndForth(drawn, frames))
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        Path(folder).chmod(0o755)  # munge runs as a user of its own
        with slurm.running(Path(folder), CORES) as queue, patch.dict(os.environ, queue.environment):
            sleeping = on(queue, run_asleep, directory, *ASLEEP, CORES)
            real = on(queue, run_real, directory, path)
    size = "{} FOVs x {} frames".format(*ASLEEP)
    return [
        *sleeping.rows(f"{sleeping.workers} workers in {NODES} jobs of Slurm, {size} that sleep", "at least 95 %"),
        ("CPU of driver and scheduler for each of these tasks", f"{sleeping.cpu_of_task * 1e3:.1f} ms", ""),
        *real.rows(f"{real.workers} workers in {NODES} jobs, {fovs} FOVs x {frames} frames of {SIDE} x {SIDE}"),
    ]


@dataclass(frozen=True)
class Found:
    """Tasks and jobs of a run; times are UTC seconds since 1970."""

    costs: Sequence[Cost]
    cpu: float
    """Seconds that the process of driver and scheduler took from the first task to the last."""
    started: float
    """Start of the first job, in whole seconds."""
    ended: float
    """End of the last job, in whole seconds."""

    @cached_property
    def of_workers(self) -> dict[str, list[Cost]]:
        """Tasks of each worker, in order."""
        found = defaultdict(list)
        for cost in sorted(self.costs, key=lambda cost: cost.begun):
            found[cost.worker].append(cost)
        return dict(found)

    @property
    def workers(self) -> int:
        """Number of workers that ran tasks."""
        return len(self.of_workers)

    @property
    def first(self) -> float:
        """Start of the first task."""
        return min(cost.begun for cost in self.costs)

    @property
    def complete(self) -> float:
        """Start of the first task of the last worker."""
        return max(tasks[0].begun for tasks in self.of_workers.values())

    @property
    def last(self) -> float:
        """End of the last task."""
        return max(cost.end for cost in self.costs)

    @property
    def cpu_of_task(self) -> float:
        """Seconds of driver and scheduler for each task."""
        return self.cpu / len(self.costs)

    def busy(self, since: float) -> float:
        """Share of the time from a moment to the end of the last task in which the workers ran tasks."""
        ran = sum(max(0.0, cost.end - max(cost.begun, since)) for cost in self.costs)
        return ran / (self.workers * (self.last - since))

    def rows(self, title: str, target: str = "") -> list[Row]:
        """Rows of the table."""
        return [
            (f"{title}: share of the time that they are busy once all have a task", f"{self.busy(self.complete):.1%}",
             target),
            (f"the same from the first task, {self.complete - self.first:.1f} s before", f"{self.busy(self.first):.1%}",
             ""),
            ("first task after the start of the first job", f"{max(0.0, self.first - self.started):.0f} s", ""),
            ("end of the last job after the last task", f"{max(0.0, self.ended - self.last):.0f} s", "at most 5 s"),
        ]  # fmt: skip


def on(queue: slurm.Slurm, run: Callable[..., tuple[list[Cost], float]], *given: Any) -> Found:
    """Do a run in a new process, and see when its jobs began and ended.

    Raises
    ------
    ArithmeticError
        If jobs stay in the queue.
    """
    before = len(queue.ended())
    costs, cpu = in_new_process(run, *given)
    until = time.monotonic() + LEAVING
    while queue.jobs():
        if time.monotonic() > until:
            raise ArithmeticError(f"jobs {queue.jobs()} are left in the queue")
        time.sleep(0.1)
    jobs = queue.ended()[before:]
    started, ended = (
        [datetime.fromisoformat(job[name]).timestamp() for job in jobs] for name in ("StartTime", "EndTime")
    )
    return Found(costs, cpu, min(started), max(ended))


class Stopwatch:
    """CPU time of this process from the first event of a run to the last."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def __call__(self, _: dict[str, Any]) -> None:
        """Take the time of an event."""
        self._at.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Seconds between the first event and the last."""
        return self._at[-1] - self._at[0]


def run_asleep(directory: Path, fovs: int, frames: int, cores: int) -> tuple[list[Cost], float]:
    """Run tasks that sleep, through the queue, the scheduler, the loop and the ledger of a real run.

    Parameters
    ----------
    directory
        For the logs of the jobs and the ledger.
    fovs, frames
        Size of the movie, in blocks of 8 frames.
    cores
        Workers of each job.

    Returns
    -------
    Costs of the tasks, and seconds of CPU of this process.
    """
    metadata = movie(fovs=fovs, frames=frames, shape=SHAPE)
    plan = plan_of(metadata, memory=2 * 2**30, output=directory / "output", storage={"block_frames": 8})
    cluster, watch = Cluster(**JOBS, cores=cores, memory="3800MiB"), Stopwatch()
    with (
        own_settings(), queued(cluster, directory / "asleep", "asleep") as workers,
        Ledger(directory / "asleep.jsonl") as ledger,
    ):  # fmt: skip
        execution = execute(
            plan, DaskPool(workers, asleep), ledger, prepare=lambda _: (), settle=lambda tasks: tasks,
            tidy=lambda _: (), repair=lambda fov, _: (plan.fovs[fov], ()), progress=watch, cancel=threading.Event(),
        )  # fmt: skip
    if execution.failed or execution.stopped or ledger.receipts != len(plan.tasks):
        raise ArithmeticError(f"{ledger.receipts} of {len(plan.tasks)} tasks are recorded")
    return costs_of(ledger), watch.seconds


def run_real(directory: Path, path: Path) -> tuple[list[Cost], float]:
    """Run a movie on jobs of one worker each.

    Returns
    -------
    Costs of the tasks, and seconds of CPU of this process.
    """
    output, watch = directory / "real", Stopwatch()
    report = pyama_dask.run(config(path, output, cluster=JOBS | {"memory": "1500MiB"}), progress=watch)
    if report.exit_status:
        raise ArithmeticError(f"the run ended with {report.exit_status}: {report.stopped}")
    return costs_of(Ledger(output / LEDGER)), watch.seconds
