"""The one part that is sequential in time, on boxes, not pixels: tracks, kept cells, and grey levels of a FOV."""

from __future__ import annotations

import numpy as np

from pyama_dask import scratch
from pyama_dask.blocks.bench import CORRECTED, Bench
from pyama_dask.errors import AlgorithmError
from pyama_dask.kernels.methods import find_method
from pyama_dask.kernels.tracking import keep_cells
from pyama_dask.layout import background_name, tracked_name
from pyama_dask.store import create_array


def link(bench: Bench) -> None:
    """Follow the cells of the whole FOV, and find the grey levels that its crops and displays are scaled by."""
    if "track" in bench.task.digests:
        bench.step = "track"
        track_boxes(bench)
    if {"crop", "cache"} & bench.task.digests.keys():
        bench.step = "crop" if "crop" in bench.task.digests else "cache"
        find_windows(bench)


def track_boxes(bench: Bench) -> None:
    """Link the boxes of all blocks to tracks, and choose the cells to keep."""
    given = bench.params.tracking_params
    kept_by = {name: value for name, value in given.items() if name in ("min_frames", "border_margin")}
    linked_by = {name: value for name, value in given.items() if name not in kept_by}
    found = [frame for file in bench.block_files("objects") for frame in scratch.by_frame(scratch.load(file), "boxes")]
    ids = find_method("tracker", bench.params.tracking_method)(found, **linked_by)
    if [len(frame) for frame in ids] != [len(frame) for frame in found]:
        raise AlgorithmError(f"FOV {bench.task.fov}: the tracker must give one id for every box of every frame")
    kept = keep_cells(found, ids, bench.task.shape, **kept_by)
    box, valid = _boxes_by_cell(found, ids, kept)
    tracks = int(max((frame.max(initial=0) for frame in ids), default=0))
    by_frame = scratch.ragged(ids=ids, boxes=found)
    bench.wrote(scratch.save(bench.work / "tracks.npz", **by_frame, count=tracks, objects=max(map(len, found))))
    bench.wrote(scratch.save(bench.work / "cells.npz", ids=kept, boxes=box, valid=valid))
    create_array(bench.images, bench.specs[f"{tracked_name(bench.phase)}/0"].for_tracks(tracks))
    bench.notes = {"tracks": tracks, "cells": len(kept)}


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
    copied, background = (bench.block_files(f"levels_{step}") for step in ("copy", "background"))
    found = {
        group: scratch.load_levels(copied if group in bench.raw_groups else background, group).window()
        for group in groups
    }
    bench.wrote(scratch.save(bench.work / "windows.npz", **{name: np.array(pair) for name, pair in found.items()}))
