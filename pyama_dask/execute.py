"""Running a plan: one loop that feeds tasks to a pool and records what comes back.

A pool is the serial loop or a Dask client; the loop is the same for both. FOVs enter a window in order and leave it
when their last receipt is recorded. A task is handed out only when everything it needs is on disk and in the ledger,
and futures are dropped at once: nothing that a dying worker holds is ever needed again.
"""

from __future__ import annotations

import logging
import math
import pickle
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol

from distributed import Client, Future, KilledWorker, wait

from pyama_dask.blocks import run_task
from pyama_dask.errors import CancelledError, ClusterError, DiskError, PyamaError, WorkerLostError
from pyama_dask.failures import Attempts, Failure
from pyama_dask.files import disk_error
from pyama_dask.ledger import Ledger
from pyama_dask.lock import stop_tasks
from pyama_dask.plan import FovPlan, Plan
from pyama_dask.readers import close_shared_readers
from pyama_dask.tasks import Job, Kind, Receipt, Step, Task

log = logging.getLogger(__name__)

STOPPING = 6.0
"""Seconds to wait for tasks that run, before an output is let go of; they are not wanted then, and see it."""
FETCHING = 5.0
"""Seconds to wait for receipts; Dask would first make one again that is lost with its worker, whenever that may be."""
RECOUNT = 3.0
"""Seconds between counts of the workers."""
TOGETHER = 0.005
"""Seconds within which tasks end together: their receipts travel in one message and reach the disk in one write."""
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

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks of one kind and FOV."""
        ...

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, for so many seconds; all that have ended by then, or none."""
        ...

    def stop(self, job: Job) -> None:
        """Take back what has not begun; what runs still when this returns stops by itself, at its next frame."""
        ...


