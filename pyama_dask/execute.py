"""Running a plan: one loop that feeds tasks to a pool and records what comes back.

A pool is the serial loop or a Dask client; the loop is the same for both. FOVs enter a window in order and leave it
when their last receipt is recorded. A task is handed out only when everything it needs is on disk and in the ledger,
and futures are dropped at once: nothing that a dying worker holds is ever needed again.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed import Client, Future

from pyama_dask.blocks import run_task
from pyama_dask.errors import AlgorithmError, ConfigError, MissingFrameError, UnsupportedSourceError
from pyama_dask.ledger import Ledger
from pyama_dask.plan import FovPlan, Plan
from pyama_dask.tasks import Job, Kind, Receipt, Step, Task

log = logging.getLogger(__name__)

CERTAIN = (AlgorithmError, ConfigError, MissingFrameError, UnsupportedSourceError)
"""Failures that would happen again."""

COMPLETES: Mapping[Step, Kind] = {
    "copy": "ingest", "segment": "ingest", "background": "ingest",
    "track": "finish", "cache": "finish", "crop": "gather", "extract": "gather",
}  # fmt: skip
"""The task that ends a step."""

Progress = Callable[[dict[str, Any]], None]
Outcome = Receipt | BaseException


class Pool(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int:
        """How many tasks can run at once."""
        ...

    def submit(self, task: Task, job: Job) -> None:
        """Hand out a task."""
        ...

    def next(self, timeout: float) -> tuple[Task, Outcome] | None:
        """Wait for a task to end, for so many seconds; None when none did."""
        ...

    def cancel(self) -> None:
        """Take back what has not begun, and let go of what runs."""
        ...


class SerialPool:
    """Runs each task in this process, in the order given: for debugging, and what others are compared with."""

    workers = 1

    def __init__(self, function: Callable[[Task, Job], Receipt] = run_task) -> None:
        self._function = function
        self._tasks: queue.SimpleQueue[tuple[Task, Job]] = queue.SimpleQueue()

    def submit(self, task: Task, job: Job) -> None:
        """Hand out a task."""
        self._tasks.put((task, job))

    def next(self, timeout: float) -> tuple[Task, Outcome] | None:  # noqa: ARG002  (it never waits)
        """Run the task that was handed out first."""
        task, job = self._tasks.get()
        try:
            return task, self._function(task, job)
        except Exception as error:  # noqa: BLE001  (the loop decides what a failure means)
            return task, error

    def cancel(self) -> None:
        """Forget what has not begun."""
        self._tasks = queue.SimpleQueue()


class DaskPool:
    """Runs tasks on the workers of a Dask client; keys on its dashboard are the plan's.

    Parameters
    ----------
    client
        Connected client.
    """

    def __init__(self, client: Client, function: Callable[[Task, Job], Receipt] = run_task) -> None:
        self._client, self._function = client, function
        self._ended: queue.SimpleQueue[tuple[Task, Future[Receipt]]] = queue.SimpleQueue()
        self._running: dict[str, Future[Receipt]] = {}
        self._handed_out: Counter[str] = Counter()

    @property
    def workers(self) -> int:
        """Threads of all workers."""
        return max(1, sum(int(threads) for threads in self._client.nthreads().values()))

    def submit(self, task: Task, job: Job) -> None:
        """Hand out a task; what is nearer the end of a FOV, and FOVs that began earlier, come first."""
        self._handed_out[task.key] += 1
        again = self._handed_out[task.key]
        # the scheduler may still know a task that failed by its key
        key = task.key if again == 1 else f"{task.key}-try{again}"
        future = self._client.submit(self._function, task, job, key=key, pure=False, priority=_priority(task))
        self._running[task.key] = future
        future.add_done_callback(lambda ended: self._ended.put((task, ended)))

    def next(self, timeout: float) -> tuple[Task, Outcome] | None:
        """Wait for a task to end."""
        try:
            task, future = self._ended.get(timeout=timeout)
        except queue.Empty:
            return None
        del self._running[task.key]
        if future.status == "finished":
            return task, future.result()
        return task, future.exception() or RuntimeError(f"{task.key}: {future.status}")

    def cancel(self) -> None:
        """Cancel all tasks."""
        self._client.cancel(list(self._running.values()), force=True)
        self._running.clear()


def _priority(task: Task) -> float:
    return -task.fov + {"ingest": 0.0, "finish": 0.3, "link": 0.6, "gather": 0.6}[task.kind]


# ------------------------------------------------------------------------------------------ one FOV, all


@dataclass
class FovRun:
    """A FOV in the window: what of it is left to hand out, and what is out."""

    plan: FovPlan
    stages: list[tuple[Task, ...]] = field(init=False)
    out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stages = list(self.plan.stages)

    def ready(self) -> tuple[Task, ...]:
        """Tasks that can be handed out now: the next stage, when all of the one before is done."""
        if self.out or not self.stages:
            return ()
        stage = self.stages.pop(0)
        self.out = {task.key for task in stage}
        return stage

    @property
    def finished(self) -> bool:
        """Whether nothing is left or out."""
        return not self.out and not self.stages


def execute(
    plan: Plan,
    pool: Pool,
    ledger: Ledger,
    *,
    prepare: Callable[[FovPlan], None],
    progress: Progress,
    cancel: threading.Event,
) -> dict[int, str]:
    """Run the tasks of a plan.

    Parameters
    ----------
    plan
        What is left to do.
    pool
        Where tasks run.
    ledger
        Open for writing; every receipt is recorded in it before anything is built on it.
    prepare
        Called for every FOV before its first task: creates its arrays.
    progress
        Called with an event whenever a step of a FOV has come further.
    cancel
        Set it to stop: nothing more is handed out, and what is recorded stays.

    Returns
    -------
    Why each FOV that failed did so.
    """
    return _Loop(plan, pool, ledger, prepare, progress, cancel).run()


class _Loop:
    """State of one execution."""

    def __init__(
        self, plan: Plan, pool: Pool, ledger: Ledger, prepare: Callable[[FovPlan], None], progress: Progress,
        cancel: threading.Event,
    ) -> None:  # fmt: skip
        self.plan, self.pool, self.ledger = plan, pool, ledger
        self.prepare, self.progress, self.cancel = prepare, progress, cancel
        self.active: dict[int, FovRun] = {}
        self.failed: dict[int, str] = {}
        self.attempts: dict[str, int] = {}
        self.frames_done: dict[tuple[int, Step], int] = {}
        self.in_flight = 0

    def run(self) -> dict[int, str]:
        waiting = iter([fov for fov in self.plan.fovs if fov.tasks])
        size = self.plan.job.config.cluster.batch_size
        while True:
            window = 2 * self.pool.workers if size == "auto" else size
            self._admit(waiting, window)
            if not self.in_flight:
                return self.failed
            ended = self.pool.next(timeout=0.1)
            if ended is not None:
                self.in_flight -= 1
                self._take(*ended)
            if self.cancel.is_set():
                self.pool.cancel()
                return self.failed

    def _admit(self, waiting: Iterator[FovPlan], window: int) -> None:
        """Let FOVs into the window, until it is full or none are left."""
        while len(self.active) < window and (fov := next(waiting, None)) is not None:
            try:
                self.prepare(fov)
            except OSError as error:
                self._fail(fov.fov, f"prepare-fov{fov.fov:03d}", error)
                continue
            self.active[fov.fov] = FovRun(fov)
            self._hand_out(fov.fov)

    def _hand_out(self, fov: int) -> None:
        run = self.active[fov]
        for task in run.ready():
            self._submit(task)
        if run.finished:
            del self.active[fov]
            if fov not in self.failed:
                self._event("done", fov, self.plan.job.n_frames, f"FOV {fov} is complete")

    def _submit(self, task: Task) -> None:
        self.pool.submit(task, self.plan.job)
        self.in_flight += 1

    def _take(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Receipt):
            self.ledger.record(outcome)
            if task.kind == "gather" and "crop" in task.digests:
                drop_parts(self.plan.job, task.fov)
            self._report(task, outcome)
        elif self._again(task, outcome):
            self._submit(task)
            return
        else:
            self._fail(task.fov, task.key, outcome)
        run = self.active[task.fov]
        run.out.discard(task.key)
        if task.fov in self.failed:
            run.stages.clear()
        self._hand_out(task.fov)

    def _again(self, task: Task, error: BaseException) -> bool:
        """Whether to try a failed task once more."""
        tried = self.attempts[task.key] = self.attempts.get(task.key, 0) + 1
        again = not isinstance(error, CERTAIN) and tried <= self.plan.job.config.cluster.retries
        log.warning("%s failed%s: %s", task.key, ", trying again" if again else "", error, exc_info=error)
        return again and task.fov not in self.failed

    def _fail(self, fov: int, key: str, error: BaseException) -> None:
        reason = f"{key}: {type(error).__name__}: {error}"
        self.ledger.fail(key, reason)
        self.failed.setdefault(fov, reason)
        self._event("failed", fov, 0, reason)

    def _report(self, task: Task, receipt: Receipt) -> None:
        log.info("%s done in %.2f s", task.key, receipt.seconds)
        for warning in receipt.warnings:
            log.warning("%s", warning)
        for step in task.digests:
            if COMPLETES[step] == task.kind:
                done = self.frames_done.get((task.fov, step), 0) + task.stop - task.start
                self.frames_done[task.fov, step] = done
                self._event(step, task.fov, done, task.key)

    def _event(self, step: str, fov: int, frame: int, message: str) -> None:
        total = self.plan.job.n_frames
        self.progress({"step": step, "fov": fov, "frame": frame, "total": total, "message": message})


def drop_parts(job: Job, fov: int) -> None:
    """Remove the parts of crops once the crops are written and recorded."""
    for part in job.work_dir(fov).glob("crops_*.npy"):
        part.unlink(missing_ok=True)


def parts_are_gone(job: Job, task: Task) -> bool:
    """Whether the crop parts of a task's block were removed."""
    return not (job.work_dir(task.fov) / f"crops_mask_b{task.block:03d}.npy").exists()
