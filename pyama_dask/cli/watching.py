"""Command that watches a run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pyama_dask.cli.app import OutputFolder, app, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pyama_dask.runs.live import LiveRuns
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

    Of several movies, give the folder above their outputs.
    Without a terminal, or if no run is active, it prints the state once.
    """
    from rich.console import Console

    from pyama_dask.runs.live import LiveRuns

    runs = LiveRuns(output)
    snapshots = runs.snapshots()
    if as_json:
        documents = [snapshot.document() for snapshot in snapshots]
        say(json.dumps(documents if runs.are_several else documents[0], indent=1))
        return
    console = Console()
    status = 0
    if _is_active(snapshots) and console.is_terminal and not once:
        snapshots, status = _watch(runs, snapshots, console, every)
    console.print(_picture(snapshots, console), soft_wrap=True)
    raise typer.Exit(status)


def _is_active(snapshots: Sequence[Snapshot]) -> bool:
    return any(snapshot.is_active for snapshot in snapshots)


def _watch(runs: LiveRuns, snapshots: list[Snapshot], console: Console, every: float) -> tuple[list[Snapshot], int]:
    """Show runs until they end, with status 0, or until Ctrl-C, with status 130."""
    from rich.live import Live

    try:
        with Live(console=console, screen=True, auto_refresh=False) as screen:
            while _is_active(snapshots):
                screen.update(_picture(snapshots, console, console.height), refresh=True)
                time.sleep(every)
                snapshots = runs.snapshots()
    except KeyboardInterrupt:
        return snapshots, 130
    return snapshots, 0


def _picture(snapshots: Sequence[Snapshot], console: Console, height: int | None = None) -> Text:
    """Picture of runs as wide as the terminal, and as high if `height` is given."""
    from pyama_dask.cli.live_view import View

    rows = ROWS if height is None else max(2, min(ROWS, height - OTHERS))
    view = View(console.width, rows, ascii_only=not console.encoding.startswith("utf"))
    text = view.describe(snapshots[0]) if len(snapshots) == 1 else view.describe_all(snapshots)
    if height is not None:
        text.no_wrap, text.overflow = True, "ellipsis"
    return text
