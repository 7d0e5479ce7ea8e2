"""Processes on this machine, and what all schedulers here have in common."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from distributed import Client, LocalCluster

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError
from pyama_dask.launch.network import free_address
from pyama_dask.launch.settings import own_settings, user_name, worker_count, worker_memory


@contextmanager
def local_cluster(cluster: Cluster) -> Iterator[Client]:
    """Processes on this machine, one thread each; the dashboard is reached from this machine only."""
    with own_settings():
        with ctrl_c_blocked():
            processes = scheduler_here(
                cluster,
                n_workers=worker_count(cluster),
                threads_per_worker=1,
                processes=True,
                memory_limit=worker_memory(cluster),
                host="127.0.0.1",
            )
        with processes, Client(processes) as client:
            yield client


def scheduler_here(cluster: Cluster, **options: Any) -> LocalCluster:
    """Start a scheduler in this process, with the workers that are asked for."""
    with warnings.catch_warnings():
        # taken since it was found to be free; the link that is printed names the port that it got
        warnings.filterwarnings("ignore", r"(?s)Port \d+ is already in use", UserWarning)
        return LocalCluster(
            dashboard_address=free_address(cluster.dashboard),
            silence_logs=logging.CRITICAL,  # what happens to a worker reaches the run's own log
            **options,
        )


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
    except Exception as error:  # each protocol of Dask has its own
        raise ConfigError(f"cluster.address: no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client


def dashboard_of(cluster: Cluster, client: Client) -> str:
    """Address of the dashboard as it is reached on this machine, and how to reach it from another."""
    port = client.scheduler_info()["services"].get("dashboard", 0)
    host, machine = cluster.dashboard.rpartition(":")[0], client.run_on_scheduler(socket.gethostname)
    return (
        f"http://{host}:{port}/status\n"
        f"From your own machine: ssh -N -L {port}:{host}:{port} {user_name()}@{machine}, "
        f"then http://localhost:{port}/status"
    )
