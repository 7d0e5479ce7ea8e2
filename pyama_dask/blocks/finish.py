"""From labels and tracks to what is seen and measured in one block: tracking, extraction, cropping, caching."""

from __future__ import annotations

import numpy as np

from pyama_dask import scratch
from pyama_dask.blocks.bench import DISPLAY_FAULTS, Bench
from pyama_dask.blocks.cutting import cells_to_cut, crop_scale
from pyama_dask.kernels import crops, display, features
from pyama_dask.kernels.methods import find_method
from pyama_dask.kernels.tracking import relabel
from pyama_dask.store import background_name, labels_name, raw_name, tracked_name
from pyama_dask.traces import feature_column, feature_columns


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
        relabel(labels[k], np.concatenate([[0], ids[frame]]).astype(tracked.dtype), tracked[k])
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
            columns[feature_column(name, bench.phase)] = find_method("phase feature", name)(shapes)
    for choice in bench.job.config.channels.fl:
        if choice.features:
            raw, back = (
                bench.get(raw_name("fl", int(choice.channel))),
                bench.get(background_name(int(choice.channel))),
            )
            intensities = features.measure_intensities(raw[k], back[k], bench.params.background_weight, labels, found)
            for name in choice.features:
                columns[feature_column(name, int(choice.channel))] = find_method("fluorescence feature", name)(
                    intensities
                )
    return columns


def crop_block(bench: Bench) -> None:
    """Cut the kept cells' windows out of every product, as parts that `gather` puts together."""
    ids, box, valid, sizes = cells_to_cut(bench)
    box, valid = box[:, bench.task.start : bench.task.stop], valid[:, bench.task.start : bench.task.stop]
    for group in bench.raw_groups:
        channel = int(group.rpartition("_")[2])
        back = None if channel == bench.pc else bench.get(background_name(channel))
        weight, scale = bench.params.background_weight, crop_scale(bench, group)
        part = crops.cut_intensities(bench.get(group), back, weight, scale, box, valid, sizes)
        _save_part(bench, group, part)
    _save_part(bench, "mask", crops.cut_masks(bench.get(tracked_name(bench.phase)), ids, box, valid, sizes))


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
    except DISPLAY_FAULTS as error:
        bench.warn("cache", f"FOV {bench.task.fov}: no display level from frame {bench.task.start} on: {error}")
