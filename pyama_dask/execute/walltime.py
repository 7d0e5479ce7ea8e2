"""The walltime of jobs: workers leave before it, and no task starts that would not end in time.

The ``--lifetime`` of Dask takes a running task from a leaving worker and starts it again elsewhere: a task that is
longer than the lifetime would never end. Here a worker first accepts no more tasks, then finishes its running task,
then leaves. The time of a task is estimated from other tasks of its kind in the run.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

from distributed import get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import clock_time, walltime_seconds
from pyama_dask.errors import ClusterError, WalltimeError
from pyama_dask.execute.worker_loss import RETIRED, WALLTIME, log_exit
from pyama_dask.workflow.kinds import Kind, on_gpu
from pyama_dask.workflow.task import Receipt, Task

JOB_ENDS = "PYAMA_DASK_JOB_ENDS"
"""Environment variable of a job: end of its walltime, in seconds since 1970."""
JOB_LASTS = "PYAMA_DASK_JOB_LASTS"
"""Environment variable of a job: its walltime in seconds."""
STARTING = 15.0
"""Seconds from the start of a job until its workers are ready."""
SPARE = 5.0
"""Seconds before the end of a job when its workers must be gone."""
STAGGER = 0.05
"""Fraction of the walltime over which workers leave, so that they are not all replaced at the same time."""
FETCHED = 10.0
"""Seconds that a leaving worker waits until its receipts are fetched."""
CERTAIN = 3
"""Number of tasks that must be too long for a job before the run stops; a single one may have met a slow disk."""
REMEMBERED = 101
"""Number of remembered times for each kind of task."""


class Retirement(WorkerPlugin):
    """Worker plugin that makes a worker leave before its job ends."""

    name = "pyama-dask-retirement"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Schedule the end of the worker."""
        self._worker, self._begun = worker, dict[str, float]()
        self._leaving = False
        left = time_left()
        if left is None:
            return
        stagger = random.Random(worker.address).uniform(0, STAGGER) * left
        worker.loop.call_later(max(0.0, left - SPARE - stagger), self.leave)
        worker.loop.call_later(max(0.0, left - SPARE / 2), self.report_running)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Record when tasks start."""
        if finish == "executing":
            self._begun[str(key)] = time.monotonic()
        elif start == "executing":
            self._begun.pop(str(key), None)

    async def leave(self) -> None:
        """Accept no more tasks, finish the running one, and leave."""
        if self._leaving or self._worker.status not in (Status.running, Status.paused):
            return
        self._leaving = True
        self._worker.status = Status.paused
        while self._worker.state.executing:
            await asyncio.sleep(0.1)
        until = time.monotonic() + FETCHED
        while self._worker.data and time.monotonic() < until:
            await asyncio.sleep(0.1)
        await self._log_event(RETIRED)
        await self._worker.close_gracefully(reason="the walltime of its job is near")

    async def report_running(self) -> None:
        """Log which tasks are about to be killed, and how long they have run."""
        if self._begun:
            await self._log_event(WALLTIME, ran={key: time.monotonic() - begun for key, begun in self._begun.items()})

    async def _log_event(self, why: str, **more: dict[str, float]) -> None:
        worker = self._worker
        await log_exit(worker, {"worker": worker.address, "name": str(worker.name), "why": why, **more})


def time_left(clock: Callable[[], float] = time.time) -> float | None:
    """Seconds until the job of this worker ends; None without a walltime."""
    ends = os.environ.get(JOB_ENDS)
    return float(ends) - clock() if ends else None


def check_time(task: Task) -> None:
    """Check that the job of this worker lasts long enough for a task; if not, the worker leaves.

    Raises
    ------
    WalltimeError
        If the job ends before the task would.
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
"""Seconds per frame of the slowest task of each kind in this process; a task may be submitted before any has ended."""


def note_time(task: Task, receipt: Receipt) -> None:
    """Record in this process how long a task took, including the first one, which compiles."""
    _SLOWEST[task.kind] = max(receipt.seconds / frames_of(task), _SLOWEST.get(task.kind, 0.0))


class Pace:
    """Times of tasks as measured in this run, and checks that jobs are long enough for them.

    Parameters
    ----------
    cluster
        Part of the config.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._took: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._cut_off = Counter[str]()

    def took(self, task: Task, receipt: Receipt) -> None:
        """Record how long a task took."""
        self._took[task.kind].append(receipt.seconds / frames_of(task))

    def seconds(self, task: Task) -> float:
        """Estimate an upper limit for the time of a task in seconds; 0 before any task of its kind has ended.

        Raises
        ------
        ClusterError
            If a usual task of this kind is too long for a job.
        """
        room = room_of(self._cluster, task.kind)
        if room is None or not (took := self._took[task.kind]):
            return 0.0
        usual = statistics.median(took) * frames_of(task)
        if usual > room and len(took) >= CERTAIN:
            raise ClusterError(too_long(self._cluster, usual, task))
        slow = sorted(took)[int(0.9 * len(took))] * frames_of(task)
        return min(max(2 * usual, slow), room)

    def cut_off(self, task: Task, ran: float) -> None:
        """Record that a job ended during a task.

        Parameters
        ----------
        task
            The task.
        ran
            Seconds that it had run.

        Raises
        ------
        ClusterError
            If the task had nearly the whole time of several jobs.
        """
        if (room := room_of(self._cluster, task.kind)) is None:
            return
        self._cut_off[task.key] += ran > 0.8 * room
        if self._cut_off[task.key] >= CERTAIN:
            raise ClusterError(too_long(self._cluster, ran, task))
        self._took[task.kind].append(min(1.5 * ran, room) / frames_of(task))


def frames_of(task: Task) -> int:
    """Number of frames that the time of a task is proportional to; 1 for a task of a whole FOV."""
    return task.stop - task.start if task.block is not None else 1


def walltime_of(cluster: Cluster, kind: Kind) -> tuple[str, str | None]:
    """Key of the walltime of jobs for a kind of task, and its value; None without one."""
    if cluster.gpu and cluster.gpu.walltime and on_gpu(kind):
        return "cluster.gpu.walltime", cluster.gpu.walltime
    return "cluster.walltime", cluster.walltime


def room_of(cluster: Cluster, kind: Kind) -> float | None:
    """Seconds of a job that its tasks, of this kind, can use; None without a walltime."""
    _, walltime = walltime_of(cluster, kind)
    return walltime_seconds(walltime) - STARTING - SPARE if walltime and cluster.of_queue else None


def too_long(cluster: Cluster, seconds: float, task: Task) -> str:
    """Message for a task that is too long for every job, with the calculation."""
    room, (key, walltime) = room_of(cluster, task.kind) or 0.0, walltime_of(cluster, task.kind)
    blocks = f", or lower storage.block_frames, now {frames_of(task)}" if task.block is not None else ""
    return (
        f"{task.key} takes {seconds:.0f} s or more, but a job has {room:.0f} s for tasks: {key} "
        f"{walltime} less {STARTING:.0f} s to start and {SPARE:.0f} s to end. Fix: set {key} to "
        f"{clock_time(3 * seconds + STARTING + SPARE)} or more{blocks}"
    )
