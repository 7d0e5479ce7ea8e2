"""One run from config to report: open, plan, launch, execute, report."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.system import MEMORY_LIMIT

from pyama_dask.config.models import Config, load_config, parse_config
from pyama_dask.errors import DiskError, OutputError, PlanError, StoreError
from pyama_dask.execute.loop import Progress, execute
from pyama_dask.execute.pool import DaskPool, Pool, SerialPool
from pyama_dask.execute.walltime import room_of, too_long
from pyama_dask.execute.worker_loss import Deaths
from pyama_dask.files.atomic import check_names, writable
from pyama_dask.launch import (
    allocated,
    check_network,
    check_queue,
    connected,
    dashboard_of,
    job_environment,
    job_script,
    launched,
    serve_allocation,
    worker_memory,
)
from pyama_dask.plan.plan import FovPlan, Plan, derived_from, forced, make_plan, remaining
from pyama_dask.plan.resolve import plugins, resolve
from pyama_dask.readers import Metadata, Snapshot, State, changed, read_metadata, take_snapshot
from pyama_dask.runs.compilation import compile_kernels
from pyama_dask.runs.disk_space import amounts_told, check_room, with_amounts
from pyama_dask.runs.extend import first_identity
from pyama_dask.runs.method_trial import try_methods
from pyama_dask.runs.output_dir import (
    begun,
    check_output,
    fault_of,
    keep_layout,
    logging_to,
    prepare,
    tidy,
    write_records,
)
from pyama_dask.runs.ownership import check_free_names, longest_names, unrecorded_images
from pyama_dask.runs.source_check import check_after_run, check_movie, read_again
from pyama_dask.runs.status import (
    LEDGER,
    RunReport,
    costs_by_step,
    other_frames,
    read_plan,
    report_fov,
    settings_of,
    write_report,
)
from pyama_dask.runs.timings import Calibration, read_calibration
from pyama_dask.runs.verify import Verification, check_damage, verify
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock import locked
from pyama_dask.workflow.task import WORK, Step

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
        Dask client to run on, in place of what ``cluster`` says.
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
        Do these steps anew, and all that is made from them.
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
        rest = replace(plan, anew=frozenset())
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
                tidy=partial(tidy, plan, metadata, ledger), repair=partial(repair, rest, metadata, ledger, steps),
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
            tasks=len(todo.tasks),
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


def verify_output(
    output: Path, *, deep: bool = False, source: bool = False, movie: Path | None = None,
    cancel: threading.Event | None = None,
) -> Verification:  # fmt: skip
    """Compare the files of an output with its ledger; the next run regenerates what is not as recorded.

    Parameters
    ----------
    output
        Output directory of a run.
    deep
        Whether to read every file and compare checksums, not only sizes.
    source
        Whether to read the frames of the movie again, and compare them with what was read.
    movie
        The movie, if it is not any more where the last run read it.
    cancel
        Set it to end this early.

    Raises
    ------
    OutputError
        If it is no output of a run, or a run is writing to it.
    SourceError
        If the movie is to be read and cannot be opened.
    CancelledError
        If it was ended early.
    """
    if not (output / LEDGER).exists():
        read_plan(output)  # says that this is not an output

    def verified(ledger: Ledger, take: bool) -> Verification:
        compared = check_movie(output, ledger, movie, cancel=cancel) if source else None
        found = verify(output, ledger, deep=deep, take=take, cancel=cancel)
        if take and compared:
            read_again(ledger, compared.to_read_again)
        return replace(found, movie=compared, unrecorded=tuple(unrecorded_images(output, ledger)))

    if not os.access(output / WORK, os.W_OK):
        return verified(Ledger(output / LEDGER), False)
    with writable(output), locked(output) as lock, Ledger(output / LEDGER, lock.check) as ledger:
        return verified(ledger, True)


def as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """Config from a mapping with its keys, or from a YAML file."""
    if isinstance(config, str | Path):
        return load_config(Path(config))
    return config if isinstance(config, Config) else parse_config(config)


def ignore(event: dict[str, Any]) -> None:
    """Take no notice of progress."""


# ------------------------------------------------------------------------------------- before any writing


def plan_run(
    config: Config, client: Client | None = None, *, extend: bool = False, into: bool = False
) -> tuple[Plan, Metadata]:
    """Open the movie and plan a run of it; writes nothing.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run cannot be done as configured.
    """
    snapshot, metadata = look_at(config.input)
    resolved = resolve(config, metadata)
    memory = available_memory(config, client)
    check_output(config.output, into=into)
    first = first_identity(config, metadata, snapshot, extend=extend)
    measured = read_calibration(resolved)
    pace = measured.seconds if measured else None
    plan = make_plan(keep_layout(resolved), metadata, snapshot.identity, memory, first, pace)
    plan = replace(plan, job=replace(plan.job, snapshot=snapshot))
    check_names(plan.job.output, longest_names(plan))
    if measured:
        check_walltime(plan, measured)
    noticed = try_methods(plan.job.config, metadata)
    return replace(plan, warnings=(*plan.warnings, *noticed)), metadata


def look_at(movie: Path) -> tuple[Snapshot, Metadata]:
    """Take a snapshot of a movie and read its metadata, both of the same file.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes at this moment.
    """
    before = State.of(movie) if movie.is_file() else None  # reading metadata says what is wrong
    metadata, snapshot = read_metadata(movie), take_snapshot(movie.absolute())
    if before and (difference := before.difference(snapshot.state)):
        raise changed(movie, difference)
    return snapshot, metadata


def check_walltime(plan: Plan, measured: Calibration) -> None:
    """Refuse a run whose tasks no job lasts for, as far as they were measured.

    Raises
    ------
    PlanError
        If there is one; says what to change.
    """
    cluster = plan.job.config.cluster
    longest = max(plan.tasks, key=measured.of, default=None)
    if longest and (room := room_of(cluster)) and measured.of(longest) > room:
        raise PlanError(too_long(cluster, measured.of(longest), longest))


def script_of(config: Config) -> str:
    """Script of a job that a run on a queue would submit; nothing of other kinds."""
    return job_script(config.cluster, job_environment()) if config.cluster.of_queue else ""


def what_is_left(
    plan: Plan, steps: Sequence[Step] | None = None, fovs: Collection[int] | None = None, ledger: Ledger | None = None
) -> Plan:
    """Plan of what is not yet done in the output, of all FOVs or of some; writes nothing.

    Raises
    ------
    PlanError
        If a chosen step needs one that is neither done nor chosen.
    """
    recorded = ledger or Ledger(plan.job.output / LEDGER)
    of = plan if fovs is None else replace(plan, fovs=tuple(fov for fov in plan.fovs if fov.fov in fovs))
    left = remaining(of, recorded, steps, partial(fault_of, plan.job, recorded))
    return replace(left, frames_before=frames_before(plan)) if left.replaces else left


def frames_before(plan: Plan) -> dict[int, str]:
    """Frames by FOV of the last run, where its settings differ in nothing else; see `report.other_frames`."""
    try:
        before = read_plan(plan.job.output)
    except OutputError:
        return {}
    now = settings_of(plan.job.config)
    found = {fov["fov"]: other_frames(before["settings"].get(fov["settings"]), now) for fov in before["fovs"]}
    return {fov: frames for fov, frames in found.items() if frames}


def failed_fovs(plan: Plan, ledger: Ledger) -> set[int]:
    """FOVs that failed when they were last tried.

    Raises
    ------
    PlanError
        If there are none.
    """
    standing = {fov["fov"]: report_fov(ledger, fov).status for fov in plan.document()["fovs"]}
    failed = {fov for fov, status in standing.items() if status == "failed"}
    if not failed:
        others = sum(status != "done" for status in standing.values())
        more = f"; {others} are not done: run without --retry-failed" if others else ""
        raise PlanError(f"{plan.job.output}: no FOV has failed{more}")
    return failed


def available_memory(config: Config, client: Client | None) -> int:
    """Bytes that a worker may use, of the client that is given or that the config names, or of this machine."""
    if client is not None:
        return client_memory(client)
    if config.cluster.kind == "address":
        with connected(str(config.cluster.address)) as scheduler:
            return client_memory(scheduler)
    return worker_memory(config.cluster)


def client_memory(client: Client) -> int:
    """Memory of a task: the smallest worker's limit, divided by the tasks that it runs at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]]
    return min(limits, default=MEMORY_LIMIT)


@contextmanager
def pool_for(
    config: Config, client: Client | None, plan: Plan, cancel: threading.Event
) -> Iterator[tuple[Pool, str | None]]:
    """Pool on the given client, or on what the config says; in this process if nothing is to be done."""
    if not plan.tasks:
        yield SerialPool(), None
    elif client is not None:
        of_allocation = config.cluster.kind == "runner"
        link = dashboard_of(config.cluster, client) if of_allocation else client.dashboard_link
        yield DaskPool(client, crew=Deaths(client)), link
    else:
        with launched(config.cluster, plan.job.output / WORK, plan.job.run, cancel) as pool:
            yield pool


def join_allocation(config: Config) -> None:
    """Be the scheduler or a worker where a run has one allocation and this process is not its driver."""
    if config.cluster.kind == "runner":
        serve_allocation(config.cluster, work_of(config))


@contextmanager
def in_allocation(config: Config) -> Iterator[Client]:
    """Client of the other processes of this allocation; in those themselves, this never comes back."""
    join_allocation(config)
    with allocated(config.cluster, work_of(config)) as client:
        yield client


def work_of(config: Config) -> Path:
    """Directory of an output for all that is not a result."""
    return config.output.absolute() / WORK
