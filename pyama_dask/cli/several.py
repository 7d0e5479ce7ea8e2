"""Runs of several movies on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from pyama_dask.cli.app import check_threads, say
from pyama_dask.cli.progress import RunDisplay
from pyama_dask.cli.signals import cancelled_by_signals
from pyama_dask.cli.text import describe_report
from pyama_dask.config.models import Config
from pyama_dask.config.units import many
from pyama_dask.files.streams import unfailing
from pyama_dask.launch import join_allocation
from pyama_dask.runs.several import MovieRun, exit_status, run_several, with_failures
from pyama_dask.workflow.task import WORK


def run_all(configs: Sequence[Config], options: Mapping[str, Any]) -> int:
    """Run several movies with a progress display for each, and print their reports and a summary.

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

    shown = list[RunDisplay]()

    @contextmanager
    def display(config: Config, number: int) -> Iterator[Mapping[str, Any]]:
        say(f"Movie {number + 1} of {len(chosen)}: {config.input.path}")
        with RunDisplay(Console(stderr=True)) as now:
            shown.append(now)
            yield now.options

    ended: list[MovieRun] = []
    with unfailing():
        with cancelled_by_signals() as cancel:
            for one in run_several(chosen, display, cancel, **options):
                ended.append(one)
                if one.report:
                    wells = [] if options["steps"] else shown[-1].results(one.report)
                    say(f"{describe_report(one.report, wells)}\n")
                elif one.error:
                    say(f"refused: {one.error}\n")
        say(describe_several(ended))
    return exit_status(ended)


def describe_several(ended: Sequence[MovieRun]) -> str:
    """One line for all movies, and one for each that is not complete."""
    lines = [f"  {one.config.input.path.name}: {state}" for one in ended if (state := _fault(one))]
    complete = len(ended) - len(lines)
    return "\n".join([f"{many(len(ended), 'movie')}: {complete} complete, {len(lines)} not", *lines])


def _fault(one: MovieRun) -> str:
    """Reason why a movie is not complete; '' if it is."""
    if one.error:
        return f"refused: {one.error}"
    if one.report is None:
        return "not begun"
    if one.report.stopped:
        return f"stopped: {one.report.stopped}"
    if one.report.cancelled:
        return "cancelled"
    return f"{many(len(one.report.failed), 'FOV')} failed" if one.report.failed else ""
