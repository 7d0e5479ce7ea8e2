"""Starting what a config asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from distributed import performance_report

from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ConfigError, PyamaError
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.pool import Pool, SerialPool
from pyama_dask.execute.worker_loss import Deaths
from pyama_dask.files.atomic import disk_error
from pyama_dask.launch.local import connected, local_cluster
from pyama_dask.launch.network import not_started
from pyama_dask.launch.queued import queued


@contextmanager
def launched(
    cluster: Cluster, work: Path | None, run: str, cancel: threading.Event | None = None
) -> Iterator[tuple[Pool, str | None]]:
    """Start what a config asks for; yield the pool, and the address of the dashboard.

    Parameters
    ----------
    cluster
        Part of the config.
    work
        Directory for Dask's performance report, and for keys and logs of the jobs of a queue, which need one; None if
        nothing is to be written.
    run
        Name of the run.
    cancel
        If it is set in the end, Dask's report is left out, as it takes seconds.

    Raises
    ------
    ConfigError
        If the scheduler, the workers or the first job cannot be started.
    """
    if cluster.kind == "serial":
        yield SerialPool(), None
        return
    with ExitStack() as stack:
        try:
            started = _started(stack, cluster, work, run)
            if work is not None:
                stack.enter_context(reported(work / "dask-report.html", cancel or threading.Event()))
        except PyamaError:
            raise
        except Exception as error:  # whatever Dask, dask-jobqueue or the system raise
            raise disk_error(error, work or Path()) or ConfigError(not_started(cluster, error)) from error
        yield started


def _started(stack: ExitStack, cluster: Cluster, work: Path | None, run: str) -> tuple[Pool, str | None]:
    """Pool and address of the dashboard; the stack ends what was started."""
    if cluster.kind == "address":
        client = stack.enter_context(connected(str(cluster.address)))
        pool, link = DaskPool(client, crew=Deaths(client)), client.dashboard_link
    elif cluster.of_queue:
        if work is None:
            raise ValueError("jobs of a queue need a directory for their logs")
        pool, link = stack.enter_context(queued(cluster, work, run))
    else:
        client = stack.enter_context(local_cluster(cluster))
        pool, link = DaskPool(client, owned=True, crew=Deaths(client)), client.dashboard_link
    return pool, link


@contextmanager
def reported(path: Path, cancel: threading.Event) -> Iterator[None]:
    """Have Dask write its report of what is done inside the block; a disk that is full has no room for it."""
    report = performance_report(path)
    report.__enter__()
    try:
        yield
    finally:
        if not cancel.is_set():
            with suppress(OSError):
                report.__exit__(None, None, None)
