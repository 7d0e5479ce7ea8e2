"""Runs of several movies on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from pyama_dask.cli.app import check_threads, say
from pyama_dask.cli.movies_display import MoviesDisplay
from pyama_dask.cli.signals import cancelled_by_signals
from pyama_dask.cli.text import describe_report
from pyama_dask.config.models import Config
from pyama_dask.config.units import many
from pyama_dask.files.streams import unfailing
from pyama_dask.launch import join_allocation
from pyama_dask.runs.movies import MovieRun, MoviesReport, reported, run_several
from pyama_dask.runs.several import with_failures
from pyama_dask.workflow.task import WORK


def run_all(configs: Sequence[Config], options: Mapping[str, Any]) -> int:
    """Run several movies with one display, and print their reports and a summary.

    Parameters
    ----------
    configs
        One per movie.
    options
        As for `pyama_dask.run`.

    Returns
    -------
    Exit status.
    """
    check_threads()
    # in a scheduler or worker process this call does not return
    join_allocation(configs[0].cluster, configs[0].output.absolute().parent / WORK)
    chosen = with_failures(configs) if options["retry_failed"] else configs
    ended: list[MovieRun] = []
    with unfailing():
        with cancelled_by_signals() as cancel, MoviesDisplay(Console(stderr=True), len(chosen)) as display:
            for one in run_several(chosen, display.of_movie, cancel, **options):
                ended.append(one)
                display.ended(one.name, one.fault or "complete")
        report = reported(ended)
        for one in ended:
            if one.report:
                wells = [] if options.get("steps") else display.results(one.name, one.report)
                say(f"{one.config.input.path}\n{describe_report(one.report, wells)}\n")
        say(describe_several(report))
    return report.exit_status


def describe_several(report: MoviesReport) -> str:
    """One line for all movies, one for each that is not complete, and the page."""
    lines = [f"  {one.config.input.path.name}: {one.fault}" for one in report.movies if one.fault]
    complete = len(report.movies) - len(lines)
    page = [f"Report: {report.page}"] if report.page else []
    counts = f"{complete} complete, {len(lines)} not" if lines else "all complete"
    return "\n".join([*page, f"{many(len(report.movies), 'movie')}: {counts}", *lines])
