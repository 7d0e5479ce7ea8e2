"""Pool of tasks on a Dask client."""

from __future__ import annotations

import itertools
import logging
import math
import pickle
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Generic
from uuid import uuid4

from distributed import Client, Future, KilledWorker, get_worker, wait
from distributed.client import FutureCancelledError

from pyama_dask.errors import ClusterError, WorkerLostError
from pyama_dask.execute.policy import Outcome
from pyama_dask.execute.pool import Item, Made
from pyama_dask.execute.walltime import check_time, note_time
from pyama_dask.execute.worker_loss import MEMORY, Crew, Loss
from pyama_dask.methods.current_call import open_note
from pyama_dask.steps import run_task
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.cancel import stop_tasks
from pyama_dask.workflow.task import Job, Receipt, Task

log = logging.getLogger(__name__)
STOPPING = 6.0
"""Seconds to wait for tasks that run, before an output is let go of; they are not wanted then, and see it."""
FETCHING = 5.0
"""Seconds to wait for receipts; Dask would first make one again that is lost with its worker, whenever that may be."""
RECOUNT = 3.0
"""Seconds between counts of the workers."""
TOGETHER = 0.005
"""Seconds within which tasks end together: their receipts travel in one message and reach the disk in one write."""
ONE_LOOK = 0.5
"""Seconds between looks whether to go on, while nothing ends."""
LOSSES = 10
"""Workers that one item may take with it, of those that `Pool.each` goes through."""


class _LateError(Exception):
    """What an item came to cannot be fetched yet."""


