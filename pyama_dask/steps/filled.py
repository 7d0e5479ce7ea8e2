"""Objects of frames in which gaps of tracks are filled with masks from other frames.

Which masks are moved where is planned with the tracks. Masks of other blocks are stored then, so that a block reads no
other one. Fills are drawn by track, on pixels of no other track: what a frame gets depends on the frames of its gaps
only, not on blocks or their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.filling import Fills, draw
from pyama_dask.steps.context import TaskContext
from pyama_dask.store import intermediate
from pyama_dask.store.layout import labels_name

PREFIX = "fill_"
"""Prefix of arrays of `Fills` in the file of tracks."""
Drawn = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]
"""(N,) tracks and (N, 4) boxes of the fills in a frame."""


@dataclass(frozen=True)
class Objects:
    """Objects of one frame, found ones first, then filled ones."""

    labels: np.ndarray
    """(H, W) labels 1..N."""
    ids: npt.NDArray[np.int64]
    """(N,) track ids; 0 outside all tracks."""
    boxes: npt.NDArray[np.int32]
    """(N, 4) boxes."""
    found: int
    """Number of objects that were found."""

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """(N,) True for filled objects."""
        return np.arange(len(self.ids)) >= self.found


class FilledFrames:
    """Objects of the frames of a block, with gaps filled where the tracks say so.

    Parameters
    ----------
    context
        Of a task on a block.
    """

    def __init__(self, context: TaskContext) -> None:
        self._context, self._group = context, labels_name(context.phase)
        self._ids, self._boxes = (intermediate.by_frame(context.tracks, name) for name in ("ids", "boxes"))
        self._fills = planned_fills(context.tracks)
        self._masks: Mapping[int, np.ndarray] = {}
        if self._fills is not None:
            start, stop = np.searchsorted(self._fills.frame, [context.task.start, context.task.stop]).tolist()
            self._masks = stored_masks(self._fills, context.tracks, range(start, stop))

    def drawn(self, k: int) -> Drawn:
        """Tracks and boxes of the fills in the batch's frame k; labels are drawn only if that was not done before."""
        frame = self._context.frames[k]
        if frame not in self._context.drawn:
            self.objects(k)
        return self._context.drawn[frame]

    def objects(self, k: int) -> Objects:
        """Objects of the batch's frame k."""
        frame = self._context.frames[k]
        labels = self._context.get(self._group)[k]
        ids, boxes = self._ids[frame], self._boxes[frame]
        if self._fills is None:
            return Objects(labels, ids, boxes, len(ids))
        rows = range(*np.searchsorted(self._fills.frame, [frame, frame + 1]).tolist())
        found = self._drawn(labels, ids, boxes, rows) if rows else Objects(labels, ids, boxes, len(ids))
        self._context.drawn[frame] = found.ids[found.found :], found.boxes[found.found :]
        return found

    def _drawn(self, labels: np.ndarray, ids: np.ndarray, boxes: np.ndarray, rows: range) -> Objects:
        """Objects of a frame with some fills, as far as there is room for them."""
        assert self._fills is not None
        more = len(ids) + len(rows) > np.iinfo(labels.dtype).max
        labels = labels.astype(np.uint32) if more else labels.copy()
        free = np.concatenate([[True], ids == 0])
        added, places = list[int](), list[np.ndarray]()
        for row in rows:
            new = len(ids) + len(added) + 1
            corner = self._fills.box[row, :2] + self._fills.move[row]
            box = draw(labels, free, self._mask(row), corner, new)
            if box is not None:
                added.append(int(self._fills.track[row]))
                places.append(box)
        drawn = np.array(places, np.int32).reshape(-1, 4)
        return Objects(
            labels, np.concatenate([ids, np.array(added, np.int64)]), np.concatenate([boxes, drawn]), len(ids)
        )

    def _mask(self, row: int) -> npt.NDArray[np.bool_]:
        """(h, w) mask of an object in the frame that a fill is moved from."""
        assert self._fills is not None
        if row in self._masks:
            return self._masks[row]
        labels = self._context.one_frame(self._group, int(self._fills.source[row]))
        return cut_mask(labels, self._fills, row)


def cut_mask(labels: np.ndarray, fills: Fills, row: int) -> npt.NDArray[np.bool_]:
    """(h, w) mask of the object of a fill.

    Parameters
    ----------
    labels
        (H, W) labels of the frame that the mask is moved from.
    fills, row
        All fills, and the row of this one.
    """
    y0, x0, y1, x1 = fills.box[row].tolist()
    return np.asarray(labels[y0:y1, x0:x1] == fills.label[row])


# ---------------------------------------------------------------------------------------- files of tracks


def fills_to_store(context: TaskContext, fills: Fills | None) -> dict[str, np.ndarray]:
    """Arrays for the file of tracks: fills, and the masks that cross borders of blocks."""
    if fills is None:
        return {}
    group = labels_name(context.phase)
    crossing = _crossing(fills, context.job.block_frames)
    masks = dict[int, np.ndarray]()
    for row in crossing[np.argsort(fills.source[crossing], kind="stable")].tolist():
        context.check()
        masks[row] = np.packbits(cut_mask(context.one_frame(group, int(fills.source[row])), fills, row))
    joined = np.concatenate([np.zeros(0, np.uint8), *(masks[row] for row in crossing.tolist())])
    stored = {f"{PREFIX}{name}": values for name, values in fills.columns.items()}
    return stored | {f"{PREFIX}masks": joined, f"{PREFIX}block": np.array(context.job.block_frames)}


def planned_fills(tracks: Mapping[str, np.ndarray]) -> Fills | None:
    """Fills in the file of tracks; None if gaps are not filled."""
    if f"{PREFIX}frame" not in tracks:
        return None
    return Fills(**{name: tracks[f"{PREFIX}{name}"] for name in Fills.__dataclass_fields__})


def _crossing(fills: Fills, block_frames: int) -> npt.NDArray[np.int64]:
    """Rows of fills whose mask is of another block."""
    return np.flatnonzero(fills.frame // block_frames != fills.source // block_frames)


def stored_masks(fills: Fills, tracks: Mapping[str, np.ndarray], rows: range) -> dict[int, npt.NDArray[np.bool_]]:
    """Masks of other blocks that are stored with the tracks.

    Parameters
    ----------
    fills, tracks
        Fills, and the arrays in the file of tracks.
    rows
        Rows of the fills that are wanted.

    Returns
    -------
    (h, w) masks by row of the fills.
    """
    crossing = _crossing(fills, int(tracks[f"{PREFIX}block"]))
    heights, widths = (fills.box[crossing, 2:] - fills.box[crossing, :2]).T
    ends = np.cumsum((heights * widths + 7) // 8)
    found = {}
    for row, height, width, end in zip(*(of.tolist() for of in (crossing, heights, widths, ends)), strict=True):
        if row in rows:
            size = height * width
            packed = tracks[f"{PREFIX}masks"][end - (size + 7) // 8 : end]
            found[row] = np.unpackbits(packed, count=size).reshape(height, width).astype(bool)
    return found


def fills_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """All that the fills of each block are made from, beside its own labels; empty lists if gaps are not filled."""
    fills = planned_fills(context.tracks)
    if fills is None:
        return [[] for _ in context.job.blocks]
    found: list[list[np.ndarray]] = []
    for start, stop in context.job.blocks:
        rows = range(*np.searchsorted(fills.frame, [start, stop]).tolist())
        masks = stored_masks(fills, context.tracks, rows)
        found.append([*fills.of_frames(start, stop).columns.values(), *(masks[row] for row in sorted(masks))])
    return found
