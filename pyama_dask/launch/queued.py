"""Scheduler in this process with workers in the jobs of a queue."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
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

WITH_GPU = "jobs with a GPU"


@contextmanager
def queued(cluster: Cluster, work: Path, run: str) -> Iterator[Workers]:
    """Workers in the jobs of a queue.

    Parameters
    ----------
    cluster
        Part of the config; with ``gpu`` if there are to be jobs whose workers have one.
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
        gpus = (cluster.gpu.jobs or 0) if cluster.gpu else 0
        super().__init__(client, dashboard=dashboard, owned=True, gpus=gpus)
        self._cluster = cluster
        self.expected = cluster.most_jobs * cluster.cores + gpus
        self.keeps_gpus_free = gpus > 0
        self._groups: list[Jobs] = []
        """Jobs without a GPU, and those with one, if there are any."""

    @contextmanager
    def jobs_at(self, place: Place) -> Iterator[None]:
        """Keep jobs in the queue inside the block."""
        place.logs.mkdir(exist_ok=True)
        try:
            if self.gpus:
                self._start(self._cluster.without_gpu, place, lambda: len(self.running) - len(self.on_gpu))
                of_gpu = replace(place, name=f"{place.name}-gpu")
                self._start(self._cluster.with_gpu, of_gpu, lambda: len(self.on_gpu), WITH_GPU)
            else:
                self._start(self._cluster, place, lambda: len(self.running))
            yield
        finally:
            for jobs in self._groups:
                jobs.close()

    def _start(self, cluster: Cluster, place: Place, demand: Callable[[], int], title: str = "jobs") -> None:
        """Start a group of jobs, for a number of unfinished tasks."""
        self._groups.append(Jobs(cluster, place, self._connected, demand, self._retired, title=title))
        self._groups[-1].start()

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
        jobs = next((jobs for jobs in reversed(self._groups) if name.startswith(f"{jobs.name}-")), None)
        if loss.why not in (None, exit_text(-signal.SIGTERM)) or jobs is None:
            return loss
        return Loss(jobs.why(name, since) if ask else None, with_job=True)

    def check(self) -> None:
        """Check that tasks can run; see `Workers.check`."""
        for jobs in self._groups:
            if jobs.fault:
                raise jobs.fault
        super().check()

    def wake(self) -> None:
        """Submit the jobs that new tasks need."""
        for jobs in self._groups:
            jobs.wake()

    def status(self) -> str:
        """Return the status of the jobs."""
        return "; ".join(jobs.status() for jobs in self._groups)

    def summary(self) -> str:
        """Return what became of the jobs."""
        return "; ".join(jobs.summary() for jobs in self._groups)
