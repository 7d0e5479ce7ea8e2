"""Runs as a page of the dashboard: it shows their whole plans, and updates itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template

from pyama_dask.config.units import duration, many
from pyama_dask.errors import PyamaError
from pyama_dask.runs.live import LiveRuns
from pyama_dask.runs.live_words import brief_text, speed_text, state_text
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
    """Page of a run or of several, which is kept for a second, however often it is asked for.

    Parameters
    ----------
    output
        Output directory, or the folder above several.
    """

    def __init__(self, output: Path) -> None:
        self._runs = LiveRuns(output)
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
            snapshots = self._runs.snapshots()
        except PyamaError as error:
            return _template().render(problem=str(error), title=self._runs.output.name, **_COMMON)
        return render_all(snapshots, self._runs.output.name) if self._runs.are_several else render(snapshots[0])


def render(snapshot: Snapshot) -> str:
    """Page of a run, as one HTML document that loads nothing."""
    return _template().render(title=snapshot.output.name, runs=[_shown(snapshot)], **_COMMON)


def render_all(snapshots: Sequence[Snapshot], title: str) -> str:
    """Page of several runs: a row for each, then those at work in full."""
    at_work = [_shown(one) for one in snapshots if one.is_active]
    return _template().render(title=title, movies=snapshots, runs=at_work, **_COMMON)


_COMMON = {"every": EVERY, "most": MOST_LINES, "duration": duration, "many": many, "brief_text": brief_text}
"""Values of all pages."""


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    """Values of the template's part about a run."""
    return {
        "run": snapshot, "state": state_text(snapshot), "speed": speed_text(snapshot),
        "cells": cells_of(snapshot.fovs, MOST_CELLS),
        "busiest": sorted(snapshot.workers, key=lambda worker: -worker.last)[:MOST_LINES],
    }  # fmt: skip


@cache
def _template() -> Template:
    pages = Environment(loader=PackageLoader("pyama_dask.runs"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template("live.html")
