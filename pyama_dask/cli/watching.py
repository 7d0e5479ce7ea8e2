"""Command that watches a run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pyama_dask.cli.app import OutputFolder, app, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pyama_dask.runs.live import LiveRun
    from pyama_dask.runs.snapshot import Snapshot

ROWS = 20
"""Rows of the grid of FOVs, and of each list, if there is room."""
OTHERS = 20
"""Rows of a terminal for all but the grid of FOVs."""


@app.command()
def top(
    output: OutputFolder,
    once: Annotated[bool, typer.Option("--once", help="print the state once")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print it once, as JSON")] = False,
    every: Annotated[float, typer.Option(help="seconds between updates", min=0.2)] = 2.0,
) -> None:
    """Watch a run from any machine that sees its output, until it ends or you press Ctrl-C; writes nothing.

    Without a terminal, or if no run is active, it prints the state once.
    """
    from rich.console import Console

    from pyama_dask.runs.live import LiveRun

    live = LiveRun(output)
    snapshot = live.snapshot()
    if as_json:
        say(json.dumps(snapshot.document(), indent=1))
        return
    console = Console()
    status = 0
    if snapshot.is_active and console.is_terminal and not once:
        snapshot, status = _watch(live, snapshot, console, every)
    console.print(_picture(snapshot, console), soft_wrap=True)
    raise typer.Exit(status)


def _watch(live: LiveRun, snapshot: Snapshot, console: Console, every: float) -> tuple[Snapshot, int]:
    """Show a run until it ends, with status 0, or until Ctrl-C, with status 130."""
    from rich.live import Live

    try:
        with Live(console=console, screen=True, auto_refresh=False) as screen:
            while snapshot.is_active:
                screen.update(_picture(snapshot, console, console.height), refresh=True)
                time.sleep(every)
                snapshot = live.snapshot()
    except KeyboardInterrupt:
        return snapshot, 130
    return snapshot, 0


def _picture(snapshot: Snapshot, console: Console, height: int | None = None) -> Text:
    """Picture of a run as wide as the terminal, and as high if `height` is given."""
    from pyama_dask.cli.live_view import View

    rows = ROWS if height is None else max(2, min(ROWS, height - OTHERS))
    text = View(console.width, rows, ascii_only=not console.encoding.startswith("utf")).describe(snapshot)
    if height is not None:
        text.no_wrap, text.overflow = True, "ellipsis"
    return text
