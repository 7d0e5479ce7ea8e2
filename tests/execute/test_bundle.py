"""Bundles: how a stage is split, and what a worker does with one."""

import inspect
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from support.strategies import movie, plan_of

from pyama_dask import errors
from pyama_dask.errors import AlgorithmError, CancelledError, DiskError, WalltimeError
from pyama_dask.execute import bundle
from pyama_dask.execute.bundle import MOST, Raised, key_of, outcomes, run_bundle, split
from pyama_dask.workflow.task import Receipt

PLAN = plan_of(movie(fovs=1, frames=300), storage={"block_frames": 1})
TASKS = PLAN.fovs[0].stages[0]


@pytest.mark.parametrize(
    ("tasks", "shares", "seconds", "sizes"),
    [
        (8, 4, 0.0, [2, 2, 2, 2]),
        (8, 3, 0.0, [2, 3, 3]),
        (8, -2, 0.0, [8]),
        (3, 64, 0.0, [1, 1, 1]),
        (2 * MOST + 1, 1, 0.0, [43, 43, 43]),
        (8, 1, 0.25, [4, 4]),
        (3, 1, 7.0, [1, 1, 1]),
    ],
)
def test_a_stage_is_split_so_that_workers_have_a_share_and_none_works_long(tasks, shares, seconds, sizes):
    found = split(TASKS[:tasks], shares, seconds)
    assert [len(one) for one in found] == sizes
    assert [task for one in found for task in one] == list(TASKS[:tasks])


def test_a_bundle_is_named_after_its_first_task():
    assert key_of(TASKS[:1]) == "ingest-fov000-b000"
    assert key_of(TASKS[2:9]) == "ingest-fov000-b002-and-6-more"


@pytest.fixture
def run(monkeypatch):
    """Runs a bundle as a worker does."""
    worker = SimpleNamespace(address="tcp://here:1", state=SimpleNamespace(total_resources={}))
    monkeypatch.setattr(bundle, "get_worker", lambda: worker)
    monkeypatch.setattr(bundle, "open_note", lambda _: None)
    return lambda script, tasks=TASKS[:3]: outcomes(run_bundle(script, pickle.dumps(PLAN.job), pickle.dumps(tasks)))


def scripted(*does):
    """Function of a task that does one thing after the other."""
    left = list(does)

    def function(task, job):
        assert job == PLAN.job
        if isinstance(what := left.pop(0), Exception):
            raise what
        time.sleep(what)
        return Receipt(task.key, task.digests, {}, what, 0, 0, 0)

    return function


def test_an_error_of_a_task_does_not_concern_the_others(run):
    first, second, third = run(scripted(0, AlgorithmError("odd"), 0))
    assert [first.key, third.key] == [TASKS[0].key, TASKS[2].key]
    assert isinstance(second, AlgorithmError)


@pytest.mark.parametrize("error", [CancelledError("over"), DiskError("full"), WalltimeError("late", young=True)])
def test_an_error_that_concerns_all_ends_the_bundle(run, error):
    found = run(scripted(0, error))
    assert [type(outcome) for outcome in found] == [Receipt, type(error)]
    assert getattr(found[1], "young", True)


def test_a_bundle_that_takes_too_long_is_cut_short(run, monkeypatch):
    monkeypatch.setattr(bundle, "LASTS", 0.02)
    assert len(run(scripted(0, 0.03))) == 2


ERRORS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]


@pytest.mark.parametrize("kind", ERRORS)
def test_each_error_of_the_package_travels_with_its_class_and_what_it_knows(kind):
    init = inspect.signature(kind.__init__).parameters if "__init__" in vars(kind) else {}
    needs = [name for name, of in init.items() if of.default is of.empty and name != "self"]
    error = kind(**dict.fromkeys(needs, "odd")) if needs else kind("odd")
    error.__cause__ = MemoryError("no room")
    found = Raised.of(error).error()
    assert (type(found), str(found), vars(found)) == (kind, str(error), vars(error))


class LocalError(Exception):
    """Exception with something that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def test_an_exception_that_cannot_travel_is_told_by_its_text():
    error = Raised.of(LocalError("of a method")).error()
    assert type(error) is RuntimeError
    assert "LocalError('of a method')" in str(error)
    long = Raised.of(ValueError("x" * 10**6))
    assert len(long.pickled) + len(long.text) <= bundle.LONGEST
    assert str(long.error()).startswith("ValueError('xxx")


def test_an_exception_travels_with_its_traceback():
    with pytest.raises(KeyError) as raised:
        {}["here"]
    error = Raised.of(raised.value).error()
    assert isinstance(error, KeyError)
    assert error.__traceback__.tb_frame.f_code.co_name == "test_an_exception_travels_with_its_traceback"
