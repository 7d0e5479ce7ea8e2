"""The one part that is sequential in time, on boxes, not pixels: tracks, kept cells, and grey levels of a FOV."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.tracking import keep_cells
from pyama_dask.methods.call import Chosen
from pyama_dask.steps.context import CORRECTED, Bench, levels_of
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import create_array
from pyama_dask.store.layout import background_name, tracked_name

LARGEST_ID = np.iinfo(np.uint32).max
"""Of a track, as tracked labels have 32 bits at most."""


def link(bench: Bench) -> None:
    """Follow the cells of the whole FOV, and find the grey levels that its crops and displays are scaled by."""
    if "track" in bench.task.digests:
        bench.step = "track"
        track_boxes(bench)
    if {"crop", "cache"} & bench.task.digests.keys():
        find_windows(bench)


def track_boxes(bench: Bench) -> None:
    """Link the boxes of all blocks to tracks, and choose the cells to keep."""
    given = bench.params.tracking_params
    kept_by = {name: value for name, value in given.items() if name in ("min_frames", "border_margin")}
    linked_by = {name: value for name, value in given.items() if name not in kept_by}
    found = [
        frame
        for file in bench.block_files("objects")
        for frame in intermediate.by_frame(intermediate.load(file), "boxes")
    ]
    tracker = Chosen("tracker", bench.params.tracking_method, **linked_by)
    ids = follow(tracker, found, f"FOV {bench.task.fov}", bench.at)
    kept = keep_cells(found, ids, bench.task.shape, **kept_by)
    box, valid = _boxes_by_cell(found, ids, kept)
    tracks = int(max((frame.max(initial=0) for frame in ids), default=0))
    by_frame = intermediate.ragged(ids=ids, boxes=found)
    bench.wrote(intermediate.save(bench.work / "tracks.npz", **by_frame, count=tracks, objects=max(map(len, found))))
    bench.wrote(intermediate.save(bench.work / "cells.npz", ids=kept, boxes=box, valid=valid))
    create_array(bench.images, bench.specs[f"{tracked_name(bench.phase)}/0"].for_tracks(tracks))
    bench.note(tracks=tracks, cells=len(kept))


def follow(
    tracker: Chosen, found: list[np.ndarray], where: str, at: Callable[[int], str]
) -> list[npt.NDArray[np.int64]]:
    """Track ids of the boxes of every frame, checked; `where` and `at`, of a frame, name them in messages."""
    ids = tracker.arrays(where, found)
    if len(ids) != len(found):
        raise tracker.wrong(where, f"{len(ids)} arrays", f"one for each of {len(found)} frames")
    for t, (given, boxes) in enumerate(zip(ids, found, strict=True)):
        if given.shape != (len(boxes),) or (given.size and given.dtype.kind not in "iu"):
            raise tracker.wrong(at(t), given, f"one whole number for each of {len(boxes)} boxes")
        values, times = np.unique(given, return_counts=True)
        if (times > 1).any():
            raise tracker.wrong(at(t), f"id {values[times.argmax()]} to several boxes", "every id once a frame")
        if given.size and not 1 <= values[0] <= values[-1] <= LARGEST_ID:
            raise tracker.wrong(at(t), f"ids {values[0]} to {values[-1]}", f"ids of 1 to {LARGEST_ID}")
    return [given.astype(np.int64) for given in ids]


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


def find_windows(bench: Bench) -> None:
    """Find the 1st and 99th percentile of every product over the whole FOV."""
    groups = list(bench.raw_groups)
    if not bench.params.copy_only and bench.pc is not None:
        groups += [name for ch in bench.fl for name in (background_name(ch), f"{CORRECTED}_ch_{ch}")]
    found = {group: intermediate.load_levels(bench.block_files(levels_of(group)), group).window() for group in groups}
    file = intermediate.save(bench.work / "windows.npz", **{name: np.array(pair) for name, pair in found.items()})
    for step in bench.task.digests.keys() & {"crop", "cache"}:  # both need it
        bench.step = step
        bench.wrote(file)
