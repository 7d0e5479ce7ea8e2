"""Workers on this machine, and schedulers in this process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from distributed import Client, LocalCluster, Scheduler

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError
from pyama_dask.launch.dashboard import pages_on_demand, with_run_page
from pyama_dask.launch.devices import Device, places
from pyama_dask.launch.local_nanny import LocalNanny
from pyama_dask.launch.network import free_address
from pyama_dask.launch.processes import ctrl_c_blocked, forked_workers, started_again
from pyama_dask.launch.settings import own_settings, user_name, worker_count, worker_memory

LOST_FOR = 360.0
"""Seconds after which no worker of a local cluster will start again; the cluster gives it up after 5 minutes."""


class _NoSpans:
    """Extension of a scheduler instead of its spans, which keep a part of every submission until the scheduler ends."""

    def __bool__(self) -> bool:
        return False  # as if there was no extension

    def heartbeat(self, worker: object, metrics: object) -> None:
        """Drop what a worker tells about its spans."""


@contextmanager
def local_cluster(cluster: Cluster, devices: Sequence[Device] = ()) -> Iterator[Client]:
    """Workers with one thread each on this machine; the dashboard is accessible from this machine only.

    Parameters
    ----------
    cluster
        Part of the config.
    devices
        GPUs, for each of which there is one more worker.

    Raises
    ------
    RuntimeError, OSError
        Of Dask or the system; see `network.not_started`.
    """
    of_workers = places(worker_count(cluster), devices)
    with own_settings(), forked_workers():
        with ctrl_c_blocked():
            processes = started_again(lambda: scheduler_here(
                cluster,
                n_workers=len(of_workers),
                worker_class=LocalNanny,
                places=of_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=worker_memory(cluster, gpus=len(devices)),
                host="127.0.0.1",
            ))  # fmt: skip
        with processes, Client(processes) as client:
            yield client
            end_workers(processes)


def end_workers(processes: LocalCluster) -> None:
    """End workers that have nothing left to do: they hold nothing, and take a second or two to close by themselves."""
    for nanny in processes.workers.values():
        nanny.auto_restart = False
        with suppress(ProcessLookupError):
            if nanny.pid:
                os.kill(nanny.pid, signal.SIGKILL)


def scheduler_here(cluster: Cluster, **options: Any) -> LocalCluster:
    """Start a scheduler in this process; `options` are those of `LocalCluster`."""
    # it tells of connections that end later than the cluster, with tracebacks
    logging.getLogger("distributed.batched").setLevel(logging.WARNING)
    with warnings.catch_warnings(), with_run_page():
        # the port was taken after the check; the printed link has the right one
        warnings.filterwarnings("ignore", r"(?s)Port \d+ is already in use", UserWarning)
        started = LocalCluster(
            dashboard_address=free_address(cluster.dashboard),
            silence_logs=logging.CRITICAL,  # the log of the run has the events of workers
            scheduler_kwargs={"dashboard": False},
            **options,
        )
    scheduler = cast("Scheduler", started.scheduler)
    scheduler.extensions["spans"] = _NoSpans()
    pages_on_demand(scheduler)
    return started


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Client of a running scheduler."""
    try:
        client = Client(address, timeout="15s")
    except Exception as error:  # each protocol of Dask raises other exceptions
        raise ConfigError(
            f"cluster.address: no Dask scheduler answers at {address}: {error}. "
            "Fix: start one there, or correct the address"
        ) from error
    with client:
        yield client


def dashboard_of(cluster: Cluster, client: Client) -> str:
    """Address of the dashboard on this machine, with the command that makes it accessible from another one."""
    port = client.scheduler_info()["services"].get("dashboard", 0)
    host, machine = cluster.dashboard.rpartition(":")[0], client.run_on_scheduler(socket.gethostname)
    return (
        f"http://{host}:{port}/status\n"
        f"From your own machine: ssh -N -L {port}:{host}:{port} {user_name()}@{machine}, "
        f"then http://localhost:{port}/status"
    )
