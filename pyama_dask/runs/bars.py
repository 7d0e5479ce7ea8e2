"""Bars of a run in a Jupyter notebook: one output of a cell that is replaced as the run proceeds, without widgets."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self

from pyama_dask.config.units import duration, many
from pyama_dask.errors import ConfigError
from pyama_dask.execute.events import Progress
from pyama_dask.files.html import text
from pyama_dask.files.palette import SERIES
from pyama_dask.plan.plan import Plan
from pyama_dask.runs.progress import MoviesProgress, MoviesTally, RunProgress, Tally
from pyama_dask.steps.standard import label_of

OnStart = Callable[[Plan, str | None], None]

REFRESH = 0.5
"""Seconds between looks at the progress. Notebooks get slow if an output is replaced more often."""
FILL, FAILED = SERIES[0], SERIES[5]
"""Colours of bars, and of failures and alarms."""


def in_notebook() -> bool:
    """True in the kernel of a notebook, False in IPython on a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(of.__name__ == "ZMQInteractiveShell" for of in type(shell).__mro__)


def check_progress(progress: object) -> None:
    """Refuse a value for `progress` that could not show events; raises `ConfigError`."""
    if progress is not None and progress is not False and not callable(progress):
        raise ConfigError(
            f"progress: must be a function that takes an event, False for no display, or None, not {progress!r}. "
            "Fix: pass a function, or leave it out"
        )


@contextmanager
def shown_in_notebook(
    progress: Progress | Literal[False] | None, on_start: OnStart | None, tally: Tally | MoviesTally | None = None
) -> Iterator[tuple[Progress | None, OnStart | None]]:
    """Show bars for the block if it runs in a notebook and the caller has no display.

    Parameters
    ----------
    progress
        The caller's display of events; None for bars in a notebook, False for none.
    on_start
        Called by the run with its plan.
    tally
        What counts the events; None for that of one movie.

    Yields
    ------
    Progress and on_start to give to the run.

    Raises
    ------
    ConfigError
        If `progress` is anything else.
    """
    check_progress(progress)
    if progress is not None or not in_notebook():
        yield progress or None, on_start
        return
    counts = tally or Tally()

    def start(plan: Plan, dashboard: str | None) -> None:
        counts.start(plan, dashboard)
        if on_start:
            on_start(plan, dashboard)

    with Bars(counts):
        yield counts.event, start


class Bars:
    """Output of a notebook cell with the bars of a run; use it as a context manager.

    Parameters
    ----------
    tally
        Progress to show.
    """

    def __init__(self, tally: Tally | MoviesTally) -> None:
        self._tally, self._over, self._shown = tally, threading.Event(), ""
        self._thread = threading.Thread(target=self._keep, name="pyama-bars", daemon=True)

    def __enter__(self) -> Self:
        from IPython.display import display  # noqa: PLC0415  (installed wherever there is a kernel)

        self._output: Any = display(_html(bars_html(self._tally.now())), display_id=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._tally.end()
        progress = self._tally.now()
        unbegun = "not begun" if kind else "nothing left to do"
        self.end(bars_html(progress) if progress.steps else f"<div>{unbegun}</div>")

    def end(self, last: str) -> None:
        """Show HTML that stays; called once, at the end of the run."""
        self._over.set()
        self._thread.join()
        self._show(last)

    def _keep(self) -> None:
        while not self._over.wait(REFRESH):
            self._show(bars_html(self._tally.now()))

    def _show(self, shown: str) -> None:
        if shown != self._shown:
            with suppress(Exception):  # the kernel is about to end; the run is not to fail
                # in no context, the message belongs to the cell that is executed now, and saved notebooks keep it
                contextvars.Context().run(self._output.update, _html(shown))
            self._shown = shown


def _html(shown: str) -> Any:
    from IPython.display import HTML  # noqa: PLC0415

    return HTML(shown)


def bars_html(progress: RunProgress) -> str:
    """Bars of all steps, with time and rate above them, and messages below."""
    if not progress.steps:
        return f"<div>{text(progress.message or 'Planning')}</div>"
    rows = [("movies", progress.ended, progress.count)] if isinstance(progress, MoviesProgress) else []
    rows += [("FOVs", progress.fovs_done + progress.fovs_failed, progress.fovs)]
    rows += [(label_of(step), *frames) for step, frames in progress.steps.items()]
    bars = "".join(_row(label, done, total) for label, done, total in rows)
    notes = [f'<div style="color:{FAILED}">{text(alarm)}</div>' for alarm in progress.alarms[-1:]]
    notes += [f'<div style="opacity:0.75">{text(progress.message)}</div>'] if progress.message else []
    return f'<div>{_headline(progress)}</div><div style="max-width:44em">{bars}</div>{"".join(notes)}'


def _headline(progress: RunProgress) -> str:
    words = [f"{progress.fovs_done} of {many(progress.fovs, 'FOV')}"]
    if progress.fovs_failed:
        words.append(f'<span style="color:{FAILED}">{progress.fovs_failed} failed</span>')
    words += [duration(progress.seconds), f"{progress.rate:.1f} frames/s"]
    if progress.left:
        words.append(f"about {duration(progress.left)} left")
    if progress.dashboard:
        link, *more = (text(line) for line in progress.dashboard.splitlines())
        words.append(f'<a href="{link}" target="_blank">dashboard</a>{"".join(f" ({line})" for line in more)}')
    return " · ".join(words)


def _row(label: str, done: int, total: int) -> str:
    share = done / total if total else 0
    fill = f'<div style="width:{share:.1%};height:100%;background:{FILL}"></div>'
    bar = f'<div style="flex:1;height:0.6em;border:1px solid {FILL};border-radius:2px">{fill}</div>'
    name = f'<div style="width:9em">{text(label)}</div>'
    count = f'<div style="width:7em;text-align:right">{done} / {total}</div>'
    return f'<div style="display:flex;align-items:center;gap:0.6em">{name}{bar}{count}</div>'
