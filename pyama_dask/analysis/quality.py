"""Quality of traces: one row per cell, with properties to check before it is used, and flags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.analysis.given_outputs import Paths
from pyama_dask.analysis.outputs import MOVIE, Outputs
from pyama_dask.analysis.overrides import write_overrides
from pyama_dask.analysis.samples import wanted_fovs
from pyama_dask.analysis.trace_sources import Sources, grouped
from pyama_dask.analysis.trace_tables import frame_numbers
from pyama_dask.config.base import Model
from pyama_dask.config.messages import named_keys
from pyama_dask.config.units import Count, Whole, as_ranges, many
from pyama_dask.errors import ConfigError
from pyama_dask.files.atomic import check_names, writable, write_bytes
from pyama_dask.files.html import InTables
from pyama_dask.files.manifest import check_free, writing_into
from pyama_dask.store.trace_csv import PLACE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

QUALITY = "quality.csv"
"""Default file of the table in the output."""
FLAGS = ("short", "gap", "jump", "border", "merging")
"""Columns that flag a cell for inspection."""
_FIRST = ("fov", "cell", "first_frame", "last_frame")
_BOX = ("bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1")

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Thresholds(Model):
    """Limits beyond which a cell is flagged."""

    min_frames: Count | None = None
    """Smallest number of frames with the cell; None for half of the FOV's frames."""
    max_missing: Whole = 0
    """Largest number of frames without the cell between its first and last one."""
    max_jump: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """Largest relative change of area between consecutive frames, relative to the smaller area."""
    max_border: Whole = 0
    """Largest number of frames in which the cell's box touches the border of the image, which may cut the cell."""
    max_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Overlap of two boxes, as a fraction of the smaller one, above which their cells may be merging."""


@dataclass(frozen=True, eq=False, repr=False)
class QualityReport(InTables):
    """Quality of an output's traces."""

    table: pd.DataFrame
    """One row per cell; see docs/results.md for the columns."""
    path: Path
    """CSV of the table."""
    thresholds: Thresholds
    warnings: tuple[str, ...]
    good_file: Path | None = None
    """File of overrides that was written for editing; None if no cell is flagged."""

    @property
    def flagged(self) -> pd.DataFrame:
        """Rows of the flagged cells."""
        return self.table[self.table["flagged"]]

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells by flag."""
        return {flag: int(self.table[flag].sum()) for flag in FLAGS}

    def _shown(self) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
        line = f"{len(self.flagged)} of {many(len(self.table), 'cell')} flagged; {self.path}"
        return line, ("flag", "cells"), [*self.counts.items()]


def inspect_traces(
    output: Paths,
    to: str | Path | None = None,
    *,
    good: str | Path | None = None,
    write_good: str | Path | None = None,
    filled: bool = True,
    force: bool = False,
    **thresholds: Any,
) -> QualityReport:
    """Find cells whose traces should be inspected, and write a table of all cells.

    Parameters
    ----------
    output
        Output directory of a run or an older program; or several, or a folder above several.
    to
        Path of the CSV; by default ``quality.csv`` in the output, or in the folder above several. The table of several
        has a first column ``movie``.
    good
        YAML file of overrides; by default ``good.yaml`` in the output, if it exists. For several outputs, each override
        names its ``movie``.
    write_good
        File for overrides that set ``good: false`` for all flagged cells, for editing by hand; it is not written if no
        cell is flagged. An existing file is never replaced.
    filled
        False to leave out rows of frames in which the tracker has filled a gap, so that gaps count as missing frames.
    force
        True to overwrite a file that `inspect_traces` has not written, or that was changed since.
    **thresholds
        Fields of `Thresholds`: ``min_frames``, ``max_missing``, ``max_jump``, ``max_border``,
        ``max_overlap``.

    Raises
    ------
    ConfigError
        If a threshold or the overrides are invalid, or the file for overrides already exists.
    OutputError
        If `output` is not the output of a run or has no traces, or the table cannot be written or would replace a
        different file.
    TableError
        If a table of traces cannot be read.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    with named_keys("inspect_traces", model=Thresholds):
        limits = Thresholds.model_validate(thresholds)
    if write_good is not None and Path(write_good).exists():
        raise ConfigError(f"{write_good}: already exists. Fix: choose another file name")
    outputs = Outputs(output, good, filled=filled)
    path = Path(to) if to is not None else outputs.given.place(QUALITY)
    check_names(path.parent, [path.name])
    check_free(path.parent, [path.name], force=force)
    wanted = wanted_fovs(None, outputs)[""]
    table = pd.concat(
        [_all_cells(sources, usable, limits) for sources, of in outputs.of(wanted) if (usable := sources.usable(of))],
        ignore_index=True,
    )
    with writable(path), writing_into(path.parent, "inspect-traces", force=force) as folder:
        write_bytes(folder / path.name, table.to_csv(index=False, float_format="%.10g", lineterminator="\n").encode())
    overrides = list(_as_overrides(table[table["flagged"]]))
    good_file = Path(write_good) if write_good is not None and overrides else None
    report = QualityReport(table, path, limits, tuple(outputs.warnings), good_file)
    if report.good_file:
        write_overrides(report.good_file, overrides)
    return report


