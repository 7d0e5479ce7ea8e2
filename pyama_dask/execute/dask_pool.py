"""Pool that runs tasks on the workers of a Dask scheduler.

A future is dropped as soon as its receipt is fetched, so no data of a lost worker is ever needed again.
"""

from __future__ import annotations

import logging
import pickle
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from distributed import Future, KilledWorker, get_worker, wait

from pyama_dask.errors import WorkerLostError
from pyama_dask.execute.policy import Outcome
from pyama_dask.execute.walltime import check_time, note_time
from pyama_dask.execute.worker_loss import MEMORY
from pyama_dask.execute.workers import FETCHING, Workers
from pyama_dask.methods.current_call import open_note
from pyama_dask.methods.device import gpu_owned
from pyama_dask.steps import run_task
from pyama_dask.steps.graphs import graph_of
from pyama_dask.store.cancel import stop_tasks
from pyama_dask.workflow.graph import GPU, Graph
from pyama_dask.workflow.task import Job, Receipt, Task

log = logging.getLogger(__name__)

STOPPING = 6.0
"""Seconds to wait for running tasks before the output is unlocked; later they see that they are cancelled."""
_MANY = 10**7
"""More than the priorities of the tasks of one run differ."""
TOGETHER = 0.005
"""Seconds within which ended tasks are collected: one message fetches their receipts, one write records them."""


