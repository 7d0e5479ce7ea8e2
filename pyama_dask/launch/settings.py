"""Settings of Dask and its workers: one single-threaded process per core, with a memory limit."""

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
from pyama_dask.launch.environment import WORKER_ENVIRONMENT, without_settings_of_dask

DASK = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # the tasks of a lost worker fail at once: the policy decides what is retried
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # a method may hold the GIL for long, and the nanny of a worker notices its death
    "distributed.scheduler.worker-ttl": None,
    # workers keep no data that they could spill, and a paused one would never continue
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # a cluster gives up a lost worker after this time; on a slow disk or a busy machine, its nanny needs more than the
    # default of 15 s to start it again
    "distributed.deploy.lost-worker-timeout": "5 minutes",
    # logs for developers of Dask hold whole messages, with the tasks in them
    "distributed.admin.low-level-log-length": 500,
    # by default, the monitoring of Dask takes a twelfth of a machine with two cores
    "distributed.admin.tick.interval": "200ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.interval": "100ms",
}
"""Settings of Dask for a scheduler in this process, and for its workers."""


@contextmanager
def own_settings() -> Iterator[None]:
    """Use the defaults of Dask and `DASK` instead of the user's settings, here and in workers started in the block.

    Environment variables are removed, as workers prefer them to other settings.
    """
    defaults = dask.config.merge(*dask.config.defaults)["distributed"]
    with without_settings_of_dask(), dask.config.set({"distributed": defaults}), dask.config.set(DASK):
        yield


def job_environment() -> dict[str, str]:
    """Environment variables that give the workers of a job the settings of `DASK`."""
    settings = {name: value for name, value in DASK.items() if name != "distributed.nanny.pre-spawn-environ"}
    return WORKER_ENVIRONMENT | {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value) for name, value in settings.items()
    }


def user_name() -> str:
    """Name of the user of this process; in a container without user names, that of ``$USER``, or the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER") or str(os.getuid())


def worker_count(cluster: Cluster) -> int:
    """Number of workers of a local cluster."""
    if cluster.kind == "serial":
        return 1
    return CPU_COUNT if cluster.workers == "auto" else cluster.workers


def worker_memory(cluster: Cluster, gpus: int = 0) -> int:
    """Memory in bytes that a task may use, on workers that are started as configured, and one more for each GPU."""
    if cluster.of_queue:
        return cluster.worker_bytes * cluster.worker_processes // cluster.cores
    if cluster.memory != "auto":
        return memory_bytes(cluster.memory)
    return int(MEMORY_LIMIT * 0.9 / (worker_count(cluster) + gpus))


def with_at_most(cluster: Cluster, tasks: int, gpu_tasks: int = 0) -> Cluster:
    """Settings of a cluster with no more workers than tasks, and no more with a GPU than tasks for these."""
    if cluster.gpu:
        gpu = cluster.gpu.model_copy(update={"jobs": cluster.gpu.jobs and min(cluster.gpu.jobs, gpu_tasks)})
        cluster = cluster.model_copy(update={"gpu": gpu if gpu_tasks else None})
    if not cluster.of_queue:
        return cluster.model_copy(update={"workers": min(worker_count(cluster), tasks)})
    jobs = -(-tasks // cluster.cores)
    if limits := cluster.adaptive:
        fewer = {"minimum": min(limits.minimum, jobs), "maximum": min(limits.maximum, jobs)}
        return cluster.model_copy(update={"adaptive": limits.model_copy(update=fewer)})
    return cluster.model_copy(update={"jobs": min(cluster.most_jobs, jobs)})


def most_jobs(cluster: Cluster) -> int:
    """Largest number of jobs at the same time; of workers without a queue."""
    return cluster.most_jobs if cluster.of_queue else worker_count(cluster)


def workers_in(cluster: Cluster, jobs: int) -> int:
    """Number of tasks that run at the same time in a number of jobs; of workers without a queue."""
    return jobs * cluster.cores if cluster.of_queue else jobs