class SerialPool:
    """Runs each task in this process, in the order given: for debugging, and what others are compared with."""

    workers = 1

    def __init__(self, function: Callable[[Task, Job], Receipt] = run_task) -> None:
        self._function = function
        self._tasks: queue.SimpleQueue[tuple[Task, Job]] = queue.SimpleQueue()

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks."""
        for task in tasks:
            self._tasks.put((task, job))

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:  # noqa: ARG002  (it never waits)
        """Run the task that was handed out first."""
        task, job = self._tasks.get()
        try:
            return [(task, self._function(task, job))]
        except Exception as error:  # noqa: BLE001  (the loop decides what a failure means)
            return [(task, error)]

    def stop(self, job: Job) -> None:  # noqa: ARG002  (nothing runs between calls)
        """Forget what has not begun, and close the movie."""
        self._tasks = queue.SimpleQueue()
        close_shared_readers()


class DaskPool:
    """Runs tasks on the workers of a Dask client; keys on its dashboard are the plan's.

    Parameters
    ----------
    client
        Connected client.
    owned
        Whether its workers end with the run.
    why
        Says why the worker at an address was lost, as far as that is known: ``memory``, or other words.
    """

    def __init__(
        self, client: Client, function: Callable[[Task, Job], Receipt] = run_task, *, owned: bool = False,
        why: Callable[[str], str | None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._client, self._function, self._owned, self._why = client, function, owned, why
        self._counted, self._workers = -math.inf, 1
        self._ended: queue.SimpleQueue[tuple[Task, Future[Receipt]]] = queue.SimpleQueue()
        self._running: dict[str, Future[Receipt]] = {}
        self._handed_out: Counter[str] = Counter()
        self._run = ""

    @property
    def workers(self) -> int:
        """Threads of all workers; asked for every few seconds, as they may come and go."""
        if time.monotonic() - self._counted > RECOUNT:
            self._workers = max(1, sum(int(threads) for threads in self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._workers

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks; what is nearer the end of a FOV, and FOVs that began earlier, come first."""
        self._check_scheduler()
        self._run = job.run
        keys = [self._dask_key(task) for task in tasks]
        call = partial(_call, self._function, pickle.dumps(job))
        futures = self._client.map(call, tasks, key=keys, pure=False, priority=_priority(tasks[0]))
        for task, future in zip(tasks, futures, strict=True):
            self._running[task.key] = future
            future.add_done_callback(lambda ended, task=task: self._ended.put((task, ended)))

    def _dask_key(self, task: Task) -> str:
        """Key of a task; another one each time, as the scheduler may still know one that failed."""
        self._handed_out[task.key] += 1
        again = self._handed_out[task.key]
        return task.key if again == 1 else f"{task.key}-try{again}"

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, and take with it what ends a moment later."""
        try:
            ended = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            self._check_scheduler()
            return []
        time.sleep(TOGETHER)
        ended += [self._ended.get() for _ in range(self._ended.qsize())]
        receipts = self._receipts({task.key: future for task, future in ended})
        for task, _ in ended:
            del self._running[task.key]
        return [(task, self._outcome(task, future, receipts.get(task.key))) for task, future in ended]

    def _receipts(self, futures: dict[str, Future[Receipt]]) -> dict[str, Receipt]:
        """Fetch the receipts of tasks that have ended, by key; not those of tasks that failed, or that are lost."""

        async def fetched() -> dict[str, Receipt]:
            receipts: dict[str, Receipt] = await self._client.gather(futures, errors="skip", asynchronous=True)
            return receipts

        receipts: dict[str, Receipt] = {}
        try:
            receipts = self._client.sync(fetched, callback_timeout=FETCHING)
        except TimeoutError:
            self._check_scheduler()
        return receipts

    def _outcome(self, task: Task, future: Future[Receipt], receipt: Receipt | None) -> Outcome:
        """Receipt of a task, or why there is none."""
        if receipt is None:
            if future.status != "error":
                self._check_scheduler()
                return WorkerLostError("its receipt was lost with the worker that did it")
            error: BaseException = future.exception()
            return self._lost(error) if isinstance(error, KilledWorker) else error
        if receipt.digests != task.digests or receipt.run != self._run:
            return RuntimeError(f"{task.key}: the scheduler gave another run's result")
        return receipt

    def _lost(self, error: KilledWorker) -> WorkerLostError:
        """Say what became of the worker that a task ran on."""
        worker, why = error.last_worker.address, None
        try:
            why = self._why(worker)
        except Exception:  # noqa: BLE001  (the scheduler may go in this moment, too)
            self._check_scheduler()
        if why == "memory":
            return WorkerLostError(
                f"the worker {worker} went over its memory limit and was ended; give workers more (cluster.memory, or "
                "fewer cluster.workers), or lower storage.block_frames",
                over_memory=True,
            )
        return WorkerLostError(f"the worker {worker} was lost while it did this ({why or 'it is not known why'})")

    def _check_scheduler(self) -> None:
        if self._client.status in ("closing", "closed"):
            raise ClusterError("the Dask scheduler is gone; start one, and run again to go on")

    def stop(self, job: Job) -> None:
        """Let no task begin, and wait for those that run; workers that end with the run need no waiting."""
        if not self._running or self._owned:
            return
        stop_tasks(job.output, job.run)
        try:
            wait(list(self._running.values()), timeout=STOPPING)
        except TimeoutError:
            log.warning("%d tasks that still run will stop at their next frame", len(self._running))
        finally:
            self._running.clear()


def _call(function: Callable[[Task, Job], Receipt], job: bytes, task: Task) -> Receipt:
    """Do a task on a worker."""
    return function(task, _job(job))


@lru_cache(maxsize=1)
def _job(pickled: bytes) -> Job:
    """What all tasks of a run share; a worker unpickles it once."""
    job: Job = pickle.loads(pickled)
    return job


def _priority(task: Task) -> int:
    return -3 * task.fov + {"ingest": 0, "finish": 1, "link": 2, "gather": 2}[task.kind]


# ------------------------------------------------------------------------------------------ one FOV, all


@dataclass(frozen=True)
class Execution:
    """What came of running a plan."""

    failed: Mapping[int, Failure]
    """By FOV."""
    stopped: PyamaError | None = None
    """Why it was broken off: the output takes nothing more, or the scheduler is gone."""


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
    tidy: Callable[[int], None],
    progress: Progress,
    cancel: threading.Event,
) -> Execution:
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
    tidy
        Called with every FOV when all that was to do of it is recorded: removes what is not needed any more.
    progress
        Called with an event whenever a step of a FOV has come further.
    cancel
        Set it to stop: nothing more is handed out, and what is recorded stays.

    Returns
    -------
    Why each FOV that failed did so, and whether the run was broken off.

    Raises
    ------
    OutputError
        If the output is not this run's any more.
    """
    return _Loop(plan, pool, ledger, prepare, tidy, progress, cancel).run()


