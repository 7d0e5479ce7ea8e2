"""The loop that runs a plan: it feeds tasks to a pool and records their receipts.

The loop is the same for a pool in this process and for one on Dask. FOVs enter a window in order and leave it when
their last receipt is recorded. A task is submitted only when everything that it reads is on disk and in the ledger.
`policy.decide` decides what follows from the outcome of a task; the loop carries it out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pyama_dask.config.units import as_ranges
from pyama_dask.errors import CancelledError, ClusterError, DiskError, PyamaError, WorkerLostError
from pyama_dask.execute.events import Progress
from pyama_dask.execute.fov_run import FovRun, fovs_per_worker
from pyama_dask.execute.policy import (
    Decision,
    Done,
    Fail,
    FewerFrames,
    History,
    Outcome,
    Repair,
    Retry,
    Stop,
    Trouble,
    decide,
    trouble_of,
)
from pyama_dask.execute.pool import Pool
from pyama_dask.execute.turns import Turn
from pyama_dask.execute.walltime import Pace
from pyama_dask.execute.watch import Watch
from pyama_dask.files.atomic import disk_error
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.plan.resume import with_inputs
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.kinds import Kind
from pyama_dask.workflow.task import Receipt, Task, parse_key

log = logging.getLogger(__name__)

PrepareFov = Callable[[FovPlan], Sequence[str]]
SettleTasks = Callable[[Sequence[Task]], Sequence[Task]]
TidyFov = Callable[[int], Sequence[str]]
RepairFov = Callable[[int, Collection[str]], tuple[FovPlan, Sequence[str]]]


@dataclass(frozen=True)
class Execution:
    """Result of running a plan."""

    failed: Mapping[int, Failure]
    """Failures by FOV."""
    stopped: PyamaError | None = None
    """Reason why the run stopped early, such as a full disk or a lost scheduler."""
    warnings: Sequence[str] = ()
    """Warnings for the report."""
    jobs: str = ""
    """Summary of the jobs of a queue."""
    kept: int = 0
    """Number of tasks that were not needed, as their recorded results stay as they are."""
    unfinished: Collection[int] = ()
    """FOVs that were prepared, and failed or were cut short."""


def execute(
    plan: Plan,
    pool: Pool,
    ledger: Ledger,
    *,
    prepare: PrepareFov,
    settle: SettleTasks,
    tidy: TidyFov,
    repair: RepairFov,
    progress: Progress,
    cancel: threading.Event,
    clock: Callable[[], float] = time.monotonic,
    turn: Turn | None = None,
) -> Execution:
    """Run the tasks of a plan.

    Parameters
    ----------
    plan
        Remaining tasks.
    pool
        Pool that runs the tasks.
    ledger
        Ledger, open for writing. Every receipt is recorded before a task that needs it is submitted.
    prepare
        Called with every FOV before its first task: creates its arrays, and returns warnings.
    settle
        Called with tasks of a FOV when everything that they read is recorded: returns what is left of them, without
        results that stay as they are.
    tidy
        Called with every FOV after its last task: removes temporary files, and returns warnings.
    repair
        Called with a FOV and its damaged files: voids them, and returns the remaining tasks and warnings.
    progress
        Called with an event after each finished step of a task.
    cancel
        Set it to stop: no further task is submitted, and recorded work stays.
    clock
        Monotonic clock in seconds, for alarms.
    turn
        Turn among several runs on the same workers; None for a run alone.

    Returns
    -------
    Failures by FOV, and the reason if the run stopped early.

    Raises
    ------
    OutputError
        If another run has taken over the output.
    """
    watch = Watch(plan.job.config.cluster.alarm * 60, pool.status, pool.doing, clock)
    loop = _Loop(plan, pool, ledger, prepare, settle, tidy, repair, progress, cancel, watch, turn or Turn())
    return loop.run()


@dataclass
class _Loop:
    """State of one execution."""

    plan: Plan
    pool: Pool
    ledger: Ledger
    prepare: PrepareFov
    settle: SettleTasks
    tidy: TidyFov
    repair: RepairFov
    progress: Progress
    cancel: threading.Event
    watch: Watch
    turn: Turn

    def __post_init__(self) -> None:
        self.unfinished = {fov.fov for fov in self.plan.fovs if fov.tasks}
        self.waiting = deque(fov for fov in self.plan.fovs if fov.tasks)
        self.active: dict[int, FovRun] = {}
        self.failed: dict[int, Failure] = {}
        self.warnings: list[str] = []
        self.troubles: dict[str, Counter[Trouble]] = {}
        """Of the tasks that did not finish at once, by key."""
        self.repairs = Counter[int]()
        self.frames_limit: dict[Kind, int] = {}
        self.pace = Pace(self.plan.job.config.cluster)
        self.in_flight = self.kept = 0

    def run(self) -> Execution:
        """Run all FOVs."""
        stopped = None
        try:
            self._run()
        except (DiskError, ClusterError) as error:
            stopped = error
            log.error("%s", error)  # noqa: TRY400  (a traceback would not help)
        finally:
            self.turn.pass_on()
            self.pool.stop(self.plan.job)
        warnings = [*self.warnings, *self.watch.alarms]
        unfinished = {*self.active, *self.failed}
        return Execution(self.failed, stopped, warnings, self.pool.summary(), self.kept, unfinished)

    def _run(self) -> None:
        share = fovs_per_worker(self.waiting)
        size = self.plan.job.config.cluster.batch_size
        while not self.cancel.is_set():
            window = share * self.pool.workers if size == "auto" else size
            self._admit(window)
            waits = bool(self.waiting) and not self.in_flight and self.turn.must_wait(window)
            if not self.in_flight and not waits:
                return
            ended = self.pool.next(timeout=0.1)
            for step, message in self.watch.check(bool(ended) or waits):
                self._event(step, -1, 0, message)
            self.ledger.record(*(outcome for _, outcome in ended if isinstance(outcome, Receipt)))
            for task, outcome in ended:
                self.in_flight -= 1
                self._continue_after(task, outcome)

    # ------------------------------------------------------------------------------------------- FOVs

    def _admit(self, window: int) -> None:
        """Start FOVs until the window is full; after the last one, other runs may start theirs."""
        while self.turn.may_take(len(self.active), window) and not self.cancel.is_set() and self.waiting:
            fov = self.waiting.popleft()
            try:
                self._warn(*self.prepare(fov))
            except Exception as error:  # noqa: BLE001  (the other FOVs continue)
                self._fail_outside_task(fov.tasks[0], error)
                self._leave(fov.fov)
                continue
            self.active[fov.fov] = FovRun(fov, self.ledger.of_fov(fov.fov))
            self._advance(fov.fov)
        if not self.waiting:
            self.turn.pass_on(len(self.active))

    def _advance(self, fov: int) -> None:
        """Repair a FOV, submit its next stage, or finish it."""
        run = self.active[fov]
        if run.damaged and not run.running:
            run = self.active[fov] = FovRun(self._remaining_after_repair(run), run.records)
        while (stage := run.ready(self.plan.graph)) and self._may_start(run, stage):
            run.stages.remove(stage)
            self._start(run, stage)
        if run.finished:
            del self.active[fov]
            if fov not in self.failed:
                self._warn(*self.tidy(fov))
                if run.complete:
                    self._event("done", fov, self.plan.job.n_frames, f"{run.plan.title} is complete")
            self._leave(fov)

    def _leave(self, fov: int) -> None:
        """Take a FOV as finished or failed, and continue with those that waited for it."""
        self.unfinished.discard(fov)
        for other in [other for other, run in self.active.items() if run.waits]:
            if other in self.active:
                self._advance(other)

    def _may_start(self, run: FovRun, stage: Sequence[Task]) -> bool:
        """Check whether a stage can start; one of a well or plate waits for its other FOVs."""
        task, needed = stage[0], run.plan.waits_for
        if self.unfinished.intersection(task.group) - {task.fov}:
            return False
        missing = {
            parse_key(key).fov
            for key, steps in needed.get(task.kind, {}).items()
            for step, digest in steps.items()
            if not self.ledger.has(key, step, digest)
        }
        if missing:
            left = ", ".join(dict.fromkeys(step for stage in run.stages for task in stage for step in task.digests))
            others = as_ranges(sorted(missing))
            self._warn(f"{task.place}: {left} need FOV {others}, which is not done. Fix: see why, and run again")
            run.stages.clear()
            run.complete = False
        return not missing

    def _start(self, run: FovRun, stage: Sequence[Task]) -> None:
        """Submit what is left of a stage, once all that it is made from is finished."""
        try:
            left = {task.key: task for task in self.settle(stage)}
        except Exception as error:  # noqa: BLE001  (the other FOVs continue)
            self._fail_outside_task(stage[0], error)
            run.stages.clear()
            return
        self.kept += len(stage) - len(left)
        for task in stage:
            self._count(run, task, task.digests.keys() - (left[task.key].digests if task.key in left else {}))
        run.running |= set(left)
        self._submit(list(left.values()))

    def _remaining_after_repair(self, run: FovRun) -> FovPlan:
        """Repair a FOV with damaged files; no tasks remain if it has failed."""
        fov, path = run.plan.fov, min(run.damaged)
        if fov in self.failed:
            return replace(run.plan, tasks=())
        self.repairs[fov] += 1
        try:
            remaining, warnings = self.repair(fov, run.damaged)
        except Exception as error:  # noqa: BLE001  (the other FOVs continue)
            self._fail_outside_task(run.plan.tasks[0], error)
            return replace(run.plan, tasks=())
        self._warn(
            f"{run.plan.title}: {path} was damaged; it is regenerated with everything derived from it", *warnings
        )
        return remaining

    def _fail_outside_task(self, task: Task, error: Exception) -> None:
        """Fail a FOV for an error before `task`; a full disk stops the run instead."""
        if stop := disk_error(error, self.plan.job.output):
            raise stop from error
        self._fail(task, Failure.of(task, error))

    # ------------------------------------------------------------------------------------------ tasks

    def _submit(self, tasks: Sequence[Task]) -> None:
        if tasks:
            graph, length = self.plan.graph, self.plan.job.block_frames
            limited = (with_inputs(self._with_frames_limit(task), self.ledger, graph, length) for task in tasks)
            timed = [replace(task, seconds=self.pace.seconds(task)) for task in limited]
            self.pool.submit(timed, self.plan.job, is_last=not self.waiting)
            self.in_flight += len(tasks)

    def _with_frames_limit(self, task: Task) -> Task:
        """Task whose batches of frames are no larger than other tasks of its kind had memory for."""
        limit = self.frames_limit.get(task.kind, task.frames_at_once)
        return replace(task, at_once=limit) if limit < task.frames_at_once else task

    def _continue_after(self, task: Task, outcome: Outcome) -> None:
        """Decide what follows from an outcome, and do it. Receipts are recorded by now."""
        if isinstance(outcome, CancelledError):
            if self.cancel.is_set():
                return
            self.ledger.check()  # another run may have taken over the output
        if isinstance(outcome, WorkerLostError) and outcome.ran:
            self.pace.cut_off(task, outcome.ran)
        history = History(self.troubles.get(task.key, {}), self.repairs[task.fov], task.fov in self.failed)
        decision = decide(task, outcome, history, self.plan.job)
        if isinstance(outcome, BaseException):
            self.troubles.setdefault(task.key, Counter())[trouble_of(outcome)] += 1
            _log_decision(task, outcome, decision)
        self._carry_out(task, decision)

    def _carry_out(self, task: Task, decision: Decision) -> None:
        match decision:
            case Stop(error):
                raise error
            case Retry(failure):
                if failure:
                    self.ledger.fail(task, failure)
                self._submit([task])
                return
            case FewerFrames(failure, frames, for_kind):
                if for_kind:
                    self.frames_limit[task.kind] = min(frames, self.frames_limit.get(task.kind, frames))
                self.ledger.fail(task, failure)
                self._submit([replace(task, at_once=frames)])
                return
            case Done(receipt):
                self.pace.took(task, receipt)
                self._report(task, receipt)
            case Repair(path):
                self.active[task.fov].damaged.add(path)
            case Fail(failure):
                self._fail(task, failure)
        self._end(task)

    def _end(self, task: Task) -> None:
        """Take a task out of its FOV, and continue with the FOV."""
        run = self.active[task.fov]
        run.running.discard(task.key)
        if task.fov in self.failed or run.damaged:
            run.stages.clear()
        self._advance(task.fov)

    # --------------------------------------------------------------------------------------- messages

    def _fail(self, task: Task, failure: Failure) -> None:
        failure = failure.with_title(task.fov, self.plan.fov(task.fov).title)
        self.ledger.fail(task, failure)
        if task.fov not in self.failed:
            self.failed[task.fov] = failure
            self._event("failed", task.fov, 0, str(failure))

    def _warn(self, *warnings: str) -> None:
        for warning in warnings:
            log.warning("%s", warning)
            self.warnings.append(warning)

    def _report(self, task: Task, receipt: Receipt) -> None:
        log.info("%s done in %.2f s", task.key, receipt.seconds)
        for _, warning in receipt.warnings:
            log.warning("%s", warning)
        self._count(self.active[task.fov], task, task.digests)

    def _count(self, run: FovRun, task: Task, steps: Collection[Step]) -> None:
        """Report the progress of steps that are done in a task."""
        for step in steps:
            if self.plan.graph.completes[step] == task.kind:
                run.frames_done[step] += task.stop - task.start
                self._event(step, task.fov, run.frames_done[step], task.key)

    def _event(self, step: str, fov: int, frame: int, message: str) -> None:
        total = self.plan.job.n_frames
        self.progress({"step": step, "fov": fov, "frame": frame, "total": total, "message": message})


def _log_decision(task: Task, error: BaseException, decision: Decision) -> None:
    """Log why a task did not finish, and what follows; the error of `Stop` is logged at the end of the run."""
    match decision:
        case Retry(None):
            log.info("%s is given to another worker: %s", task.key, error)
            return
        case Repair():
            log.warning("%s: %s", task.key, error)
            return
        case Retry():
            follows = ", retrying"
        case FewerFrames(_, frames):
            follows = f", retrying with batches of {frames} frames"
        case _:
            follows = ""
    traceback = None if isinstance(error, PyamaError) else error
    log.warning("%s failed%s: %s", task.key, follows, error, exc_info=traceback)
