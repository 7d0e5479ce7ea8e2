"""Runs of one movie or several; several are on the same workers, which are never without work at the joints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from pyama_dask.config.load import given_document, parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.several import names_several
from pyama_dask.config.units import many
from pyama_dask.errors import ClusterError, DiskError, PyamaError
from pyama_dask.execute.events import Progress
from pyama_dask.execute.turns import Turns
from pyama_dask.files.html import InTables
from pyama_dask.files.threads import Threads
from pyama_dask.launch import existing_client
from pyama_dask.runs import driver
from pyama_dask.runs.bars import OnStart, check_progress, shown_in_notebook
from pyama_dask.runs.final_page import write_index
from pyama_dask.runs.progress import MoviesTally
from pyama_dask.runs.refused import note_refused
from pyama_dask.runs.run_workers import SharedPool
from pyama_dask.runs.several import configs_of, with_failures
from pyama_dask.runs.status import RunReport
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import WORK

GLANCE = 0.1
"""Seconds between looks whether a run has ended, or the next may begin."""
AHEAD = 2
"""Runs that are planned before it is their turn."""
Display = Callable[[Config, int], AbstractContextManager[Mapping[str, Any]]]
"""Makes the display of a run from its config and its number: it yields callbacks for `driver.run`."""


@dataclass(frozen=True)
class MovieRun:
    """End of the run of one movie among several."""

    config: Config
    report: RunReport | None = None
    """None if the run was refused, or another one had ended all before it began."""
    error: PyamaError | None = None
    """Reason why it was refused."""

    @property
    def name(self) -> str:
        """Name of the movie: that of the folder of its output."""
        return self.config.output.name

    @property
    def output(self) -> Path:
        """Directory of the results."""
        return self.config.output

    @property
    def ends_all(self) -> bool:
        """True if no other run can go well: cancelled, disk full, or no workers."""
        if self.report is not None:
            return self.report.cancelled or self.report.stopped is not None
        return isinstance(self.error, ClusterError | DiskError)

    @property
    def fault(self) -> str:
        """Reason why the movie is not complete; '' if it is."""
        if self.error:
            return f"refused: {self.error}"
        if self.report is None:
            return "not begun"
        if self.report.stopped:
            return f"stopped: {self.report.stopped}"
        if self.report.cancelled:
            return "cancelled"
        return f"{many(len(self.report.failed), 'FOV')} failed" if self.report.failed else ""


@dataclass(frozen=True, repr=False)
class MoviesReport(InTables):
    """Results of the runs of several movies."""

    movies: tuple[MovieRun, ...]
    page: Path | None = None
    """HTML page with a row per movie, in the folder above the outputs; None if it was not written."""

    def __getitem__(self, name: str) -> MovieRun:
        """Run of a movie, by the name of its output, or KeyError."""
        return {one.name: one for one in self.movies}[name]

    @property
    def exit_status(self) -> int:
        """0 all complete, 2 all refused, 3 some failed, 4 stopped, 130 cancelled."""
        return exit_status(self.movies)

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]  # here, derived from those of the runs
        """Warnings of all runs, after the name of the movie."""
        runs = [(one.name, one.report) for one in self.movies if one.report is not None]
        return tuple(f"{name}: {warning}" for name, report in runs for warning in report.warnings)

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        rows = [(one.name, one.fault or "complete", *_counts(one)) for one in self.movies]
        complete = sum(not one.fault for one in self.movies)
        return f"{complete} of {many(len(rows), 'movie')} complete", ("movie", "state", "FOVs done", "cells"), rows


def _counts(one: MovieRun) -> tuple[object, object]:
    """FOVs that are done, and cells, of a movie."""
    if one.report is None:
        return "", ""
    fovs = one.report.fovs
    return f"{sum(fov.status == 'done' for fov in fovs)} of {len(fovs)}", sum(fov.cells or 0 for fov in fovs)


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    client: Client | None = None,
    progress: Progress | Literal[False] | None = None,
    cancel: threading.Event | None = None,
    steps: Sequence[Step] | None = None,
    force: Sequence[Step] = (),
    retry_failed: bool = False,
    extend: bool = False,
    into: bool = False,
    on_start: OnStart | None = None,
) -> RunReport | MoviesReport:
    """Process a movie, or several, as configured; results that are recorded as done in the output are kept.

    Parameters
    ----------
    config
        A config, a mapping with its keys, or the path of a YAML file. Its ``input`` may name several movies, as a list
        or a glob: each gets its own output below ``output``.
    client
        Dask client to run on, instead of the one that ``cluster`` describes.
    progress
        Called with a dict ``step, fov, frame, total, message`` after each finished step. ``step`` is a step of the
        FOV, or ``done`` or ``failed`` at the end of a FOV. Without a FOV (-1), it is ``jobs`` when the status of the
        jobs of a queue changes, ``alarm`` when no task ends for long, ``compile`` when the kernels are compiled, and
        before the plan is made ``register``, whose ``frame`` and ``total`` count wells that are registered.
        It is called in a thread, one event after the other. While it is quick, the run waits for it; a slow one does
        not delay the run, and gets only the latest event of each step and FOV. An exception in it ends the run.
        None shows bars in a Jupyter notebook, False shows nothing. Of several movies, each event has ``movie``, too,
        the name of its output, and comes in the thread of the movie; at the end of each comes an event with the step
        ``movie``, how the movie has ended as message, and in ``frame`` and ``total`` how many have ended.
    cancel
        Set it to end the run early; the next run resumes it.
    steps
        Steps to do; the steps that they need must be done. None for all.
    force
        Steps to regenerate, with everything derived from them.
    retry_failed
        True to process only the FOVs that failed.
    extend
        True to accept a movie that has more frames than when the output was begun; see `runs.extend`.
    into
        True to begin an output in a directory that holds other files; these stay as they are.
    on_start
        Called with the plan of what is left and the dashboard's address before the first task, of each movie.

    Returns
    -------
    Report of the run; of several movies, a report with one of each. A movie that is refused or fails harms no other.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError
        If the run is refused; nothing was written.
    """
    check_progress(progress)
    return run_given(
        given_configs(config, retry_failed=retry_failed), client=client, progress=progress, cancel=cancel,
        on_start=on_start, steps=steps, force=force, retry_failed=retry_failed, extend=extend, into=into,
    )  # fmt: skip


def given_configs(
    config: Config | Mapping[str, Any] | str | Path, *, retry_failed: bool = False
) -> Config | list[Config]:
    """Config of one movie, or those of several; with `retry_failed` only of movies with FOVs that failed.

    Raises
    ------
    ConfigError, OutputError, PlanError
        As for `configs_of` and `with_failures`.
    """
    if isinstance(config, Config):
        return config
    document, source = given_document(config)
    if not names_several(document.get("input")):
        return parse_config(document, source)
    configs = configs_of(document, source)
    return with_failures(configs) if retry_failed else configs


def run_given(
    configs: Config | list[Config], *, progress: Progress | Literal[False] | None, cancel: threading.Event | None,
    on_start: OnStart | None, **options: Any,
) -> RunReport | MoviesReport:  # fmt: skip
    """Process the movies of `given_configs`; parameters as for `run`."""
    if isinstance(configs, Config):
        return driver.run(configs, progress=progress, cancel=cancel, on_start=on_start, **options)
    with shown_in_notebook(progress, on_start, MoviesTally(len(configs))) as (events, begins):

        def display(one: Config, _: int) -> AbstractContextManager[Mapping[str, Any]]:
            named = _naming(events, one.output.name) if events else False
            return nullcontext({"progress": named, "on_start": begins})

        ended: list[MovieRun] = []
        for one in run_several(configs, display, cancel or threading.Event(), **options):
            ended.append(one)
            if events:
                events({
                    "step": "movie", "fov": -1, "frame": len(ended), "total": len(configs),
                    "message": one.fault or "complete", "movie": one.name,
                })  # fmt: skip
        return reported(ended)


def _naming(progress: Progress, movie: str) -> Progress:
    """Callback that adds the name of the movie to each event."""
    return lambda event: progress(event | {"movie": movie})


def reported(ended: Sequence[MovieRun]) -> MoviesReport:
    """Report of several runs, with the page of all their outputs."""
    begun = any(one.report is not None for one in ended)
    cancelled = any(one.report is not None and one.report.cancelled for one in ended)
    folder = ended[0].output.parent
    if begun:
        note_refused(folder, {one.name: one.fault if one.error else "" for one in ended})
    return MoviesReport(tuple(ended), write_index(folder) if begun and not cancelled else None)


def run_several(
    configs: Sequence[Config], display: Display, cancel: threading.Event, client: Client | None = None, **options: Any
) -> Iterator[MovieRun]:
    """Run several movies on the same workers; one that is refused or fails harms no other.

    Workers start once and serve all; runs on a given scheduler or allocation share that. They take the FOVs of one
    movie after the other. Each run has a separate thread, and begins when the one before is planned, as long as no more
    than two are ahead of their turn: so it is planned by the time when workers would be without work. Without workers,
    each waits for the one before.

    Parameters
    ----------
    configs
        From `configs_of`; they differ in input and output only.
    display
        Display of each run; it is used in the thread of the run.
    cancel
        Set it to end the runs at work early, and to begin no other.
    client
        Dask client to run on, instead of the one that the configs describe.
    options
        As for `driver.run`.

    Yields
    ------
    The end of each run, in order; also of those that did not begin.

    Raises
    ------
    ConfigError
        If the scheduler of the config does not answer.
    """
    cluster, work = configs[0].cluster, configs[0].output.absolute().parent / WORK
    with (
        existing_client(cluster, work, client) as existing, SharedPool(cluster, work) as pool,
        Threads(len(configs), "pyama-movie") as threads,
    ):  # fmt: skip
        shared = {"client": existing, "pool": pool, "cancel": cancel, **options}
        together = _Together(configs, display, threads, shared)
        try:
            yield from map(together.ended, range(len(configs)))
        except BaseException:
            cancel.set()  # the threads must end
            raise


class _Together:
    """Runs in threads, which begin in their order."""

    def __init__(
        self, configs: Sequence[Config], display: Display, threads: Threads, options: Mapping[str, Any]
    ) -> None:
        self._configs, self._display, self._threads, self._options = configs, display, threads, options
        self._turns, self._begun = Turns(), list[Future[MovieRun]]()
        self._overlap = configs[0].cluster.kind != "serial"

    def ended(self, number: int) -> MovieRun:
        """Wait for the end of a run, and begin others meanwhile; at once for one that does not begin."""
        while number == len(self._begun) or not self._begun[number].done():
            if self._may_begin():
                self._begun.append(self._threads.submit(copy_context().run, self._run, len(self._begun)))
            elif number == len(self._begun):
                return MovieRun(self._configs[number])
            else:
                wait([self._begun[number]], timeout=GLANCE)
        return self._begun[number].result()

    def _may_begin(self) -> bool:
        """True if the next run may begin: the one before is planned or over, few are ahead, and none has ended all."""
        count, cancel = len(self._begun), self._options["cancel"]
        if not count or count == len(self._configs):
            return not count
        if cancel.is_set() or any(one.exception() or one.result().ends_all for one in self._begun if one.done()):
            return False
        is_planned = self._overlap and self._turns.has_begun(count - 1)
        return (self._begun[-1].done() or is_planned) and self._turns.waiting(count) <= AHEAD

    def _run(self, number: int) -> MovieRun:
        config, turn = self._configs[number], self._turns.turn(number)
        try:
            with self._display(config, number) as shown:
                return MovieRun(config, driver.run(config, turn=turn, **shown, **self._options))
        except PyamaError as error:
            return MovieRun(config, error=error)
        finally:
            turn.pass_on()


def exit_status(ended: Sequence[MovieRun]) -> int:
    """Exit status of several runs: 0 all complete, 2 all refused, 3 some failed, 4 stopped, 130 cancelled."""
    found = {2 if one.report is None else one.report.exit_status for one in ended}
    if 130 in found:
        return 130
    if 4 in found or any(one.ends_all for one in ended):
        return 4
    return found.pop() if len(found) == 1 else 3
