"""Link the boxes of a FOV's objects to tracks, choose the cells to keep, and relabel the objects by track."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import quoted
from pyama_dask.kernels.tracking import keep_cells, relabel
from pyama_dask.methods.call import Chosen
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.doubts import doubt_about_kept, doubts_about_counts
from pyama_dask.steps.part import BlockPart
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import create_array
from pyama_dask.store.layout import labels_name, tracked_name
from pyama_dask.workflow.graph import Step

LARGEST_ID = np.iinfo(np.uint32).max
"""Largest id of a track, because tracked labels have at most 32 bits."""


def link_boxes(context: TaskContext) -> None:
    """Link the boxes of all blocks to tracks, and choose the cells to keep."""
    given = context.params.tracking_params
    kept_by = {name: value for name, value in given.items() if name in ("min_frames", "border_margin")}
    linked_by = {name: value for name, value in given.items() if name not in kept_by}
    found = [
        frame
        for file in context.block_files("objects")
        for frame in intermediate.by_frame(intermediate.load(file), "boxes")
    ]
    tracker = Chosen("tracker", context.params.tracking_method, **linked_by)
    linked = follow(tracker, found, f"FOV {context.task.fov}", context.at)
    ids = linked.ids
    kept = keep_cells(found, ids, context.task.shape, **kept_by)
    box, valid = _boxes_by_cell(found, ids, kept)
    tracks = int(max((frame.max(initial=0) for frame in ids), default=0))
    by_frame = intermediate.ragged(ids=ids, boxes=found)
    context.wrote(
        intermediate.save(context.work / "tracks.npz", **by_frame, count=tracks, objects=max(map(len, found)))
    )
    context.wrote(intermediate.save(context.work / "cells.npz", ids=kept, boxes=box, valid=valid))
    create_array(context.images, context.specs[f"{tracked_name(context.phase)}/0"].for_tracks(tracks))
    context.note(tracks=tracks, cells=len(kept))
    counts = [len(frame) for frame in found]
    doubts = [*doubts_about_counts(counts, context.job.frames), doubt_about_kept(len(kept), tracks, counts)]
    for doubt in filter(None, doubts):
        context.warn(f"FOV {context.task.fov}: {doubt}")


@dataclass(frozen=True)
class Linked:
    """Tracks of a FOV's objects, as a tracker returned them."""

    ids: list[npt.NDArray[np.int64]]
    """(N,) track ids from 1, one array per frame."""
    parents: dict[int, int]
    """Mother of each daughter of a division, by id."""


def follow(tracker: Chosen, found: list[np.ndarray], where: str, at: Callable[[int], str]) -> Linked:
    """Link the boxes of all frames to tracks.

    Parameters
    ----------
    tracker
        Method from the config.
    found
        (N, 4) boxes of the objects, one array per frame.
    where
        FOV, for messages.
    at
        Name of a frame for messages, by its index.

    Raises
    ------
    AlgorithmError, WrongReturnError
        If the tracker fails, or returns something else than valid ids and mothers.
    """
    ids, parents = tracker.tracks(where, found)
    if len(ids) != len(found):
        raise tracker.wrong(where, f"{len(ids)} arrays", f"one for each of {len(found)} frames")
    for t, (given, boxes) in enumerate(zip(ids, found, strict=True)):
        if given.shape != (len(boxes),) or (given.size and given.dtype.kind not in "iu"):
            raise tracker.wrong(at(t), given, f"one whole number for each of {len(boxes)} boxes")
        values, times = np.unique(given, return_counts=True)
        if (times > 1).any():
            raise tracker.wrong(
                at(t), f"id {values[times.argmax()]} to several boxes", "each id at most once per frame"
            )
        if given.size and not 1 <= values[0] <= values[-1] <= LARGEST_ID:
            raise tracker.wrong(at(t), f"ids {values[0]} to {values[-1]}", f"ids of 1 to {LARGEST_ID}")
    tracks = [given.astype(np.int64) for given in ids]
    return Linked(tracks, _checked_parents(tracker, where, tracks, parents))


def _checked_parents(
    tracker: Chosen, where: str, ids: Sequence[npt.NDArray[np.int64]], parents: Mapping[Any, Any]
) -> dict[int, int]:
    """Mothers by daughter as integers; refuse ids that do not occur, and mothers that do not end before."""
    if not parents:
        return {}
    first, last = dict[int, int](), dict[int, int]()
    for t, of in enumerate(ids):
        last |= dict.fromkeys(of.tolist(), t)
        first = dict.fromkeys(of.tolist(), t) | first
    for pair in parents.items():
        daughter, mother = (int(one) if isinstance(one, int | np.integer) else 0 for one in pair)
        if daughter not in first or mother not in last or last[mother] >= first[daughter]:
            raise tracker.wrong(
                where, f"{quoted(str(pair[1]))} as the mother of {quoted(str(pair[0]))}",
                "mothers as {daughter: mother} by ids that occur, where the mother's last frame is before the "
                "daughter's first",
            )  # fmt: skip
    return {int(daughter): int(mother) for daughter, mother in sorted(parents.items())}


def _boxes_by_cell(found: list[np.ndarray], ids: list[np.ndarray], kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, 4) boxes and (N, T) frames seen of the kept cells."""
    box = np.zeros((len(kept), len(found), 4), np.int32)
    valid = np.zeros((len(kept), len(found)), bool)
    for t, (frame_boxes, frame_ids) in enumerate(zip(found, ids, strict=True)):
        mine = np.isin(frame_ids, kept)
        row = np.searchsorted(kept, frame_ids[mine])
        box[row, t] = frame_boxes[mine]
        valid[row, t] = True
    return box, valid


def ids_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Track ids of the objects of each frame, and the pixel type that holds all ids of the FOV."""
    ids = intermediate.by_frame(context.tracks, "ids")
    pixel_type = np.array(context.spec(tracked_name(context.phase)).dtype)
    return [[pixel_type, *ids[start:stop]] for start, stop in context.job.blocks]


def kept_ids_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Track ids of the objects of each frame, 0 for tracks that are not kept."""
    kept = context.cells["ids"]
    ids = [np.where(np.isin(frame, kept), frame, 0) for frame in intermediate.by_frame(context.tracks, "ids")]
    return [ids[start:stop] for start, stop in context.job.blocks]


def cells_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Ids, boxes and frames of the kept cells: the same for every block, as the size of a window spans all frames."""
    cells = [context.cells[name] for name in ("ids", "boxes", "valid")]
    return [cells for _ in context.job.blocks]


def counts_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Number of tracks and largest number of objects in a frame, by which display levels of labels are scaled."""
    return [[context.tracks["count"], context.tracks["objects"]] for _ in context.job.blocks]


class Relabelling(BlockPart):
    """Replace the labels of single frames by track ids."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._ids = intermediate.by_frame(context.tracks, "ids")
        self._labels, self._tracked = labels_name(context.phase), tracked_name(context.phase)

    def frame(self, k: int) -> None:
        """Relabel the batch's frame k."""
        context, tracked = self._context, self._context.room(self._tracked)
        ids = np.concatenate([[0], self._ids[context.frames[k]]]).astype(tracked.dtype)
        relabel(context.get(self._labels)[k], ids, tracked[k])

    def batch(self) -> None:
        """Write the tracked labels."""
        self._context.put(self._tracked, self._context.room(self._tracked))
