"""Launching: context managers that yield a Dask client, or a pool to run tasks on."""

from pyama_dask.launch.allocation import allocated, serve_allocation
from pyama_dask.launch.local import connected, local_cluster
from pyama_dask.launch.settings import worker_memory
from pyama_dask.launch.start import launched

__all__ = ["allocated", "connected", "launched", "local_cluster", "serve_allocation", "worker_memory"]
