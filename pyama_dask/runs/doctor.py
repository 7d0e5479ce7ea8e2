"""Checks for common problems before a long run: where tasks run, and on the disk that they write to."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed.utils import get_ip

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.models import Config
from pyama_dask.config.units import clock_time, memory_bytes
from pyama_dask.errors import ClusterError, ConfigError, PyamaError
from pyama_dask.execute.walltime import room_of, too_long
from pyama_dask.execute.workers import Workers
from pyama_dask.files.atomic import folder_for, write_bytes
from pyama_dask.launch import VISIBLE, check_network, existing_client, interfaces, named, script_of, workers_for
from pyama_dask.plan.plan import Plan
from pyama_dask.runs.disk_space import check_room, gib
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.timings import Calibration, read_calibration
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import GPU
from pyama_dask.workflow.task import WORK

PACKAGES = (
    "pyama-dask", "dask", "distributed", "numpy", "numba", "zarr", "tensorstore", "imagecodecs", "nd2", "pylibCZIrw",
    "scipy", "pandas", "onnxruntime", "btrack", "cellpose", "torch",
)  # fmt: skip
"""Packages whose versions must be equal on driver and workers, if installed."""
SCRATCH_BYTES = 2**30
"""Bytes that should be free on a worker's scratch disk."""
SPARE_FILES = 1.2
"""Number of free inodes per file that a run writes."""
CLOCKS = 60.0
"""Seconds by which the clock of the output's disk may differ."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    about: str
    text: str
    good: bool = True


def findings(config: Config, wait: float, *, into: bool = False) -> Iterator[Finding]:
    """Yield the findings of all checks, cheap ones first; the last check starts a worker as the run would.

    Parameters
    ----------
    config
        Of the run.
    wait
        Seconds to wait for the worker.
    into
        Whether the output may be a folder that holds other files.
    """
    try:
        plan, _ = plan_run(config, into=into)
        script_of(plan.job.config.cluster)
    except PyamaError as error:
        yield Finding("plan", str(error), good=False)
        return
    yield Finding("plan", f"{len(plan.fovs)} FOVs, {len(plan.tasks)} tasks, blocks of {plan.job.block_frames} frames")
    for fov in plan.fovs:
        if fov.problem:
            yield Finding("movie", fov.problem, good=False)
    cluster = plan.job.config.cluster
    if plan.gpus:
        yield Finding("GPU", plan.gpus)
    measured = read_calibration(plan.job.config)
    yield memory(plan, measured)
    if cluster.starts_scheduler:
        yield network(cluster)
    if cluster.of_queue:
        yield walltime(plan, measured)
    yield from disk(plan.job.output)
    yield from room(plan)
    yield files(plan, measured)
    yield from one_worker(plan, wait)


# ------------------------------------------------------------------------------------------- on this machine


def memory(plan: Plan, measured: Calibration | None) -> Finding:
    """Compare the memory of a task with that of a worker."""
    needed = max(plan.memory, measured.memory if measured else 0)
    text = f"a task needs {gib(needed)}, a worker has {gib(plan.worker_memory)}"
    cluster = plan.job.config.cluster
    if cluster.of_queue:
        text += f" of the {gib(memory_bytes(cluster.memory))} of its job (1 GiB is 1.07 GB)"
    if needed > 0.9 * plan.worker_memory:
        return Finding("memory", f"{text}. Fix: raise cluster.memory, or lower storage.block_frames", good=False)
    return Finding("memory", text)


def network(cluster: Cluster) -> Finding:
    """Check the addresses at which workers find the scheduler, and users the dashboard."""
    known = interfaces()
    try:
        check_network(cluster)
    except ConfigError as error:
        return Finding("network", str(error), good=False)
    if not cluster.of_queue:
        return Finding("network", f"the dashboard listens at {cluster.dashboard}, or at the next free port")
    if cluster.interface:
        return Finding("network", f"the scheduler listens at {known[cluster.interface]} ({cluster.interface})")
    text = f"the scheduler listens at {get_ip()}, the machine's own choice of {named(known)}"
    if get_ip().startswith("127."):
        return Finding("network", f"{text}, which no other machine reaches. Fix: set cluster.interface", good=False)
    return Finding("network", f"{text}. If workers do not find it, set cluster.interface")


def walltime(plan: Plan, measured: Calibration | None) -> Finding:
    """Compare the duration of a task with the walltime of a job."""
    cluster = plan.job.config.cluster
    rooms = {kind: room for kind in {task.kind for task in plan.tasks} if (room := room_of(cluster, kind)) is not None}
    if not rooms:
        return Finding("walltime", f"{cluster.kind} has none")
    room = min(rooms.values())
    if measured is None:
        return Finding(
            "walltime",
            f"a job has {clock_time(room)} for tasks, but how long they take is not measured. "
            "'pyama-dask plan RUN.YAML --calibrate' measures it",
        )
    longest = max(plan.tasks, key=lambda task: measured.of(task) / rooms[task.kind])
    seconds, room = measured.of(longest), rooms[longest.kind]
    if seconds > room:
        return Finding("walltime", too_long(cluster, seconds, longest), good=False)
    text = f"a task takes up to {seconds:.1f} s, a job has {clock_time(room)} for tasks"
    if 5 * seconds > room:
        return Finding("walltime", f"{text}, fewer than five. Fix: raise cluster.walltime", good=False)
    return Finding("walltime", text)


def disk(output: Path) -> Iterator[Finding]:
    """Try the file operations of a run on the output's disk: write, flush, replace, lock; and check its clock."""
    exists = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".pyama-dask-doctor-", dir=exists) as folder:
            began = time.time()
            file = Path(folder) / "file"
            file.write_bytes(b"before")
            write_bytes(file, b"after")
            renamed = file.read_bytes() == b"after"
            clock = file.stat().st_mtime - began
            with file.open("rb+") as opened:
                locks = takes_turns(opened.fileno())
    except OSError as error:
        text = f"{exists}: cannot be written to: {error.strerror}. Fix: choose another 'output'"
        yield Finding("output", text, good=False)
        return
    yield Finding(
        "output",
        f"{exists}: files can be written, flushed and renamed" if renamed
        else f"{exists}: a file that is renamed over another does not take its place. Fix: choose another disk",
        good=renamed,
    )  # fmt: skip
    if abs(clock) > CLOCKS:
        yield Finding("clock", f"that of the output's disk differs by {clock:.0f} s. Fix: have it set", good=False)
    if not locks:
        yield Finding("lock", f"{exists}: does not keep locks. Never start two runs in it at the same moment")


