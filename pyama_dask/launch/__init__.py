"""Launching: context managers that yield a Dask client, or a pool to run tasks on."""

from pyama_dask.launch.allocation import allocated, serve_allocation
from pyama_dask.launch.job_scripts import job_script
from pyama_dask.launch.local import connected, dashboard_of, local_cluster
from pyama_dask.launch.network import check_network, interfaces, named
from pyama_dask.launch.queue_commands import check_queue
from pyama_dask.launch.settings import job_environment, most_jobs, worker_count, worker_memory, workers_in
from pyama_dask.launch.start import launched

__all__ = [
    "allocated",
    "check_network",
    "check_queue",
    "connected",
    "dashboard_of",
    "interfaces",
    "job_environment",
    "job_script",
    "launched",
    "local_cluster",
    "most_jobs",
    "named",
    "serve_allocation",
    "worker_count",
    "worker_memory",
    "workers_in",
]
