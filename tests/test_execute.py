"""The loop: tasks in order, everything recorded, failures kept to their FOV; with scripted tasks, not real ones."""

import threading
from collections import Counter

import pytest
from support.strategies import movie, plan_of

from pyama_dask.errors import AlgorithmError, MissingFrameError
from pyama_dask.execute import DaskPool, SerialPool, execute
from pyama_dask.ledger import Ledger
from pyama_dask.tasks import KINDS, Receipt

EVENT = {"step", "fov", "frame", "total", "message"}


class Script:
    """Stands for all tasks: notes each call, and fails where it is told to.

    Parameters
    ----------
    faults
        By task key, the errors of its first calls.
    """

    def __init__(self, **faults):
        self.faults = {key.replace("_", "-"): list(errors) for key, errors in faults.items()}
        self.calls = []

    def __call__(self, task, job):
        self.calls.append(task)
        if faults := self.faults.get(task.key):
            raise faults.pop(0)
        return Receipt(task.key, task.digests, {}, 0.01, 0, 0, 0)


class Run:
    """One execution of a plan with a script."""

    def __init__(self, tmp_path, script, *, fovs=3, cancel_after=None, prepare=None, **cluster):
        self.plan = plan_of(movie(fovs=fovs), storage={"block_frames": 4}, cluster={"kind": "serial"} | cluster)
        self.events, self.prepared, self.script = [], [], script
        self.cancel = threading.Event()
        self.cancel_after = cancel_after
        with Ledger(tmp_path / "ledger.jsonl") as ledger:
            self.ledger = ledger
            pool = SerialPool(self.task)
            self.failed = execute(
                self.plan, pool, ledger, prepare=prepare or self.prepared.append,
                progress=self.events.append, cancel=self.cancel,
            )  # fmt: skip

    def task(self, task, job):
        if len(self.script.calls) == self.cancel_after:
            self.cancel.set()
        # every task of the FOV's kinds before must be recorded by now
        kinds = [*KINDS]
        earlier = kinds[: kinds.index(task.kind)]
        before = [t for t in self.plan.fovs[task.fov].tasks if t.kind in earlier]
        assert all(self.ledger.has(t.key, s, d) for t in before for s, d in t.digests.items())
        return self.script(task, job)

    @property
    def calls(self):
        return [task.key for task in self.script.calls]


def test_every_task_is_done_once_and_recorded(tmp_path):
    run = Run(tmp_path, Script())
    assert sorted(run.calls) == sorted(task.key for task in run.plan.tasks)
    assert run.failed == {}
    assert all(run.ledger.has(t.key, s, d) for t in run.plan.tasks for s, d in t.digests.items())


def test_every_fov_is_prepared_once_before_its_first_task(tmp_path):
    script = Script()
    seen = []
    run = Run(tmp_path, script, prepare=lambda fov: seen.append((fov.fov, {t.fov for t in script.calls})))
    assert [fov for fov, _ in seen] == [0, 1, 2]
    assert all(fov not in begun for fov, begun in seen)
    assert run.failed == {}


@pytest.mark.parametrize("size", [1, 2])
def test_no_more_fovs_are_in_flight_than_the_window_holds(tmp_path, size):
    run = Run(tmp_path, Script(), fovs=5, batch_size=size)
    open_fovs, widest = set(), 0
    for task in run.script.calls:
        open_fovs.add(task.fov)
        widest = max(widest, len(open_fovs))
        if task.kind == "gather":
            open_fovs.discard(task.fov)
    assert widest == size


def test_a_failure_is_tried_again_and_counted(tmp_path):
    run = Run(tmp_path, Script(link_fov001=[OSError("disk away")]), retries=1)
    assert Counter(run.calls)["link-fov001"] == 2
    assert run.failed == {}
    assert run.ledger.failed == {}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_after_its_retries_a_failure_fails_its_fov_alone(tmp_path, retries):
    script = Script(link_fov001=[OSError(f"disk away {k}") for k in range(9)])
    run = Run(tmp_path, script, retries=retries)
    assert Counter(run.calls)["link-fov001"] == 1 + retries
    assert run.failed == {1: f"link-fov001: OSError: disk away {retries}"}
    assert run.ledger.failed.keys() == {"link-fov001"}
    assert {t.key for t in run.script.calls if t.fov == 1 and t.kind in ("finish", "gather")} == set()
    for fov in (0, 2):
        assert {t.key for t in run.script.calls if t.fov == fov} == {t.key for t in run.plan.fovs[fov].tasks}