class _Loop:
    """State of one execution."""

    def __init__(
        self, plan: Plan, pool: Pool, ledger: Ledger, prepare: Callable[[FovPlan], None], tidy: Callable[[int], None],
        progress: Progress, cancel: threading.Event,
    ) -> None:  # fmt: skip
        self.plan, self.pool, self.ledger = plan, pool, ledger
        self.prepare, self.tidy, self.progress, self.cancel = prepare, tidy, progress, cancel
        self.active: dict[int, FovRun] = {}
        self.failed: dict[int, Failure] = {}
        self.attempts = Attempts(plan.job.config.cluster)
        self.frames_done: dict[tuple[int, Step], int] = {}
        self.unwanted: set[str] = set()
        self.in_flight = 0

    def run(self) -> Execution:
        stopped = None
        try:
            self._run()
        except (DiskError, ClusterError) as error:
            stopped = error
            log.error("%s", error)  # noqa: TRY400  (it is no fault of the program)
        finally:
            self.pool.stop(self.plan.job)
        return Execution(self.failed, stopped)

    def _run(self) -> None:
        waiting = iter([fov for fov in self.plan.fovs if fov.tasks])
        size = self.plan.job.config.cluster.batch_size
        while not self.cancel.is_set():
            window = 2 * self.pool.workers if size == "auto" else size
            self._admit(waiting, window)
            if not self.in_flight:
                return
            ended = self.pool.next(timeout=0.1)
            self.ledger.record(*(outcome for _, outcome in ended if isinstance(outcome, Receipt)))
            for task, outcome in ended:
                self.in_flight -= 1
                self._take(task, outcome)

    def _admit(self, waiting: Iterator[FovPlan], window: int) -> None:
        """Let FOVs into the window, until it is full or none are left."""
        while len(self.active) < window and not self.cancel.is_set() and (fov := next(waiting, None)) is not None:
            try:
                self.prepare(fov)
            except Exception as error:  # noqa: BLE001  (one FOV harms no other)
                self._stop_if_disk_is_full(error)
                self._fail(fov.tasks[0], error)
                continue
            self.active[fov.fov] = FovRun(fov)
            self._hand_out(fov.fov)

    def _hand_out(self, fov: int) -> None:
        run = self.active[fov]
        self._submit(run.ready())
        if run.finished:
            del self.active[fov]
            if fov not in self.failed:
                self.tidy(fov)
                self._event("done", fov, self.plan.job.n_frames, f"FOV {fov} is complete")

    def _submit(self, tasks: Sequence[Task]) -> None:
        if tasks:
            self.pool.submit([self.attempts.fitted(task) for task in tasks], self.plan.job)
            self.in_flight += len(tasks)

    def _take(self, task: Task, outcome: Outcome) -> None:
        """Go on from a task that has ended, whose receipt is recorded."""
        if isinstance(outcome, Receipt):
            self._report(task, outcome)
        elif isinstance(outcome, CancelledError):
            self._see_why_unwanted(task, outcome)
            return
        else:
            self._stop_if_disk_is_full(outcome)
            if again := self._again(task, outcome):
                self.ledger.fail(task, Failure.of(task, outcome))
                self._submit([again])
                return
            self._fail(task, outcome)
        run = self.active[task.fov]
        run.out.discard(task.key)
        if task.fov in self.failed:
            run.stages.clear()
        self._hand_out(task.fov)

    def _again(self, task: Task, error: BaseException) -> Task | None:
        """Give a failed task as it is to be tried once more; None if it is not, or its FOV has failed already."""
        again = self.attempts.again(task, error)
        how = f", trying again, {again.frames_at_once} frames at once" if again else ""
        log.warning("%s failed%s: %s", task.key, how, error, exc_info=None if isinstance(error, PyamaError) else error)
        return None if task.fov in self.failed else again

    def _see_why_unwanted(self, task: Task, error: CancelledError) -> None:
        """Go on from a task that found its run over: it is, or its worker sees another lock than this process."""
        if self.cancel.is_set():
            return
        self.ledger.check()
        if task.key in self.unwanted:
            raise ClusterError(
                f"a worker does not see that this run goes on ({error}); workers must share the disk of the output"
            )
        self.unwanted.add(task.key)  # once, it may have read the lock while that was being written
        self._submit([task])

    def _stop_if_disk_is_full(self, error: BaseException) -> None:
        if stop := disk_error(error, self.plan.job.output):
            raise stop from error

    def _fail(self, task: Task, error: BaseException) -> None:
        failure = Failure.of(task, error)
        self.ledger.fail(task, failure)
        if task.fov not in self.failed:
            self.failed[task.fov] = failure
            self._event("failed", task.fov, 0, str(failure))

    def _report(self, task: Task, receipt: Receipt) -> None:
        log.info("%s done in %.2f s", task.key, receipt.seconds)
        for _, words in receipt.warnings:
            log.warning("%s", words)
        for step in task.digests:
            if COMPLETES[step] == task.kind:
                done = self.frames_done.get((task.fov, step), 0) + task.stop - task.start
                self.frames_done[task.fov, step] = done
                self._event(step, task.fov, done, task.key)

    def _event(self, step: str, fov: int, frame: int, message: str) -> None:
        total = self.plan.job.n_frames
        self.progress({"step": step, "fov": fov, "frame": frame, "total": total, "message": message})
