"""Environment variables of workers, as libraries read some of them when they are imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

WORKER_ENVIRONMENT = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
        "1",
    ),
    "BLOSC_NTHREADS": "1",
    # arrays are large: with small pages, workers wait for each other in the kernel; and further arenas, which threads
    # would get, return freed memory to the system sooner
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1",
    # Dask warns that it cannot measure the deep stacks of a compiling Numba in its profile
    # the log of the driver has failures of tasks; the rest are heartbeats to a scheduler that is closing
    "DASK_DISTRIBUTED__LOGGING": (
        "{'distributed.sizeof': 'error', 'distributed.worker': 'critical', 'distributed.worker.memory': 'warning'}"
    ),
}
"""Environment variables of a worker: a single thread, and large memory pages."""


def worker_environment() -> dict[str, str]:
    """Environment of a worker on this machine: that of this process, and `WORKER_ENVIRONMENT` where it says nothing."""
    return WORKER_ENVIRONMENT | os.environ


@contextmanager
def without_settings_of_dask() -> Iterator[None]:
    """Remove the user's settings of Dask in the block, which workers prefer to others."""
    foreign = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("DASK_DISTRIBUTED")}
    try:
        yield
    finally:
        os.environ |= foreign
