"""Commands about labels of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyama_dask.cli.app import AsJson, app, say

if TYPE_CHECKING:
    from rich.table import Table

    from pyama_dask.analysis.score import ScoreReport, Scores


@app.command()
def score(
    labels: Annotated[Path, typer.Argument(help="labels to judge: file, folder, or output of a run")],
    truth: Annotated[Path, typer.Argument(help="true labels: file, folder, or output of a run")],
    tracks: Annotated[
        bool | None,
        typer.Option("--tracks/--no-tracks", help="score tracks, too", show_default="if labels are those of tracks"),
    ] = None,
    min_frames: Annotated[int, typer.Option(help="fewest frames of a true track that is judged", min=1)] = 10,
    share: Annotated[
        float, typer.Option(help="share of its frames in which a true track must be found", min=0, max=1)
    ] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Compare labels with true labels.

    Prints SEG, DET and TRA of the Cell Tracking Challenge, F1, and the number of whole traces. Labels are TIFF, PNG,
    NPY or NPZ files of one frame, a movie or several FOVs, folders of these, or folders of the challenge.
    """
    from rich.console import Console

    from pyama_dask.analysis.score import score_labels

    report = score_labels(labels, truth, tracks=tracks, min_frames=min_frames, share=share)
    if as_json:
        say(json.dumps(report.document(), indent=1))
        return
    terminal = Console()
    Console(width=terminal.width if terminal.is_terminal else 120).print(_score_table(report))
    if report.overall.tracks is not None:
        say(
            f"traces: true tracks of at least {report.min_frames} frames. Followed: found under one id in "
            f"{report.share:.0%} of their frames. Whole: under no other id, and the id has nothing else"
        )
    for warning in report.warnings:
        say(f"warning: {warning}")


def _score_table(report: ScoreReport) -> Table:
    """Scores with one row per movie, and one for all."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    with_tracks = report.overall.tracks is not None
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    of_tracks = ("TRA", "traces", "followed", "whole") if with_tracks else ()
    for name in ("frames", "true", "found:true", "SEG", "F1", "DET", *of_tracks):
        table.add_column(name, justify="right", no_wrap=True)
    rows = report.movies if len(report.movies) == 1 else (*report.movies, report.overall)
    for of in rows:
        table.add_row(*_score_cells(of, with_tracks), end_section=of is report.movies[-1])
    return table


def _score_cells(of: Scores, with_tracks: bool) -> list[str]:
    from rich.markup import escape

    from pyama_dask.config.units import printable

    cells = [escape(printable(of.name)), str(of.frames), str(of.true), f"{of.found_per_true:.2f}"]
    cells += [f"{value:.3f}" for value in (of.seg, of.f1, of.det)]
    if with_tracks and of.tra is not None:
        cells += [f"{of.tra:.3f}", str(of.tracks), str(of.followed), str(of.whole)]
    return cells
