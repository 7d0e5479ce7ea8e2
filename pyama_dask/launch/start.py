"""Choice of where work runs: in this process, on workers that are there already, or on workers started for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event

from distributed import Client, performance_report
from distributed.system import MEMORY_LIMIT

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import PyamaError
from pyama_dask.execute.batch_map import BatchMap, SerialMap
from pyama_dask.execute.dask_map import DaskMap
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.pool import Pool, SerialPool
from pyama_dask.execute.workers import Workers
from pyama_dask.files.atomic import disk_error
from pyama_dask.launch.allocation import allocated, serve_allocation
from pyama_dask.launch.devices import devices_here
from pyama_dask.launch.gpu_workers import gpu_workers
from pyama_dask.launch.job_scripts import job_script
from pyama_dask.launch.local import LOST_FOR, connected, dashboard_of, local_cluster
from pyama_dask.launch.network import check_network, not_started
from pyama_dask.launch.queue_commands import check_queue
from pyama_dask.launch.queued import queued
from pyama_dask.launch.settings import job_environment, with_at_most, worker_memory

REPORTED_FROM = 20.0
"""Seconds that a run takes at least for Dask to report on it."""


def join_allocation(cluster: Cluster, work: Path) -> None:
    """Serve as the scheduler or a worker if this process is one of an allocation, and exit; else return."""
    if cluster.kind == "runner":
        serve_allocation(cluster, work)


@contextmanager
def existing_client(cluster: Cluster, work: Path, client: Client | None = None) -> Iterator[Client | None]:
    """Client of workers that run already; None if workers have to be started, or are not needed.

    Parameters
    ----------
    cluster
        Part of the config.
    work
        Folder in which the processes of an allocation find each other.
    client
        Client that the user gives; takes precedence over `cluster`.

    Raises
    ------
    ConfigError
        If the scheduler does not answer, or this process is not in an allocation.
    """
    if client is not None:
        yield client
    elif cluster.kind == "runner":
        join_allocation(cluster, work)
        with allocated(cluster, work) as of_allocation:
            yield of_allocation
    elif cluster.kind == "address":
        with connected(str(cluster.address)) as connection:
            yield connection
    else:
        yield None


def memory_per_task(cluster: Cluster, client: Client | None = None, gpus: int = 0) -> int:
    """Memory of a task in bytes, on the workers of a client, at an address, or as the config describes them.

    Parameters
    ----------
    cluster, client
        As for `existing_client`.
    gpus
        Number of local workers with a GPU beside the others.
    """
    if client is not None:
        return _least_memory(client)
    if cluster.kind == "address":
        with connected(str(cluster.address)) as connection:
            return _least_memory(connection)
    return worker_memory(cluster, gpus if cluster.kind == "local" else 0)


def _least_memory(client: Client) -> int:
    """Smallest memory limit of a worker, divided by the number of tasks that it runs at the same time."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] // worker["nthreads"] for worker in workers if worker["memory_limit"]]
    return min(limits, default=MEMORY_LIMIT)


def check_cluster(cluster: Cluster, work: Path) -> None:
    """Check that workers can be started: network interface, address of the dashboard, and commands of the queue.

    Raises
    ------
    ConfigError
        If something is missing on this machine.
    """
    check_network(cluster)
    if cluster.of_queue:
        check_queue(cluster, work)


def script_of(cluster: Cluster, *, gpu: bool = True) -> str:
    """Script of the jobs that a run submits, and of those with a GPU, unless `gpu` is False; '' without a queue."""
    if not cluster.of_queue:
        return ""
    of = [cluster.without_gpu, cluster.with_gpu] if gpu and cluster.gpu else [cluster]
    return "\nscript of a job with a GPU:\n".join(job_script(jobs, job_environment()) for jobs in of)


def starts_workers(cluster: Cluster, client: Client | None, *, tasks: int, brief: bool = False) -> bool:
    """True if workers have to be started for a number of tasks; see `workers_for`."""
    stays_here = cluster.kind == "serial" or (brief and cluster.kind == "local" and cluster.workers == "auto")
    return client is None and tasks > 0 and not stays_here


@contextmanager
def workers_for(
    cluster: Cluster, client: Client | None, work: Path, run: str, *,
    tasks: int, brief: bool = False, gpu_tasks: int = 0,
) -> Iterator[Workers | None]:  # fmt: skip
    """Workers for a number of tasks.

    Parameters
    ----------
    cluster
        Part of the config.
    client
        Client of workers that run already; see `existing_client`.
    work
        Folder for certificates and logs of the jobs of a queue.
    run
        Name of the run.
    tasks
        Number of tasks that can run at the same time; no more workers than that are started.
    gpu_tasks
        Number of those that are for workers with a GPU; no more of these are started.
    brief
        True if the tasks end before workers would have started: with ``workers: auto``, they run in this process.

    Yields
    ------
    Workers, or None if the tasks run in this process.

    Raises
    ------
    ConfigError
        If the scheduler, the workers or the first job cannot be started.
    ClusterError
        If the processes of workers on this machine end while they start.
    """
    if client is not None and tasks:
        dashboard = dashboard_of(cluster, client) if cluster.kind == "runner" else client.dashboard_link
        yield Workers(client, dashboard=dashboard, gpus=gpu_workers(cluster, client).count if gpu_tasks else 0)
    elif starts_workers(cluster, client, tasks=tasks, brief=brief):
        with ExitStack() as stack:
            try:
                check_cluster(cluster, work)
                started = stack.enter_context(_started(with_at_most(cluster, tasks, gpu_tasks), work, run, gpu_tasks))
            except PyamaError:
                raise
            except Exception as error:  # whatever Dask, dask-jobqueue or the system raise
                raise disk_error(error, work) or not_started(cluster, error) from error
            yield started
    else:
        yield None


@contextmanager
def _started(cluster: Cluster, work: Path, run: str, gpu_tasks: int) -> Iterator[Workers]:
    """Workers that end with the block."""
    if cluster.of_queue:
        with queued(cluster, work, run) as workers:
            yield workers
        return
    devices = devices_here(cluster)[:gpu_tasks] if gpu_tasks else ()
    with local_cluster(cluster, devices) as client:
        address, gpus = client.dashboard_link, len(devices)
        workers = Workers(client, dashboard=address, owned=True, patience=LOST_FOR, gpus=gpus)
        workers.keeps_gpus_free = gpus > 0
        yield workers


def pool_on(workers: Workers | None, number: int = 0) -> Pool:
    """Pool for the tasks of a run, on workers or in this process; `number` is that among runs on the same workers."""
    return SerialPool() if workers is None else DaskPool(workers, number=number)


def map_on(workers: Workers | None) -> BatchMap:
    """Map over batches, on workers or in this process."""
    return SerialMap() if workers is None else DaskMap(workers)


@contextmanager
def dask_report(workers: Workers | None, path: Path, cancel: Event) -> Iterator[None]:
    """Let Dask report on the work inside the block, unless this is done soon or cancelled, or the disk is full.

    Drawing the report takes almost a second of CPU, which a short run is not worth.

    Parameters
    ----------
    workers
        Workers; without any, there is no report.
    path
        HTML file of the report.
    cancel
        If set at the end, the report is skipped, as it takes seconds.
    """
    if workers is None:
        yield
        return
    report = performance_report(path, mode="inline")  # its scripts in the file, for machines without a network
    with workers.client.as_current():
        report.__enter__()
    began = time.monotonic()
    try:
        yield
    finally:
        if not cancel.is_set() and time.monotonic() - began >= REPORTED_FROM:
            with suppress(OSError), workers.client.as_current():
                report.__exit__(None, None, None)
