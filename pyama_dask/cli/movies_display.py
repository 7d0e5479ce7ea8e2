"""Display of several movies that are processed together: a bar for each one at work, and one for all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pyama_dask.cli.phases import results_of_pipelines
from pyama_dask.cli.progress import with_run_page
from pyama_dask.config.models import Config
from pyama_dask.config.units import many, printable
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.plan_text import MANY, describe_replaced
from pyama_dask.runs.progress import Tally
from pyama_dask.runs.status import RunReport

SAID = ("register", "compile", "jobs", "alarm")
"""Subjects of events that become lines."""


class MoviesDisplay:
    """Shows the events of several movies, whose runs are in different threads.

    Parameters
    ----------
    console
        Output: bars on a terminal, otherwise one line per FOV.
    count
        Number of movies.
    """

    def __init__(self, console: Console, count: int) -> None:
        self._console, self._count, self._lock = console, count, threading.RLock()
        self._bars = Progress(
            TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[words]}"), TimeElapsedColumn(), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal, redirect_stdout=False,
        )  # fmt: skip
        self._all = self._bars.add_task("all movies", total=count, words="")
        self._rows: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._planned: dict[str, tuple[Plan, Metadata]] = {}
        self._ended = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def of_movie(self, config: Config, number: int) -> Iterator[Mapping[str, Any]]:
        """Yield callbacks for the run of a movie."""
        name, tally = config.output.name, Tally()
        self._say(f"Movie {number + 1} of {self._count}: {config.input.path}")

        def start(plan: Plan, dashboard: str | None) -> None:
            tally.start(plan, dashboard)
            self._start(name, plan, dashboard)

        def event(of: Mapping[str, Any]) -> None:
            tally.event(of)
            self._event(name, of, tally)

        def planned(plan: Plan, metadata: Metadata) -> None:
            self._planned[name] = plan, metadata

        yield {"progress": event, "on_start": start, "approve": planned}

    def results(self, name: str, report: RunReport) -> list[str]:
        """Result of each well of a movie, as lines; none without pipelines."""
        return results_of_pipelines(report, self._planned.get(name))

    def ended(self, name: str, how: str) -> None:
        """Note the end of a movie."""
        with self._lock:
            self._shares[name] = 1.0
            self._ended += 1
            if name in self._rows:
                self._bars.remove_task(self._rows.pop(name))
            self._show_all()
        self._say(f"{name}: {how}")

    def _start(self, name: str, plan: Plan, dashboard: str | None) -> None:
        """Show the size of a run, and what may be wrong while a stop costs nothing."""
        where = f", dashboard at {with_run_page(dashboard, plan)}" if dashboard else ""
        fovs = many(sum(bool(fov.tasks) for fov in plan.fovs), "FOV")
        counts = f"{fovs}, {many(len(plan.job.frames), 'frame')}, {many(len(plan.tasks), 'task')}"
        self._say(f"{name}: {counts}{where}")
        for line in describe_replaced(plan):
            self._say(f"{name}: replaces {line}")
        for warning in plan.warnings[:MANY]:
            self._say(f"{name}: warning: {warning}")
        with self._lock:
            self._rows[name] = self._bars.add_task(escape(printable(name)), total=1.0, words="")

    def _event(self, name: str, event: Mapping[str, Any], tally: Tally) -> None:
        now = tally.now()
        step = event["step"]
        if step in SAID and event["message"] != self._last.get(name):
            self._last[name] = event["message"]
            self._say(f"{name}: {'ALARM: ' if step == 'alarm' else ''}{event['message']}")
        if step == "failed" or (step == "done" and not self._console.is_terminal):
            self._say(f"{name}: [{now.fovs_done + now.fovs_failed}/{now.fovs}] {event['message']}")
        with self._lock:
            if name in self._rows:
                failed = f", {now.fovs_failed} failed" if now.fovs_failed else ""
                words = f"{now.fovs_done} of {now.fovs} FOVs{failed}, {now.rate:.1f} frames/s"
                self._bars.update(self._rows[name], completed=now.share, words=words)
                self._shares[name] = now.share
                self._show_all()

    def _show_all(self) -> None:
        words = f"{self._ended} of {many(self._count, 'movie')}"
        self._bars.update(self._all, completed=sum(self._shares.values()), words=words)

    def _say(self, text: str) -> None:
        """Print a line without wrapping, so that it can be copied; control characters are escaped."""
        self._console.print(printable(text), markup=False, soft_wrap=True)
