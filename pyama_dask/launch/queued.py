"""A scheduler in this process, and workers in the jobs of a queue."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client
from distributed.utils import get_ip

from pyama_dask.config.cluster import Cluster
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.walltime import Retirement
from pyama_dask.execute.worker_loss import EXITS, RETIRED, Deaths, Loss, described
from pyama_dask.launch.job_scripts import Place
from pyama_dask.launch.jobs import Jobs
from pyama_dask.launch.keys import forget_keys, keys, protocol
from pyama_dask.launch.local import dashboard_of, scheduler_here
from pyama_dask.launch.settings import DASK, job_environment


@contextmanager
def queued(cluster: Cluster, work: Path, run: str) -> Iterator[tuple[DaskPool, str]]:
    """Scheduler in this process, and workers in the jobs of a queue.

    Raises
    ------
    ConfigError
        If the queue takes no job.
    """
    forget_keys(work)
    where = {"interface": cluster.interface} if cluster.interface else {"host": get_ip()}
    with dask.config.set(DASK), keys(cluster, work / f"keys-{run}") as (security, of_jobs):
        scheduler = scheduler_here(cluster, n_workers=0, security=security, protocol=protocol(cluster), **where)
        with scheduler, Client(scheduler) as client:
            client.register_plugin(Retirement())
            place = Place(scheduler.scheduler_address, f"pyama-{run}", work / "jobs", job_environment(), of_jobs)
            crew = JobCrew(client, cluster)
            pool = DaskPool(client, owned=True, crew=crew)
            with crew.jobs(place, lambda: pool.in_flight):
                yield pool, dashboard_of(cluster, client)


class JobCrew(Deaths):
    """Workers in the jobs of a queue."""

    def __init__(self, client: Client, cluster: Cluster) -> None:
        super().__init__(client)
        self._cluster = cluster
        self.expected = cluster.most_jobs * cluster.cores
        self._jobs: Jobs | None = None

    @contextmanager
    def jobs(self, place: Place, demand: Callable[[], int]) -> Iterator[None]:
        """Keep the jobs of a run in the queue."""
        place.logs.mkdir(exist_ok=True)
        self._jobs = Jobs(self._cluster, place, self._names, demand, self._left)
        try:
            self._jobs.start()
            yield
        finally:
            self._jobs.close()

    def _left(self) -> set[str]:
        """Names of the workers that have left as their job's walltime was near."""
        return {event["name"] for _, event in self._client.get_events(EXITS) if event["why"] == RETIRED}

    def _names(self) -> set[str]:
        """Names of the workers that are connected."""
        return {str(worker["name"]) for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()}

    def loss(self, worker: str, name: str, since: float, *, ask: bool = False) -> Loss:
        """Say what became of a worker: as its nanny says, else its job is gone, and the queue may say why.

        A queue that ends a job asks its processes to; a nanny may live to say that its worker was.
        """
        loss = super().loss(worker, name, since)
        if loss.why not in (None, described(-signal.SIGTERM)) or self._jobs is None:
            return loss
        return Loss(self._jobs.why(name, since) if ask else None, with_job=True)

    def status(self) -> str:
        """Say how it stands with the jobs."""
        return self._jobs.status() if self._jobs else ""

    def wake(self) -> None:
        """Have the jobs that tasks were handed out for."""
        if self._jobs:
            self._jobs.wake()

    def summary(self) -> str:
        """Say what became of the jobs."""
        return self._jobs.summary() if self._jobs else ""

    def check(self) -> None:
        """Make sure that jobs can be had; see `Crew.check`."""
        if self._jobs and self._jobs.fault:
            raise self._jobs.fault