def takes_turns(file: int) -> bool:
    """Check whether a file system supports locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def room(plan: Plan) -> Iterator[Finding]:
    """Compare the bytes that the run writes with the free space."""
    try:
        warnings = check_room(plan, Ledger(plan.job.output / LEDGER))
    except PyamaError as error:
        yield Finding("space", str(error), good=False)
        return
    yield from (Finding("space", warning, good=False) for warning in warnings)
    if not warnings:
        yield Finding("space", "there is room for the images")


def files(plan: Plan, measured: Calibration | None) -> Finding:
    """Compare the number of files with the free inodes of the file system."""
    fovs = sum(bool(fov.tasks) for fov in plan.fovs)
    cells = measured.cells * fovs if measured else 0
    count = int(plan.files_per_fov * fovs + plan.files_per_cell * cells)
    of_cells = "with those of cells" if measured else f"and {plan.files_per_cell} for each cell"
    exists = next(folder for folder in (plan.job.output, *plan.job.output.parents) if folder.exists())
    free = os.statvfs(exists).f_favail
    text = f"{count} are written, {of_cells}"
    if 0 < free < SPARE_FILES * count:
        return Finding("files", f"{text}, but only {free} are free. Fix: set storage.cells to zip or off", good=False)
    return Finding(
        "files", f"{text}. If your number of files is limited, check the limit with 'quota -s' or 'lfs quota'"
    )


# --------------------------------------------------------------------------------------------- on a worker


def one_worker(plan: Plan, wait: float) -> Iterator[Finding]:
    """Start one worker as the run would, and one with a GPU if the run has some, and check their environments."""
    job, cluster = plan.job, plan.job.config.cluster
    if cluster.kind in ("serial", "runner"):  # no worker, or none outside an allocation
        return
    trial = job.output / WORK / f"doctor-{uuid4().hex[:8]}"
    began = time.monotonic()
    try:
        with folder_for(trial.parent):
            try:
                trial.mkdir()
                (note := trial / "note").write_text(trial.name)
                with worker_for_trial(cluster, trial, min(1, plan.gpu_tasks)) as workers:
                    kinds = (False, True) if workers.gpus else (False,)
                    places = [first_worker(workers, wait, gpu=gpu) for gpu in kinds]
                    found = workers.client.run(look_around, str(note), str(job.source), workers=places)
            finally:
                shutil.rmtree(trial, ignore_errors=True)
        seen = found[places[0]]
        yield Finding("worker", f"started on {seen['host']} and answered within {time.monotonic() - began:.0f} s")
        yield from compare(seen, trial.name, plan)
        for place in places[1:]:
            yield device(found[place])
            yield from (finding for finding in compare(found[place], trial.name, plan) if not finding.good)
    except (PyamaError, OSError) as error:
        yield Finding("worker", str(error), good=False)
    except Exception as error:  # noqa: BLE001  (a worker of another environment may raise anything)
        yield Finding("worker", f"cannot do what it is told: {type(error).__name__}: {error}", good=False)


@contextmanager
def worker_for_trial(cluster: Cluster, trial: Path, gpu_tasks: int = 0) -> Iterator[Workers]:
    """Workers as a run would have them, but one only where they are started, and one job that may fail.

    Parameters
    ----------
    cluster, trial
        Part of the config, and folder for logs.
    gpu_tasks
        1 for one more that owns a GPU, where there are any.
    """
    settings = cluster.model_copy(update={"failed_jobs": 1})
    with (
        existing_client(settings, trial) as client,
        workers_for(settings, client, trial, trial.name, tasks=1, gpu_tasks=gpu_tasks) as workers,
    ):
        assert workers is not None
        yield workers


def first_worker(workers: Workers, wait: float, *, gpu: bool = False) -> str:
    """Wait for a worker, with a GPU or without, and return its address.

    Raises
    ------
    ClusterError
        If none connects in time.
    """
    until = time.monotonic() + wait
    while True:
        connected = workers.client.scheduler_info(n_workers=-1)["workers"]
        fit = [address for address, of in connected.items() if (GPU in of.get("resources", {})) is gpu]
        if fit or (connected and not workers.keeps_gpus_free and not gpu):  # one with a GPU may do all tasks
            return str(next(iter(fit or connected)))
        workers.check()
        if time.monotonic() > until:
            which = "none with a GPU" if gpu else "none"
            raise ClusterError(f"{which} came within {wait:.0f} s; {workers.status() or 'the reason is unknown'}")
        time.sleep(0.2)


def look_around(note: str, movie: str, dask_worker: Any) -> dict[str, Any]:
    """Look on a worker at its versions, its scratch disk, the output's disk and the movie.

    Parameters
    ----------
    note
        Path of a file in the output; the worker reads it and writes another one beside it.
    movie
        Path of the movie.
    dask_worker
        The worker, which Dask passes in.

    Returns
    -------
    Observations for `compare`.
    """
    scratch = dask_worker.local_directory
    answer = Path(f"{note}-answer")
    seen: dict[str, Any] = {"host": socket.gethostname(), "versions": versions(), "scratch": scratch}
    seen["devices"] = os.environ.get(VISIBLE)
    with suppress(OSError):
        seen["scratch_free"] = shutil.disk_usage(scratch).free
    try:
        seen["note"] = Path(note).read_text()
        write_bytes(answer, seen["note"].encode())
        answer.unlink()
    except OSError as error:
        seen["disk_error"] = str(error)
    seen["movie"] = os.access(movie, os.R_OK)
    return seen


def device(seen: dict[str, Any]) -> Finding:
    """Check that a worker with a GPU sees one device, as `look_around` has found."""
    host, devices = seen["host"], seen["devices"]
    if devices and "," not in devices:
        return Finding("GPU", f"a worker with one came to {host}, and sees device {devices}")
    many = f"sees devices {devices}" if devices else f"has no {VISIBLE}"
    fix = "have the queue give each job one GPU with cluster.gpu.directives, or start workers with one device each"
    return Finding("GPU", f"a worker with one came to {host}, and {many}. Fix: {fix}", good=False)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def compare(seen: dict[str, Any], nonce: str, plan: Plan) -> Iterator[Finding]:
    """Compare what a worker has and sees with what it needs.

    Parameters
    ----------
    seen
        Observations of `look_around`.
    nonce
        Content of the file ``note``, which shows that the worker sees the same directory.
    plan
        Plan of the run.
    """
    if seen.get("note") != nonce or "disk_error" in seen:
        why = seen.get("disk_error", "it sees another directory of that name")
        yield Finding(
            "output", f"{plan.job.output}: on the worker: {why}. Fix: choose one on a shared disk", good=False
        )
    else:
        yield Finding("output", "the worker sees it, and can write to it")
    if not seen["movie"]:
        text = f"{plan.job.source}: the worker cannot read it. Fix: put it on a disk that all nodes see"
        yield Finding("movie", text, good=False)
    mine, theirs = versions(), seen["versions"]
    differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if differing:
        text = "; ".join(f"{name} {mine.get(name)} here, {theirs.get(name)} there" for name in differing)
        remedy = "start workers from the same environment ('python' in cluster.options)"
        yield Finding("versions", f"{text}. Fix: {remedy}", good=False)
    else:
        text = f"the same here and on the worker: pyama_dask {mine.get('pyama-dask')}, Python {mine['python']}"
        yield Finding("versions", text)
    free = seen.get("scratch_free", 0)
    text, enough = f"{seen['scratch']} on the worker has {gib(free)} free", free > SCRATCH_BYTES
    yield Finding("scratch", text if enough else f"{text}. Fix: set cluster.local_directory", good=enough)
