"""Cells through time: linking of boxes by overlap, and selection of the cells to keep.

Only boxes are needed, not pixels. The method is PyAMA's tracker: intersection over union of bounding boxes and the
Hungarian assignment (Kuhn 1955).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.optimize` when it is used
from pydantic import Field

from pyama_dask.config.units import Count, Fraction, Whole
from pyama_dask.kernels.compiled import compiled

Boxes = npt.NDArray[np.integer]
"""(N, 4) half-open boxes (y0, x0, y1, x1) in pixels."""


def box_iou(a: Boxes, b: Boxes) -> npt.NDArray[np.float64]:
    """(len(a), len(b)) intersection over union of each pair of boxes."""
    a, b = a.astype(np.int64), b.astype(np.int64)
    top = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(bottom - top, 0, None).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    return np.asarray(inter / (area_a[:, None] + area_b[None, :] - inter))


def link(
    per_frame: Sequence[Boxes],
    *,
    min_iou: Annotated[Fraction, Field(description="0 to 1: smallest overlap of boxes from frame to frame")] = 0.1,
) -> list[npt.NDArray[np.int64]]:
    """Assign a track id to every object.

    Each frame is matched to the previous one by the assignment with the lowest total cost 1 - IoU. An object without a
    match starts a new track; ids count from 1 and are assigned in label order.

    Parameters
    ----------
    per_frame
        (N, 4) boxes of the objects 1..N of each frame, in label order.
    min_iou
        Smallest overlap at which two boxes may match.

    Returns
    -------
    (N,) ids per frame, in label order.
    """
    tracks: list[npt.NDArray[np.int64]] = []
    following = 1
    for t, now in enumerate(per_frame):
        ids = np.zeros(len(now), np.int64)
        if t and len(now) and len(per_frame[t - 1]):
            before, after = _match(per_frame[t - 1], now, min_iou)
            ids[after] = tracks[-1][before]
        fresh = ids == 0
        ids[fresh] = np.arange(following, following + fresh.sum())
        following += int(fresh.sum())
        tracks.append(ids)
    return tracks


def _match(before: Boxes, after: Boxes, min_iou: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    iou = box_iou(before, after)
    iou[iou < min_iou] = 0.0
    rows, columns = scipy.optimize.linear_sum_assignment(1.0 - iou)
    hit = iou[rows, columns] > 0
    return rows[hit], columns[hit]


@dataclass(frozen=True)
class Judged:
    """Ids of all tracks, ascending, by what becomes of them."""

    kept: npt.NDArray[np.int64]
    short: npt.NDArray[np.int64]
    """Dropped because they are seen in too few frames; they never come near the border."""
    border: npt.NDArray[np.int64]
    """Dropped because they come near the border, however long they are."""
    frames: npt.NDArray[np.int64]
    """(largest id + 1,) number of frames in which each track is seen; 0 for ids that do not occur."""


def keep_cells(
    per_frame: Sequence[Boxes],
    tracks: Sequence[npt.NDArray[np.int64]],
    shape: tuple[int, int],
    *,
    min_frames: Annotated[Count, Field(description="cells seen in fewer frames are left out of the traces")] = 30,
    border_margin: Annotated[
        Whole, Field(description="pixels: cells that ever come closer to the border are left out")
    ] = 50,
) -> npt.NDArray[np.int64]:
    """Ids of the cells that were tracked long enough and never came near the border.

    Parameters
    ----------
    per_frame, tracks
        Boxes, and track ids from `link`, per frame; 0 for objects outside all tracks.
    shape
        (H, W) of the frames.
    min_frames
        Smallest number of frames in which a cell must be present.
    border_margin
        Width in pixels of the border; a cell whose box ever enters it is dropped.

    Returns
    -------
    Ascending ids.
    """
    return judge_tracks(per_frame, tracks, shape, min_frames=min_frames, border_margin=border_margin).kept


def judge_tracks(
    per_frame: Sequence[Boxes],
    tracks: Sequence[npt.NDArray[np.int64]],
    shape: tuple[int, int],
    *,
    min_frames: int,
    border_margin: int,
) -> Judged:
    """Decide which tracks are kept as cells, and why the others are not; parameters as for `keep_cells`."""
    if not sum(map(len, tracks)):
        none = np.zeros(0, np.int64)
        return Judged(none, none, none, np.zeros(1, np.int64))
    ids, box = np.concatenate(tracks), np.concatenate(per_frame)
    h, w = shape
    near = (box[:, :2] < border_margin).any(1) | (box[:, 2:] > np.array([h, w]) - border_margin).any(1)
    seen = np.bincount(ids)
    seen[0] = 0  # objects outside all tracks
    touched = np.bincount(ids, weights=near) > 0
    touched[0] = False
    inside = (seen > 0) & ~touched
    kept, short = (np.flatnonzero(inside & some) for some in (seen >= min_frames, seen < min_frames))
    return Judged(kept, short, np.flatnonzero(touched), seen)


def within_size(
    areas: npt.NDArray[np.int64],
    *,
    min_size: Annotated[
        Count | None, Field(description="pixels: smaller objects take no part in tracking; null: no limit")
    ] = None,
    max_size: Annotated[
        Count | None, Field(description="pixels: larger objects take no part in tracking; null: no limit")
    ] = None,
) -> npt.NDArray[np.bool_]:
    """(N,) mask of the objects with (N,) areas in pixels that take part in tracking.

    Parameters
    ----------
    areas
        Pixels of each object.
    min_size, max_size
        Smallest and largest area; None for no limit.
    """
    return np.asarray((areas >= (min_size or 0)) & (areas <= (max_size or np.inf)))


def label_areas(labels: np.ndarray, count: int) -> npt.NDArray[np.int64]:
    """(N,) pixels of the labels 1..N in an (H, W) frame."""
    areas = np.zeros(count + 1, np.int64)
    _count_labels(labels, areas)
    return areas[1:]


@compiled
def _count_labels(labels: Any, areas: Any) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label < areas.size:  # a damaged shard may have other labels, until it is compared
                areas[label] += 1


@compiled
def relabel(labels: Any, ids: Any, out: Any) -> None:
    """Write ``ids[label]`` for every pixel.

    Parameters
    ----------
    labels
        (H, W) labels 0..N.
    ids
        (N + 1,) new value of each label; 0 for background.
    out
        (H, W) array with the dtype of `ids`.
    """
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            out[y, x] = ids[label] if label < ids.size else 0  # as in `_count_labels`
