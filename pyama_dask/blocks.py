"""The four task functions: store to kernels to store.

Each step is a function on a `Bench`, which reads what the step needs, writes what it makes, and keeps what was read or
made for the steps after it, so that nothing is read back that the task has held. `run_task` is what a scheduler calls.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np

from pyama_dask import scratch
from pyama_dask.bench import Bench, tracked_spec
from pyama_dask.cells import CELLS, CellsWriter
from pyama_dask.errors import AlgorithmError, PyamaError
from pyama_dask.files import checksum
from pyama_dask.kernels import crops, display, features
from pyama_dask.kernels.background import background
from pyama_dask.kernels.levels import Histogram
from pyama_dask.kernels.methods import Method, find_method
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.tracking import keep_cells
from pyama_dask.readers import Reader, open_reader
from pyama_dask.store import (
    background_name,
    create_array,
    labels_name,
    raw_name,
    read_attributes,
    tracked_name,
)
from pyama_dask.tasks import Job, Kind, Receipt, Task
from pyama_dask.traces import feature_columns, traces_file, traces_table, write_traces

CORRECTED = "corrected"
"""Prefix of the histogram of a fluorescence channel less its background."""


def run_task(task: Task, job: Job) -> Receipt:
    """Do one task and say what was done.

    Raises
    ------
    PyamaError
        If it cannot be done; the message names the FOV, and the frame where one is at fault.
    """
    cv2.setNumThreads(1)  # one task a core is the scheduler's business
    started = time.perf_counter()
    bench = Bench(task, job)
    TASKS[task.kind](bench)
    return Receipt(
        key=task.key,
        digests=task.digests,
        files={file.relative_to(job.output).as_posix(): checksum(file) for file in bench.written},
        seconds=time.perf_counter() - started,
        bytes_read=bench.bytes_read,
        bytes_written=bench.bytes_written,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        warnings=tuple(bench.warnings),
        notes=bench.notes,
    )


# ----------------------------------------------------------------------------------------------- ingest


def ingest(bench: Bench) -> None:
    """Copy, segment, and estimate the background of one block."""
    steps: Mapping[str, Callable[[Bench], None]] = {
        "copy": copy_block,
        "segment": segment_block,
        "background": background_block,
    }
    for step in bench.task.digests:
        steps[step](bench)


def copy_block(bench: Bench) -> None:
    """Copy frames from the movie into the raw shards, and count their grey levels."""
    channels = [*([] if bench.pc is None else [bench.pc]), *bench.fl]
    shape = (len(bench.frames), *bench.task.shape)
    stacks = [np.empty(shape, np.uint16) for _ in channels]
    with open_reader(bench.job.source) as reader:
        for k, frame in enumerate(bench.frames):
            planes = read_planes(reader, bench.task.fov, bench.job.frames[frame], channels, bench.params.z)
            bench.bytes_read += planes.nbytes
            for stack, plane in zip(stacks, planes, strict=True):
                stack[k] = plane
    for group, stack in zip(bench.raw_groups, stacks, strict=True):
        bench.put(group, stack)
    _save_levels(bench, {group: Histogram.of_integers(bench.get(group)) for group in bench.raw_groups})


def read_planes(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
    """Read the channels (C, H, W) of one frame at a plane, or their maximum over all planes."""
    if z != "max":
        return reader.read_frame(fov, frame, channels=channels, z=int(z or 0))
    highest = reader.read_frame(fov, frame, channels=channels, z=0)
    for plane in range(1, reader.metadata.z_planes):
        np.maximum(highest, reader.read_frame(fov, frame, channels=channels, z=plane), out=highest)
    return highest


def segment_block(bench: Bench) -> None:
    """Find the cells of every phase-contrast frame, and their boxes."""
    methods = [find_method("preprocessor", name) for name in bench.params.preprocess]
    segmenter = find_method("segmenter", bench.params.segmentation_method)
    methods.append(partial(segmenter, **bench.params.segmentation_params))
    phase = bench.get(raw_name("pc", bench.phase))
    labels = np.empty(phase.shape, np.uint16)
    for k, frame in enumerate(bench.frames):
        labels[k] = _apply(methods, phase[k], bench.at(frame))
    bench.put(labels_name(bench.phase), labels)
    objects = scratch.ragged(boxes=[boxes(frame) for frame in labels])
    bench.wrote(scratch.save(scratch.block_file(bench.work, "objects", bench.block), **objects))


def _apply(methods: list[Method], frame: np.ndarray, where: str) -> np.ndarray:
    """Run preprocessors and the segmenter on a frame, and check what comes out."""
    result = frame
    for method in methods:
        try:
            result = method(result)
        except PyamaError:
            raise
        except Exception as error:
            raise AlgorithmError(f"{where}: segmentation failed: {type(error).__name__}: {error}") from error
    if not isinstance(result, np.ndarray) or result.shape != frame.shape or result.dtype.kind not in "iu":
        raise AlgorithmError(f"{where}: the segmenter must give whole-number labels of shape {frame.shape}")
    return without_gaps(result, where)


def without_gaps(labels: np.ndarray, where: str) -> np.ndarray:
    """Number labels 1..N in their own order, as far as they are not."""
    top = int(labels.max(initial=0))
    if int(labels.min(initial=0)) >= 0 and top <= np.iinfo(np.uint16).max:
        occurs = np.bincount(labels.ravel(), minlength=top + 1) > 0
        if occurs[1:].all():
            return labels
    values, places = np.unique(labels, return_inverse=True)
    if values[0] < 0 or np.count_nonzero(values) > np.iinfo(np.uint16).max:
        raise AlgorithmError(f"{where}: labels must be 0 for background and at most 65535 objects")
    return np.where(labels == 0, 0, places + (values[0] != 0)).reshape(labels.shape)


def background_block(bench: Bench) -> None:
    """Estimate the background of every fluorescence frame."""
    labels = bench.get(labels_name(bench.phase))
    bench.drop(raw_name("pc", bench.phase))
    for channel in bench.fl:
        raw = bench.get(raw_name("fl", channel))
        back = np.empty(raw.shape, np.float32)
        for k, frame in enumerate(bench.frames):
            back[k] = background(raw[k], labels[k], **bench.params.background_params)
            if np.isnan(back[k, 0, 0]):
                bench.warnings.append(f"{bench.at(frame)}, channel {channel}: cells leave no background to measure")
        group = background_name(channel)
        bench.put(group, back)
        corrected = Histogram.of_corrected(raw, back, bench.params.background_weight)
        _save_levels(bench, {group: Histogram.of_floats(back), f"{CORRECTED}_ch_{channel}": corrected})
        bench.drop(group, raw_name("fl", channel))


def _save_levels(bench: Bench, levels: Mapping[str, Histogram]) -> None:
    bench.wrote(scratch.save_levels(scratch.block_file(bench.work, "levels", bench.block), levels))


# ------------------------------------------------------------------------------------------------- link


def link(bench: Bench) -> None:
    """Follow the cells of the whole FOV, and find the grey levels that its crops and displays are scaled by."""
    if "track" in bench.task.digests:
        track_boxes(bench)
    if {"crop", "cache"} & bench.task.digests.keys():
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
    create_array(bench.images, tracked_spec(bench.specs[f"{tracked_name(bench.phase)}/0"], tracks))
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
    files = bench.block_files("levels")
    found = {group: scratch.load_levels(files, group).window() for group in groups}
    bench.wrote(scratch.save(bench.work / "windows.npz", **{name: np.array(pair) for name, pair in found.items()}))


# ----------------------------------------------------------------------------------------------- finish


def finish(bench: Bench) -> None:
    """Relabel one block by track; measure, cut and display what is in it."""
    todo = bench.task.digests
    if "track" in todo:
        relabel_block(bench)
    if "extract" in todo:
        extract_block(bench)
    if "crop" in todo:
        crop_block(bench)
    if "cache" in todo:
        cache_block(bench)


def relabel_block(bench: Bench) -> None:
    """Write track ids in place of the labels of single frames."""
    labels = bench.get(labels_name(bench.phase))
    group = tracked_name(bench.phase)
    tracked = np.empty(labels.shape, bench.spec(group).dtype)
    ids = scratch.by_frame(bench.tracks, "ids")
    for k, frame in enumerate(bench.frames):
        np.take(np.concatenate([[0], ids[frame]]).astype(tracked.dtype), labels[k], out=tracked[k])
    bench.put(group, tracked)


def extract_block(bench: Bench) -> None:
    """Measure the features of the kept cells in every frame."""
    labels = bench.get(labels_name(bench.phase))
    ids, found = (scratch.by_frame(bench.tracks, name) for name in ("ids", "boxes"))
    kept = bench.cells["ids"]
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("cell", "frame", "bbox", *feature_columns(bench.job.config))
    }
    for k, frame in enumerate(bench.frames):
        mine = np.isin(ids[frame], kept)
        measured = _measure(bench, k, labels[k], found[frame])
        row = {"cell": ids[frame], "frame": np.full(len(mine), frame), "bbox": found[frame], **measured}
        for name, values in columns.items():
            values.append(row[name][mine])
    file = scratch.block_file(bench.work, "rows", bench.block)
    bench.wrote(scratch.save(file, **{name: np.concatenate(values) for name, values in columns.items()}))


def _measure(bench: Bench, k: int, labels: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Feature columns of all objects of the block's frame k."""
    columns = {}
    if bench.job.config.channels.pc and (names := bench.job.config.channels.pc.features):
        shapes = features.measure_shapes(labels, found)
        for name in names:
            columns[f"{name}_ch_{bench.pc}"] = find_method("phase feature", name)(shapes)
    for choice in bench.job.config.channels.fl:
        if choice.features:
            raw, back = (
                bench.get(raw_name("fl", int(choice.channel))),
                bench.get(background_name(int(choice.channel))),
            )
            intensities = features.measure_intensities(raw[k], back[k], bench.params.background_weight, labels, found)
            for name in choice.features:
                columns[f"{name}_ch_{choice.channel}"] = find_method("fluorescence feature", name)(intensities)
    return columns


