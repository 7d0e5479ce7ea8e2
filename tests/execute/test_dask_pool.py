"""Pool on Dask: what the scheduler reports about tasks, with scripted clients."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from distributed import KilledWorker
from support.strategies import movie, plan_of

from pyama_dask.errors import AlgorithmError, ClusterError, WorkerLostError
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.worker_loss import Loss
from pyama_dask.execute.workers import Workers
from pyama_dask.workflow.task import Receipt


class Ended:
    """Stands for a future that has ended."""

    def __init__(self, status, error=None):
        self.status, self._error = status, error

    def add_done_callback(self, callback):
        callback(self)

    def exception(self):
        assert self.status == "error"  # else it would be waited for
        return self._error


class ScriptedClient:
    """Stands for a client of a scheduler; what it fetches is what the script says."""

    status = "running"
    dashboard_link = ""

    def register_plugin(self, plugin): ...

    def __init__(self, future, receipts=None):
        self.future, self.receipts = future, receipts or {}

    def map(self, call, tasks, *, key, **_):
        assert key == [task.key for task in tasks]
        return [self.future for _ in tasks]

    def sync(self, function, *, callback_timeout):
        assert callback_timeout > 0
        return asyncio.run(function())

    async def gather(self, futures, *, errors, asynchronous):
        assert (errors, asynchronous) == ("skip", True)
        if isinstance(self.receipts, Exception):
            raise self.receipts
        return {key: self.receipts.get(key) for key in futures}


def outcome_of(client, workers=Workers):
    """Outcome of the first task of a plan."""
    plan = plan_of(movie(fovs=1), storage={"block_frames": 4})
    task = plan.fovs[0].tasks[0]
    pool = DaskPool(workers(client))
    pool.submit([task], plan.job)
    ((ended, outcome),) = pool.next(timeout=1)
    assert ended is task
    return outcome


def killed(address="tcp://127.0.0.1:1"):
    return KilledWorker("ingest-fov000-b000", SimpleNamespace(address=address, name=7), 0)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (Loss("memory"), "^the worker.*exceeded its memory limit.*cluster.memory"),
        (
            Loss("memory", doing="FOV 0, frame 3, in the step 'f'"),
            "^FOV 0, frame 3, in the step 'f': the worker.*exceeded",
        ),
        (Loss("signal 11"), "was lost during this task .signal 11"),
        (Loss(), "the reason is unknown"),
        (Loss(with_job=True), "its job is gone"),
        (Loss("pre-empted", with_job=True), "was lost during this task .pre-empted"),
        (
            Loss("walltime", with_job=True, ran={"ingest-fov000-b000": 12.0, "link-fov001": 99.0}),
            "was lost during this task .walltime",
        ),
    ],
)
def test_a_worker_that_is_lost_is_told_from_a_task_that_fails(loss, words):
    asked = []

    class Knowing(Workers):
        def loss(self, worker, name, since, *, ask=False):
            asked.append((worker, name, ask))
            return loss

    found = outcome_of(ScriptedClient(Ended("error", killed())), Knowing)
    assert asked == [("tcp://127.0.0.1:1", "7", False)]
    assert isinstance(found, WorkerLostError)
    ran = loss.ran.get("ingest-fov000-b000", 0)  # of itself, not of what waited beside it
    assert (found.over_memory, found.with_job, found.ran) == (loss.why == "memory", loss.with_job, ran)
    assert re.search(words, str(found))


def test_what_a_task_raises_is_what_comes_of_it():
    error = AlgorithmError("FOV 0, frame 1: odd")
    assert outcome_of(ScriptedClient(Ended("error", error))) is error


@pytest.mark.parametrize("receipts", [{}, TimeoutError()])
@pytest.mark.parametrize("status", ["finished", "pending", "lost"])
def test_a_receipt_that_is_lost_with_its_worker_is_not_waited_for(receipts, status):
    found = outcome_of(ScriptedClient(Ended(status), receipts))
    assert isinstance(found, WorkerLostError)
    assert "receipt was lost" in str(found)


def test_a_receipt_of_another_run_is_not_taken():
    key = "ingest-fov000-b000"
    other = Receipt(key, {"copy": "x"}, {}, 0.1, 0, 0, 0)
    assert "result of another run" in str(outcome_of(ScriptedClient(Ended("finished"), {key: other})))


@pytest.mark.parametrize("status", ["closing", "closed"])
def test_a_scheduler_that_is_gone_is_said(status):
    client = ScriptedClient(Ended("cancelled"))
    plan = plan_of(movie(fovs=1), storage={"block_frames": 4})
    pool = DaskPool(Workers(client))
    pool.submit(plan.fovs[0].tasks[:1], plan.job)
    client.status = status
    with pytest.raises(ClusterError, match="scheduler is gone"):
        pool.next(timeout=0.01)
    with pytest.raises(ClusterError, match="scheduler is gone"):
        pool.next(timeout=0.01)
    with pytest.raises(ClusterError, match="scheduler is gone"):
        pool.submit(plan.fovs[0].tasks[:1], plan.job)
