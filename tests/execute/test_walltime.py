"""Workers leave before their job ends, and no task begins that would not end in time."""

import os
import time
from contextlib import contextmanager
from dataclasses import replace

import dask
import pytest
from distributed import Client, LocalCluster
from plan.test_plan import movie, plan_of
from support.movies import config
from support.processes import wait_until

from pyama_dask.config.cluster import Cluster
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ClusterError, WalltimeError
from pyama_dask.execute import walltime
from pyama_dask.execute.walltime import (
    JOB_ENDS,
    JOB_LASTS,
    SPARE,
    STARTING,
    Pace,
    Retirement,
    check_time,
    note_time,
    room_of,
    time_left,
    too_long,
)
from pyama_dask.execute.worker_loss import RETIRED, WALLTIME
from pyama_dask.execute.workers import Workers
from pyama_dask.launch.settings import DASK
from pyama_dask.workflow.task import Receipt

QUEUE = Cluster(kind="slurm", jobs=2, memory="2GiB", walltime="00:01:40")
"""Of whose 100 s a job has 80 for tasks."""


@pytest.fixture
def task():
    return plan_of(movie(fovs=1), storage={"block_frames": 4}).fovs[0].tasks[0]


def receipt(task, seconds):
    return Receipt(task.key, task.digests, {}, seconds, 0, 0, 0)


# ------------------------------------------------------------------------------------------------------- pace


def test_a_job_has_its_walltime_less_what_it_takes_to_start_and_to_end():
    assert room_of(QUEUE, "ingest") == 100 - STARTING - SPARE
    assert room_of(Cluster(), "ingest") is None
    assert room_of(Cluster(kind="htcondor", jobs=1, memory="2GiB"), "ingest") is None


def test_a_task_may_take_twice_what_is_usual_or_as_long_as_the_slowest(task):
    pace = Pace(QUEUE)
    assert pace.seconds(task) == 0
    for seconds in (8, 8, 8, 8, 8, 8, 8, 8, 8, 40):
        pace.took(task, receipt(task, seconds))
    assert pace.seconds(task) == 40
    for _ in range(10):
        pace.took(task, receipt(task, 8))
    assert pace.seconds(task) == 16
    half = replace(task, stop=task.stop - 2)
    assert pace.seconds(half) == 8


def test_no_more_is_asked_for_than_a_fresh_job_has(task):
    pace = Pace(QUEUE)
    pace.took(task, receipt(task, 60))
    assert pace.seconds(task) == 80


def test_without_a_walltime_nothing_is_asked_for(task):
    pace = Pace(Cluster())
    pace.took(task, receipt(task, 1e6))
    pace.cut_off(task, 1e6)
    assert pace.seconds(task) == 0


def test_a_task_that_no_job_lasts_for_is_refused_with_the_arithmetic(task):
    pace = Pace(QUEUE)
    for _ in range(3):
        pace.took(task, receipt(task, 90))
    with pytest.raises(ClusterError, match=r"takes 90 s or more, but a job has 80 s.*00:01:40 less 15 s.*00:04:50"):
        pace.seconds(task)


def test_a_task_that_is_cut_off_is_given_more_time_and_is_refused_if_it_had_all_there_is(task):
    pace = Pace(QUEUE)
    pace.took(task, receipt(task, 2))
    pace.cut_off(task, 20)
    assert pace.seconds(task) >= 30
    pace.cut_off(task, 65)  # a disk may not have answered, once or twice
    pace.cut_off(task, 65)
    assert pace.seconds(task) == 80
    with pytest.raises(ClusterError, match="ingest-fov000-b000 takes 65 s or more"):
        pace.cut_off(task, 65)


def test_one_task_that_was_cut_off_says_nothing_of_all_others(task):
    pace = Pace(QUEUE)
    pace.cut_off(task, 60)
    assert pace.seconds(task) == 80
    for _ in range(100):
        pace.took(task, receipt(task, 10))
    pace.cut_off(task, 79)
    assert pace.seconds(task) == 20