class DaskPool:
    """Runs tasks on the workers of a Dask client; keys on its dashboard are the plan's.

    Parameters
    ----------
    client
        Connected client.
    owned
        Whether its workers end with the run.
    crew
        Knows what becomes of its workers.
    """

    def __init__(
        self, client: Client, function: Callable[[Task, Job], Receipt] = run_task, *, owned: bool = False,
        crew: Crew | None = None,
    ) -> None:  # fmt: skip
        self._client, self._function, self._owned, self._crew = client, function, owned, crew or Crew()
        self._counted, self._workers = -math.inf, 1
        self._ended: queue.SimpleQueue[tuple[Task, Future[Receipt], float]] = queue.SimpleQueue()
        self._lost_before: Counter[str] = Counter()
        self._running: dict[str, Future[Any]] = {}
        self._handed_out: Counter[str] = Counter()
        self._run = ""

    @property
    def workers(self) -> int:
        """Threads of all workers; asked for every few seconds, as they may come and go."""
        if time.monotonic() - self._counted > RECOUNT:
            come = sum(int(threads) for threads in self._client.nthreads().values())
            self._workers = max(1, come, self._crew.expected)
            self._counted = time.monotonic()
        return self._workers

    def submit(self, tasks: Sequence[Task], job: Job) -> None:
        """Hand out tasks; what is nearer the end of a FOV, and FOVs that began earlier, come first."""
        self.check()
        self._run = job.run
        keys = [self._dask_key(task) for task in tasks]
        call = partial(_call, self._function, pickle.dumps(job))
        futures = self._client.map(call, tasks, key=keys, pure=False, priority=_priority(tasks[0]))
        for task, future in zip(tasks, futures, strict=True):
            self._running[task.key] = future
            future.add_done_callback(lambda ended, task=task: self._ended.put((task, ended, time.monotonic())))
        self._crew.wake()

    def _dask_key(self, task: Task) -> str:
        """Key of a task; another one each time, as the scheduler may still know one that failed."""
        self._handed_out[task.key] += 1
        again = self._handed_out[task.key]
        return task.key if again == 1 else f"{task.key}-try{again}"

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a task to end, and take with it what ends a moment later."""
        try:
            ended = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            self.check()
            return []
        time.sleep(TOGETHER)
        ended += [self._ended.get() for _ in range(self._ended.qsize())]
        receipts = self._receipts({task.key: future for task, future, _ in ended})
        for task, _, _ in ended:
            del self._running[task.key]
        return [(task, self._outcome(task, future, receipts.get(task.key), at)) for task, future, at in ended]

    def _receipts(self, futures: dict[str, Future[Receipt]]) -> dict[str, Receipt]:
        """Fetch the receipts of tasks that have ended, by key; not those of tasks that failed, or that are lost."""

        async def fetched() -> dict[str, Receipt]:
            receipts: dict[str, Receipt] = await self._client.gather(futures, errors="skip", asynchronous=True)
            return receipts

        receipts: dict[str, Receipt] = {}
        try:
            receipts = self._client.sync(fetched, callback_timeout=FETCHING)
        except TimeoutError:
            self.check()
        return receipts

    def _outcome(self, task: Task, future: Future[Receipt], receipt: Receipt | None, at: float) -> Outcome:
        """Receipt of a task, or why there is none."""
        if receipt is None:
            if future.status != "error":
                self.check()
                return WorkerLostError("its receipt was lost with the worker that did it", with_job=True)
            error: BaseException = future.exception()
            return self._lost(task, error, at) if isinstance(error, KilledWorker) else error
        if receipt.digests != task.digests or receipt.run != self._run:
            return RuntimeError(f"{task.key}: the scheduler gave another run's result")
        return receipt

    def _lost(self, task: Task, error: KilledWorker, at: float) -> WorkerLostError:
        """Say what became of the worker that a task ran on; the queue is asked where it happens to the task again."""
        worker, loss = error.last_worker, Loss()
        self._lost_before[task.key] += 1
        try:
            loss = self._crew.loss(worker.address, str(worker.name), at, ask=self._lost_before[task.key] > 1)
        except Exception:  # noqa: BLE001  (the scheduler may go in this moment, too)
            self.check()
        if loss.why == MEMORY:
            return WorkerLostError(
                f"the worker {worker.address} went over its memory limit and was ended; give workers more "
                "(cluster.memory, or fewer cluster.workers), or lower storage.block_frames",
                over_memory=True, with_job=loss.with_job,
            )  # fmt: skip
        why = loss.why or ("its job is gone" if loss.with_job else "it is not known why")
        said = f"the worker {worker.address} was lost while it did this ({why})"
        said = f"{loss.doing}: {said}" if loss.doing else said
        return WorkerLostError(said, with_job=loss.with_job, ran=loss.ran.get(str(error.task), 0.0))

    def each(
        self, name: str, function: Callable[[Item], Made], items: Iterable[Item], cancel: threading.Event
    ) -> Iterator[tuple[int, Made]]:
        """Do one thing with each item, on all workers; what is lost with a worker is done again."""
        waiting, flight = enumerate(items), _Flight(self, name, function)
        try:
            while not cancel.is_set():
                for number, item in itertools.islice(waiting, max(0, 2 * self.workers - self.in_flight)):
                    flight.hand_out(number, item)
                if not self._running:
                    return
                if made := flight.next():
                    yield made
        finally:
            self._running.clear()  # what is not wanted any more is not done either

    def check(self) -> None:
        """Make sure that tasks can be done.

        Raises
        ------
        ClusterError
            If the scheduler is gone, or no workers will come.
        """
        self._crew.check()
        if self._client.status in ("closing", "closed"):
            raise ClusterError("the Dask scheduler is gone; start one, and run again to go on")

    def status(self) -> str:
        """Say how it stands with the jobs, where workers are jobs of a queue."""
        return self._crew.status()

    def summary(self) -> str:
        """Say what became of the jobs of a queue."""
        return self._crew.summary()

    @property
    def client(self) -> Client:
        """Client of the scheduler."""
        return self._client

    @property
    def in_flight(self) -> int:
        """Tasks that are handed out and have not ended."""
        return len(self._running)

    def stop(self, job: Job) -> None:
        """Let no task begin, and wait for those that run; workers that end with the run need no waiting."""
        if not self._running or self._owned:
            return
        stop_tasks(job.output, job.run)
        try:
            wait(list(self._running.values()), timeout=STOPPING)
        except TimeoutError:
            log.warning("%d tasks that still run will stop at their next frame", len(self._running))
        finally:
            self._running.clear()


class _Flight(Generic[Item, Made]):
    """Items that `DaskPool.each` has handed out, and what comes back of them."""

    def __init__(self, pool: DaskPool, name: str, function: Callable[[Item], Made]) -> None:
        self._pool, self._name, self._function = pool, name, function
        self._call, self._lost = uuid4().hex[:8], Counter[int]()
        self._ended: queue.SimpleQueue[tuple[int, Item, str]] = queue.SimpleQueue()

    def hand_out(self, number: int, item: Item) -> None:
        """Hand out an item, for the first time or again."""
        self._pool.check()
        # of this call alone: for a key that it knows already the scheduler would give what another one has made
        again = f"-try{self._lost[number] + 1}" if self._lost[number] else ""
        key = f"{self._name}-{self._call}-{number:04d}{again}"
        future = self._pool.client.submit(self._function, item, key=key, pure=False)
        self._pool._running[key] = future
        future.add_done_callback(lambda _: self._ended.put((number, item, key)))
        self._pool._crew.wake()

    def next(self) -> tuple[int, Made] | None:
        """Wait a moment for an item to end; its number and what was made of it, or None."""
        try:
            number, item, key = self._ended.get(timeout=ONE_LOOK)
        except queue.Empty:
            self._pool.check()
            return None
        future = self._pool._running.pop(key)
        try:
            return number, self._made(future, number)
        except KilledWorker as error:
            self._lost[number] += 1
            if self._lost[number] > LOSSES:
                raise ClusterError(
                    f"{self._name} {number}: {self._lost[number]} workers were lost that did it"
                ) from error
            self.hand_out(number, item)
        except _LateError:
            self._pool._running[key] = future
            self._ended.put((number, item, key))
        return None

    def _made(self, future: Future[Made], number: int) -> Made:
        """Fetch what came of an item, or raise what was raised.

        Raises
        ------
        ClusterError
            If it was cancelled, which a client does itself when it loses its scheduler.
        _LateError
            If it takes long: it was lost with its worker, and is made again.
        """
        try:
            return future.result(timeout=FETCHING)
        except FutureCancelledError as error:
            self._pool.check()
            said = "it was cancelled: the Dask scheduler is gone, or another client took it back; run again"
            raise ClusterError(f"{self._name} {number}: {said}") from error
        except TimeoutError as error:
            if future.status == "error":  # it is the function's
                raise
            self._pool.check()
            raise _LateError from error


def _call(function: Callable[[Task, Job], Receipt], job: bytes, task: Task) -> Receipt:
    """Do a task on a worker, if its job lasts for it."""
    check_time(task)
    open_note(get_worker().address)
    receipt = function(task, _job(job))
    note_time(task, receipt)
    return receipt


@lru_cache(maxsize=1)
def _job(pickled: bytes) -> Job:
    """What all tasks of a run share; a worker unpickles it once."""
    job: Job = pickle.loads(pickled)
    return job


def _priority(task: Task) -> int:
    return -3 * task.fov + GRAPH.priority(task.kind)
