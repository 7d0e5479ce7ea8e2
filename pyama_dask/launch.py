"""Launching: context managers that yield a pool to run tasks on."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, performance_report
from distributed.system import MEMORY_LIMIT

from pyama_dask.config import Cluster, memory_bytes
from pyama_dask.deaths import Deaths
from pyama_dask.errors import ConfigError
from pyama_dask.execute import DaskPool, Pool, SerialPool

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
    # a lost worker is told of at once, and blamed on the one task that it had: the loop decides what is tried again
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


def worker_count(cluster: Cluster) -> int:
    """Workers that a local cluster starts."""
    if cluster.kind == "serial":
        return 1
    return CPU_COUNT if cluster.workers == "auto" else cluster.workers


def worker_memory(cluster: Cluster) -> int:
    """Bytes that a worker of a cluster that is started here may use."""
    if cluster.memory != "auto":
        return memory_bytes(cluster.memory)
    return int(MEMORY_LIMIT * 0.9 / worker_count(cluster))


@contextmanager
def launched(cluster: Cluster, report: Path) -> Iterator[tuple[Pool, str | None]]:
    """Start what a config asks for; yield the pool, and the address of the dashboard.

    Parameters
    ----------
    cluster
        Part of the config.
    report
        Where Dask's performance report goes.
    """
    if cluster.kind == "serial":
        yield SerialPool(), None
        return
    if cluster.kind == "address":
        with connected(str(cluster.address)) as client, reported(report):
            yield DaskPool(client, why=Deaths(client).why), client.dashboard_link
        return
    with local_cluster(cluster) as client, reported(report):
        yield DaskPool(client, owned=True, why=Deaths(client).why), client.dashboard_link


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Have Dask write its report of what is done inside the block; a disk that is full has no room for it."""
    report = performance_report(path)
    report.__enter__()
    try:
        yield
    finally:
        with suppress(OSError):
            report.__exit__(None, None, None)


@contextmanager
def local_cluster(cluster: Cluster) -> Iterator[Client]:
    """Processes on this machine, one thread each; the dashboard is reached from this machine only."""
    with dask.config.set(DASK):
        with ctrl_c_blocked(), warnings.catch_warnings():
            # taken since it was found to be free; the link that is printed names the port that it got
            warnings.filterwarnings("ignore", r"(?s)Port \d+ is already in use", UserWarning)
            processes = LocalCluster(
                n_workers=worker_count(cluster),
                threads_per_worker=1,
                processes=True,
                memory_limit=worker_memory(cluster),
                host="127.0.0.1",
                dashboard_address=free_address(cluster.dashboard),
                silence_logs=logging.CRITICAL,  # what happens to a worker reaches the run's own log
            )
        with processes, Client(processes) as client:
            yield client


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C, which a terminal sends to all, does not reach: the driver ends them.

    What is blocked in a thread is blocked in the threads and processes that it starts; the resource tracker is started
    before, as starting it unblocks. It clears up after a driver that was killed, and need not say so at the prompt.
    """
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if given is not None:
            os.environ["PYTHONWARNINGS"] = given
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Client of a scheduler that is running."""
    try:
        client = Client(address, timeout="15s")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cluster.address: no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client


def free_address(address: str) -> str:
    """Address of the dashboard; with any free port where the wanted one is taken."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "127.0.0.1", int(port)))
        except OSError:
            return f"{host or '127.0.0.1'}:0"
    return address
