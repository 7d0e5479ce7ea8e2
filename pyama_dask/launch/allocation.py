"""Runs in one allocation of Slurm, whose scheduler, driver and workers are processes of ``srun``."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dask
from distributed import Client
from distributed.system import MEMORY_LIMIT
from distributed.utils import get_ip

from pyama_dask.config.cluster import NANNY_BYTES, Cluster
from pyama_dask.config.units import memory_bytes
from pyama_dask.errors import ClusterError, ConfigError, PyamaError
from pyama_dask.launch.dashboard import with_run_page
from pyama_dask.launch.job_scripts import dask_jobqueue_module
from pyama_dask.launch.keys import keys, protocol, security_in
from pyama_dask.launch.network import free_address, not_started
from pyama_dask.launch.settings import DASK

RANK, TASKS = "SLURM_PROCID", "SLURM_NTASKS"
"""Environment variables with the number of a process in its allocation, and the number of all."""

DRIVER = 1
"""Number of the process that drives the run; 0 is the scheduler, and all others are workers."""

ABANDONED = "10 minutes"
"""Time after which a scheduler ends whose driver was killed."""


def serve_allocation(cluster: Cluster, work: Path) -> None:
    """Serve as the scheduler or a worker of an allocation until its run is over; return at once in the driver.

    Parameters
    ----------
    cluster
        Part of the config.
    work
        Folder in which the processes find each other.

    Raises
    ------
    ConfigError
        If ``srun`` did not start this process, started too few, or this process cannot serve.
    SystemExit
        In the scheduler and the workers, at the end of the run.
    """
    rank = allocation_rank()
    if rank == DRIVER:
        return
    signal.signal(signal.SIGINT, lambda *_: sys.exit())  # the runner ends its processes with SIGINT
    if rank == 0:
        work.mkdir(parents=True, exist_ok=True)
    file = scheduler_file(work)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the log of the driver has their events
    local_directory = cluster.local_directory and expanded(cluster.local_directory)
    with dask.config.set(DASK), with_run_page(), ExitStack() as stack:
        security = None
        if rank == 0:
            security, _ = stack.enter_context(keys(cluster, keys_of(file)))
            stack.callback(file.unlink, missing_ok=True)
        else:
            wait_for(file)
            security = security_in(cluster, keys_of(file))
        where = {"interface": cluster.interface, "security": security, "protocol": protocol(cluster)}
        try:
            dask_jobqueue_module("slurm").SLURMRunner(
                scheduler_file=str(file),
                scheduler_options={
                    **where, "host": None if cluster.interface else get_ip(),
                    "dashboard_address": free_address(cluster.dashboard), "idle_timeout": ABANDONED,
                },
                worker_class="distributed.Nanny",
                worker_options={
                    **where, "nthreads": 1, "memory_limit": share_of_node(cluster), "dashboard_address": "127.0.0.1:0",
                    "local_directory": local_directory, "silence_logs": logging.CRITICAL,
                },
            )  # fmt: skip
        except PyamaError:
            raise
        except Exception as error:  # whatever Dask, dask-jobqueue or the system raise
            raise not_started(cluster, error) from error


@contextmanager
def allocated(cluster: Cluster, work: Path) -> Iterator[Client]:
    """Client of the scheduler of this allocation; all processes end with the block."""
    file = scheduler_file(work)
    wait_for(file)
    with Client(scheduler_file=str(file), security=security_in(cluster, keys_of(file))) as client:
        client.wait_for_workers(1, timeout=300)
        try:
            yield client
        finally:
            client.shutdown()


def allocation_rank() -> int:
    """Number of this process in its allocation."""
    try:
        rank, tasks = int(os.environ[RANK]), int(os.environ[TASKS])
    except (LookupError, ValueError) as error:
        raise ConfigError(
            "cluster.kind: runner needs processes that srun starts in one allocation. "
            "Fix: use 'srun --ntasks=N pyama-dask run ...' in a job, or choose another kind"
        ) from error
    if tasks < 3:
        raise ConfigError(
            f"cluster.kind: runner needs a scheduler, a driver and workers, but srun started {tasks} processes. "
            "Fix: start 3 or more, with --ntasks"
        )
    return rank


def expanded(directory: str) -> str:
    """Expand variables and a leading ``~``, as the shell of a job does."""
    return os.path.expandvars(os.path.expanduser(directory))  # noqa: PTH111  (it keeps what is no path of this machine)


def scheduler_file(work: Path) -> Path:
    """File in which the scheduler of this allocation writes its address."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")  # a requeued job keeps its number
    return work / f"scheduler-{'-'.join(os.environ.get(name, '0') for name in names)}.json"


def keys_of(file: Path) -> Path:
    """Folder of the certificates of an allocation."""
    return file.with_name(f"keys-{file.stem}")


def wait_for(file: Path, timeout: float = 600.0) -> None:
    """Wait until the scheduler has written its address.

    Raises
    ------
    ClusterError
        If it does not in time.
    """
    until = time.monotonic() + timeout
    while True:
        with suppress(OSError, ValueError):
            json.loads(file.read_bytes())
            return
        if time.monotonic() > until:
            raise ClusterError(
                f"{file}: the scheduler of this allocation did not start in {timeout:.0f} s. "
                "Fix: read the log of the job"
            )
        time.sleep(0.2)


def share_of_node(cluster: Cluster) -> int:
    """Memory of a worker of an allocation in bytes."""
    if cluster.memory != "auto":
        return memory_bytes(cluster.memory)
    of_cpu, of_node = (os.environ.get(name) for name in ("SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE"))
    if of_cpu:
        return int(of_cpu) * int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) * 2**20 - NANNY_BYTES
    here = int(os.environ.get("SLURM_TASKS_PER_NODE", os.environ[TASKS]).partition("(")[0])
    return (int(of_node) * 2**20 if of_node and of_node != "0" else int(0.9 * MEMORY_LIMIT)) // here - NANNY_BYTES