def crop_block(bench: Bench) -> None:
    """Cut the kept cells' windows out of every product, as parts that `gather` puts together."""
    ids, box, valid, sizes = _cut(bench)
    box, valid = box[:, bench.task.start : bench.task.stop], valid[:, bench.task.start : bench.task.stop]
    for group in bench.raw_groups:
        channel = int(group.rpartition("_")[2])
        back = None if channel == bench.pc else bench.get(background_name(channel))
        weight, scale = bench.params.background_weight, _scale(bench, group)
        part = crops.cut_intensities(bench.get(group), back, weight, scale, box, valid, sizes)
        _save_part(bench, group, part)
    _save_part(bench, "mask", crops.cut_masks(bench.get(tracked_name(bench.phase)), ids, box, valid, sizes))


def _cut(bench: Bench) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids, boxes to cut (N, T, 4), frames seen (N, T), and window sizes (N, 2) of the kept cells."""
    box = crops.padded_boxes(bench.cells["boxes"], bench.params.crop_padding, bench.task.shape)
    valid = bench.cells["valid"]
    return bench.cells["ids"], box, valid, crops.window_shapes(box, valid)


def _scale(bench: Bench, group: str) -> crops.Scale:
    """How the crops of a raw channel are scaled: fluorescence by its levels above background."""
    channel = int(group.rpartition("_")[2])
    name = group if channel == bench.pc else f"{CORRECTED}_ch_{channel}"
    return crops.Scale.between(*bench.windows[name].tolist())


def _save_part(bench: Bench, product: str, part: np.ndarray) -> None:
    file = scratch.part_file(bench.work, product, bench.block)
    bench.wrote(scratch.save_part(file, part))


def cache_block(bench: Bench) -> None:
    """Write the display levels of every product; what fails is a warning, as it is there to look at only."""
    try:
        for group in dict.fromkeys(spec.group for spec in bench.specs.values()):
            if group.startswith("seg_"):
                top = int(bench.tracks["count" if "tracked" in group else "objects"])
                bench.put_display(group, display.show_labels(bench.get(group), top))
            else:
                bench.put_display(group, display.show_intensities(bench.get(group), *bench.windows[group].tolist()))
    except (OSError, RuntimeError, ValueError, ArithmeticError) as error:
        bench.warnings.append(f"FOV {bench.task.fov}: no display level from frame {bench.task.start} on: {error}")


# ----------------------------------------------------------------------------------------------- gather


def gather(bench: Bench) -> None:
    """Put the blocks' rows and crops together: the traces and ``cells.zarr``."""
    if "crop" in bench.task.digests:
        gather_crops(bench)
    if "extract" in bench.task.digests:
        gather_traces(bench)


