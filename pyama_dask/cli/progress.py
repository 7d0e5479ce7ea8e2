"""Progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pyama_dask.cli.phases import describe_phases, in_phase, results_of_pipelines
from pyama_dask.config.units import duration, many, printable
from pyama_dask.launch import PAGE
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.plan_text import MANY, describe_replaced
from pyama_dask.runs.progress import RunProgress, Tally
from pyama_dask.runs.status import RunReport
from pyama_dask.steps.standard import label_of

SELDOM = 30.0
"""Seconds between lines about queued jobs when there are no bars."""


class RunDisplay:
    """Shows what a run does; give its `options` to `pyama_dask.run`.

    Parameters
    ----------
    console
        Output: bars on a terminal, otherwise one line per FOV.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._plain = not console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[rate]}"), console=console,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._tally = Tally()
        self._jobs_shown = -SELDOM
        self._planned: tuple[Plan, Metadata] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._bars.stop()

    @property
    def options(self) -> dict[str, Any]:
        """Callbacks for `pyama_dask.run`."""
        return {"progress": self.event, "on_start": self.start, "approve": self.planned}

    def planned(self, plan: Plan, metadata: Metadata) -> None:
        """Take the plan of the whole run; if it has pipelines, print what is there and what they do."""
        self._planned = plan, metadata
        for line in describe_phases(plan, metadata):
            self._say(line)

    def results(self, report: RunReport) -> list[str]:
        """Result of each well, as lines; none without pipelines."""
        return results_of_pipelines(report, self._planned)

    def start(self, plan: Plan, dashboard: str | None) -> None:
        """Print the size of the run, the results that it replaces, and what may be wrong while a stop costs nothing."""
        self._tally.start(plan, dashboard)
        begun = self._tally.now()
        where = f", dashboard at {with_run_page(dashboard, plan)}" if dashboard else ""
        counts = ", ".join(
            many(n, what)
            for n, what in ((begun.fovs, "FOV"), (len(plan.job.frames), "frame"), (len(plan.tasks), "task"))
        )
        for line in in_phase("execute", [counts + where]) if plan.job.config.pipelines else [counts + where]:
            self._say(line)
        for line in describe_replaced(plan):
            self._say(f"Replaces {line}")
        for warning in plan.warnings[:MANY]:
            self._say(f"warning: {warning}")
        if self._plain:
            return
        self._tasks["fovs"] = self._bars.add_task("FOVs", total=begun.fovs, unit="FOVs", rate="")
        for step, (_, frames) in begun.steps.items():
            self._tasks[step] = self._bars.add_task(label_of(step), total=frames, unit="frames", rate="")
        self._bars.start()

    def _say(self, text: str) -> None:
        """Print a line without wrapping, so that it can be copied; control characters are escaped."""
        self._console.print(printable(text), markup=False, soft_wrap=True)

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one progress event."""
        self._tally.event(event)
        step = event["step"]
        if step == "alarm":
            self._say(f"ALARM: {event['message']}")
            return
        if step == "register":
            self._show_registered(event)
            return
        if step == "compile":
            self._console.print(event["message"], markup=False, soft_wrap=True)
            return
        if step == "jobs":
            self._show_jobs(str(event["message"]))
            return
        now = self._tally.now()
        if step in ("done", "failed"):
            ended = now.fovs_done + now.fovs_failed
            if self._plain or step == "failed":
                self._say(f"[{ended}/{now.fovs}] {event['message']} ({_pace(now)})")
            if not self._plain:
                self._bars.update(self._tasks["fovs"], completed=ended)
        elif step in self._tasks:
            self._bars.update(self._tasks[step], completed=now.steps[step][0])
            self._bars.update(self._tasks["fovs"], rate=f"{now.rate:.1f} frames/s")

    def _show_registered(self, event: Mapping[str, Any]) -> None:
        """Show how many wells are registered, before the plan is made; without bars, that it begins."""
        if self._plain:
            if not event["frame"]:
                self._say(event["message"])
            return
        if "register" not in self._tasks:
            self._tasks["register"] = self._bars.add_task("registration", total=event["total"], unit="wells", rate="")
            self._bars.start()
        self._bars.update(self._tasks["register"], completed=event["frame"])

    def _show_jobs(self, status: str) -> None:
        """Show the state of the queued jobs; in a log at most every `SELDOM` seconds, unless there is trouble."""
        if not self._plain:
            if "jobs" not in self._tasks:
                self._tasks["jobs"] = self._bars.add_task("jobs", total=None, unit="", rate="")
            self._bars.update(self._tasks["jobs"], rate=escape(printable(status.removeprefix("jobs: "))))
        elif ";" in status or time.monotonic() - self._jobs_shown > SELDOM:
            self._jobs_shown = time.monotonic()
            self._say(status)


def _pace(now: RunProgress) -> str:
    """Frames per second, failed FOVs, and the remaining time at the pace so far."""
    failed = f", {many(now.fovs_failed, 'FOV')} failed" if now.fovs_failed else ""
    left = "" if now.left is None else f", {duration(now.left)} left"
    return f"{now.rate:.1f} frames/s{failed}{left}"


def with_run_page(dashboard: str, plan: Plan) -> str:
    """Address of the dashboard, and that of its page of the whole run if the run has started the scheduler."""
    if plan.job.config.cluster.kind == "address":
        return dashboard
    address, *more = dashboard.split("\n")
    return "\n".join([f"{address}, page of the run at {address.rpartition('/')[0]}/{PAGE}", *more])


class FitDisplay:
    """Shows the number of fitted cells; give its `event` to `fit_traces` as progress.

    Parameters
    ----------
    console
        Output; unless it is a terminal, it is only told that the model is compiled.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("Fitting"), BarColumn(), MofNCompleteColumn(), TextColumn("cells"), TimeElapsedColumn(),
            TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("fit", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one progress event."""
        if event["step"] == "compile":
            self._bar.console.print(event["message"], markup=False, soft_wrap=True)
            return
        self._bar.update(self._task, completed=event["frame"], total=event["total"])
