"""One run from config to report: open, plan, create stores, launch, execute, report."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml
from distributed import Client

from pyama_dask.config import Config, parse_config
from pyama_dask.errors import OutputError
from pyama_dask.execute import DaskPool, Pool, Progress, execute, parts_are_gone
from pyama_dask.files import identity, write_bytes
from pyama_dask.launch import launched, worker_memory
from pyama_dask.ledger import Ledger
from pyama_dask.plan import FovPlan, Plan, make_plan, remaining
from pyama_dask.readers import Metadata, open_reader
from pyama_dask.report import LEDGER, PLAN, WORK, RunReport, report_fov, write_report
from pyama_dask.resolve import resolve
from pyama_dask.store import IMAGES, create_images, layout
from pyama_dask.tasks import Step

log = logging.getLogger("pyama_dask")


def run(
    config: Config | Mapping[str, Any],
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
        A config, or a mapping with its keys.
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
    if not isinstance(config, Config):
        config = parse_config(config)
    started = time.monotonic()
    plan, metadata = plan_run(config, client)
    with locked(plan.job.output), Ledger(plan.job.output / LEDGER) as ledger, logging_to(plan.job.output):
        todo = remaining(plan, ledger, steps, lambda task: parts_are_gone(plan.job, task))
        document = plan.document()
        write_config(plan, metadata, document)
        for warning in plan.warnings:
            log.warning("%s", warning)
        cancel = cancel or threading.Event()
        failed = {}
        if todo.tasks:
            with pool_for(config, client, plan) as (pool, dashboard):
                if on_start:
                    on_start(todo, dashboard)
                failed = execute(
                    todo, pool, ledger, prepare=partial(prepare, plan, metadata, ledger),
                    progress=progress or ignore, cancel=cancel,
                )  # fmt: skip
        fovs = tuple(report_fov(ledger, fov, failed.get(fov["fov"])) for fov in document["fovs"])
        seconds = time.monotonic() - started
        report = RunReport(plan.job.output, fovs, plan.warnings, len(todo.tasks), seconds, cancel.is_set())
        write_report(report)
    return report


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
    memory = client_memory(client) if client else worker_memory(config.cluster)
    plan = make_plan(keep_layout(resolved), metadata, identity(config.input), memory)
    check_output(plan)
    return plan, metadata


def client_memory(client: Client) -> int:
    """Memory limit of the smallest worker of a client."""
    limits = [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return min((limit for limit in limits if limit), default=psutil.virtual_memory().total)


def keep_layout(config: Config) -> Config:
    """Take ``block_frames: auto`` from a run that has written to the output, so that its blocks can be gone on with."""
    recorded = config.output / "processing_config.yaml"
    if config.storage.block_frames != "auto" or not recorded.exists():
        return config
    before = yaml.load(recorded.read_bytes(), Loader=yaml.CSafeLoader)
    if before["params"]["frames"] != config.params.frames:
        return config
    storage = config.storage.model_copy(update={"block_frames": before["storage"]["block_frames"]})
    return config.model_copy(update={"storage": storage})


def check_output(plan: Plan) -> None:
    """Refuse an output directory that cannot be written, or that holds the results of another movie."""
    output = plan.job.output
    exists = next(parent for parent in (output, *output.absolute().parents) if parent.exists())
    if not exists.is_dir():
        raise OutputError(f"{output}: cannot be made, as {exists} is a file; choose another 'output'")
    if not os.access(exists, os.W_OK | os.X_OK):
        raise OutputError(
            f"{output}: {exists} cannot be written to; choose another 'output', or change its permissions"
        )
    recorded = output / PLAN
    if recorded.exists():
        before = json.loads(recorded.read_bytes())
        if before["identity"] != plan.identity:
            raise OutputError(
                f"{output}: holds the results of another movie, {before['input']}, or of this one before it changed; "
                "choose another 'output', or move the old results away"
            )
    elif output.exists() and any(output.glob("fov_*")):
        raise OutputError(f"{output}: holds FOVs that are not recorded in {WORK}; choose an empty 'output'")


# ---------------------------------------------------------------------------------------------- writing


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold an output directory, so that no second run writes to it.

    Raises
    ------
    OutputError
        If a run that is alive, or on another host, holds it; names it.
    """
    path = output / WORK / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {"host": socket.gethostname(), "pid": os.getpid()}
    if path.exists() and (holder := json.loads(path.read_text())) and _alive(holder):
        raise OutputError(
            f"{output}: a run on {holder['host']}, process {holder['pid']}, is writing to it; wait for it, or stop it. "
            f"If there is no such run, remove {path}"
        )
    path.unlink(missing_ok=True)
    try:
        with path.open("x") as file:
            json.dump(mine, file)
    except FileExistsError as error:
        raise OutputError(f"{output}: another run has just begun to write to it") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _alive(holder: Mapping[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return True
    return int(holder["pid"]) != os.getpid() and psutil.pid_exists(int(holder["pid"]))


@contextmanager
def logging_to(output: Path) -> Iterator[None]:
    """Write what the package logs to ``.pyama_dask/log.txt``."""
    handler = logging.FileHandler(output / WORK / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


def write_config(plan: Plan, metadata: Metadata, document: Mapping[str, Any]) -> None:
    """Write the resolved config with the metadata of the movie, and the plan that a complete output fulfils."""
    output = plan.job.output
    resolved = plan.job.config.model_dump(mode="json") | {"metadata": describe(metadata, plan)}
    text = yaml.dump(resolved, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    write_bytes(output / "processing_config.yaml", text.encode())
    write_bytes(output / PLAN, json.dumps(document).encode())


def describe(metadata: Metadata, plan: Plan) -> dict[str, Any]:
    """Metadata of a movie as plain values; times stand in the FOVs' own stores."""
    sources = sorted({fov.times.source for fov in plan.fovs})
    return {
        "file": metadata.path.name,
        "identity": plan.identity,
        "format": metadata.format,
        "n_frames": metadata.n_frames,
        "z_planes": metadata.z_planes,
        "pixel_size_um": metadata.pixel_size_um,
        "interval_min": metadata.interval_min,
        "time_source": sources[0] if len(sources) == 1 else sources,
        "channels": [asdict(channel) for channel in metadata.channels],
        "fovs": [
            {"fov": k, **{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(info).items()}}
            for k, info in enumerate(metadata.fovs)
        ],
    }


def prepare(plan: Plan, metadata: Metadata, ledger: Ledger, todo: FovPlan) -> None:
    """Create the arrays of a FOV, when what is recorded of them and is to be done anew has been taken back."""
    fov = next(fov for fov in plan.fovs if fov.fov == todo.fov)
    ledger.void_stale(fov.fov, fov.tasks)
    ledger.void({task.key: task.digests for task in todo.tasks})
    job, info = plan.job, metadata.fovs[fov.fov]
    specs = layout(job.config, info.shape, job.n_frames, job.block_frames)
    attributes = {
        "fov": fov.fov, "name": info.name, "position_um": info.position_um, "frames": list(job.frames),
        "times_min": fov.times.minutes.tolist(), "time_source": fov.times.source,
        "pixel_size_um": metadata.pixel_size_um,
    }  # fmt: skip
    scale = (fov.times.interval, metadata.pixel_size_um or 1.0)
    create_images(job.fov_dir(fov.fov) / IMAGES, specs, scale=scale, attributes=attributes)


@contextmanager
def pool_for(config: Config, client: Client | None, plan: Plan) -> Iterator[tuple[Pool, str | None]]:
    """Pool on the given client, or on what the config says."""
    if client is not None:
        yield DaskPool(client), client.dashboard_link
        return
    with launched(config.cluster, plan.job.output / WORK / "dask-report.html") as pool:
        yield pool
