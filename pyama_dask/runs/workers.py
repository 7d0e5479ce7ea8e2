"""Pools for the tasks of a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from pyama_dask.config.models import Config
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.pool import Pool, SerialPool
from pyama_dask.execute.worker_loss import Deaths
from pyama_dask.launch import allocated, dashboard_of, launched, serve_allocation
from pyama_dask.plan.plan import Plan
from pyama_dask.workflow.task import WORK


@contextmanager
def pool_for(
    config: Config, client: Client | None, plan: Plan, cancel: threading.Event
) -> Iterator[tuple[Pool, str | None]]:
    """Pool on the given client, or on what the config says; in this process if nothing is to be done."""
    if not plan.tasks:
        yield SerialPool(), None
    elif client is not None:
        of_allocation = config.cluster.kind == "runner"
        link = dashboard_of(config.cluster, client) if of_allocation else client.dashboard_link
        yield DaskPool(client, crew=Deaths(client)), link
    else:
        with launched(config.cluster, plan.job.output / WORK, plan.job.run, cancel) as pool:
            yield pool


def join_allocation(config: Config) -> None:
    """Be the scheduler or a worker where a run has one allocation and this process is not its driver."""
    if config.cluster.kind == "runner":
        serve_allocation(config.cluster, work_of(config))


@contextmanager
def in_allocation(config: Config) -> Iterator[Client]:
    """Client of the other processes of this allocation; in those themselves, this never comes back."""
    join_allocation(config)
    with allocated(config.cluster, work_of(config)) as client:
        yield client


def work_of(config: Config) -> Path:
    """Directory of an output for all that is not a result."""
    return config.output.absolute() / WORK
