"""One run from config to report: open, plan, launch, execute, report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.system import MEMORY_LIMIT

from pyama_dask.config import Config, load_config, parse_config
from pyama_dask.execute import DaskPool, Pool, Progress, execute
from pyama_dask.files import identity
from pyama_dask.launch import connected, launched, worker_memory
from pyama_dask.ledger import Ledger
from pyama_dask.plan import Plan, make_plan, remaining
from pyama_dask.readers import Metadata, open_reader
from pyama_dask.report import LEDGER, RunReport, report_fov, write_report
from pyama_dask.resolve import resolve
from pyama_dask.tasks import WORK, Step
from pyama_dask.workspace import check_output, is_there, keep_layout, locked, logging_to, prepare, write_records


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    steps: Sequence[Step] | None = None,
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
        one of the seven, or ``done`` or ``failed`` at the end of a FOV.
    cancel
        Set it to end the run early; the next one goes on.
    steps
        Do these steps only; what they need must be done.
    on_start
        Called with the plan of what is left and the dashboard's address before the first task.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run is refused; nothing was written.
    """
    config = as_config(config)
    started = time.monotonic()
    plan, metadata = plan_run(config, client)
    plan = replace(plan, job=replace(plan.job, run=uuid4().hex[:12]))
    output, cancel = plan.job.output, cancel or threading.Event()
    if steps is not None:
        what_is_left(plan, steps)  # refuses before anything is written
    with locked(output), Ledger(output / LEDGER) as ledger, logging_to(output):
        todo = remaining(plan, ledger, steps, partial(is_there, plan.job, ledger))
        documents = write_records(plan, metadata)
        failed = {}
        before = len(ledger.seconds)
        if todo.tasks:
            with pool_for(config, client, plan) as (pool, dashboard):
                if on_start:
                    on_start(todo, dashboard)
                failed = execute(
                    todo, pool, ledger, prepare=partial(prepare, plan, metadata, ledger),
                    progress=progress or ignore, cancel=cancel,
                )  # fmt: skip
        fovs = tuple(report_fov(ledger, documents[fov.fov], failed.get(fov.fov)) for fov in plan.fovs)
        seconds, done = time.monotonic() - started, len(ledger.seconds) - before
        report = RunReport(output, fovs, plan.warnings, len(todo.tasks), done, seconds, cancel.is_set())
        write_report(report)
    return report


def as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """Config from a mapping with its keys, or from a YAML file."""
    if isinstance(config, str | Path):
        return load_config(Path(config))
    return config if isinstance(config, Config) else parse_config(config)


def ignore(event: dict[str, Any]) -> None:
    """Take no notice of progress."""


# ------------------------------------------------------------------------------------- before any writing


def plan_run(config: Config, client: Client | None = None) -> tuple[Plan, Metadata]:
    """Open the movie and plan a run of it; writes nothing.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run cannot be done as configured.
    """
    with open_reader(config.input) as reader:
        metadata = reader.metadata
    resolved = resolve(config, metadata)
    memory = available_memory(config, client)
    content = identity(config.input)
    check_output(config.output, content)
    return make_plan(keep_layout(resolved), metadata, content, memory), metadata


def what_is_left(plan: Plan, steps: Sequence[Step] | None = None) -> Plan:
    """Plan of what is not yet done in the output; reads the ledger only.

    Raises
    ------
    PlanError
        If a chosen step needs one that is neither done nor chosen.
    """
    ledger = Ledger(plan.job.output / LEDGER)
    return remaining(plan, ledger, steps, partial(is_there, plan.job, ledger))


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
def pool_for(config: Config, client: Client | None, plan: Plan) -> Iterator[tuple[Pool, str | None]]:
    """Pool on the given client, or on what the config says."""
    if client is not None:
        yield DaskPool(client), client.dashboard_link
        return
    with launched(config.cluster, plan.job.output / WORK / "dask-report.html") as pool:
        yield pool