def test_the_remedy_names_what_can_be_changed(task):
    assert "storage.block_frames, now 4" in too_long(QUEUE, 90, task)
    link = next(one for one in plan_of(movie(fovs=1)).fovs[0].tasks if one.kind == "link")
    assert "block_frames" not in too_long(QUEUE, 90, link)


# ---------------------------------------------------------------------------------------------------- workers


def test_time_left(monkeypatch):
    assert time_left() is None
    monkeypatch.setenv(JOB_ENDS, "1100.5")
    assert time_left(clock=lambda: 1000.0) == 100.5


def linger(path, until):
    """Say that it has begun, and wait for a file."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not until.exists():
        time.sleep(0.05)
    return os.getpid()


@contextmanager
def job():
    """A worker of a job, which has come, and its client."""
    with dask.config.set(DASK):
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")
        with cluster, Client(cluster) as client:
            client.wait_for_workers(1)
            yield client


def set_end(seconds, spare):
    """Set the time until the job of this worker ends, and how long before that it leaves."""
    os.environ[JOB_ENDS] = str(time.time() + seconds)
    walltime.SPARE = spare


def end_job(client, seconds, spare=SPARE):
    """Have the job of a worker end after some seconds."""
    client.run(set_end, seconds, spare)
    client.register_plugin(Retirement())


def test_a_worker_ends_what_it_has_begun_and_goes(tmp_path):
    """Dask's own lifetime would take the task away, and begin it anew on every worker."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    with job() as client:
        workers = Workers(client)
        ((worker, _),) = client.scheduler_info()["workers"].items()
        future = client.submit(linger, begun, end)
        wait_until(begun.exists)
        end_job(client, 41, spare=40)
        wait_until(lambda: client.scheduler_info()["workers"][worker]["status"] == "paused")
        end.touch()
        assert future.result(timeout=30) == int(begun.read_text())
        del future
        wait_until(lambda: not client.scheduler_info()["workers"])
        assert workers.loss(worker, "0", time.monotonic()).why == RETIRED
    assert len(begun.read_text().splitlines()) == 1


def test_a_task_that_would_not_end_in_time_is_not_begun(task):
    with job() as client:
        end_job(client, 60)
        assert client.submit(check_time, replace(task, seconds=20), pure=False).result(timeout=30) is None
        client.run(note_time, task, receipt(task, 15))  # here one of its kind took long
        slow = client.submit(check_time, replace(task, stop=task.stop + 12, seconds=1), pure=False)
        with pytest.raises(WalltimeError, match="takes about 120 s") as raised:
            slow.result(timeout=30)
        assert not raised.value.young
        del slow


def lasts(seconds):
    os.environ[JOB_LASTS] = seconds


def test_a_task_that_would_not_end_in_time_makes_its_worker_go(task):
    with job() as client:
        end_job(client, 60)
        client.run(lasts, "90")
        late = client.submit(check_time, replace(task, seconds=70), pure=False)
        with pytest.raises(WalltimeError, match="takes about 70 s, and its job ends in") as raised:
            late.result(timeout=30)
        assert raised.value.young
        del late
        wait_until(lambda: not client.scheduler_info()["workers"])


def test_a_task_that_is_cut_off_is_told_with_the_time_that_it_had(tmp_path):
    with job() as client:
        workers = Workers(client)
        (worker,) = client.scheduler_info()["workers"]
        end_job(client, 4, spare=0.5)
        future = client.submit(linger, tmp_path / "begun", tmp_path / "never")
        wait_until(lambda: workers.loss(worker, "0", 0).why == WALLTIME)
        loss = workers.loss(worker, "0", 0)
        assert loss.with_job
        assert loss.ran[future.key] > 0
        del future


def test_times_of_a_config_reach_the_pace():
    document = config(
        "movie.nd2", "out", {"cluster": {"kind": "slurm", "jobs": 1, "memory": "2GiB", "walltime": "1-00:00:00"}}
    )
    assert room_of(parse_config(document).cluster, "ingest") == 86400 - STARTING - SPARE