def gather_traces(bench: Bench) -> None:
    """Write the traces of the FOV."""
    rows = [scratch.load(file) for file in bench.block_files("rows")]
    times = np.array(read_attributes(bench.images)["times_min"])
    table = traces_table(rows, bench.task.fov, times, feature_columns(bench.job.config))
    path = traces_file(bench.job.fov_dir(bench.task.fov), bench.job.source, bench.task.fov)
    write_traces(path, table)
    bench.wrote(path)
    bench.notes |= {"rows": len(table), "cells": int(table["cell"].nunique())}
    if table.empty:
        bench.warnings.append(_why_empty(bench))


def _why_empty(bench: Bench) -> str:
    tracks = int(bench.tracks["count"])
    if not tracks:
        return f"FOV {bench.task.fov}: no cells were found; look at seg_labeled and at segmentation_params"
    given = bench.params.tracking_params
    return (
        f"FOV {bench.task.fov}: none of {tracks} tracks was kept: each was seen in fewer than {given['min_frames']} "
        f"frames (min_frames) or came within {given['border_margin']} px of the border (border_margin)"
    )


def gather_crops(bench: Bench) -> None:
    """Write ``cells.zarr``, one cell at a time."""
    ids, _, valid, sizes = _cut(bench)
    products: dict[str, crops.Scale | None] = {group: _scale(bench, group) for group in bench.raw_groups}
    products["mask"] = None
    path = bench.job.fov_dir(bench.task.fov) / CELLS
    attributes = {"fov": bench.task.fov, "crop_padding": bench.params.crop_padding}
    with CellsWriter(path) as writer:
        writer.metadata(ids, bench.cells["boxes"], valid, attributes)
        for product, scale in products.items():
            writer.product(product, scale)
            parts = [scratch.load_part(scratch.part_file(bench.work, product, k)) for k in range(len(bench.job.blocks))]
            for cell, windows_of_cell in zip(ids.tolist(), _windows(parts, bench.job, sizes), strict=True):
                if scale is None:
                    small = display.show_labels(windows_of_cell, 1)
                else:
                    small = display.show_intensities(windows_of_cell, 0.0, 1.0)
                writer.crop(product, cell, (windows_of_cell, small))
    bench.wrote(path)
    bench.notes["cells"] = len(ids)


def _windows(parts: list[np.ndarray], job: Job, sizes: np.ndarray) -> Any:
    """Yield the (T, h, w) windows of one cell after the other from the parts of all blocks."""
    offset = 0
    for h, w in sizes.tolist():
        pieces = []
        for (start, stop), part in zip(job.blocks, parts, strict=True):
            frames = stop - start
            piece = part[frames * offset : frames * (offset + h * w)]
            pieces.append(piece.reshape(frames, h, w))
        yield np.concatenate(pieces)
        offset += h * w


TASKS: Mapping[Kind, Callable[[Bench], None]] = {
    "ingest": ingest,
    "link": link,
    "finish": finish,
    "gather": gather,
}
