"""Pool on Dask: what the scheduler reports about bundles of tasks, with scripted clients."""

import asyncio
import pickle
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from distributed import KilledWorker
from support.strategies import movie, plan_of

from pyama_dask.errors import AlgorithmError, ClusterError, DiskError, WorkerLostError
from pyama_dask.execute.bundle import Raised
from pyama_dask.execute.dask_pool import DaskPool
from pyama_dask.execute.pool import SMALL
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

    def nthreads(self):
        return {"tcp://127.0.0.1:1": 1}

    def __init__(self, future, results=None):
        self.future, self.results, self.sent = future, results or {}, []

    def map(self, call, bundles, *, key, **_):
        self.sent += key
        return [self.future for _ in bundles]

    def sync(self, function, *, callback_timeout):
        assert callback_timeout > 0
        return asyncio.run(function())

    async def gather(self, futures, *, errors, asynchronous):
        assert (errors, asynchronous) == ("skip", True)
        if isinstance(self.results, Exception):
            raise self.results
        return {key: pickle.dumps(self.results[key]) for key in futures if key in self.results}


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
    assert outcome_of(ScriptedClient(Ended("error", error))) is error  # of Dask itself
    found = outcome_of(ScriptedClient(Ended("finished"), {"ingest-fov000-b000": [Raised.of(error)]}))
    assert (type(found), str(found)) == (AlgorithmError, str(error))


@pytest.mark.parametrize("results", [{}, TimeoutError()])
@pytest.mark.parametrize("status", ["finished", "pending", "lost"])
def test_a_receipt_that_is_lost_with_its_worker_is_not_waited_for(results, status):
    found = outcome_of(ScriptedClient(Ended(status), results))
    assert isinstance(found, WorkerLostError)
    assert "receipt was lost" in str(found)


def test_a_receipt_of_another_run_is_not_taken():
    key = "ingest-fov000-b000"
    other = Receipt(key, {"copy": "x"}, {}, 0.1, 0, 0, 0)
    assert "result of another run" in str(outcome_of(ScriptedClient(Ended("finished"), {key: [other]})))


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


# ----------------------------------------------------------------------------------------------- bundles


class Waiting:
    """Stands for a future that ends when it is told to."""

    status = "pending"

    def add_done_callback(self, callback):
        self.end = lambda status="finished", error=None: (vars(self).update(status=status, error=error), callback(self))

    def exception(self):
        return self.error


class Bundles:
    """A pool on one worker that was given small tasks of a stage, of which it has sent the first bundle.

    Parameters
    ----------
    loss
        What is found out of a lost worker.
    large
        Whether the tasks are large.
    """

    def __init__(self, loss=None, *, large=False):
        class Knowing(Workers):
            threads = 1

            def loss(self, *_, **__):
                return loss

        class Client(ScriptedClient):
            def map(self, call, bundles, *, key, **_):
                self.sent += key
                self.futures += (new := [Waiting() for _ in bundles])
                return new

        self.client = Client(None)
        self.client.futures = []
        plan = plan_of(movie(fovs=1, frames=32), storage={"block_frames": 4})
        self.job = replace(plan.job, run="r")
        self.tasks = plan.fovs[0].stages[0]
        self.pool = DaskPool(Knowing(self.client))
        more = {"bytes_read": SMALL + 1} if large else {}
        self.pool.submit([replace(task, **more) for task in self.tasks[:3]], self.job)
        self.pool.submit([replace(task, **more) for task in self.tasks[3:]], self.job)

    def end(self, *result, **how):
        """End the first bundle; gives what comes of it, and what is sent then."""
        del self.client.sent[:]
        if result:
            self.client.results = {NAME: list(result)}
        self.client.futures[0].end(**how)
        found = self.pool.next(timeout=1)
        return {task.key: outcome for task, outcome in found}, self.client.sent

    def receipt(self, k, seconds=0.01):
        return Receipt(self.tasks[k].key, self.tasks[k].digests, {}, seconds, 0, 0, 0, run="r")


