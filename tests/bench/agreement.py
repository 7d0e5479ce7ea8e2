"""Agreement of two programs on one movie: foreground, objects, intensities and tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

NEAR = 5.0
"""Pixels between the positions of a cell in two programs, at most."""
PLACE = ["fov", "frame"]
COLUMNS = [*PLACE, "cell", "x", "y", "total"]


@dataclass(frozen=True)
class Results:
    """Results of a program."""

    labels: Callable[[int, int], np.ndarray]
    """Labels (H, W) of a FOV and frame."""
    rows: pd.DataFrame
    """A row per cell and frame, with the columns `COLUMNS`; x and y are the centre of its box in pixels."""


@dataclass(frozen=True)
class Agreement:
    """Figures of how equal two results are; shares are from 0 to 1."""

    foreground: float
    """Share of pixels that are foreground in both, or in neither."""
    iou: float
    """Mean intersection over union of the objects of one program, each with the best object of the other."""
    found: float
    """Share of these objects with an IoU of at least 0.5."""
    matched: float
    """Share of rows of traces that have a row of the other within `NEAR` pixels; NaN if either program has no rows."""
    correlation: float
    """Of the total intensities of matched rows."""
    difference: float
    """Median of the relative difference of the total intensities."""
    whole: float
    """Share of traces whose matched rows are all in one trace of the other."""


def compare(one: Results, other: Results, fovs: int, frames: int) -> Agreement:
    """Figures for all frames of two programs."""
    overlaps = [compare_labels(one.labels(*at), other.labels(*at)) for at in np.ndindex(fovs, frames)]
    iou = np.concatenate([ious for _, ious in overlaps])
    equal = float(np.mean([share for share, _ in overlaps]))
    mean, found = (float(iou.mean()), float((iou >= 0.5).mean())) if iou.size else (np.nan, np.nan)
    return Agreement(equal, mean, found, *compare_rows(one.rows, other.rows))


def compare_labels(one: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray]:
    """Share of pixels with equal foreground, and the IoU (N,) of each object with the best of the other labels."""
    equal = float(((one > 0) == (other > 0)).mean())
    ids, first = np.unique(one, return_inverse=True)
    others, second = np.unique(other, return_inverse=True)
    both = np.bincount(first.ravel() * len(others) + second.ravel(), minlength=len(ids) * len(others))
    both = both.reshape(len(ids), len(others))
    iou = both / (both.sum(1, keepdims=True) + both.sum(0) - both)
    return equal, iou[np.ix_(ids > 0, others > 0)].max(1, initial=0.0)


def compare_rows(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float, float, float]:
    """Share of matched rows, correlation and median relative difference of their totals, and share of whole traces."""
    if one.empty or other.empty:
        return np.nan, np.nan, np.nan, np.nan
    there = dict(iter(other.groupby(PLACE)))
    pairs = pd.concat([_pairs(rows, there.get(at, other.iloc[:0])) for at, rows in one.groupby(PLACE)])
    traces = pairs.groupby(["fov", "cell"])["cell_other"].nunique() == 1
    difference = (pairs.total_other - pairs.total).abs() / np.maximum(pairs.total.abs(), 1e-9)
    correlation = np.corrcoef(pairs.total, pairs.total_other)[0, 1] if len(pairs) > 1 else np.nan
    return len(pairs) / len(one), float(correlation), float(difference.median()), float(traces.mean())


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Rows of a frame that are nearest to each other, and near."""
    if other.empty:
        return one.iloc[:0].assign(cell_other=0, total_other=0.0)
    tree, back = cKDTree(other[["x", "y"]]), cKDTree(one[["x", "y"]])
    distance, there = tree.query(one[["x", "y"]])
    _, here = back.query(other[["x", "y"]])
    mutual = (here[there] == np.arange(len(one))) & (distance <= NEAR)
    found = other.iloc[there[mutual]]
    return one[mutual].assign(cell_other=found.cell.to_numpy(), total_other=found.total.to_numpy())


# ------------------------------------------------------------------------------------------ the programs


def of_run(output: Path) -> Results:
    """Results of pyama_dask with phase contrast in channel 0 and fluorescence in channel 1."""
    table = pd.concat(map(pd.read_csv, sorted(output.glob("fov_*/*_traces.csv"))), ignore_index=True)
    names = {"position_x": "x", "position_y": "y", "intensity_total_ch_1": "total"}
    return Results(_stored(output, "seg_tracked_ch_0/0"), table.rename(columns=names)[COLUMNS])


def of_loop(output: Path) -> Results:
    """Results of the loop with scikit-image."""
    table = pd.concat(map(pd.read_csv, sorted(output.glob("fov_*/traces.csv"))), ignore_index=True)
    names = {"position_x": "x", "position_y": "y", "intensity_total": "total"}
    return Results(_stored(output, "tracked"), table.rename(columns=names)[COLUMNS])


def of_pyama(output: Path) -> Results:
    """Results of PyAMA, whose rows are measured from its labels, background and raw pixels.

    Its tables have only cells of at least 30 frames, so they are empty for short movies.
    """
    labels = {int(p.parent.name[4:]): np.load(p, "r") for p in sorted(output.glob("fov_*/*_seg_labeled_ch_0.npy"))}
    if not labels:
        raise FileNotFoundError(f"{output}: has no labels of PyAMA. Fix: compare the names of its files with of_pyama")
    tables = []
    for fov, stack in labels.items():
        corrected = _corrected(output / f"fov_{fov:03d}")
        for frame, plane in enumerate(stack):
            tables.append(_measured(plane, corrected(frame)).assign(fov=fov, frame=frame))
    return Results(lambda fov, frame: labels[fov][frame], pd.concat(tables, ignore_index=True)[COLUMNS])


def _corrected(folder: Path) -> Callable[[int], np.ndarray]:
    """Function that gives a corrected fluorescence frame, which newer versions store as raw and background."""
    stacks = {name: sorted(folder.glob(f"*_fl_{name}ch_1.npy")) for name in ("corrected_", "background_", "")}
    found = {name: np.load(paths[0], "r") for name, paths in stacks.items() if paths}
    if "corrected_" in found:
        return lambda frame: found["corrected_"][frame]
    return lambda frame: found[""][frame] - found["background_"][frame]


def _measured(labels: np.ndarray, corrected: np.ndarray) -> pd.DataFrame:
    """Cell, centre of the box and total intensity of each label of a frame."""
    cells = [(k, box) for k, box in enumerate(ndi.find_objects(labels), 1) if box]
    x, y = ([(box[axis].start + box[axis].stop) / 2 for _, box in cells] for axis in (1, 0))
    totals = [corrected[box][labels[box] == cell].sum(dtype=np.float64) for cell, box in cells]
    return pd.DataFrame({"cell": [cell for cell, _ in cells], "x": x, "y": y, "total": totals})


def _stored(output: Path, name: str) -> Callable[[int, int], np.ndarray]:
    """Function that reads a frame of an array of ``images.zarr``."""
    return lambda fov, frame: zarr.open_array(output / f"fov_{fov:03d}/images.zarr/{name}", mode="r")[frame]
