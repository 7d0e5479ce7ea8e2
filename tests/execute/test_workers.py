"""Workers of a scheduler: counted every few seconds, and missed when none is left."""

import dask
import pytest
from dask.utils import parse_timedelta
from support.movies import config
from support.processes import worker_processes

import pyama_dask
from pyama_dask.config.cluster import Cluster
from pyama_dask.errors import ClusterError
from pyama_dask.execute.workers import RECOUNT, Workers
from pyama_dask.launch import start
from pyama_dask.launch.local import LOST_FOR, local_cluster
from pyama_dask.launch.settings import DASK


class Client:
    """Client whose workers the test sets."""

    status = "running"

    def __init__(self, **threads):
        self.threads, self.counts = threads, 0

    def nthreads(self):
        self.counts += 1
        return self.threads

    def register_plugin(self, _plugin):
        pass


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_workers_are_counted_every_few_seconds():
    client, clock = Client(a=1, b=2), Clock()
    workers = Workers(client, clock=clock)
    assert [workers.threads, workers.threads, client.counts] == [3, 3, 1]
    client.threads = {}
    clock.now += RECOUNT + 1
    assert [workers.threads, client.counts] == [1, 2]


def test_a_run_ends_when_no_worker_has_come_back_for_long():
    client, clock = Client(a=1), Clock()
    workers = Workers(client, patience=60, clock=clock)
    for seconds, threads in [(100, {"a": 1}), (50, {}), (50, {"b": 1}), (50, {})]:
        client.threads = threads
        clock.now += seconds
        workers.check()
    clock.now += 70
    with pytest.raises(ClusterError, match=r"all workers were lost, .* within 1.0 min\. Fix: .* run again to resume"):
        workers.check()


def test_without_patience_workers_may_come_at_any_time():
    clock = Clock()
    workers = Workers(Client(), clock=clock)
    clock.now += 1e6
    workers.check()


def test_a_local_cluster_waits_long_for_a_worker_that_starts_again():
    with local_cluster(Cluster(kind="local", workers=1, dashboard="127.0.0.1:0")):
        given_up_after = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
    assert 120 < given_up_after < LOST_FOR


@pytest.mark.slow
def test_a_run_whose_last_worker_is_given_up_stops_and_can_be_resumed(small_czi, tmp_path, monkeypatch):
    monkeypatch.setitem(DASK, "distributed.deploy.lost-worker-timeout", "1ms")
    monkeypatch.setattr(start, "LOST_FOR", 8.0)
    local = config(small_czi, tmp_path / "out", {"cluster.kind": "local", "cluster.workers": 1})
    before = worker_processes()

    def kill_the_worker(*_):
        for worker in worker_processes() - before:
            worker.kill()

    report = pyama_dask.run(local, on_start=kill_the_worker)
    assert report.exit_status == 4
    assert "all workers were lost" in report.stopped
    monkeypatch.undo()
    assert pyama_dask.run(local).exit_status == 0
