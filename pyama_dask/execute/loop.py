"""Running a plan: one loop that feeds tasks to a pool and records what comes back.

The pool is the serial loop or a Dask client; the loop is the same for both. FOVs enter a window in order and leave it
when their last receipt is recorded. A task is handed out only when everything it needs is on disk and in the ledger.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyama_dask.errors import (
    CancelledError,
    ClusterError,
    DamagedError,
    DiskError,
    PyamaError,
    StoreError,
    WalltimeError,
    WorkerLostError,
)
from pyama_dask.execute.pool import Outcome, Pool
from pyama_dask.execute.retries import Attempts
from pyama_dask.execute.walltime import Pace
from pyama_dask.files.atomic import disk_error
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.plan.resume import with_inputs
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Receipt, Task

log = logging.getLogger(__name__)

WATCHING = 2.0
"""Seconds between looks at how it stands with the workers."""

SHORT_JOBS = 5
"""Young jobs that may have too little time for a task; old ones are as many as there are, and each leaves."""
REPAIRS = 3
"""Times that damaged files of a FOV are regenerated in one run; a disk that damages more is not to be trusted."""
Progress = Callable[[dict[str, Any]], None]
Prepare = Callable[[FovPlan], Sequence[str]]
Settle = Callable[[Sequence[Task]], Sequence[Task]]
Tidy = Callable[[int], Sequence[str]]
Repair = Callable[[int, Collection[str]], tuple[FovPlan, Sequence[str]]]


# ------------------------------------------------------------------------------------------ one FOV, all


@dataclass(frozen=True)
class Execution:
    """What came of running a plan."""

    failed: Mapping[int, Failure]
    """By FOV."""
    stopped: PyamaError | None = None
    """Why it was broken off: the output takes nothing more, or the scheduler is gone."""
    warnings: Sequence[str] = ()
    """For the report."""
    jobs: str = ""
    """What became of the jobs of a queue."""
    kept: int = 0
    """Tasks that were not needed, as a change has left their results as they are."""


@dataclass
class FovRun:
    """A FOV in the window: what of it is left to hand out, and what is out."""

    plan: FovPlan
    stages: list[tuple[Task, ...]] = field(init=False)
    out: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    """Files that its tasks were to read and that are not as recorded, by path in the output."""

    def __post_init__(self) -> None:
        self.stages = list(self.plan.stages)

    @property
    def finished(self) -> bool:
        """Whether nothing is left or out."""
        return not self.out and not self.stages


def execute(
    plan: Plan,
    pool: Pool,
    ledger: Ledger,
    *,
    prepare: Prepare,
    settle: Settle,
    tidy: Tidy,
    repair: Repair,
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
        Called for every FOV before its first task: creates its arrays, and gives warnings.
    settle
        Called with tasks of a FOV when all that they need is recorded: gives what is left of them, without results
        that stay as they are.
    tidy
        Called with every FOV when all that was to do of it is recorded: removes what is not needed any more, and gives
        warnings.
    repair
        Called with a FOV and its damaged files: takes them back and gives what is left to do, and warnings.
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
    return _Loop(plan, pool, ledger, prepare, settle, tidy, repair, progress, cancel).run()


class Watch:
    """Sees how it stands with the workers, and raises an alarm when nothing moves.

    Parameters
    ----------
    patience
        Seconds without any task that ends before the first alarm; it is doubled with each.
    standing
        Says how it stands with the workers.
    """

    def __init__(self, patience: float, standing: Callable[[], str]) -> None:
        self._patience, self._standing = patience, standing
        self._moved = self._looked = time.monotonic()
        self._said, self._wait = "", patience
        self.alarms: list[str] = []

    def look(self, moved: bool) -> Iterator[tuple[str, int, int, str]]:
        """Give events for a person: ``jobs`` where it stands otherwise than before, ``alarm`` where nothing moves."""
        now = time.monotonic()
        if moved:
            self._moved, self._wait = now, self._patience
        if now - self._looked < WATCHING:
            return
        self._looked = now
        if (said := self._standing()) != self._said:
            self._said = said
            yield "jobs", -1, 0, said
        if now - self._moved > self._wait:
            self._wait *= 2
            alarm = f"nothing has moved for {(now - self._moved) / 60:.1f} min: {said or 'tasks still run'}"
            self.alarms.append(alarm)
            log.warning("%s", alarm)
            yield "alarm", -1, 0, alarm


class _Loop:
    """State of one execution."""

    def __init__(
        self, plan: Plan, pool: Pool, ledger: Ledger, prepare: Prepare, settle: Settle, tidy: Tidy,
        repair: Repair, progress: Progress, cancel: threading.Event,
    ) -> None:  # fmt: skip
        self.plan, self.pool, self.ledger = plan, pool, ledger
        self.prepare, self.settle, self.tidy, self.repair = prepare, settle, tidy, repair
        self.progress, self.cancel = progress, cancel
        self.warnings: list[str] = []
        self.repairs: Counter[int] = Counter()
        self.active: dict[int, FovRun] = {}
        self.failed: dict[int, Failure] = {}
        self.attempts = Attempts(plan.job.config.cluster)
        self.pace = Pace(plan.job.config.cluster)
        self.watch = Watch(plan.job.config.cluster.alarm * 60, pool.standing)
        self.short_of_time: Counter[str] = Counter()
        self.frames_done: dict[tuple[int, Step], int] = {}
        self.unwanted: set[str] = set()
        self.in_flight = self.kept = 0

    def run(self) -> Execution:
        stopped = None
        try:
            self._run()
        except (DiskError, ClusterError) as error:
            stopped = error
            log.error("%s", error)  # noqa: TRY400  (it is no fault of the program)
        finally:
            self.pool.stop(self.plan.job)
        warnings = [*self.warnings, *self.watch.alarms]
        return Execution(self.failed, stopped, warnings, self.pool.account(), self.kept)

    def _run(self) -> None:
        waiting = iter([fov for fov in self.plan.fovs if fov.tasks])
        size = self.plan.job.config.cluster.batch_size
        while not self.cancel.is_set():
            window = 2 * self.pool.workers if size == "auto" else size
            self._admit(waiting, window)
            if not self.in_flight:
                return
            ended = self.pool.next(timeout=0.1)
            for words in self.watch.look(bool(ended)):
                self._event(*words)
            self.ledger.record(*(outcome for _, outcome in ended if isinstance(outcome, Receipt)))
            for task, outcome in ended:
                self.in_flight -= 1
                self._take(task, outcome)

    def _admit(self, waiting: Iterator[FovPlan], window: int) -> None:
        """Let FOVs into the window, until it is full or none are left."""
        while len(self.active) < window and not self.cancel.is_set() and (fov := next(waiting, None)) is not None:
            try:
                self._warn(*self.prepare(fov))
            except Exception as error:  # noqa: BLE001  (one FOV harms no other)
                self._stop_if_disk_is_full(error)
                self._fail(fov.tasks[0], error)
                continue
            self.active[fov.fov] = FovRun(fov)
            self._hand_out(fov.fov)

    def _hand_out(self, fov: int) -> None:
        run = self.active[fov]
        if run.damaged and not run.out:
            run = self.active[fov] = self._repaired(run)
        while not run.out and run.stages:
            self._start(run, run.stages.pop(0))
        if run.finished:
            del self.active[fov]
            if fov not in self.failed:
                self._warn(*self.tidy(fov))
                self._event("done", fov, self.plan.job.n_frames, f"FOV {fov} is complete")

    def _start(self, run: FovRun, stage: Sequence[Task]) -> None:
        """Hand out what is left of a stage, as all of the one before is done."""
        try:
            left = {task.key: task for task in self.settle(stage)}
        except Exception as error:  # noqa: BLE001  (one FOV harms no other)
            self._stop_if_disk_is_full(error)
            self._fail(stage[0], error)
            run.stages.clear()
            return
        self.kept += len(stage) - len(left)
        for task in stage:
            kept = task.digests.keys() - (left[task.key].digests if task.key in left else {})
            self._count(task, kept)
        run.out = set(left)
        self._submit(list(left.values()))

    def _repaired(self, run: FovRun) -> FovRun:
        """Give a FOV with damaged files what is left to do of it; nothing if it has failed."""
        fov, last = run.plan.fov, min(run.damaged)
        nothing = replace(run.plan, tasks=())
        if fov in self.failed:
            return FovRun(nothing)
        self.repairs[fov] += 1
        if self.repairs[fov] > REPAIRS:
            said = f"{last}: files are damaged again and again. Fix: check the disk and the memory of this machine"
            self._fail(run.plan.tasks[0], StoreError(said))
            return FovRun(nothing)
        try:
            todo, warnings = self.repair(fov, run.damaged)
        except Exception as error:  # noqa: BLE001  (one FOV harms no other)
            self._stop_if_disk_is_full(error)
            self._fail(run.plan.tasks[0], error)
            return FovRun(nothing)
        self._warn(f"FOV {fov}: {last} was damaged; it is regenerated with everything that was made from it", *warnings)
        self.frames_done = {key: done for key, done in self.frames_done.items() if key[0] != fov}
        return FovRun(todo)

    def _warn(self, *warnings: str) -> None:
        for warning in warnings:
            log.warning("%s", warning)
            self.warnings.append(warning)

    def _submit(self, tasks: Sequence[Task]) -> None:
        if tasks:
            fitted = (with_inputs(self.attempts.fitted(task), self.ledger) for task in tasks)
            self.pool.submit([replace(task, seconds=self.pace.seconds(task)) for task in fitted], self.plan.job)
            self.in_flight += len(tasks)

    def _take(self, task: Task, outcome: Outcome) -> None:
        """Go on from a task that has ended, whose receipt is recorded."""
        if isinstance(outcome, Receipt):
            self.pace.took(task, outcome)
            self._report(task, outcome)
        elif isinstance(outcome, CancelledError):
            self._see_why_unwanted(task, outcome)
            return
        elif isinstance(outcome, WalltimeError):
            self._have_another_job(task, outcome)
            return
        elif isinstance(outcome, DamagedError):
            log.warning("%s: %s", task.key, outcome)
            self.active[task.fov].damaged.add(outcome.path)
        else:
            if isinstance(outcome, WorkerLostError) and outcome.ran:
                self.pace.cut_off(task, outcome.ran)
            self._stop_if_disk_is_full(outcome)
            if again := self._again(task, outcome):
                self.ledger.fail(task, Failure.of(task, outcome))
                self._submit([again])
                return
            self._fail(task, outcome)
        run = self.active[task.fov]
        run.out.discard(task.key)
        if task.fov in self.failed or run.damaged:
            run.stages.clear()
        self._hand_out(task.fov)

    def _again(self, task: Task, error: BaseException) -> Task | None:
        """Give a failed task as it is to be tried once more; None if it is not, or its FOV has failed already."""
        again = self.attempts.again(task, error)
        how = f", trying again, {again.frames_at_once} frames at once" if again else ""
        log.warning("%s failed%s: %s", task.key, how, error, exc_info=None if isinstance(error, PyamaError) else error)
        return None if task.fov in self.failed else again

    def _have_another_job(self, task: Task, error: WalltimeError) -> None:
        """Hand a task out again that would not have ended before its worker's job; it is no attempt."""
        self.short_of_time[task.key] += error.young
        if self.short_of_time[task.key] > SHORT_JOBS:
            raise ClusterError(
                f"{error}, as in {SHORT_JOBS} jobs before it, which had begun a moment ago: raise cluster.walltime, "
                f"now {self.plan.job.config.cluster.walltime}, or lower storage.block_frames"
            )
        log.info("%s; another one does it", error)
        self._submit([task])

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
        self._count(task, task.digests)

    def _count(self, task: Task, steps: Collection[Step]) -> None:
        """Tell how far steps have come that are done in a task."""
        for step in steps:
            if GRAPH.completes[step] == task.kind:
                done = self.frames_done.get((task.fov, step), 0) + task.stop - task.start
                self.frames_done[task.fov, step] = done
                self._event(step, task.fov, done, task.key)

    def _event(self, step: str, fov: int, frame: int, message: str) -> None:
        total = self.plan.job.n_frames
        self.progress({"step": step, "fov": fov, "frame": frame, "total": total, "message": message})
