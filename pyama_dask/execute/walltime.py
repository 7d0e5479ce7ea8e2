"""The walltime of jobs: workers leave before it, and no task begins that would not end in time.

Dask's own ``--lifetime`` takes a running task away from a worker that leaves, and does it again elsewhere: a task that
is longer than the lifetime would be begun for ever. Here a worker first takes nothing more, then ends what it has
begun, then goes; and a task is told how long it will take by what tasks of its kind have taken in the run.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections import Counter, defaultdict, deque
from typing import Any

from distributed import get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import clock_time, walltime_seconds
from pyama_dask.errors import ClusterError, WalltimeError
from pyama_dask.execute.worker_loss import RETIRED, WALLTIME, log_exit
from pyama_dask.workflow.graph import Kind
from pyama_dask.workflow.task import Receipt, Task

JOB_ENDS = "PYAMA_DASK_JOB_ENDS"
"""Variable of a job's environment: when its walltime is over, in seconds since 1970."""
JOB_LASTS = "PYAMA_DASK_JOB_LASTS"
"""Variable of a job's environment: seconds of its walltime."""
STARTING = 15.0
"""Seconds of a job until its workers are ready."""
SPARE = 5.0
"""Seconds before a job's end when its workers must be gone."""
STAGGER = 0.05
"""Part of the walltime within which workers leave at different times, so that not all are replaced at once."""
FETCHED = 10.0
"""Seconds that a worker that leaves waits for its receipts to be fetched."""
CERTAIN = 3
"""Times that a task must have been too long for a job; once may be a disk that did not answer."""
REMEMBERED = 101
"""Times of tasks of a kind that are remembered."""


class Retirement(WorkerPlugin):
    """Makes a worker leave before its job ends."""

    name = "pyama-dask-retirement"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """See when the worker's job will end."""
        self._worker, self._begun = worker, dict[str, float]()
        self._leaving = False
        left = time_left()
        if left is None:
            return
        stagger = random.Random(worker.address).uniform(0, STAGGER) * left
        worker.loop.call_later(max(0.0, left - SPARE - stagger), self.leave)
        worker.loop.call_later(max(0.0, left - SPARE / 2), self.say_what_runs)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Remember when tasks began."""
        if finish == "executing":
            self._begun[str(key)] = time.monotonic()
        elif start == "executing":
            self._begun.pop(str(key), None)

    async def leave(self) -> None:
        """Take nothing more, end what runs, and go."""
        if self._leaving or self._worker.status not in (Status.running, Status.paused):
            return
        self._leaving = True
        self._worker.status = Status.paused
        while self._worker.state.executing:
            await asyncio.sleep(0.1)
        until = time.monotonic() + FETCHED
        while self._worker.data and time.monotonic() < until:
            await asyncio.sleep(0.1)
        await self._tell(RETIRED)
        await self._worker.close_gracefully(reason="the walltime of its job is near")

    async def say_what_runs(self) -> None:
        """Say which tasks are about to be cut off, and how long they have run."""
        if self._begun:
            await self._tell(WALLTIME, ran={key: time.monotonic() - begun for key, begun in self._begun.items()})

    async def _tell(self, why: str, **more: dict[str, float]) -> None:
        worker = self._worker
        await log_exit(worker, {"worker": worker.address, "name": str(worker.name), "why": why, **more})


def time_left() -> float | None:
    """Seconds until this worker's job ends; None where it has no walltime."""
    ends = os.environ.get(JOB_ENDS)
    return float(ends) - time.time() if ends else None


def check_time(task: Task) -> None:
    """Make sure that this worker's job lasts for a task; if not, the worker leaves.

    Raises
    ------
    WalltimeError
        If it ends before the task would.
    """
    left, seconds = time_left(), max(task.seconds, 2 * _SLOWEST.get(task.kind, 0.0) * frames_of(task))
    if left is None or seconds <= left - SPARE:
        return
    worker = get_worker()
    retirement = worker.plugins.get(Retirement.name)
    if isinstance(retirement, Retirement):
        worker.loop.add_callback(retirement.leave)
    young = left > float(os.environ.get(JOB_LASTS, "inf")) / 2
    raise WalltimeError(f"{task.key} takes about {seconds:.0f} s, and its job ends in {left:.0f} s", young=young)


_SLOWEST: dict[Kind, float] = {}
"""Seconds for each frame of the slowest task of a kind in this process: a task may have been handed out before any."""


def note_time(task: Task, receipt: Receipt) -> None:
    """Remember in this process how long a task took; its first of a kind, which compiles what it needs, included."""
    _SLOWEST[task.kind] = max(receipt.seconds / frames_of(task), _SLOWEST.get(task.kind, 0.0))


class Pace:
    """How long tasks take, as measured in this run, and whether jobs last for them.

    Parameters
    ----------
    cluster
        Part of the config.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._room = room_of(cluster)
        self._took: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._cut_off = Counter[str]()

    def took(self, task: Task, receipt: Receipt) -> None:
        """Take in how long a task took."""
        self._took[task.kind].append(receipt.seconds / frames_of(task))

    def seconds(self, task: Task) -> float:
        """Time that a task may take: twice what is usual, or as long as the slowest tenth; 0 if nothing is known.

        Raises
        ------
        ClusterError
            If no job lasts for what is usual.
        """
        if self._room is None or not (took := self._took[task.kind]):
            return 0.0
        usual = statistics.median(took) * frames_of(task)
        if usual > self._room and len(took) >= CERTAIN:
            raise ClusterError(f"{too_long(self._cluster, usual, task)}")
        slow = sorted(took)[int(0.9 * len(took))] * frames_of(task)
        return min(max(2 * usual, slow), self._room)

    def cut_off(self, task: Task, ran: float) -> None:
        """Take in that a job ended while a task ran.

        Raises
        ------
        ClusterError
            If it had about all of a job's time, again and again.
        """
        if self._room is None:
            return
        self._cut_off[task.key] += ran > 0.8 * self._room
        if self._cut_off[task.key] >= CERTAIN:
            raise ClusterError(too_long(self._cluster, ran, task))
        self._took[task.kind].append(min(1.5 * ran, self._room) / frames_of(task))


def frames_of(task: Task) -> int:
    """Frames by which the time of a task is counted; 1 where it is of a whole FOV."""
    return task.stop - task.start if task.block is not None else 1


def room_of(cluster: Cluster) -> float | None:
    """Seconds that a job has for tasks; None without a walltime."""
    return walltime_seconds(cluster.walltime) - STARTING - SPARE if cluster.walltime and cluster.of_queue else None


def too_long(cluster: Cluster, seconds: float, task: Task) -> str:
    """Say why a task cannot be done in any job, with the arithmetic."""
    room = room_of(cluster) or 0.0
    smaller = f", or lower storage.block_frames, now {frames_of(task)}" if task.block is not None else ""
    return (
        f"{task.key} takes {seconds:.0f} s or more, but a job has {room:.0f} s for tasks: cluster.walltime "
        f"{cluster.walltime} less {STARTING:.0f} s to start and {SPARE:.0f} s to end; set cluster.walltime to "
        f"{clock_time(3 * seconds + STARTING + SPARE)} or more{smaller}"
    )
