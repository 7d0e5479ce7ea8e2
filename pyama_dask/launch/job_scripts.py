"""Scripts of the jobs that a run submits, written by dask-jobqueue."""

from __future__ import annotations

import importlib
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distributed.security import Security

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import walltime_seconds
from pyama_dask.errors import ConfigError
from pyama_dask.execute.walltime import JOB_ENDS, JOB_LASTS
from pyama_dask.launch.queue_kinds import KINDS, Queue
from pyama_dask.launch.script_checks import check_folder, check_options, check_words, in_shell

DEATH_TIMEOUT = 60
"""Seconds after which a job ends that cannot connect to its scheduler."""


@dataclass(frozen=True)
class Place:
    """Addresses and folders for the jobs of a run."""

    scheduler: str
    """Address of the scheduler."""
    name: str
    """Name of the jobs in the queue."""
    logs: Path
    """Folder of the logs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the jobs."""
    security: Security | None = None
    """Certificates in files that the jobs can read; None without TLS."""


NOWHERE = Place("tls://SCHEDULER:PORT", "pyama-RUN", Path("LOGS"))
"""Placeholders in a job script that is only printed."""


def make_job(cluster: Cluster, place: Place, name: str) -> Any:
    """Create a job of dask-jobqueue.

    Parameters
    ----------
    cluster
        Part of the config, with a kind of queue.
    place
        Addresses and folders of the run.
    name
        Name of the job's workers.

    Raises
    ------
    ConfigError
        If an option or a value is not allowed in a job script, or a setting is missing that this queue needs.
    """
    queue, job_class = KINDS[cluster.kind], job_class_of(cluster.kind)
    check_options(cluster, job_class)
    check_words(cluster)
    check_folder(place.logs)
    own = {"python": shlex.quote(sys.executable)} | cluster.options
    extra = [in_shell(str(word)) for word in own.pop("worker_extra_args", [])]
    # dask-jobqueue would round the memory of the job, and ignore that of the nanny
    job_class = type(job_class.__name__, (job_class,), {"worker_process_memory": str(cluster.worker_bytes)})
    options = {
        "job_name": place.name,
        "log_directory": str(place.logs),
        "job_script_prologue": [*_prologue(cluster, place), *cluster.prologue],
        "job_extra_directives": _directives(cluster, queue, place),
        "security": place.security,
        # else the pages of workers are open to the whole network
        "worker_extra_args": ["--dashboard-address", "127.0.0.1:0", *extra],
        **_options(cluster, queue),
        **own,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OAR Job memory reserved", UserWarning)
        try:
            return job_class(scheduler=place.scheduler, name=name, **options)
        except (TypeError, ValueError, LookupError) as error:
            raise ConfigError(
                f"cluster: dask-jobqueue refuses a {cluster.kind} job: {error}. Fix: correct 'cluster' in the config"
            ) from error


def job_script(cluster: Cluster, environment: Mapping[str, str]) -> str:
    """Script of a job as it would be submitted; names in capitals stand for values that only a run knows."""
    with TemporaryDirectory() as folder:  # dask-jobqueue creates the folder of the logs
        job = make_job(cluster, replace(NOWHERE, logs=Path(folder), environment=environment), "WORKER")
        return str(job.job_script()).replace(folder, str(NOWHERE.logs))


def job_class_of(kind: str) -> type[Any]:
    """Class of dask-jobqueue for a kind of queue."""
    found: type[Any] = getattr(dask_jobqueue_module(kind), KINDS[kind].job_class)
    return found


def dask_jobqueue_module(name: str) -> Any:
    """Import a module of dask-jobqueue, but not its signal handler, which only the main thread could install."""
    install, signal.signal = signal.signal, lambda *_: None
    try:
        return importlib.import_module(f"dask_jobqueue.{name}")
    finally:
        signal.signal = install


def _options(cluster: Cluster, queue: Queue) -> dict[str, Any]:
    """Options of dask-jobqueue by their names there; None leaves them to its configuration files."""
    options = {
        "cores": cluster.cores,
        "processes": cluster.worker_processes,
        "memory": f"{cluster.job_bytes}B",
        "interface": cluster.interface,
        "local_directory": cluster.local_directory and in_shell(cluster.local_directory),
        "death_timeout": DEATH_TIMEOUT,
        **queue.options(cluster),
    }
    if cluster.kind == "htcondor":  # it has no queues, accounts or walltimes
        return options
    walltime = queue.walltime(cluster.walltime) if cluster.walltime else None
    return {**options, "queue": cluster.queue, queue.account: cluster.account, "walltime": walltime}


def _directives(cluster: Cluster, queue: Queue, place: Place) -> list[str] | dict[str, str] | None:
    """Directives in the form of the queue; those of HTCondor are ``name = value``."""
    if cluster.kind == "htcondor":
        return {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in cluster.directives)}
    return [*(line.format(logs=place.logs) for line in queue.directives), *cluster.directives] or None


def _prologue(cluster: Cluster, place: Place) -> Iterator[str]:
    """Shell lines of a job before its workers start: its walltime, and their environment."""
    if cluster.walltime:
        yield f"export {JOB_LASTS}={walltime_seconds(cluster.walltime)}"
        yield f"export {JOB_ENDS}=$(( $(date +%s) + {JOB_LASTS} ))"
    for name, value in place.environment.items():
        yield f"export {name}={shlex.quote(value)}"
