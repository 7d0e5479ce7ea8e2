"""One run from config to report: open, plan, launch, execute, report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client

from pyama_dask.config.load import load_config, parse_config
from pyama_dask.config.models import Config
from pyama_dask.errors import DiskError, PlanError, StoreError
from pyama_dask.execute.loop import Progress, execute
from pyama_dask.files.atomic import writable
from pyama_dask.launch import check_network, check_queue
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.plan.resolve import plugins
from pyama_dask.plan.resume import derived_from, forced
from pyama_dask.readers import Metadata
from pyama_dask.runs.compilation import compile_kernels
from pyama_dask.runs.disk_space import amounts_told, check_room, with_amounts
from pyama_dask.runs.output_dir import begun, logging_to, prepare, settle, tidy, write_records
from pyama_dask.runs.ownership import check_free_names
from pyama_dask.runs.planning import failed_fovs, plan_run, what_is_left
from pyama_dask.runs.source_check import check_after_run
from pyama_dask.runs.status import LEDGER, RunReport, costs_by_step, report_fov, write_report
from pyama_dask.runs.verify import check_damage
from pyama_dask.runs.workers import in_allocation, pool_for
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock import locked
from pyama_dask.workflow.graph import Step

log = logging.getLogger("pyama_dask")


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    steps: Sequence[Step] | None = None,
    force: Sequence[Step] = (),
    retry_failed: bool = False,
    extend: bool = False,
    into: bool = False,
    on_start: Callable[[Plan, str | None], None] | None = None,
) -> RunReport:
    """Process a movie as a config says; what is recorded as done in the output already is not done again.

    Parameters
    ----------
    config
        A config, a mapping with its keys, or the path of a YAML file.
    client
        Dask client to run on, instead of the one that ``cluster`` describes.
    progress
        Called with a dict ``step, fov, frame, total, message`` whenever a step of a FOV has come further; ``step`` is
        one of the seven, or ``done`` or ``failed`` at the end of a FOV; or of no FOV (-1) ``jobs``, when it stands
        otherwise with the jobs of a queue, ``alarm``, when nothing moves, and ``compile``, when the kernels are
        compiled first.
    cancel
        Set it to end the run early; the next one goes on.
    steps
        Do these steps only; what they need must be done.
    force
        Regenerate these steps, and everything that is made from them.
    retry_failed
        Take up only the FOVs that failed.
    extend
        Go on with a movie that has more frames than when the output was begun; see `grown`.
    into
        Whether to begin an output in a directory that holds other files; these stay as they are.
    on_start
        Called with the plan of what is left and the dashboard's address before the first task.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run is refused; nothing was written.
    """
    config, cancel = as_config(config), cancel or threading.Event()
    if config.cluster.kind == "runner" and client is None:
        with in_allocation(config) as of_allocation:
            return run(
                config, client=of_allocation, progress=progress, cancel=cancel, steps=steps, force=force,
                retry_failed=retry_failed, extend=extend, into=into, on_start=on_start,
            )  # fmt: skip
    started = time.monotonic()
    if client is None:
        check_network(config.cluster)
        if config.cluster.of_queue:
            check_queue(config.cluster, config.output)
    plan, metadata = plan_run(config, client, extend=extend, into=into)
    plan = replace(forced(plan, force), job=replace(plan.job, run=uuid4().hex[:12]))
    output, recorded = plan.job.output, Ledger(plan.job.output / LEDGER)
    chosen = failed_fovs(plan, recorded) if retry_failed else None
    left = what_is_left(plan, steps, chosen, recorded)
    warnings = [*plan.warnings, *check_room(left, recorded)]  # both may refuse, and nothing is written yet
    with (
        writable(output),
        amounts_told(left, recorded),
        locked(output, plan.job.run, cancel) as lock,
        begun(output),
        Ledger(output / LEDGER, lock.check) as ledger,
        logging_to(output),
    ):
        check_free_names(plan, ledger)
        warnings += check_damage(output, ledger, cancel)
        todo, before = what_is_left(plan, steps, chosen, ledger), len(ledger.costs)
        rest = replace(plan, forced=frozenset())
        if todo.tasks and client is None and config.cluster.kind not in ("serial", "address"):
            compile_first(metadata, progress or ignore, cancel)
        # the pool comes before anything is recorded, as it may be refused
        with pool_for(config, client, todo, cancel) as (pool, dashboard):
            ledger.belongs_to(plan.identity, plan.first_identity)
            for said in plugins(plan.job.config):
                log.info("%s", said)
            documents, restored = write_records(plan, metadata, ledger)
            warnings += restored
            for warning in warnings:
                log.warning("%s", warning)
            if on_start and todo.tasks:
                on_start(todo, dashboard)
            ended = execute(
                todo, pool, ledger, prepare=partial(prepare, plan, metadata, ledger),
                settle=partial(settle, plan, ledger), tidy=partial(tidy, plan, metadata, ledger),
                repair=partial(repair, rest, metadata, ledger, steps),
                progress=progress or ignore, cancel=cancel,
            )  # fmt: skip
        lock.check()
        grown = check_after_run(plan, ledger, ledger.costs[before:])
        stopped = ended.stopped
        if isinstance(stopped, DiskError):
            stopped = with_amounts(stopped, what_is_left(rest, steps, chosen, ledger), ledger)
        report = RunReport(
            output=output,
            fovs=tuple(report_fov(ledger, documents[fov.fov], ended.failed.get(fov.fov)) for fov in plan.fovs),
            warnings=(*warnings, *ended.warnings, *grown),
            tasks=len(todo.tasks) - ended.kept,
            tasks_done=len(ledger.costs) - before,
            seconds=time.monotonic() - started,
            cancelled=cancel.is_set(),
            stopped=None if stopped is None else str(stopped),
            steps=costs_by_step(ledger.costs[before:]),
            jobs=ended.jobs,
        )
        write_report(report)
    return report


def repair(
    plan: Plan, metadata: Metadata, ledger: Ledger, steps: Sequence[Step] | None, fov: int, damaged: Collection[str]
) -> tuple[FovPlan, list[str]]:
    """Take back damaged files of a FOV with everything that is made from them, and make the FOV ready for what is left.

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
    ledger.void(derived_from(ledger.authors(damaged), ledger))
    try:
        (todo,) = what_is_left(plan, steps, {fov}, ledger).fovs
    except PlanError as error:
        raise StoreError(f"{min(damaged)} is damaged, so that {error}") from error
    return todo, prepare(plan, metadata, ledger, todo)


def compile_first(metadata: Metadata, progress: Progress, cancel: threading.Event) -> None:
    """Compile the kernels for the movie's types of pixels before workers start, and report that as an event."""

    def say(message: str) -> None:
        log.info("%s", message)
        progress({"step": "compile", "fov": -1, "frame": 0, "total": 0, "message": message})

    compile_kernels({channel.dtype for channel in metadata.channels}, say, cancel)


def as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """Config from a mapping with its keys, or from a YAML file."""
    if isinstance(config, str | Path):
        return load_config(Path(config))
    return config if isinstance(config, Config) else parse_config(config)


def ignore(event: dict[str, Any]) -> None:
    """Take no notice of progress."""
