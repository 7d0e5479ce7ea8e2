"""Pool that runs tasks on the workers of a Dask scheduler, small ones in bundles.

A future is dropped as soon as its receipts are fetched, so no data of a lost worker is ever needed again.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import queue
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from distributed import Future, KilledWorker, wait

from pyama_dask.errors import DiskError, WorkerLostError
from pyama_dask.execute.bundle import RunTask, key_of, outcomes, run_bundle, split
from pyama_dask.execute.policy import Outcome
from pyama_dask.execute.pool import is_small
from pyama_dask.execute.worker_loss import MEMORY, Loss
from pyama_dask.execute.workers import FETCHING, Workers
from pyama_dask.steps import run_task
from pyama_dask.steps.graphs import graph_of
from pyama_dask.store.cancel import stop_tasks
from pyama_dask.workflow.graph import GPU, Graph
from pyama_dask.workflow.kinds import Kind
from pyama_dask.workflow.task import Job, Receipt, Task

log = logging.getLogger(__name__)

STOPPING = 6.0
"""Seconds to wait for running tasks before the output is unlocked; later they see that they are cancelled."""
_MANY = 10**7
"""More than the priorities of the tasks of one run differ."""
_LATE = 10**6
"""More than the priorities of the FOVs of one run differ."""
TOGETHER = 0.005
"""Seconds within which ended tasks are collected: one message fetches their receipts, one write records them."""
AHEAD = 2
"""Bundles for each worker, so that it finds another one when it ends one."""


@dataclass(frozen=True)
class _Sent:
    """A bundle on the scheduler."""

    tasks: tuple[Task, ...]
    name: str
    """Its key, without the number of the attempt."""


class DaskPool:
    """Runs tasks on the workers of a Dask scheduler; the dashboard shows the keys of the plan.

    Small tasks wait here while the workers have enough to do; those of a kind then travel in bundles. A bundle that
    takes too long ends early, and what it leaves is sent again. A lost worker counts against the task that it ran: the
    others are sent again, each alone, and so are all if it is unknown which one ran.

    Parameters
    ----------
    workers
        Workers of a scheduler.
    function
        Function that runs a task.
    number
        Number of the run among several on the same workers: tasks of earlier ones come first.
    """

    def __init__(self, workers: Workers, function: RunTask = run_task, number: int = 0) -> None:
        self._workers, self._function, self._number = workers, function, number
        self._running: set[str] = set()
        """Names of its bundles among all that run on the workers."""
        self._bundles: dict[str, Kind] = {}
        """Kinds of those of small tasks."""
        self._ended: queue.SimpleQueue[tuple[_Sent, Future[bytes], float]] = queue.SimpleQueue()
        self._waiting: defaultdict[Kind, list[Task]] = defaultdict(list)
        """Small tasks that are not sent yet."""
        self._losses, self._submissions = Counter[str](), Counter[str]()
        self._seconds: dict[Kind, float] = {}
        """Time that a task of each kind took most recently."""
        self._job: tuple[Job, bytes] | None = None
        """Job of the run, also pickled."""
        self._is_last = False

    @property
    def workers(self) -> int:
        """Number of tasks that can run at the same time; changes as workers come and go."""
        return self._workers.threads

    def submit(self, tasks: Sequence[Task], job: Job, *, is_last: bool = False) -> None:
        """Submit tasks; those near the end of a FOV, and those of FOVs that started earlier, run first.

        If no further FOV will start (`is_last`), the order is another one; see `_priority`.
        """
        self._workers.check()
        self._is_last = is_last
        if self._job is None or self._job[0] is not job:
            self._job = job, pickle.dumps(job)
        if large := [(task,) for task in tasks if not is_small(task)]:
            self._send(large)
        for task in filter(is_small, tasks):
            self._waiting[task.kind].append(task)
        self._send_waiting(ahead=1)

    def _send_waiting(self, ahead: int) -> None:
        """Send small tasks to workers that have fewer than so many bundles; those that more waits for go first."""
        kinds = sorted(self._waiting, key=self._graph.priority, reverse=True) if self._waiting else ()
        for kind in kinds:
            if (room := self._room(kind, ahead)) > 0:
                self._send(split(self._waiting.pop(kind), room, self._seconds.get(kind, 0.0)))

    def _room(self, kind: Kind, ahead: int) -> int:
        """Number of bundles until each worker that a kind of task can run on has so many."""
        gpu = self._graph.needs_gpu(kind)
        workers = self._workers.gpus if gpu and self._workers.gpus else self._workers.threads
        return ahead * workers - sum(self._graph.needs_gpu(of) == gpu for of in self._bundles.values())

    @property
    def _graph(self) -> Graph:
        assert self._job
        return graph_of(self._job[0].config)

    def _send(self, bundles: Sequence[tuple[Task, ...]]) -> None:
        """Send bundles of one kind of task to the scheduler; those of earlier FOVs run first."""
        assert self._job
        graph, run = self._graph, partial(run_bundle, self._function, self._job[1])
        needs = graph.resources(bundles[0][0].kind)
        for priority, of_fov in itertools.groupby(bundles, lambda tasks: self._priority(tasks[0])):
            alike = list(of_fov)
            names = [self._name(tasks) for tasks in alike]
            futures = self._workers.client.map(
                run, [pickle.dumps(tasks) for tasks in alike], key=[self._dask_key(name) for name in names],
                pure=False, resources=self._workers.resources(needs) or None,
                priority=priority,
            )  # fmt: skip
            for sent, future in zip(map(_Sent, alike, names), futures, strict=True):
                self._running.add(sent.name)
                if is_small(sent.tasks[0]):
                    self._bundles[sent.name] = sent.tasks[0].kind
                self._workers.running[sent.name] = future
                if GPU in needs:
                    self._workers.on_gpu.add(sent.name)
                future.add_done_callback(lambda ended, sent=sent: self._ended.put((sent, ended, time.monotonic())))
        self._workers.wake()

    def _priority(self, task: Task) -> int:
        """Rank of a task: those of earlier FOVs come first.

        When no further FOV starts, the first tasks of the last FOVs overtake later ones of others, and what ends a FOV
        comes last. So little is left that has to wait for each other, and the workers end at about the same time.
        """
        assert self._job
        graph, job = self._graph, self._job[0]
        usual = graph.priority(task.kind) - 3 * task.fov - self._number * _MANY
        if not self._is_last:
            return usual
        if (depth := graph.depth(task.kind)) is None:
            return usual - _LATE
        overtaken_by = 2 * -(-self.workers // len(job.blocks))  # FOVs: twice those that keep all workers busy
        return usual - (3 * overtaken_by + 2) * depth

    def _dask_key(self, name: str) -> str:
        """Key of a bundle; a new one for each attempt, as the scheduler may still know a failed one."""
        self._submissions[name] += 1
        attempt = self._submissions[name]
        return name if attempt == 1 else f"{name}-try{attempt}"

    def _name(self, tasks: Sequence[Task]) -> str:
        """Name of a bundle, which differs from those of other runs on the same workers."""
        return f"{key_of(tasks)}-run{self._number + 1}" if self._number else key_of(tasks)

    def next(self, timeout: float) -> list[tuple[Task, Outcome]]:
        """Wait for a bundle to end, and collect those that end a moment later."""
        self._send_waiting(AHEAD)
        try:
            ended = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            self._workers.check()
            return []
        time.sleep(TOGETHER)
        ended += [self._ended.get() for _ in range(self._ended.qsize())]
        results = self._results({sent.name: future for sent, future, _ in ended})
        found = [(sent, results.get(sent.name) or self._error(future), at) for sent, future, at in ended]
        for sent, _, _ in ended:
            self._forget(sent.name)
        ended.clear()  # frames of tracebacks of tasks refer to this one, and would keep the futures
        return [of for sent, result, at in found for of in self._outcomes(sent, result, at)]

    def _results(self, futures: dict[str, Future[bytes]]) -> dict[str, bytes]:
        """Results of ended bundles, by name; those of failed ones, and lost results, are left out."""

        async def fetch() -> dict[str, bytes]:
            client = self._workers.client
            results: dict[str, bytes] = await client.gather(futures, errors="skip", asynchronous=True)
            return results

        results: dict[str, bytes] = {}
        try:
            results = self._workers.client.sync(fetch, callback_timeout=FETCHING)
        except TimeoutError:
            self._workers.check()
        return results

    def _error(self, future: Future[bytes]) -> BaseException:
        """Exception of a future without a result."""
        if future.status == "error":
            error: BaseException = future.exception()
            return error
        self._workers.check()
        return WorkerLostError("the receipt was lost with its worker", with_job=True)

    def _forget(self, name: str) -> None:
        self._running.discard(name)
        self._bundles.pop(name, None)
        self._workers.running.pop(name, None)
        self._workers.on_gpu.discard(name)

    # ------------------------------------------------------------------------------------------ outcomes

    def _outcomes(self, sent: _Sent, result: bytes | BaseException, ended: float) -> list[tuple[Task, Outcome]]:
        """Outcomes of the tasks of a bundle; those that have none are sent again."""
        assert self._job
        if isinstance(result, KilledWorker):
            return self._lost(sent, result, ended)
        if isinstance(result, BaseException):
            if len(sent.tasks) == 1:
                return [(sent.tasks[0], result)]
            self._again(sent.tasks, str(result))
            return []
        found = [(task, self._checked(task, one)) for task, one in zip(sent.tasks, outcomes(result), strict=False)]
        if left := sent.tasks[len(found) :]:
            if isinstance(stop := found[-1][1], DiskError):  # the run ends
                return found + [(task, stop) for task in left]
            self.submit(left, self._job[0], is_last=self._is_last)
        return found

    def _checked(self, task: Task, outcome: Outcome) -> Outcome:
        """Outcome of a task, whose receipt must be its own."""
        assert self._job
        if isinstance(outcome, Receipt):
            if outcome.digests != task.digests or outcome.run != self._job[0].run:
                return RuntimeError(f"{task.key}: the scheduler returned the result of another run")
            self._seconds[task.kind] = outcome.seconds
        return outcome

    def _lost(self, sent: _Sent, error: KilledWorker, ended: float) -> list[tuple[Task, Outcome]]:
        """Outcome of the task that a lost worker ran; the queue is asked from the second loss of a task on."""
        self._losses.update(task.key for task in sent.tasks)
        seen_before = any(self._losses[task.key] > 1 for task in sent.tasks)
        loss = self._workers.loss_of(error, ended, ask=seen_before)
        ran = [task for task in sent.tasks if task.key in loss.tasks] if loss.tasks else sent.tasks
        if len(ran) > 1:
            ran = []
        self._again([task for task in sent.tasks if task not in ran], f"its worker was lost ({loss.reason})")
        return [(task, _loss_error(error, loss)) for task in ran]

    def _again(self, tasks: Sequence[Task], reason: str) -> None:
        """Send tasks of a bundle alone, as another one, or an unknown one of them, has ended it."""
        if tasks:
            log.info("%s is sent again, without others: %s", key_of(tasks), reason)
            self._send([(task,) for task in tasks])

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
        self._waiting.clear()
        running = {name: self._workers.running[name] for name in self._running}
        if not running or self._workers.owned:
            return
        stop_tasks(job.output, job.run)
        try:
            wait(list(running.values()), timeout=STOPPING)
        except TimeoutError:
            log.warning("%d running tasks will stop at their next frame", len(running))
        finally:
            for name in running:
                self._forget(name)


def _loss_error(error: KilledWorker, loss: Loss) -> WorkerLostError:
    """Error with the reason why a worker was lost."""
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
