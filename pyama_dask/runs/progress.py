"""Progress of a run at any moment, counted from its events."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyama_dask.plan.plan import Plan
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.task import Task


@dataclass(frozen=True, repr=False)
class RunProgress:
    """Progress of a run at one moment; all numbers are 0 until its plan is made."""

    fovs: int
    """FOVs that this run processes."""
    fovs_done: int
    fovs_failed: int
    steps: Mapping[Step, tuple[int, int]] = field(default_factory=dict)
    """Frames that each step has processed, and those of the whole run, all FOVs together."""
    dropped: int = 0
    """Frames of all steps that failed FOVs leave out."""
    seconds: float = 0.0
    """Time since the plan was made, up to the end of the run."""
    dashboard: str | None = None
    """Address of the Dask dashboard."""
    message: str = ""
    """Latest message: registration of wells, compilation of the kernels, status of queued jobs, or the end of a FOV."""
    alarms: tuple[str, ...] = ()
    """Messages of times without a finished task."""

    @property
    def share(self) -> float:
        """Share of the work that is done, by frames of all steps, from 0 to 1."""
        done, total = (sum(of[k] for of in self.steps.values()) for k in (0, 1))
        return done / total if total else 0.0

    @property
    def rate(self) -> float:
        """Frames per second of the step that is furthest."""
        return max((done for done, _ in self.steps.values()), default=0) / max(self.seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Remaining time in seconds, at the pace so far; None before the first step of a FOV ends."""
        done, total = (sum(of[k] for of in self.steps.values()) for k in (0, 1))
        return self.seconds * (total - done - self.dropped) / done if done else None

    def __repr__(self) -> str:
        return f"<RunProgress: {self}>"

    def __str__(self) -> str:
        if not self.steps:
            return "being planned"
        failed = f", {self.fovs_failed} failed" if self.fovs_failed else ""
        return f"{self.fovs_done} of {self.fovs} FOVs done{failed}, {self.share:.0%} of the work"


class Tally:
    """Counts the events of a run, which may come from any thread.

    Parameters
    ----------
    clock
        Monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._begun = self._ended = 0.0
        self._fovs = 0
        self._totals: dict[Step, dict[int, int]] = {}
        self._failed = set[int]()
        self._frames = Counter[tuple[Step, int]]()
        self._finished = Counter[str]()
        self._dashboard: str | None = None
        self._message = ""
        self._alarms: list[str] = []

    def start(self, plan: Plan, dashboard: str | None) -> None:
        """Take the plan of what is left, as `pyama_dask.run` gives it to `on_start`."""
        fovs = [fov for fov in plan.fovs if fov.tasks]
        of_fovs = {fov.fov: {step: frames_of(fov.tasks, step, plan.graph) for step in plan.steps} for fov in fovs}
        totals = {step: {fov: of[step] for fov, of in of_fovs.items()} for step in plan.steps}
        with self._lock:
            self._begun, self._fovs, self._dashboard, self._message = self._clock(), len(fovs), dashboard, ""
            self._totals = {step: of for step, of in totals.items() if any(of.values())}

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one progress event."""
        step = event["step"]
        with self._lock:
            if step == "alarm":
                self._alarms.append(event["message"])
            elif step in ("register", "compile", "jobs", "done", "failed"):
                self._message = event["message"]
                self._finished[step] += 1
                self._failed |= {event["fov"]} if step == "failed" else set()
            else:
                self._frames[step, event["fov"]] = event["frame"]

    def end(self) -> None:
        """Stop the clock, at the end of the run."""
        self._ended = self._clock()

    def now(self) -> RunProgress:
        """Progress at this moment."""
        with self._lock:
            done = Counter[Step]()
            for (step, _), frames in self._frames.items():
                done[step] += frames
            return RunProgress(
                fovs=self._fovs,
                fovs_done=self._finished["done"],
                fovs_failed=self._finished["failed"],
                steps={step: (done[step], sum(of.values())) for step, of in self._totals.items()},
                dropped=sum(
                    of.get(fov, 0) - self._frames[step, fov]
                    for step, of in self._totals.items()
                    for fov in self._failed
                ),
                seconds=(self._ended or self._clock()) - self._begun if self._begun else 0.0,
                dashboard=self._dashboard,
                message=self._message,
                alarms=tuple(self._alarms),
            )


@dataclass(frozen=True, repr=False)
class MoviesProgress(RunProgress):
    """Progress of the runs of several movies; FOVs and frames are those of all movies that have begun."""

    movies: Mapping[str, RunProgress] = field(default_factory=dict)
    """Progress of each movie at work, by the name of its output."""
    ended: int = 0
    """Number of movies whose runs have ended or were refused."""
    count: int = 1
    """Number of all movies."""

    @property
    def share(self) -> float:
        """Share of the work that is done, from 0 to 1; each movie counts the same."""
        return (self.ended + sum(movie.share for movie in self.movies.values())) / self.count

    @property
    def left(self) -> float | None:
        """Remaining time in seconds, at the pace so far; None before the first step of a FOV ends."""
        return self.seconds * (1 / self.share - 1) if self.share else None

    def __str__(self) -> str:
        return f"{self.ended} of {self.count} movies ended, {super().__str__()}"


class MoviesTally:
    """Counts the events of the runs of several movies, which may come from any thread.

    Parameters
    ----------
    count
        Number of movies.
    clock
        Monotonic clock in seconds.
    """

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._tallies, self._over = dict[str, Tally](), set[str]()
        self._last, self._begun, self._end = "", 0.0, 0.0

    def start(self, plan: Plan, dashboard: str | None) -> None:
        """Take the plan of what is left of a movie."""
        self._begun = self._begun or self._clock()
        self._of(plan.job.output.name).start(plan, dashboard)

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one progress event, which names its movie."""
        self._last = event["movie"]
        if event["step"] == "movie":
            self._over.add(event["movie"])
        else:
            self._of(event["movie"]).event(event)

    def end(self) -> None:
        """Stop the clock, at the end of all runs."""
        self._end = self._clock()

    def now(self) -> MoviesProgress:
        """Progress at this moment."""
        found = {name: tally.now() for name, tally in sorted(self._tallies.items())}
        steps: dict[Step, tuple[int, int]] = {}
        for step, (done, total) in (item for of in found.values() for item in of.steps.items()):
            before = steps.get(step, (0, 0))
            steps[step] = before[0] + done, before[1] + total
        last = found[self._last].message if self._last in found else ""
        return MoviesProgress(
            fovs=sum(of.fovs for of in found.values()),
            fovs_done=sum(of.fovs_done for of in found.values()),
            fovs_failed=sum(of.fovs_failed for of in found.values()),
            steps=steps,
            dropped=sum(of.dropped for of in found.values()),
            seconds=(self._end or self._clock()) - self._begun if self._begun else 0.0,
            dashboard=next((of.dashboard for of in found.values() if of.dashboard), None),
            message=f"{self._last}: {last}" if last else "",
            alarms=tuple(f"{name}: {alarm}" for name, of in found.items() for alarm in of.alarms),
            movies={name: of for name, of in found.items() if name not in self._over},
            ended=len(self._over),
            count=self._count,
        )

    def _of(self, movie: str) -> Tally:
        return self._tallies.setdefault(movie, Tally(self._clock))


def frames_of(tasks: Iterable[Task], step: Step, graph: Graph) -> int:
    """Number of frames that a step processes in some tasks."""
    last = (task for task in tasks if task.kind == graph.completes[step] and step in task.digests)
    return sum(task.stop - task.start for task in last)
