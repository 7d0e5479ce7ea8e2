"""Several runs on the same workers: none is without work at a joint, and together they hold no more FOVs than one."""

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.strategies import movie, plan_of

from pyama_dask.execute.loop import execute
from pyama_dask.execute.turns import Turns
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Receipt

WORKERS = 2
WINDOW = 2 * WORKERS


class Pool:
    """Pool of one run: its tasks end as soon as a gate is open; notes run and FOV of each."""

    workers = WORKERS

    def __init__(self, number, gate, taken):
        self.number, self.gate, self.taken, self.tasks = number, gate, taken, deque()

    def submit(self, tasks, job, *, is_last):
        self.tasks += tasks
        self.taken |= {(self.number, task.fov): None for task in tasks}

    def next(self, timeout):
        if not self.gate.wait(timeout) or not self.tasks:
            time.sleep(0.001)
            return []
        task = self.tasks.popleft()
        return [(task, Receipt(task.key, task.digests, {}, 0.01, 0, 0, 0))]

    def status(self):
        return ""

    summary = doing = status

    def stop(self, job):
        assert not self.tasks


@pytest.mark.parametrize(
    ("fovs", "first"),
    [
        ((6, 2), [(0, 0), (0, 1), (0, 2), (0, 3)]),  # the second waits while the first has FOVs to take
        ((3, 5), [(0, 0), (0, 1), (0, 2), (1, 0)]),  # a joint: the next one fills the window
        ((1, 0, 1, 1, 1, 1), [(0, 0), (2, 0), (3, 0), (4, 0)]),
    ],
)
def test_runs_share_one_window_of_fovs_that_stays_full(tmp_path, fovs, first):
    turns, gate, taken = Turns(), threading.Event(), {}

    def one(number):
        plan = plan_of(
            movie(fovs=max(1, fovs[number]), shape=(1024, 1024)), storage={"block_frames": 4}, cluster={"kind": "local"}
        )
        plan = plan if fovs[number] else plan.__class__(**{**vars(plan), "fovs": ()})
        with Ledger(tmp_path / f"ledger{number}.jsonl") as ledger:
            return execute(
                plan, Pool(number, gate, taken), ledger, prepare=lambda _: [], settle=lambda tasks: tasks,
                tidy=lambda _: [], repair=None, progress=lambda _: None, cancel=threading.Event(),
                turn=turns.turn(number),
            )  # fmt: skip

    with ThreadPoolExecutor(len(fovs)) as threads:
        runs = [threads.submit(one, number) for number in range(len(fovs))]
        until = time.monotonic() + 20
        while len(taken) < WINDOW and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)  # more would be taken by now
        found = sorted(taken)
        gate.set()
    assert found == first
    assert not any(run.result().failed for run in runs)
    assert sorted(taken) == [(number, fov) for number, count in enumerate(fovs) for fov in range(count)]