class DaskPool:
    """Runs tasks on the workers of a Dask scheduler; the dashboard shows the keys of the plan.

    Parameters
    ----------
    workers
        Workers of a scheduler.
    function
        Function that runs a task.
    number
        Number of the run among several on the same workers: tasks of earlier ones come first.
    """

    def __init__(self, workers: Workers, function: Callable[[Task, Job], Receipt] = run_task, number: int = 0) -> None:
        self._workers, self._function, self._number = workers, function, number
        self._running: set[str] = set()
        """Keys of its tasks among all that run on the workers."""
        self._ended: queue.SimpleQueue[tuple[Task, Future[Receipt], float]] = queue.SimpleQueue()
        self._losses, self._submissions = Counter[str](), Counter[str]()
        self._run = ""

    @property
    def workers(self) -> int:
        """Number of tasks that can run at the same time; changes as workers come and go."""
        return self._workers.threads

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Submit tasks; those near the end of a FOV, and those of FOVs that started earlier, run first."""
        self._workers.check()
        self._run = job.run
        keys = [self._dask_key(task) for task in tasks]
        call = partial(_call, self._function, pickle.dumps(job))
        graph = graph_of(job.config)
        needs = graph.resources(tasks[0].kind)
        resources = self._workers.resources(needs) or None
        futures = self._workers.client.map(
            call, tasks, key=keys, pure=False, resources=resources,
            priority=_priority(tasks[0], graph) - self._number * _MANY,
        )  # fmt: skip
        for task, future in zip(tasks, futures, strict=True):
            self._running.add(self._name(task))
            self._workers.running[self._name(task)] = future
            if GPU in needs:
                self._workers.on_gpu.add(self._name(task))
            future.add_done_callback(lambda ended, task=task: self._ended.put((task, ended, time.monotonic())))
        self._workers.wake()

    def _dask_key(self, task: Task) -> str:
        """Key of a task; a new one for each attempt, as the scheduler may still know a failed one."""
        self._submissions[task.key] += 1
        attempt = self._submissions[task.key]
        return self._name(task) if attempt == 1 else f"{self._name(task)}-try{attempt}"

    def _name(self, task: Task) -> str:
        """Key of a task, which differs from those of other runs on the same workers."""
        return f"{task.key}-run{self._number + 1}" if self._number else task.key

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, and collect those that end a moment later."""
        try:
            ended = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            self._workers.check()
            return []
        time.sleep(TOGETHER)
        ended += [self._ended.get() for _ in range(self._ended.qsize())]
        receipts = self._receipts({task.key: future for task, future, _ in ended})
        for task, _, _ in ended:
            self._running.discard(self._name(task))
            self._workers.running.pop(self._name(task), None)
            self._workers.on_gpu.discard(self._name(task))
        return [(task, self._outcome(task, future, receipts.get(task.key), at)) for task, future, at in ended]

    def _receipts(self, futures: dict[str, Future[Receipt]]) -> dict[str, Receipt]:
        """Receipts of ended tasks, by key; those of failed tasks, and lost receipts, are left out."""

        async def fetch() -> dict[str, Receipt]:
            client = self._workers.client
            receipts: dict[str, Receipt] = await client.gather(futures, errors="skip", asynchronous=True)
            return receipts

        receipts: dict[str, Receipt] = {}
        try:
            receipts = self._workers.client.sync(fetch, callback_timeout=FETCHING)
        except TimeoutError:
            self._workers.check()
        return receipts

    def _outcome(self, task: Task, future: Future[Receipt], receipt: Receipt | None, ended: float) -> Outcome:
        """Receipt of a task, or the exception that ended it."""
        if receipt is None:
            if future.status != "error":
                self._workers.check()
                return WorkerLostError("the receipt was lost with its worker", with_job=True)
            error: BaseException = future.exception()
            return self._lost(task, error, ended) if isinstance(error, KilledWorker) else error
        if receipt.digests != task.digests or receipt.run != self._run:
            return RuntimeError(f"{task.key}: the scheduler returned the result of another run")
        return receipt

    def _lost(self, task: Task, error: KilledWorker, ended: float) -> WorkerLostError:
        """Error with the reason why a worker was lost; the queue is asked from the second loss of a task on."""
        self._losses[task.key] += 1
        loss = self._workers.loss_of(error, ended, ask=self._losses[task.key] > 1)
        address, place = error.last_worker.address, f"{loss.doing}: " if loss.doing else ""
        if loss.why == MEMORY:
            return WorkerLostError(
                f"{place}the worker {address} exceeded its memory limit and was killed. Fix: give workers more memory "
                "(cluster.memory, or fewer cluster.workers), or lower storage.block_frames",
                over_memory=True, with_job=loss.with_job,
            )  # fmt: skip
        return WorkerLostError(
            f"{place}the worker {address} was lost during this task ({loss.reason})",
            with_job=loss.with_job, ran=loss.ran.get(str(error.task), 0.0),
        )  # fmt: skip

    def status(self) -> str:
        """Return the status of the jobs of a queue; '' without a queue."""
        return self._workers.status()

    def doing(self) -> str:
        """Return which methods run on which frames, in a few words; '' if unknown or none."""
        return self._workers.doing()

    def summary(self) -> str:
        """Return a summary of the jobs of a queue; '' without a queue."""
        return self._workers.summary()

    def stop(self, job: Job) -> None:
        """Discard tasks that have not started, and wait for the others, unless their workers end with the run."""
        running = {key: self._workers.running[key] for key in self._running}
        if not running or self._workers.owned:
            return
        stop_tasks(job.output, job.run)
        try:
            wait(list(running.values()), timeout=STOPPING)
        except TimeoutError:
            log.warning("%d running tasks will stop at their next frame", len(running))
        finally:
            self._running.clear()
            for key in running:
                self._workers.running.pop(key, None)
                self._workers.on_gpu.discard(key)


def _call(function: Callable[[Task, Job], Receipt], job: bytes, task: Task) -> Receipt:
    """Run a task on a worker whose job lasts long enough."""
    check_time(task)
    worker = get_worker()
    open_note(worker.address)
    with gpu_owned(GPU in worker.state.total_resources):
        receipt = function(task, _job(job))
    note_time(task, receipt)
    return receipt


@lru_cache(maxsize=4)
def _job(pickled: bytes) -> Job:
    """Data that all tasks of a run share; a worker unpickles it once."""
    job: Job = pickle.loads(pickled)
    return job


def _priority(task: Task, graph: Graph) -> int:
    return -3 * task.fov + graph.priority(task.kind)
