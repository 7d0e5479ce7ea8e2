"""Link the boxes of a FOV's objects to tracks, choose the cells to keep, and relabel the objects by track."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.config.units import quoted
from pyama_dask.kernels.drift_path import without_drift
from pyama_dask.kernels.filling import Fills, plan_fills
from pyama_dask.kernels.tracking import judge_tracks, keep_cells, label_areas, relabel, within_size
from pyama_dask.methods.call import Chosen
from pyama_dask.methods.tracker_parameters import WITHOUT_SHIFT, own_parameters, parameters_of
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.doubts import doubt_about_kept, doubts_about_counts
from pyama_dask.steps.drift import shifts_of
from pyama_dask.steps.filled import FilledFrames, fills_by_block, fills_to_store, planned_fills
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import registers
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import create_array
from pyama_dask.store.layout import labels_name, tracked_name
from pyama_dask.workflow.graph import Step

LARGEST_ID = np.iinfo(np.uint32).max
"""Largest id of a track, because tracked labels have at most 32 bits."""


def link_boxes(context: TaskContext) -> None:
    """Link the boxes of all blocks to tracks, choose the cells to keep, and plan how gaps are filled."""
    method, given = context.params.tracking_method, context.params.tracking_params
    blocks = [intermediate.load(file) for file in context.block_files("objects")]
    found = [frame for block in blocks for frame in intermediate.by_frame(block, "boxes")]
    shifts = shifts_of(context)
    still = found if shifts is None else without_drift(found, shifts)
    chosen = _of_size(context, found, **parameters_of(method, given, within_size))
    linked = follow(tracker_of(context.job.config), still, context.task.place, context.at, chosen)
    judged = judge_tracks(found, linked.ids, context.task.shape, **parameters_of(method, given, keep_cells))
    kept = judged.kept
    block, filling = context.job.block_frames, parameters_of(method, given, plan_fills)
    fills = plan_fills(found, linked.ids, block, shifts, **filling)
    tracks = int(max((frame.max(initial=0) for frame in linked.ids), default=0))
    stored = intermediate.ragged(ids=linked.ids, boxes=found) | fills_to_store(context, fills)
    if linked.parents is not None:
        stored["parents"] = np.array(sorted(linked.parents.items()), np.int64).reshape(-1, 2)
    tracks_file = intermediate.tracks_file(context.work)
    context.wrote(intermediate.save(tracks_file, **stored, count=tracks, objects=max(map(len, found))))
    cells = _boxes_by_cell(found, linked.ids, kept) | _planned_by_cell(fills, kept, len(found), context.task.shape)
    context.wrote(intermediate.save(intermediate.cells_file(context.work), ids=kept, **cells))
    create_array(context.images, context.specs[f"{tracked_name(context.phase)}/0"].for_tracks(tracks))
    dropped = {"short": len(judged.short), "border": len(judged.border), **_loss(blocks)}
    context.note(tracks=tracks, cells=len(kept), **dropped, pixels=math.prod(context.task.shape))
    counts = [len(frame) for frame in found]
    doubts = [*doubts_about_counts(counts, context.job.frames), doubt_about_kept(len(kept), tracks, counts)]
    for doubt in filter(None, doubts):
        context.warn(f"{context.task.place}: {doubt}")


def tracker_of(config: Config) -> Chosen:
    """Tracker of a resolved config; one that looks for shifts of frames does not, if these are registered."""
    method, given = config.params.tracking_method, config.params.tracking_params
    alone = WITHOUT_SHIFT.get(method, {}) if registers(config) else {}
    return Chosen("tracker", method, **{**own_parameters(method, given), **alone})


def _loss(blocks: Sequence[Mapping[str, np.ndarray]]) -> dict[str, int]:
    """Mean part of a frame that the segmenter dropped as too large, in permille; nothing if it is unknown."""
    lost = [block.get("lost", np.full(len(block["lengths"]), np.nan)) for block in blocks]
    known = np.concatenate(lost)
    known = known[~np.isnan(known)]
    return {"lost_permille": round(1000 * float(known.mean()))} if known.size else {}


def _of_size(context: TaskContext, found: list[np.ndarray], **limits: int) -> list[npt.NDArray[np.bool_]]:
    """(N,) masks of the objects of each frame that take part in linking; areas are counted if there are limits."""
    if not limits:
        return [np.ones(len(boxes), bool) for boxes in found]
    group, chosen = labels_name(context.phase), []
    for t, boxes in enumerate(found):
        context.check()
        chosen.append(within_size(label_areas(context.one_frame(group, t), len(boxes)), **limits))
    return chosen


@dataclass(frozen=True)
class Linked:
    """Tracks of a FOV's objects, as a tracker returned them."""

    ids: list[npt.NDArray[np.int64]]
    """(N,) track ids from 1, one array per frame."""
    parents: dict[int, int] | None
    """Mother of each daughter of a division, by id; None if the tracker finds no divisions."""