KEYS = [f"ingest-fov000-b{block:03d}" for block in range(8)]
NAME, NEXT = f"{KEYS[0]}-and-2-more", f"{KEYS[3]}-and-4-more"


def test_small_tasks_of_a_kind_travel_together_and_wait_while_the_workers_have_enough_to_do():
    bundles = Bundles()
    assert bundles.client.sent == [NAME]
    assert bundles.pool.next(timeout=0) == []
    assert bundles.client.sent == [NAME, NEXT]


def test_large_tasks_travel_alone_and_at_once():
    assert Bundles(large=True).client.sent == KEYS


def test_an_error_of_a_task_does_not_concern_the_others():
    bundles = Bundles()
    error = Raised.of(AlgorithmError("FOV 0, frame 5: odd"))
    found, sent = bundles.end(bundles.receipt(0), error, bundles.receipt(2))
    assert [type(outcome) for outcome in found.values()] == [Receipt, AlgorithmError, Receipt]
    assert (list(found), sent) == (KEYS[:3], [NEXT])


def test_what_a_bundle_has_no_time_for_is_sent_again():
    bundles = Bundles()
    bundles.pool._is_last = True
    found, sent = bundles.end(bundles.receipt(0, seconds=0.9))
    assert (list(found), sent) == (KEYS[:1], [NEXT])  # there is one bundle on the way
    assert bundles.pool._is_last  # no further FOV starts because of that
    assert bundles.pool.next(timeout=0) == []
    assert sent == [NEXT, *KEYS[1:3]]  # alone, as tasks of this kind are slow


def test_a_full_disk_is_the_outcome_of_all_that_is_left():
    bundles = Bundles()
    found, sent = bundles.end(bundles.receipt(0), Raised.of(DiskError("out: full")))
    assert [type(outcome) for outcome in found.values()] == [Receipt, DiskError, DiskError]
    assert sent == [NEXT]


def test_a_lost_worker_counts_against_the_task_that_it_ran():
    found, sent = Bundles(Loss("signal 11", tasks=(KEYS[1],))).end(status="error", error=killed())
    assert list(found) == [KEYS[1]]
    assert isinstance(found[KEYS[1]], WorkerLostError)
    assert sent == [NEXT, KEYS[0], KEYS[2]]


@pytest.mark.parametrize("ran", [(), ("link-fov009",)])
def test_a_bundle_that_is_lost_for_reasons_unknown_counts_against_none(ran):
    bundles = Bundles(Loss("signal 9", tasks=ran))
    found, sent = bundles.end(status="error", error=killed())
    assert (found, sent) == ({}, [NEXT, *KEYS[:3]])


def test_the_first_tasks_of_the_last_fovs_overtake_the_others_and_what_ends_a_fov_comes_last():
    plan = plan_of(movie(fovs=4), storage={"block_frames": 4})
    usual, last = DaskPool(Workers(ScriptedClient(None))), DaskPool(Workers(ScriptedClient(None)))
    for pool in (usual, last):
        pool.submit([], plan.job, is_last=pool is last)
    tasks = {task.key: task for fov in plan.fovs for task in fov.tasks if not task.block}

    def order(pool):
        return [key.replace("-b000", "") for key in sorted(tasks, key=lambda key: -pool._priority(tasks[key]))]

    assert order(usual) == [
        f"{kind}-fov{fov:03d}" for fov in range(4) for kind in ("gather", "link", "finish", "ingest")
    ]
    found = order(last)
    assert found[-4:] == [f"gather-fov{fov:03d}" for fov in range(4)]
    assert found.index("ingest-fov002") < found.index("finish-fov000") < found.index("ingest-fov003")


@pytest.mark.parametrize("error", [None, RuntimeError("cannot be unpickled")])
def test_a_bundle_without_result_is_sent_again_one_by_one(error):
    found, sent = Bundles().end(status="error" if error else "lost", error=error)
    assert (found, sent) == ({}, [NEXT, *KEYS[:3]])
