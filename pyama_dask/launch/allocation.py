"""One allocation of a queue: scheduler, driver and workers are processes that ``srun`` starts in it."""

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
from pyama_dask.launch.job_scripts import dask_jobqueue_module
from pyama_dask.launch.keys import keys, protocol, security_in
from pyama_dask.launch.network import free_address, not_started
from pyama_dask.launch.settings import DASK

RANK, TASKS = "SLURM_PROCID", "SLURM_NTASKS"
"""Variables by which the processes of an allocation know which they are, and how many."""

DRIVER = 1
"""The process that drives the run; 0 is the scheduler, and all others are workers."""

ABANDONED = "10 minutes"
"""After which a scheduler ends that its driver has left without a word."""


def serve_allocation(cluster: Cluster, work: Path) -> None:
    """Be the scheduler or a worker of an allocation, until its run is over; return at once in the driver.

    Raises
    ------
    ConfigError
        If this process was not started by ``srun``, or with too few others, or cannot start its part.
    SystemExit
        In the scheduler and the workers, at the end of the run.
    """
    rank = allocation_rank()
    if rank == DRIVER:
        return
    signal.signal(signal.SIGINT, lambda *_: sys.exit())  # by which the runner ends its process
    if rank == 0:
        work.mkdir(parents=True, exist_ok=True)
    file = scheduler_file(work)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the driver's log says what happens to them
    local_directory = cluster.local_directory and expanded(cluster.local_directory)
    with dask.config.set(DASK), ExitStack() as stack:
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
            raise ConfigError(not_started(cluster, error)) from error


@contextmanager
def allocated(cluster: Cluster, work: Path) -> Iterator[Client]:
    """Client of the scheduler of this allocation; all its processes end with it."""
    file = scheduler_file(work)
    wait_for(file)
    with Client(scheduler_file=str(file), security=security_in(cluster, keys_of(file))) as client:
        client.wait_for_workers(1, timeout=300)
        try:
            yield client
        finally:
            client.shutdown()


def allocation_rank() -> int:
    """Which of an allocation's processes this is."""
    try:
        rank, tasks = int(os.environ[RANK]), int(os.environ[TASKS])
    except (LookupError, ValueError) as error:
        raise ConfigError(
            "cluster.kind: runner is for processes that srun starts within one allocation; in a job, use "
            "'srun --ntasks=N pyama-dask run ...', else choose another kind"
        ) from error
    if tasks < 3:
        raise ConfigError(
            f"cluster.kind: runner needs 3 processes or more, for scheduler, driver and workers, not {tasks}"
        )
    return rank


def expanded(directory: str) -> str:
    """Expand variables and a leading ``~``, as the shell of a job does."""
    return os.path.expandvars(os.path.expanduser(directory))  # noqa: PTH111  (it keeps what is no path of this machine)


def scheduler_file(work: Path) -> Path:
    """Where the scheduler of this allocation says its address."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")  # a job that is put back has its number again
    return work / f"scheduler-{'-'.join(os.environ.get(name, '0') for name in names)}.json"


def keys_of(file: Path) -> Path:
    """Folder of the keys of an allocation."""
    return file.with_name(f"keys-{file.stem}")


def wait_for(file: Path, timeout: float = 600.0) -> None:
    """Wait until the scheduler has said its address.

    Raises
    ------
    ClusterError
        If it does not.
    """
    until = time.monotonic() + timeout
    while True:
        with suppress(OSError, ValueError):
            json.loads(file.read_bytes())
            return
        if time.monotonic() > until:
            raise ClusterError(f"{file}: the scheduler of this allocation has not begun within {timeout:.0f} s")
        time.sleep(0.2)


def share_of_node(cluster: Cluster) -> int:
    """Bytes of a worker of an allocation."""
    if cluster.memory != "auto":
        return memory_bytes(cluster.memory)
    of_cpu, of_node = (os.environ.get(name) for name in ("SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE"))
    if of_cpu:
        return int(of_cpu) * int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) * 2**20 - NANNY_BYTES
    here = int(os.environ.get("SLURM_TASKS_PER_NODE", os.environ[TASKS]).partition("(")[0])
    return (int(of_node) * 2**20 if of_node and of_node != "0" else int(0.9 * MEMORY_LIMIT)) // here - NANNY_BYTES
