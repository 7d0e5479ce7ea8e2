"""Launching: where work runs, and the processes and jobs that run it."""

from pyama_dask.launch.dashboard import PAGE, show_run
from pyama_dask.launch.devices import VISIBLE
from pyama_dask.launch.gpu_workers import GpusFound, gpu_workers
from pyama_dask.launch.local import local_cluster
from pyama_dask.launch.network import check_network, interfaces, named
from pyama_dask.launch.settings import most_jobs, worker_count, workers_in
from pyama_dask.launch.start import (
    check_cluster,
    dask_report,
    existing_client,
    join_allocation,
    map_on,
    memory_per_task,
    pool_on,
    script_of,
    starts_workers,
    workers_for,
)

__all__ = [
    "PAGE",
    "VISIBLE",
    "GpusFound",
    "check_cluster",
    "check_network",
    "dask_report",
    "existing_client",
    "gpu_workers",
    "interfaces",
    "join_allocation",
    "local_cluster",
    "map_on",
    "memory_per_task",
    "most_jobs",
    "named",
    "pool_on",
    "script_of",
    "show_run",
    "starts_workers",
    "worker_count",
    "workers_for",
    "workers_in",
]