def follow(
    tracker: Chosen, found: list[np.ndarray], where: str, at: Callable[[int], str],
    chosen: Sequence[npt.NDArray[np.bool_]] = (),
) -> Linked:  # fmt: skip
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
    chosen
        (N,) masks of the objects that take part, one per frame; the ids of others are 0. All take part if it is empty.

    Raises
    ------
    AlgorithmError, WrongReturnError
        If the tracker fails, or returns something else than valid ids and mothers.
    """
    every = found
    if chosen:
        found = [boxes[some] for boxes, some in zip(every, chosen, strict=True)]
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
    checked = None if parents is None else _checked_parents(tracker, where, tracks, parents)
    if chosen:
        tracks = [_among(of, some) for of, some in zip(tracks, chosen, strict=True)]
    return Linked(tracks, checked)


def _among(ids: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Ids of all objects, 0 for those that are not chosen."""
    every = np.zeros(len(chosen), np.int64)
    every[chosen] = ids
    return every


def _checked_parents(
    tracker: Chosen, where: str, ids: Sequence[npt.NDArray[np.int64]], parents: Mapping[Any, Any]
) -> dict[int, int]:
    """Mothers by daughter as integers; refuse ids that do not occur, and mothers that do not end before."""
    last = {track: t for t, of in enumerate(ids) for track in of.tolist()}
    first = {track: t for t in range(len(ids) - 1, -1, -1) for track in ids[t].tolist()}
    for pair in parents.items():
        daughter, mother = (int(one) if isinstance(one, int | np.integer) else 0 for one in pair)
        if daughter not in first or mother not in last or last[mother] >= first[daughter]:
            raise tracker.wrong(
                where, f"{quoted(str(pair[1]))} as the mother of {quoted(str(pair[0]))}",
                "mothers as {daughter: mother} by ids that occur, where the mother's last frame is before the "
                "daughter's first",
            )  # fmt: skip
    return {int(daughter): int(mother) for daughter, mother in sorted(parents.items())}


def _boxes_by_cell(found: list[np.ndarray], ids: list[np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """(N, T, 4) ``boxes`` of the kept cells, and ``valid`` (N, T), the frames they were found in."""
    box = np.zeros((len(kept), len(found), 4), np.int32)
    valid = np.zeros((len(kept), len(found)), bool)
    for t, (frame_boxes, frame_ids) in enumerate(zip(found, ids, strict=True)):
        mine = np.isin(frame_ids, kept)
        row = np.searchsorted(kept, frame_ids[mine])
        box[row, t] = frame_boxes[mine]
        valid[row, t] = True
    return {"boxes": box, "valid": valid}


def _planned_by_cell(
    fills: Fills | None, kept: np.ndarray, frames: int, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """(N, T, 4) boxes in which fills of the kept cells may be drawn, as ``planned``; nothing if gaps are not filled."""
    if fills is None:
        return {}
    planned = np.zeros((len(kept), frames, 4), np.int32)
    mine = np.isin(fills.track, kept)
    planned[np.searchsorted(kept, fills.track[mine]), fills.frame[mine]] = fills.boxes(shape)[mine]
    return {"planned": planned}


def ids_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Track ids of the objects of each frame, the pixel type that holds all ids of the FOV, and what fills gaps."""
    ids = intermediate.by_frame(context.tracks, "ids")
    pixel_type = np.array(context.spec(tracked_name(context.phase)).dtype)
    fills = fills_by_block(context)
    return [[pixel_type, *ids[start:stop], *of] for (start, stop), of in zip(context.job.blocks, fills, strict=True)]


def kept_ids_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Track ids of the objects of each frame, 0 for tracks that are not kept; mothers, and all that fills depend on."""
    kept, tracks = context.cells["ids"], intermediate.by_frame(context.tracks, "ids")
    ids = [np.where(np.isin(frame, kept), frame, 0) for frame in tracks]
    found = [[*_kept_mothers(context), *ids[start:stop]] for start, stop in context.job.blocks]
    if planned_fills(context.tracks) is None:
        return found
    free = [[frame == 0 for frame in tracks[start:stop]] for start, stop in context.job.blocks]
    return [[*of, *room, *fills] for of, room, fills in zip(found, free, fills_by_block(context), strict=True)]


def _kept_mothers(context: TaskContext) -> list[np.ndarray]:
    """(M, 2) kept daughters and their mothers in a list; empty if the tracker finds no divisions."""
    if "parents" not in context.tracks:
        return []
    parents = context.tracks["parents"]
    return [parents[np.isin(parents[:, 0], context.cells["ids"])]]


def cells_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Ids, boxes and frames of the kept cells: the same for every block, as the size of a window spans all frames."""
    cells = [context.cells[name] for name in ("ids", "boxes", "valid", "planned") if name in context.cells]
    return [cells for _ in context.job.blocks]


def counts_by_block(context: TaskContext) -> list[list[np.ndarray]]:
    """Number of tracks and largest number of objects in a frame, by which display levels of labels are scaled."""
    return [[context.tracks["count"], context.tracks["objects"]] for _ in context.job.blocks]


class Relabelling(BlockPart):
    """Replace the labels of single frames by track ids, and fill gaps."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._filled, self._tracked = FilledFrames(context), tracked_name(context.phase)

    def frame(self, k: int) -> None:
        """Relabel the batch's frame k."""
        tracked, objects = self._context.room(self._tracked), self._filled.objects(k)
        relabel(objects.labels, np.concatenate([[0], objects.ids]).astype(tracked.dtype), tracked[k])

    def batch(self) -> None:
        """Write the tracked labels."""
        self._context.put(self._tracked, self._context.room(self._tracked))