def _all_cells(sources: Sources, fovs: Iterable[int], limits: Thresholds) -> pd.DataFrame:
    """Quality of the cells in some FOVs; warns about properties that cannot be determined."""
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    found, unknown = [], list[tuple[int, str]]()
    for fov in fovs:
        traces, shape = sources.read(fov), sources.shape(fov)
        found.append(cell_quality(traces, shape, limits))
        if not set(_BOX) <= set(traces):
            unknown.append((fov, "has no boxes, so cells that touch the border or merge are not flagged"))
        elif shape is None:
            unknown.append((fov, "the size of its images is unknown, so cells that touch the border are not flagged"))
        if _areas(traces) is None:
            unknown.append((fov, "has neither areas nor boxes, so jumps are not flagged"))
    sources.say(grouped(unknown))
    cells = pd.concat(found, ignore_index=True)
    if sources.movie:
        cells.insert(0, MOVIE, sources.movie)
    return cells


def _as_overrides(flagged: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Overrides for the flagged cells; cells of one FOV with the same flags share an entry."""
    together = defaultdict[tuple[str, int, str], list[int]](list)
    for row in flagged.to_dict("records"):
        together[row.get(MOVIE, ""), row["fov"], ", ".join(flag for flag in FLAGS if row[flag])].append(row["cell"])
    for (movie, fov, note), cells in sorted(together.items()):
        named = {MOVIE: movie} if movie else {}
        yield named | {"fov": fov, "cells": as_ranges(sorted(cells)), "good": False, "note": note}


# -------------------------------------------------------------------------------------------- of one FOV


def cell_quality(table: pd.DataFrame, shape: tuple[int, int] | None, limits: Thresholds) -> pd.DataFrame:
    """Quality of one FOV's cells.

    Parameters
    ----------
    table
        Traces of one FOV.
    shape
        (H, W) of its images in pixels; None if unknown.
    limits
        Limits beyond which a cell is flagged.

    Returns
    -------
    Table with one row per cell: ``fov``, ``cell``, ``first_frame``, ``last_frame``, ``frames``, ``missing``,
    ``largest_jump``, ``border_frames``, ``merging_frames``, `FLAGS`, ``flagged``, ``good_frames`` and ``good``; and
    ``filled_frames`` if the traces mark filled gaps, whose areas count for no jump; and ``well`` and ``site`` if the
    traces have them.
    Unknown values are missing and not flagged.
    """
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    table = table.assign(frame=frame_numbers(table)).sort_values(["cell", "frame"], ignore_index=True)
    cell, frame = table["cell"].to_numpy(), table["frame"].to_numpy()
    cells, starts, frames = np.unique(cell, return_index=True, return_counts=True)
    first, last = frame[starts], frame[starts + frames - 1]
    follows = np.r_[False, (np.diff(cell) == 0) & (np.diff(frame) == 1)][: len(cell)]
    found: dict[str, Any] = {
        "fov": table["fov"].to_numpy()[starts], "cell": cells, "first_frame": first, "last_frame": last,
        "frames": frames, "missing": last - first + 1 - frames,
        "largest_jump": _largest_jumps(_areas(table), follows & ~_next_to_filled(table), starts),
    }  # fmt: skip
    boxes = table[list(_BOX)].to_numpy(float) if set(_BOX) <= set(table) else None
    at_border = None if boxes is None or shape is None else _touching(boxes, shape)
    merging = None if boxes is None else merging_rows(frame, boxes, follows, limits.max_overlap)
    for name, rows in (("border_frames", at_border), ("merging_frames", merging)):
        counted = [None] * len(cells) if rows is None else np.add.reduceat(rows.astype(np.int64), starts)
        found[name] = pd.array(counted, "Int64")
    enough = limits.min_frames or (int(np.ptp(frame)) + 2) // 2 if len(frame) else 0
    quality = pd.DataFrame(found)
    quality["short"] = quality["frames"] < enough
    quality["gap"] = quality["missing"] > limits.max_missing
    quality["jump"] = quality["largest_jump"] > limits.max_jump
    for flag, most in (("border", limits.max_border), ("merging", 0)):
        quality[flag] = (quality[f"{flag}_frames"] > most).fillna(False).astype(bool)
    quality["flagged"] = quality[list(FLAGS)].any(axis="columns")
    quality["good_frames"] = np.add.reduceat(table["good"].to_numpy(np.int64), starts)
    quality["good"] = quality["good_frames"] > 0
    if "filled" in table:
        quality["filled_frames"] = np.add.reduceat(table["filled"].to_numpy(np.int64), starts)
    return quality.assign(**{name: table[name].to_numpy()[starts] for name in PLACE_COLUMNS[:2] if name in table})


def _next_to_filled(table: pd.DataFrame) -> Mask:
    """Mask of the rows that are filled, or follow a filled one."""
    if "filled" not in table:
        return np.zeros(len(table), bool)
    filled = table["filled"].to_numpy(bool)
    return np.asarray(filled | np.r_[False, filled[:-1]][: len(filled)])


def _areas(table: pd.DataFrame) -> Floats | None:
    """Areas of the rows: as measured in the first channel that has them, else of the boxes."""
    named = [name for name in table if str(name).startswith("area_ch_")]
    if named:
        return table[named[0]].to_numpy(float)
    if not set(_BOX) <= set(table):
        return None
    x0, y0, x1, y1 = table[list(_BOX)].to_numpy(float).T
    areas: Floats = (x1 - x0) * (y1 - y0)
    return areas


def _largest_jumps(areas: Floats | None, follows: Mask, starts: Numbers) -> Floats:
    """Largest relative change of each cell's area between consecutive frames: larger / smaller - 1."""
    if areas is None:
        return np.full(len(starts), np.nan)
    before = np.r_[np.nan, areas[:-1]][: len(areas)]
    small, large = np.fmin(before, areas), np.fmax(before, areas)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(follows & ~np.isnan(before + areas), large / small - 1, np.nan)
    largest: Floats = np.fmax.reduceat(change, starts)
    return largest


def _touching(boxes: Floats, shape: tuple[int, int]) -> Mask:
    x0, y0, x1, y1 = boxes.T
    touching: Mask = (x0 <= 0) | (y0 <= 0) | (x1 >= shape[1]) | (y1 >= shape[0])
    return touching


def merging_rows(frame: Numbers, boxes: Floats, follows: Mask, overlap: float) -> Mask:
    """Rows in which cells may be merging.

    Cells may be merging if their boxes overlap in a frame by `overlap` of the smaller box; or if a cell disappears and
    another cell, present before, has a box in the next frame that covers `overlap` of the vanished cell's box.

    Parameters
    ----------
    frame
        (N,) frames of the rows, which are sorted by cell and frame.
    boxes
        (N, 4) boxes as (x0, y0, x1, y1).
    follows
        (N,) mask of the rows that continue the previous row: same cell, next frame.
    overlap
        Fraction from 0 to 1.
    """
    n = len(frame)
    merging = np.zeros(n, bool)
    gone = np.flatnonzero(~np.r_[follows[1:], False][:n] & (frame < frame.max(initial=0)))
    rows = np.r_[np.arange(n), gone]  # a cell that disappears is repeated in the next frame
    first, second = _overlapping(np.r_[frame, frame[gone] + 1], boxes[rows])
    shared, areas = _intersections(boxes[rows[first]], boxes[rows[second]]), _sizes(boxes[rows])
    ended = np.arange(len(rows)) >= n
    for a, b in ((first, second), (second, first)):
        of_two = ~ended[a] & ~ended[b] & (shared >= overlap * np.minimum(areas[a], areas[b]))
        taken = ended[a] & ~ended[b] & (shared >= overlap * areas[a])
        taken[taken] &= follows[rows[b[taken]]]
        merging[rows[a[of_two | taken]]] = True
        merging[rows[b[of_two | taken]]] = True
    return merging


def _sizes(boxes: Floats) -> Floats:
    sizes: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return sizes


def _intersections(a: Floats, b: Floats) -> Floats:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared: Floats = np.clip(sides, 0, None).prod(axis=1)
    return shared


def _overlapping(frame: Numbers, boxes: Floats) -> tuple[Numbers, Numbers]:
    """Pairs of boxes of the same frame that overlap, each once.

    The frames are laid side by side along x, so that a sorted search finds for every box those that begin within it.
    """
    known = np.flatnonzero(~np.isnan(boxes).any(axis=1) & (_sizes(boxes) > 0))
    if not len(known):
        return known, known
    x0, x1 = boxes[known, 0], boxes[known, 2]
    number = np.unique(frame[known], return_inverse=True)[1]
    shift = number * (x1.max() - x0.min() + 1)
    order = np.argsort(x0 + shift, kind="stable")
    begin, end, known = (x0 + shift)[order], (x1 + shift)[order], known[order]
    counts = np.searchsorted(begin, end, side="left") - np.arange(len(begin)) - 1
    first = np.repeat(np.arange(len(begin)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, second = known[first], known[second]
    meet = _intersections(boxes[first], boxes[second]) > 0
    return first[meet], second[meet]
