"""Progress of a run, counted from its events."""

import pytest
from support.configs import resolved
from support.strategies import movie

from pyama_dask.plan.plan import make_plan
from pyama_dask.runs.progress import RunProgress, Tally


@pytest.fixture
def plan():
    """Two FOVs of ten frames, in blocks of four."""
    metadata = movie(fovs=2, frames=10)
    return make_plan(resolved(metadata, storage__block_frames=4), metadata, "identity", 2**32)


def event(step, fov=-1, frame=0, message=""):
    return {"step": step, "fov": fov, "frame": frame, "total": 10, "message": message}


class TestTally:
    def test_it_knows_no_numbers_before_the_plan_is_made(self):
        tally = Tally()
        tally.event(event("compile", message="Compiling"))
        now = tally.now()
        assert (now.fovs, now.share, now.rate, now.left, now.seconds, now.message) == (0, 0, 0, None, 0, "Compiling")
        assert repr(now) == "<RunProgress: being planned>"

    def test_it_counts_frames_by_step_over_all_fovs(self, plan):
        tally = Tally()
        tally.start(plan, "http://127.0.0.1:8787")
        for fov, frame in ((0, 4), (1, 4), (0, 10)):
            tally.event(event("copy", fov, frame))
        now = tally.now()
        assert now.steps["copy"] == (14, 20)
        assert now.steps["track"] == (0, 20)
        assert now.share == 14 / (20 * len(now.steps))
        assert (now.fovs, now.dashboard) == (2, "http://127.0.0.1:8787")

    def test_frames_that_a_repair_takes_back_are_not_counted(self, plan):
        tally = Tally()
        tally.start(plan, None)
        for frame in (10, 4):
            tally.event(event("copy", 0, frame))
        assert tally.now().steps["copy"] == (4, 20)

    def test_it_counts_finished_and_failed_fovs_and_keeps_alarms(self, plan):
        tally = Tally()
        tally.start(plan, None)
        tally.event(event("done", 0, 10, "FOV 0 is complete"))
        tally.event(event("failed", 1, 0, "FOV 1: is unreadable"))
        tally.event(event("alarm", message="no task has ended for 30 min"))
        now = tally.now()
        assert (now.fovs_done, now.fovs_failed, now.message) == (1, 1, "FOV 1: is unreadable")
        assert now.alarms == ("no task has ended for 30 min",)
        assert str(now) == "1 of 2 FOVs done, 1 failed, 0% of the work"

    def test_failed_fovs_leave_nothing_to_wait_for(self, plan):
        tally = Tally()
        tally.start(plan, None)
        steps = tally.now().steps
        tally.event(event("copy", 0, 4))
        tally.event(event("failed", 0))
        for step in steps:
            tally.event(event(step, 1, 10))
        now = tally.now()
        assert (now.dropped, now.left) == (10 * len(steps) - 4, 0)
        assert now.share < 1

    def test_time_counts_from_the_plan_to_the_end(self, plan):
        times = iter((100.0, 104.0, 106.0))
        tally = Tally(lambda: next(times))
        tally.start(plan, None)
        tally.event(event("copy", 0, 8))
        now = tally.now()
        assert (now.seconds, now.rate) == (4.0, 2.0)
        assert now.left == pytest.approx(4.0 / now.share - 4.0)
        tally.end()
        assert tally.now().seconds == tally.now().seconds == 6.0


def test_shares_are_of_all_steps():
    assert RunProgress(1, 0, 0, {"copy": (10, 10), "track": (0, 10)}).share == 0.5
