"""A run as a page of the dashboard: it shows the whole plan, and updates itself."""

from __future__ import annotations

import time
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, Template

from pyama_dask.config.units import duration, many
from pyama_dask.errors import PyamaError
from pyama_dask.runs.live import LiveRun
from pyama_dask.runs.live_words import speed_text, state_text
from pyama_dask.runs.snapshot import Snapshot, cells_of

KEPT_FOR, SHARE = 1.0, 0.05
"""Seconds for which a page is kept, and the largest share of the time that making pages may take."""
EVERY = 2.0
"""Seconds between updates in the browser."""
MOST_CELLS = 2000
"""Cells of the grid of FOVs."""
MOST_LINES = 30
"""Rows of a table."""


class LivePage:
    """Page of a run, which is kept for a second, however often it is asked for.

    Parameters
    ----------
    output
        Output directory.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._run: LiveRun | None = None
        self._html, self._until = "", 0.0

    def __call__(self) -> str:
        """HTML of the page."""
        begun = time.monotonic()
        if begun >= self._until:
            self._html = self._make()
            ended = time.monotonic()
            self._until = ended + max(KEPT_FOR, (ended - begun) / SHARE)
        return self._html

    def _make(self) -> str:
        try:
            self._run = self._run or LiveRun(self._output)
            return render(self._run.snapshot())
        except PyamaError as error:
            return _template().render(problem=str(error), title=self._output.name, every=EVERY)


def render(snapshot: Snapshot) -> str:
    """Page of a snapshot, as one HTML document that loads nothing."""
    share = snapshot.tasks_done / snapshot.tasks if snapshot.tasks else 0.0
    return _template().render(
        run=snapshot, title=snapshot.output.name, share=share, every=EVERY, state=state_text(snapshot),
        speed=speed_text(snapshot), cells=cells_of(snapshot.fovs, MOST_CELLS), most=MOST_LINES,
        busiest=sorted(snapshot.workers, key=lambda worker: -worker.last)[:MOST_LINES], duration=duration, many=many,
    )  # fmt: skip


@cache
def _template() -> Template:
    source = files("pyama_dask.runs").joinpath("templates/live.html").read_text("utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
