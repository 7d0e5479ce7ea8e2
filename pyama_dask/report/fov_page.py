"""The page of one FOV: frames with outlines and tracks, all traces, and its numbers frame by frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pyama_dask.analysis.fov import Fov
from pyama_dask.errors import OutputError, PyamaError, StoreError
from pyama_dask.files.palette import BORDER, KEPT, TOO_SMALL
from pyama_dask.files.pictures import data_url, to_jpeg
from pyama_dask.report import words
from pyama_dask.report.axes import number, share
from pyama_dask.report.facts import FovFacts, RunFacts, read_facts
from pyama_dask.report.figures import traces
from pyama_dask.report.fovs import dropped_by_size, numeral
from pyama_dask.report.overview import Figure, Summaries, feature_name, in_unit, maps, over_time
from pyama_dask.report.page import REPORT_PAGE, render, write_page, write_report_page
from pyama_dask.report.thumbnails import frame_shape, picture_of, read_fates
from pyama_dask.runs.plate import fov_named
from pyama_dask.store import intermediate
from pyama_dask.store.trace_csv import BASE_COLUMNS, PLACE_COLUMNS, TRACK_COLUMNS
from pyama_dask.workflow.task import WORK, fov_name

if TYPE_CHECKING:
    import pandas as pd

LEGEND = [("kept", KEPT), ("at the border", BORDER), ("too short", TOO_SMALL)]
"""Names and colours of outlines."""
FRAMES, PIXELS = 5, 720
"""Number of frames that are shown, and pixels of their longest side."""
TAIL = 20
"""Frames before the one shown in which tracks are drawn."""
POINTS = 12_000
"""Points of a figure with traces; with more, frames are left out."""


def write_fov_page(output: str | Path, fov: int | str, to: str | Path | None = None, *, force: bool = False) -> Path:
    """Write the page of one FOV of a run; the report of the run, if it is in the output, is updated to link to it.

    Parameters
    ----------
    output
        Output directory of a run.
    fov
        Number or name of the FOV, or a well with one site.
    to
        File to write; by default ``fov_003.html`` in the output.
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
        If `output` is not the output of a run or has no such FOV, or the file cannot be written or would replace
        another one.
    """
    number_ = fov_named(Path(output), fov)
    path = Path(to) if to is not None else Path(output) / f"{fov_name(number_)}.html"
    write_page(path, lambda: fov_page(read_facts(Path(output)), number_, path), force=force)
    if to is None and (Path(output) / REPORT_PAGE).exists():
        with suppress(OutputError):  # a page that a user changed stays
            write_report_page(output)
    return path


def fov_page(run: RunFacts, number_: int, path: Path) -> str:
    """HTML of the page of a FOV, to be written to `path`."""
    fov = next((fov for fov in run.fovs if fov.number == number_), None)
    if fov is None:
        raise OutputError(f"{run.output}: has no FOV {number_}. Fix: choose one of its {len(run.fovs)} FOVs")
    alone = Summaries(run, only=number_)
    table, problems = _table(run, fov)
    name = f"FOV {fov.number}" + (f" ({fov.name})" if fov.name and fov.name != f"FOV {fov.number}" else "")
    return render(
        "fov.html", title=f"{name}: {run.output.absolute().name}", name=name, run=run.output.absolute().name,
        back=os.path.relpath(run.output / REPORT_PAGE, path.parent), state=_state(run, fov),
        mood="bad" if fov.report.status == "failed" else "",
        failure=words.failure_row(fov) if fov.report.status == "failed" else None,
        findings=[one for one in run.findings if fov.number in one.fovs],
        overlays=list(overlays(run, fov)), legend=LEGEND + dropped_by_size(run, [number_]), tail=TAIL,
        traces=list(trace_figures(run, table)), cells=0 if table is None else table["cell"].nunique(),
        over_time=list(over_time(alone)), maps=list(maps(alone)), heads=_heads(fov, run), rows=list(_rows(fov)),
        warnings=[*fov.report.warnings, *problems], finds_cells=run.finds_cells,
    )  # fmt: skip


def _state(run: RunFacts, fov: FovFacts) -> str:
    report, of = fov.report, fov.summary
    if report.status != "done":
        return f"The FOV is {report.status}" + (f"; left: {', '.join(report.left)}" if report.left else "") + "."
    if not run.finds_cells:
        return "The FOV is done; the run finds no cells."
    fates = f" of {of.tracks} tracks; {of.border} at the border, {of.short} too short" if of else ""
    return f"{report.cells} cells kept{fates}."


# ------------------------------------------------------------------------------------------------- overlays


@dataclass(frozen=True)
class Overlay:
    """A frame with outlines and tracks."""

    frame: int
    picture: str
    """URL."""
    svg: Markup
    """Tracks and ids, over the picture."""


def overlays(run: RunFacts, fov: FovFacts) -> Iterator[Overlay]:
    """Frames at even distances, with outlines, and the tracks of the kept cells until then."""
    shape = frame_shape(run, fov.number)
    if shape is None or not shape[0]:
        return
    fates = read_fates(run, fov.number, shape[1:])
    paths = _paths(run, fov.number) if fates else {}
    kept = {} if fates is None else {cell: paths[cell] for cell in fates.kept.tolist() if cell in paths}
    numbers = fov.summary.frames.tolist() if fov.summary else list(range(shape[0]))
    for index in np.unique(np.linspace(0, shape[0] - 1, FRAMES).round().astype(int)).tolist():
        picture = picture_of(run, fov.number, index, PIXELS, fates)
        if picture is not None:
            svg = _drawn(kept, index, shape[1:])
            yield Overlay(numbers[index], data_url(to_jpeg(picture, 78), "jpeg"), svg)


def _paths(run: RunFacts, fov: int) -> dict[int, np.ndarray]:
    """(N, 3) frame, x and y of the centres of each track's boxes; empty without tracks, or if their file is gone."""
    try:
        held = intermediate.load(intermediate.tracks_file(run.output / WORK / fov_name(fov)))
        ids, boxes, lengths = held["ids"], held["boxes"].astype(float), held["lengths"]
    except (StoreError, OSError, LookupError):
        return {}
    frames = np.repeat(np.arange(len(lengths)), lengths)
    points = np.column_stack([frames, boxes[:, [1, 3]].mean(axis=1), boxes[:, [0, 2]].mean(axis=1)])
    order = np.argsort(ids, kind="stable")
    cells, starts = np.unique(ids[order], return_index=True)
    parts = np.split(points[order], starts)[1:]  # before the first one, there is nothing
    return dict(zip(cells.tolist(), parts, strict=True))


