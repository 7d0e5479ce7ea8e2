"""Alarms when no task ends, on a clock that the test sets."""

from pyama_dask.execute.watch import Watch


class Clock:
    """Clock that shows what a test sets."""

    now = 1000.0

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += seconds


def test_an_alarm_names_the_status_and_is_repeated_after_twice_the_time():
    clock, status = Clock(), ["jobs: 0 running, 2 pending"]
    doing = [""]
    watch = Watch(60, lambda: status[0], lambda: doing[0], clock)
    clock.forward(5)
    assert list(watch.check(progressed=True)) == [("jobs", "jobs: 0 running, 2 pending")]
    clock.forward(50)
    assert list(watch.check(progressed=False)) == []
    clock.forward(15)
    assert list(watch.check(progressed=False)) == [
        ("alarm", "no task has ended for 1.1 min: jobs: 0 running, 2 pending")
    ]
    clock.forward(50)
    assert list(watch.check(progressed=False)) == []
    clock.forward(10)
    doing[0] = "running FOV 0, frame 3, in the step 'f'"
    ((kind, words),) = watch.check(progressed=False)
    assert (kind, words) == ("alarm", f"no task has ended for 2.1 min: {status[0]}; {doing[0]}")
    doing[0] = ""
    assert len(watch.alarms) == 2
    clock.forward(1)
    assert list(watch.check(progressed=True)) == []
    status[0] = ""
    clock.forward(100)
    assert [words for _, words in watch.check(progressed=False)][1].endswith("tasks are still running")


def test_the_status_is_checked_every_two_seconds():
    clock, asked = Clock(), []
    watch = Watch(60, lambda: asked.append(clock.now) or "", clock=clock)
    for _ in range(100):
        clock.forward(0.1)
        list(watch.check(progressed=True))
    assert 4 <= len(asked) <= 5