@pytest.mark.parametrize("error", [AlgorithmError("FOV 0, frame 3: odd"), MissingFrameError("FOV 0, frame 3: gone")])
def test_what_would_fail_again_is_not_tried_again(tmp_path, error):
    run = Run(tmp_path, Script(ingest_fov000_b000=[error]), retries=5)
    assert Counter(run.calls)["ingest-fov000-b000"] == 1
    assert "FOV 0, frame 3" in run.failed[0]


def test_blocks_beside_a_failed_one_are_recorded_still(tmp_path):
    run = Run(tmp_path, Script(ingest_fov000_b000=[AlgorithmError("odd")]))
    assert "ingest-fov000-b002" in run.ledger.done


def test_a_fov_that_cannot_be_prepared_fails_alone(tmp_path):
    def prepare(fov):
        if fov.fov == 1:
            raise OSError("no space left")

    run = Run(tmp_path, Script(), prepare=prepare)
    assert run.failed.keys() == {1}
    assert "no space left" in run.failed[1]
    assert {task.fov for task in run.script.calls} == {0, 2}


@pytest.mark.parametrize("after", [0, 1, 7])
def test_cancelling_hands_out_nothing_more_and_keeps_what_is_recorded(tmp_path, after):
    run = Run(tmp_path, Script(), cancel_after=after)
    assert len(run.calls) == after + 1
    assert set(run.ledger.done) >= set(run.calls[:after])
    assert run.failed == {}


def test_events_have_all_keys_and_every_step_reaches_its_total(tmp_path):
    run = Run(tmp_path, Script(ingest_fov001_b001=[AlgorithmError("odd")]))
    assert all(event.keys() == EVENT for event in run.events)
    assert {event["total"] for event in run.events} == {10}
    for fov in (0, 2):
        mine = [event for event in run.events if event["fov"] == fov]
        for step in run.plan.steps:
            frames = [event["frame"] for event in mine if event["step"] == step]
            assert frames == sorted(frames)
            assert frames[-1] == 10
        assert mine[-1]["step"] == "done"
    ends = Counter((event["step"], event["fov"]) for event in run.events if event["step"] in ("done", "failed"))
    assert ends == {("done", 0): 1, ("failed", 1): 1, ("done", 2): 1}


class ForgetfulClient:
    """Stands for a client whose worker is lost between the end of a task and the fetching of its receipt."""

    def map(self, call, tasks, *, key, **_):
        assert key == [task.key for task in tasks]
        return [Ended(lambda task=task: call(task)) for task in tasks]

    def gather(self, futures, errors):
        assert errors == "skip"
        return dict.fromkeys(futures)


class Ended:
    """Stands for a future that has ended; asked for what came of it, it has that made again."""

    def __init__(self, again):
        self._again = again

    def add_done_callback(self, callback):
        callback(self)

    def exception(self):
        try:
            self._again()
        except Exception as error:  # noqa: BLE001
            return error
        return None

    def result(self):
        return self._again()


@pytest.mark.parametrize("error", [None, OSError("no disk")])
def test_a_receipt_that_is_lost_with_its_worker_is_that_of_the_next_one(error):
    plan = plan_of(movie(fovs=1), storage={"block_frames": 4})
    tasks = plan.fovs[0].stage("ingest")
    script = Script(**({} if error is None else {task.key: [error] * 2 for task in tasks}))
    pool = DaskPool(ForgetfulClient(), script)
    pool.submit(tasks, plan.job)
    found = {task.key: outcome for task, outcome in pool.next(timeout=1)}
    assert found.keys() == {task.key for task in tasks}
    for task in tasks:
        outcome = found[task.key]
        assert outcome is error if error else (outcome.key, outcome.digests) == (task.key, task.digests)
