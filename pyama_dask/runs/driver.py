"""One run from config to report: open, plan, launch, execute, report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from distributed import Client

from pyama_dask.config.load import as_config
from pyama_dask.config.models import Config
from pyama_dask.config.units import many
from pyama_dask.errors import DiskError, OutputError, PlanError, StoreError
from pyama_dask.execute.events import Events, Progress
from pyama_dask.execute.loop import Execution, execute
from pyama_dask.execute.turns import Turn
from pyama_dask.execute.workers import Workers
from pyama_dask.files.atomic import disk_error, writable, write_bytes
from pyama_dask.files.paged import direct_works
from pyama_dask.launch import (
    check_cluster,
    dask_report,
    existing_client,
    pool_on,
)
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.plan.resolve import plugins
from pyama_dask.plan.resume import derived_from, forced
from pyama_dask.readers import Metadata
from pyama_dask.runs.bars import shown_in_notebook
from pyama_dask.runs.disk_space import amounts_told, check_room, with_amounts
from pyama_dask.runs.final_page import load_writers, write_final_page
from pyama_dask.runs.output_dir import begun, logging_to, prepare, settle, tidy, void_unsettled, write_records
from pyama_dask.runs.ownership import check_free_names, void
from pyama_dask.runs.planning import only_failed, plan_run, what_is_left
from pyama_dask.runs.plate_output import PlateOutput, check_plate_is_ours
from pyama_dask.runs.run_record import RunRecord
from pyama_dask.runs.run_workers import DASK_REPORT, SharedPool, workers_of_run
from pyama_dask.runs.source_check import check_after_run
from pyama_dask.runs.status import LEDGER, RunReport, costs_by_step, report_fov, warn_of_mixed_processors, write_report
from pyama_dask.runs.verify import check_damage
from pyama_dask.steps.standard import finds_cells
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock import Lock, locked
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import WORK

log = logging.getLogger("pyama_dask")


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    client: Client | None = None,
    progress: Progress | Literal[False] | None = None,
    cancel: threading.Event | None = None,
    steps: Sequence[Step] | None = None,
    force: Sequence[Step] = (),
    retry_failed: bool = False,
    extend: bool = False,
    into: bool = False,
    approve: Callable[[Plan, Metadata], None] | None = None,
    on_start: Callable[[Plan, str | None], None] | None = None,
    pool: SharedPool | None = None,
    turn: Turn | None = None,
) -> RunReport:
    """Process a movie as configured; results that are recorded as done in the output are kept.

    Parameters
    ----------
    config
        A config of one movie, a mapping with its keys, or the path of a YAML file.
    client, progress, cancel, steps, force, retry_failed, extend, into, on_start
        As for `movies.run`.
    approve
        Called with the plan of the whole run and the movie's metadata before anything is written; an error that it
        raises refuses the run.
    pool
        Workers that several runs share; None to start them for this one.
    turn
        Turn of the run among those that share the workers.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run is refused; nothing was written.
    """
    config, cancel = as_config(config), cancel or threading.Event()
    work = config.output.absolute() / WORK
    with (
        shown_in_notebook(progress, on_start) as (events, begins),
        existing_client(config.cluster, work, client) as existing,
    ):
        started = time.monotonic()
        if existing is None:
            check_cluster(config.cluster, work)
        plan, metadata = plan_run(config, existing, extend=extend, into=into, tell=partial(tell_registered, events))
        if approve:
            approve(plan, metadata)
        plan = replace(forced(plan, force), job=replace(plan.job, run=uuid4().hex[:12]))
        with opened(plan, cancel) as (lock, ledger):
            this = _Run.checked(plan, metadata, ledger, cancel, steps, retry_failed=retry_failed)
            with (
                amounts_told(this.todo, ledger),
                recorded(this.todo, events, cancel) as (record, tell),
                (pool.workers if pool else workers_of_run)(this.todo, metadata, existing, tell, cancel) as workers,
                dask_report(workers if client is None and pool is None else None, work / DASK_REPORT, cancel),
            ):
                documents = this.begin()
                record.begin(workers.dashboard if workers else "")
                if begins and this.todo.tasks:
                    begins(this.todo, workers.dashboard if workers else None)
                load_writers(cells=may_keep_cells(plan))
                ended = this.execute(workers, tell, turn)
            lock.check()
            report = this.report(ended, documents, started)
            write_report(report)
            report = replace(report, page=write_final_page(report))
    return report


@dataclass(frozen=True)
class _Run:
    """A run on its locked output, which nothing has refused."""

    plan: Plan
    metadata: Metadata
    ledger: Ledger
    plate: PlateOutput
    cancel: threading.Event
    steps: Sequence[Step] | None
    todo: Plan
    """Rest of the plan that this run is to do."""
    warnings: list[str]
    before: int
    """Receipts that earlier runs have recorded."""
    begins_at: int
    """Place in the ledger where the records of this run begin."""

    @classmethod
    def checked(
        cls, plan: Plan, metadata: Metadata, ledger: Ledger, cancel: threading.Event, steps: Sequence[Step] | None,
        *, retry_failed: bool,
    ) -> _Run:  # fmt: skip
        """Run of a plan, with what its output lacks; an error if it cannot go there."""
        check_free_names(plan, ledger)
        check_plate_is_ours(plan, ledger)
        damage = check_damage(plan.job.output, ledger, cancel)
        chosen = only_failed(plan, ledger) if retry_failed else plan
        todo, warnings = what_is_left(chosen, steps, ledger=ledger), [*chosen.warnings, *damage]
        warnings += check_room(todo, ledger)
        plate = PlateOutput(plan, metadata, ledger)
        return cls(plan, metadata, ledger, plate, cancel, steps, todo, warnings, ledger.receipts, ledger.end)

    def begin(self) -> dict[int, dict[str, Any]]:
        """Record config, files and plan, once nothing can refuse the run any more; documents as of `write_records`."""
        self.ledger.belongs_to(self.plan.identity, self.plan.first_identity)
        for name, content in self.plan.files.items():
            write_bytes(self.plan.job.output / name, content)
        for plugin in plugins(self.plan.job.config):
            log.info("%s", plugin)
        documents, restored = write_records(self.plan, self.metadata, self.ledger, self.plate)
        self.warnings.extend(restored)
        for warning in self.warnings:
            log.warning("%s", warning)
        return documents

    def execute(self, workers: Workers | None, tell: Progress, turn: Turn | None) -> Execution:
        """Do what is left; without workers, in this process."""
        plan, metadata, ledger, plate = self.plan, self.metadata, self.ledger, self.plate
        rest, todo = replace(plan, forced=frozenset()), for_workers(self.todo)
        if plan.job.config.storage.direct_io == "on" and not todo.job.direct_io:
            self.warnings.append(
                f"storage.direct_io: is on, but the file system of {plan.job.output} does not support direct "
                "transfers; images go through the page cache. Fix: set it to auto"
            )
        log.info("images go %s the page cache", "past" if todo.job.direct_io else "through")
        return execute(
            todo, pool_on(workers, turn.number if turn else 0), ledger,
            prepare=partial(prepare, plan, metadata, ledger, plate),
            settle=partial(settle, plan, ledger, plate), tidy=partial(tidy, plan, metadata, ledger, plate),
            repair=partial(repair, rest, metadata, ledger, plate, self.steps),
            progress=tell, cancel=self.cancel, turn=turn,
        )  # fmt: skip

    def report(self, ended: Execution, documents: Mapping[int, dict[str, Any]], started: float) -> RunReport:
        """Report of the run, after a last look at the movie; what was begun but not settled is void."""
        plan, ledger, stopped = self.plan, self.ledger, ended.stopped
        if not isinstance(stopped, DiskError):  # else nothing can be recorded
            void_unsettled(plan, ledger, self.plate, ended.unfinished)
        changes = check_after_run(plan, ledger, ledger.costs(self.begins_at))
        if isinstance(stopped, DiskError):
            stopped = with_amounts(stopped, unfinished(self.todo, ledger), ledger)
        return RunReport(
            output=plan.job.output,
            fovs=tuple(report_fov(ledger, documents[fov.fov], ended.failed.get(fov.fov)) for fov in plan.fovs),
            warnings=(*self.warnings, *ended.warnings, *changes, *warn_of_mixed_processors(ledger)),
            tasks=len(self.todo.tasks) - ended.kept,
            tasks_done=ledger.receipts - self.before,
            seconds=time.monotonic() - started,
            cancelled=self.cancel.is_set(),
            stopped=None if stopped is None else str(stopped),
            steps=costs_by_step(ledger.costs(self.begins_at)),
            jobs=ended.jobs,
        )


@contextmanager
def opened(plan: Plan, cancel: threading.Event) -> Iterator[tuple[Lock, Ledger]]:
    """Lock the output of a plan, and open its ledger and log; if the run is refused, a new output is removed again.

    Raises
    ------
    OutputError
        If the disk is full already: then nothing was begun.
    """
    output = plan.job.output
    with writable(output), ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(output, plan.job.run, cancel))
            stack.enter_context(begun(output))
            ledger = stack.enter_context(Ledger(output / LEDGER, lock.check))
            stack.enter_context(logging_to(output))
        except (OSError, DiskError) as error:
            if stop := disk_error(error, output):
                amounts = with_amounts(stop, what_is_left(plan), Ledger(output / LEDGER))
                raise OutputError(f"{amounts}. Fix: free space, or choose another 'output'") from error
            raise
        yield lock, ledger


@contextmanager
def recorded(todo: Plan, progress: Progress | None, cancel: threading.Event) -> Iterator[tuple[RunRecord, Progress]]:
    """Record of a run for those who watch it, and the callback for its events, which it notes there."""
    record = RunRecord(todo)
    with Events(progress, cancel) if progress else nullcontext(ignore) as events:
        yield record, record.noting(events)


def for_workers(plan: Plan) -> Plan:
    """Plan whose tasks can travel: where the planes of a folder are is written to a file that workers read.

    Its job says whether shards go past the page cache, which is tried in the output.
    """
    snapshot, work = plan.job.snapshot, plan.job.output / WORK
    kept, wanted = snapshot and snapshot.kept_in(work), plan.job.config.storage.direct_io
    direct = wanted != "off" and direct_works(work, anywhere=wanted == "on")
    return replace(plan, job=replace(plan.job, snapshot=kept, direct_io=direct))


def may_keep_cells(plan: Plan) -> bool:
    """True if there are enough frames for a cell to be kept."""
    config = plan.job.config
    return finds_cells(config) and plan.job.n_frames >= config.params.tracking_params.get("min_frames", 1)


def unfinished(plan: Plan, ledger: Ledger) -> Plan:
    """Plan without the tasks that are recorded as done."""
    return replace(
        plan,
        fovs=tuple(
            fov.only(lambda task: {s: d for s, d in task.digests.items() if not ledger.has(task.key, s, d)})
            for fov in plan.fovs
        ),
    )


def repair(
    plan: Plan,
    metadata: Metadata,
    ledger: Ledger,
    plate: PlateOutput,
    steps: Sequence[Step] | None,
    fov: int,
    damaged: Collection[str],
) -> tuple[FovPlan, list[str]]:
    """Void damaged files of a FOV and everything derived from them, and prepare the FOV for the remaining tasks.

    Parameters
    ----------
    damaged
        Files by path in the output.

    Returns
    -------
    What is left to do, and warnings of `prepare`.

    Raises
    ------
    StoreError
        If the files belong to a step that this run is not to do.
    """
    void(plan.job.output, ledger, derived_from(ledger.authors(damaged), ledger, plan.graph))
    try:
        (todo,) = what_is_left(plan, steps, {fov}, ledger).fovs
    except PlanError as error:
        raise StoreError(f"{min(damaged)} is damaged, so that {error}") from error
    return todo, prepare(plan, metadata, ledger, plate, todo)


def tell_registered(progress: Progress | None, done: int, wells: int) -> None:
    """Report as an event how many of the wells that a run has to register are registered."""
    if progress:
        message = f"Registering the sites of {many(wells, 'well')}"
        progress({"step": "register", "fov": -1, "frame": done, "total": wells, "message": message})


def ignore(event: dict[str, Any]) -> None:
    """Ignore progress."""
