"""What Dask and its workers are told: one process a core, no threads of its own, memory that is looked after."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.units import memory_bytes

WORKER_ENVIRONMENT = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
        "1",
    ),
    "BLOSC_NTHREADS": "1",
    # blocks come and go in large pieces: workers that fault them in by small pages wait for each other in the kernel
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # the stacks of a compiling numba are too deep for Dask to weigh its profile; it says so, and sends it all the same
    # a task's own failure reaches the driver's log; what is left is heartbeats that miss a scheduler which is closing
    "DASK_DISTRIBUTED__LOGGING": (
        "{'distributed.sizeof': 'error', 'distributed.worker': 'critical', 'distributed.worker.memory': 'warning'}"
    ),
}
"""Environment of a worker: one process a core, no threads of its own, and large pages of memory."""

DASK = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # a lost worker is told of at once, and charged to the tasks that it had: the loop decides what is tried again
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # a method may hold the interpreter for long, and a worker that dies is seen by its nanny
    "distributed.scheduler.worker-ttl": None,
    # tasks leave no data with a worker that it could spill, and one that pauses would never go on
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Dask looks after itself less often than it does by default, which takes a twelfth of a machine with two cores
    "distributed.admin.tick.interval": "200ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.interval": "100ms",
}
"""Settings of Dask for a cluster that is started here; its workers take them over."""


@contextmanager
def own_settings() -> Iterator[None]:
    """Use Dask's defaults and `DASK`, whatever the user has set for other programs, here and in workers started here.

    Variables are taken out of the environment, as a worker prefers them to the settings that it is given.
    """
    defaults = dask.config.merge(*dask.config.defaults)["distributed"]
    foreign = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("DASK_DISTRIBUTED")}
    try:
        with dask.config.set({"distributed": defaults}), dask.config.set(DASK):
            yield
    finally:
        os.environ |= foreign


def job_environment() -> dict[str, str]:
    """Variables of a job by which its workers have the settings of `DASK`."""
    settings = {name: value for name, value in DASK.items() if name != "distributed.nanny.pre-spawn-environ"}
    return WORKER_ENVIRONMENT | {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value) for name, value in settings.items()
    }


def user_name() -> str:
    """Name of the user of this process; in a container, where it may have none, that of the variable or the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER") or str(os.getuid())


def worker_count(cluster: Cluster) -> int:
    """Workers that a local cluster starts."""
    if cluster.kind == "serial":
        return 1
    return CPU_COUNT if cluster.workers == "auto" else cluster.workers


def worker_memory(cluster: Cluster) -> int:
    """Bytes that a task may use, of a cluster that is started here."""
    if cluster.of_queue:
        return cluster.worker_bytes * cluster.worker_processes // cluster.cores
    if cluster.memory != "auto":
        return memory_bytes(cluster.memory)
    return int(MEMORY_LIMIT * 0.9 / worker_count(cluster))


def with_at_most(cluster: Cluster, tasks: int) -> Cluster:
    """Settings of a cluster with no more workers than tasks."""
    if not cluster.of_queue:
        return cluster.model_copy(update={"workers": min(worker_count(cluster), tasks)})
    jobs = -(-tasks // cluster.cores)
    if limits := cluster.adaptive:
        fewer = {"minimum": min(limits.minimum, jobs), "maximum": min(limits.maximum, jobs)}
        return cluster.model_copy(update={"adaptive": limits.model_copy(update=fewer)})
    return cluster.model_copy(update={"jobs": min(cluster.most_jobs, jobs)})


def most_jobs(cluster: Cluster) -> int:
    """Jobs of a queue that a run has at once, or workers where there is no queue."""
    return cluster.most_jobs if cluster.of_queue else worker_count(cluster)


def workers_in(cluster: Cluster, jobs: int) -> int:
    """Tasks that can run at once in so many jobs of a queue; jobs are workers where there is no queue."""
    return jobs * cluster.cores if cluster.of_queue else jobs
