"""Events reach a quick callback one by one; a slow one does not delay the run."""

import threading
import time

import pytest

from pyama_dask.execute.events import INTERVAL, Events


def event(step, fov=0, frame=0):
    return {"step": step, "fov": fov, "frame": frame, "total": 10, "message": ""}


@pytest.fixture
def cancel():
    return threading.Event()


def test_a_quick_callback_gets_every_event_before_the_run_continues(cancel):
    seen, given = [], [event("copy", frame=k) for k in range(200)]
    with Events(seen.append, cancel) as tell:
        for number, one in enumerate(given, 1):
            tell(one)
            assert len(seen) == number
    assert seen == given


class Stuck:
    """A callback that does not return before it is told to."""

    def __init__(self):
        self.seen, self.may_return = [], threading.Event()

    def __call__(self, one):
        self.seen.append(one)
        assert self.may_return.wait(60)

    @property
    def steps(self):
        return [(one["step"], one["fov"], one["frame"]) for one in self.seen]


def test_the_run_does_not_wait_for_a_slow_callback_which_gets_the_latest_steps_and_all_else(cancel):
    slow = Stuck()
    with Events(slow, cancel, patience=0.01) as tell:
        for frame in range(1, 11):
            tell(event("copy", 0, frame))
            tell(event("copy", 1, frame))
        tell(event("done", 0))
        tell(event("jobs", -1))
        tell(event("jobs", -1))
        assert slow.steps == [("copy", 0, 1)]
        slow.may_return.set()
    assert slow.steps[1:] == [("copy", 0, 10), ("copy", 1, 10), ("done", 0, 0), ("jobs", -1, 0), ("jobs", -1, 0)]


def test_steps_follow_at_intervals_once_the_run_does_not_wait(cancel):
    seen, at = [], []

    def note(one):
        seen.append(one)
        at.append(time.monotonic())

    with Events(note, cancel, patience=-1.0) as tell:
        tell(event("copy", 0, 1))
        while not seen:
            time.sleep(0.001)
        for frame in range(2, 10):
            tell(event("copy", 0, frame))
        while len(seen) < 2:
            time.sleep(0.001)
    assert [one["frame"] for one in seen] == [1, 9]
    assert at[1] - at[0] >= INTERVAL


def test_an_exception_is_raised_with_the_event_and_all_later_ones(cancel):
    def broken(_):
        raise ZeroDivisionError

    tell = Events(broken, cancel).__enter__()
    for step in ("copy", "done"):
        with pytest.raises(ZeroDivisionError):
            tell(event(step))
    tell.__exit__(KeyError, None, None)  # the error of the run comes before that of the callback


def test_a_late_exception_is_raised_at_the_end(cancel):
    stuck = Stuck()

    def broken(one):
        stuck(one)
        raise ZeroDivisionError

    tell = Events(broken, cancel, patience=0.01).__enter__()
    tell(event("copy"))
    tell(event("copy"))
    stuck.may_return.set()
    with pytest.raises(ZeroDivisionError):
        tell.__exit__(None, None, None)
    assert len(stuck.seen) == 1


def test_the_end_of_a_cancelled_run_does_not_wait_for_long(cancel, monkeypatch):
    monkeypatch.setattr("pyama_dask.execute.events.CANCELLED", 0.05)
    stuck = Stuck()
    with Events(stuck, cancel, patience=0.01) as tell:
        tell(event("done"))
        cancel.set()
    assert len(stuck.seen) == 1
    stuck.may_return.set()


def test_a_callback_may_give_events_itself(cancel):
    seen = []

    def relay(one):
        seen.append(one["step"])
        if one["step"] == "copy":
            tell(event("done"))

    with Events(relay, cancel) as tell:
        tell(event("copy"))
    assert seen == ["copy", "done"]