def _drawn(paths: Mapping[int, np.ndarray], index: int, shape: tuple[int, int]) -> Markup:
    """Tracks up to a frame, with the ids of cells where they fit."""
    scale = 360 / max(shape)
    lines, texts, taken = [], [], list[tuple[float, float]]()
    for cell, path in paths.items():
        tail = path[(path[:, 0] <= index) & (path[:, 0] > index - TAIL)]
        if len(tail) > 1:
            points = " ".join(f"{x * scale:.1f},{y * scale:.1f}" for _, x, y in tail.tolist())
            lines.append(f'<polyline class="track" points="{points}"><title>cell {cell}</title></polyline>')
        if len(tail) and tail[-1, 0] == index:
            x, y = (tail[-1, 1:] * scale).tolist()
            width = 7.0 * len(str(cell))
            x = min(max(x, width / 2 + 2), 358 * shape[1] / max(shape) - width / 2)
            if all(abs(x - u) > width or abs(y - v) > 13 for u, v in taken) and 12 < y < scale * shape[0] - 4:
                taken.append((x, y))
                texts.append(f'<text class="x" x="{x:.1f}" y="{y + 4:.1f}">{cell}</text>')
    size = f"0 0 {shape[1] * scale:.0f} {shape[0] * scale:.0f}"
    return Markup(f'<svg viewBox="{size}" aria-hidden="true">{"".join(lines + texts)}</svg>')


# --------------------------------------------------------------------------------------------------- traces


def _table(run: RunFacts, fov: FovFacts) -> tuple[pd.DataFrame | None, list[str]]:
    """Traces of a FOV, and what is wrong with them; None if it has none."""
    if not fov.report.rows:
        return None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = Fov(run.fov_dir(fov.number)).traces()
        except (PyamaError, OSError) as error:
            return None, [str(error)]
    return table, [str(warning.message) for warning in caught]


def trace_figures(run: RunFacts, table: pd.DataFrame | None) -> Iterator[Figure]:
    """One figure per feature, with all kept cells."""
    if table is None or table.empty:
        return
    minutes = table.groupby("frame")["time"].first()
    x, name = in_unit(minutes.to_numpy(float))
    phase = [column for column in _features(table) if run.phase and column.endswith(run.phase.removeprefix("pc"))]
    for column in sorted(_features(table), key=lambda column: column in phase):
        every = table.pivot(index="cell", columns="frame", values=column).to_numpy(float)
        step = -(-every.size // POINTS)
        text = f"Every {step}. frame of each cell." if step > 1 else ""
        title = feature_name(column, run)
        yield Figure(title, text, traces(x[::step], every[:, ::step], name, title))


def _features(table: pd.DataFrame) -> list[str]:
    known = {*BASE_COLUMNS, *TRACK_COLUMNS, *PLACE_COLUMNS}
    return [name for name in table.columns if name not in known and table[name].dtype.kind == "f"]


# --------------------------------------------------------------------------------------------------- numbers


def _heads(fov: FovFacts, run: RunFacts) -> list[tuple[str, bool]]:
    names = [
        "frame",
        "minutes",
        "objects",
        "kept",
        "too small",
        "too large",
        "dropped as too large",
        "in objects",
        "sharpness",
    ]
    levels = [
        run.channels.get(int(channel), f"channel {channel}")
        for channel in (fov.summary.channels if fov.summary else ())
    ]
    return [(name, True) for name in [*names, *(f"level of {level}" for level in levels)]]


def _rows(fov: FovFacts) -> Iterator[Mapping[str, Any]]:
    """One row per frame."""
    of = fov.summary
    if of is None:
        return
    for t, frame in enumerate(of.frames.tolist()):
        counts = [
            numeral(None if values[t] < 0 else int(values[t]))
            for values in (of.found, of.kept, of.too_small, of.too_large)
        ]
        shares = [{"text": share(float(values[t])), "value": float(values[t])} for values in (of.lost, of.foreground)]
        light = [numeral(float(values[t])) for values in (of.sharpness, *of.level)]
        yield {
            "cells": [
                numeral(frame),
                {"text": number(float(of.times_min[t])), "value": of.times_min[t]},
                *counts,
                *shares,
                *light,
            ]
        }
