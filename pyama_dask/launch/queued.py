"""Scheduler in this process with workers in the jobs of a queue."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client
from distributed.utils import get_ip

from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.walltime import Retirement
from pyama_dask.execute.worker_loss import EXITS, RETIRED, Loss, exit_text
from pyama_dask.execute.workers import Workers
from pyama_dask.launch.job_scripts import Place
from pyama_dask.launch.jobs import Jobs
from pyama_dask.launch.keys import forget_keys, keys, protocol
from pyama_dask.launch.local import dashboard_of, scheduler_here
from pyama_dask.launch.settings import DASK, job_environment


@contextmanager
def queued(cluster: Cluster, work: Path, run: str) -> Iterator[Workers]:
    """Workers in the jobs of a queue.

    Parameters
    ----------
    cluster
        Part of the config.
    work
        Folder for certificates and logs.
    run
        Name of the run.

    Raises
    ------
    ConfigError
        If the queue rejects the first job.
    """
    work.mkdir(parents=True, exist_ok=True)
    forget_keys(work)
    where = {"interface": cluster.interface} if cluster.interface else {"host": get_ip()}
    with dask.config.set(DASK), keys(cluster, work / f"keys-{run}") as (security, of_jobs):
        scheduler = scheduler_here(cluster, n_workers=0, security=security, protocol=protocol(cluster), **where)
        with scheduler, Client(scheduler) as client:
            client.register_plugin(Retirement())
            place = Place(scheduler.scheduler_address, f"pyama-{run}", work / "jobs", job_environment(), of_jobs)
            workers = JobWorkers(client, cluster, dashboard_of(cluster, client))
            with workers.jobs_at(place):
                yield workers


class JobWorkers(Workers):
    """Workers in the jobs of a queue.

    Parameters
    ----------
    client
        Client of the scheduler in this process.
    cluster
        Part of the config.
    dashboard
        Address of the dashboard.
    """

    def __init__(self, client: Client, cluster: Cluster, dashboard: str = "") -> None:
        super().__init__(client, dashboard=dashboard, owned=True)
        self._cluster = cluster
        self.expected = cluster.most_jobs * cluster.cores
        self._jobs: Jobs | None = None

    @contextmanager
    def jobs_at(self, place: Place) -> Iterator[None]:
        """Keep jobs in the queue inside the block."""
        place.logs.mkdir(exist_ok=True)
        self._jobs = Jobs(self._cluster, place, self._connected, lambda: len(self.running), self._retired)
        try:
            self._jobs.start()
            yield
        finally:
            self._jobs.close()

    def _connected(self) -> set[str]:
        """Names of connected workers."""
        return {str(worker["name"]) for worker in self.client.scheduler_info(n_workers=-1)["workers"].values()}

    def _retired(self) -> set[str]:
        """Names of workers that have left before the walltime of their job."""
        return {event["name"] for _, event in self.client.get_events(EXITS) if event["why"] == RETIRED}

    def loss(self, worker: str, name: str, since: float, *, ask: bool = False) -> Loss:
        """Find out why a worker was lost: its nanny may report it, else its job is gone, and the queue may know why.

        A queue sends SIGTERM to all processes of a job that it ends, so a nanny may live to report that signal.
        """
        loss = super().loss(worker, name, since)
        if loss.why not in (None, exit_text(-signal.SIGTERM)) or self._jobs is None:
            return loss
        return Loss(self._jobs.why(name, since) if ask else None, with_job=True)

    def check(self) -> None:
        """Check that tasks can run; see `Workers.check`."""
        if self._jobs and self._jobs.fault:
            raise self._jobs.fault
        super().check()

    def wake(self) -> None:
        """Submit the jobs that new tasks need."""
        if self._jobs:
            self._jobs.wake()

    def status(self) -> str:
        """Return the status of the jobs."""
        return self._jobs.status() if self._jobs else ""

    def summary(self) -> str:
        """Return what became of the jobs."""
        return self._jobs.summary() if self._jobs else ""
