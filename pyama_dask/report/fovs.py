"""FOVs on the page of a run: pictures, worst first, and a table of all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pyama_dask.analysis.summaries import FovSummary
from pyama_dask.config.units import many
from pyama_dask.files.palette import KEPT, TOO_LARGE
from pyama_dask.files.pictures import data_url, to_jpeg
from pyama_dask.report.axes import UNKNOWN, number, share
from pyama_dask.report.facts import FovFacts, RunFacts
from pyama_dask.report.findings import Finding
from pyama_dask.report.thumbnails import SHORT, picture_of, read_fates

MOST_SHOWN = 500
"""Largest number of FOVs with a picture."""
SIZES = ((4, 420, "few"), (12, 300, "few"), (48, 200, "some"), (150, 136, "some"), (MOST_SHOWN, 96, "many"))
"""Pixels of pictures, and how dense they stand, by the largest number of FOVs for them."""
QUALITY = {"few": 76, "some": 70, "many": 58}
"""Quality of JPEG by density."""


@dataclass(frozen=True)
class Thumbnail:
    """A FOV on the page."""

    number: int
    name: str
    picture: str
    """URL; '' without a picture."""
    missing: str
    words: str
    weight: int
    link: str
    """Address of its page, or of its row in the table."""
    label: str
    """Number, and name of a site of a well."""


def thumbnail(run: RunFacts, fov: FovFacts, folder: Path, pixels: int, quality: int) -> Thumbnail:
    """Picture of the frame that shows a FOV's worst finding, or of the middle one."""
    mine = [finding for finding in run.findings if fov.number in finding.fovs]
    picture = (
        picture_of(run, fov.number, shown_frame(fov, mine), pixels, read_fates(run, fov.number)) if run.shown else None
    )
    status, cells = fov.report.status, fov.report.cells
    words = many(cells or 0, "cell") if status == "done" and run.finds_cells else status
    failed = status == "failed"
    heads = [finding.head for finding in mine]
    words = ", ".join(dict.fromkeys([words, *heads]))
    weight = 3 if failed else max((finding.weight for finding in mine), default=0)
    url = data_url(to_jpeg(picture, quality), "jpeg") if picture is not None else ""
    link = _address(fov, folder) or f"#fov-{fov.number}"
    return Thumbnail(fov.number, fov.name, url, "no frame stored", words, weight, link, fov.label)


def _address(fov: FovFacts, folder: Path) -> str:
    """Address of a FOV's page for a page in a folder; '' without one."""
    return quote(os.path.relpath(fov.page, folder)) if fov.page else ""


def shown_frame(fov: FovFacts, findings: list[Finding]) -> int:
    """Index of the frame to show."""
    index = next((finding.index for finding in findings if finding.index is not None), None)
    return index if index is not None else len(fov.summary.frames) // 2 if fov.summary else 0


def legend(run: RunFacts) -> list[tuple[str, str]]:
    """Names and colours of outlines."""
    if not run.finds_cells:
        return []
    return [("kept", KEPT), ("dropped track", SHORT), *dropped_by_size(run, (fov.number for fov in run.fovs))]


def dropped_by_size(run: RunFacts, fovs: Iterable[int]) -> list[tuple[str, str]]:
    """Name and colour of objects that were dropped as too large, if there are any in the FOVs."""
    of = {fov.number: fov.summary for fov in run.fovs}
    return [("dropped as too large", TOO_LARGE)] if any(_drops(of[fov]) for fov in fovs) else []


def _drops(summary: FovSummary | None) -> bool:
    return summary is not None and bool((summary.too_large > 0).any())


def order(run: RunFacts) -> str:
    """Explanation of the order and the frames of the pictures."""
    what = run.channels.get(int(run.shown.rpartition("_")[2]), run.shown) if run.shown else "no channel"
    return f"Worst first. {what} in the middle of the movie, or where a finding shows."


def fov_table(run: RunFacts, folder: Path) -> tuple[list[tuple[str, bool]], list[dict[str, Any]]]:
    """Heads and rows of the table of all FOVs."""
    heads = [("FOV", True), ("name", False), ("status", False)]
    if run.finds_cells:
        heads += [(name, True) for name in ("cells kept", "tracks", "at the border", "too short", "objects per frame")]
        heads += [("dropped as too large", True)]
    rows = []
    for fov in run.fovs:
        of = fov.summary
        number_ = numeral(fov.number) | {"link": _address(fov, folder)}
        cells: list[dict[str, Any]] = [number_, {"text": fov.name}, {"text": fov.report.status}]
        if run.finds_cells:
            cells.append(numeral(fov.report.cells))
            cells += [numeral(value) for value in ((of.tracks, of.border, of.short) if of else (None, None, None))]
            found = float(np.median(of.found)) if of is not None and (of.found >= 0).any() else None
            lost = float(np.nanmedian(of.lost)) if of is not None and np.isfinite(of.lost).any() else None
            cells += [
                numeral(found),
                {"text": UNKNOWN if lost is None else share(lost), "value": "" if lost is None else lost},
            ]
        rows.append({"id": f"fov-{fov.number}", "cells": cells})
    return heads, rows


def numeral(value: float | None) -> dict[str, Any]:
    """Cell of a table with a number."""
    return {"text": number(value), "value": "" if value is None else value}
