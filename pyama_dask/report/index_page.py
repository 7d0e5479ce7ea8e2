"""The page of all outputs in a folder: one row per movie, with its state, counts and findings, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyama_dask.errors import OutputError
from pyama_dask.report import words
from pyama_dask.report.facts import RunFacts, read_facts
from pyama_dask.report.page import REPORT_PAGE, render, write_page
from pyama_dask.runs.refused import read_refused
from pyama_dask.runs.several import outputs_below

MOST_FINDINGS = 3
"""Findings of a movie in its row; its report has all of them."""


def write_index_page(folder: str | Path, to: str | Path | None = None, *, force: bool = False) -> Path:
    """Write the page of all outputs in a folder, and of the movies that a run of several has refused.

    Parameters
    ----------
    folder
        Folder above outputs of runs.
    to
        File to write; by default ``report.html`` in the folder.
    force
        True to overwrite a file that is not a report, or was changed since.

    Returns
    -------
    The file.

    Raises
    ------
    ConfigError
        If the file does not end in ``.html``.
    OutputError
        If no output is in the folder, or the file cannot be written or would replace another one.
    """
    folder = Path(folder)
    outputs = outputs_below(folder)
    if not outputs:
        raise OutputError(f"{folder}: has no outputs of runs in it. Fix: give the folder above them")
    path = Path(to) if to is not None else folder / REPORT_PAGE
    return write_page(path, lambda: _page(folder, outputs, path.parent), force=force)


def _page(folder: Path, outputs: list[Path], place: Path) -> str:
    """HTML of the page, to be written to a folder."""
    refused = read_refused(folder)
    without = [_without_run(name, reason) for name, reason in refused.items()]
    of_run = {output.name: _row(output, place) for output in outputs if output.name not in refused}
    rows = sorted([*without, *of_run.values()], key=lambda row: str(row["name"]))
    bad = sum(row["mood"] == "bad" for row in rows)
    complete = sum(row["complete"] for row in rows)
    state = f"{complete} of {len(rows)} movie{'s' if len(rows) > 1 else ''} complete"
    name = folder.absolute().name
    return render(
        "index.html", title=f"{name}: report", name=name, rows=rows, state=state,
        mood="bad" if bad else "good" if complete == len(rows) else "",
    )  # fmt: skip


def _row(output: Path, place: Path) -> Mapping[str, Any]:
    """Row of a movie; the reason if its output cannot be read."""
    name = output.name
    try:
        run = read_facts(output)
    except OutputError as error:
        return _without_run(name, str(error))
    page = output / REPORT_PAGE
    link = quote(page.absolute().relative_to(place.absolute()).as_posix()) if _below(page, place) else ""
    found = [finding.text for finding in run.findings]
    return {
        "name": name, "movie": Path(run.movie).name, "link": link, "state": words.state_of(run),
        "mood": words.mood_of(run), "complete": run.counts["done"] == len(run.fovs), **_counts(run),
        "findings": found[:MOST_FINDINGS], "more": max(0, len(found) - MOST_FINDINGS),
    }  # fmt: skip


def _without_run(name: str, reason: str) -> Mapping[str, Any]:
    """Row of a movie of which nothing else is known."""
    return {"name": name, "mood": "bad", "state": reason, "complete": False, "findings": [], "more": 0}


def _below(page: Path, place: Path) -> bool:
    return page.is_file() and page.absolute().is_relative_to(place.absolute())


def _counts(run: RunFacts) -> Mapping[str, Any]:
    """Numbers of a movie."""
    return {
        "done": f"{run.counts['done']} of {len(run.fovs)}", "failed": run.counts["failed"],
        "cells": run.cells if run.finds_cells else "", "warnings": len(words.warnings_of(run)),
    }  # fmt: skip
