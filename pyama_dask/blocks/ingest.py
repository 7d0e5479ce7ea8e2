"""From the movie to raw shards, labels and background of one block: copying, segmentation, background."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from pyama_dask import scratch
from pyama_dask.blocks.bench import CORRECTED, Bench
from pyama_dask.config import as_ranges
from pyama_dask.errors import AlgorithmError, PyamaError
from pyama_dask.kernels.background import background_plane, grid_shape, tile_grid
from pyama_dask.kernels.levels import FineLevels, Histogram
from pyama_dask.kernels.methods import Method, find_method
from pyama_dask.kernels.morphology import boxes
from pyama_dask.layout import background_name, labels_name, raw_name
from pyama_dask.readers import Reader, shared_reader
from pyama_dask.tasks import Step


def ingest(bench: Bench) -> None:
    """Copy, segment, and estimate the background of one block."""
    steps: Mapping[Step, Callable[[Bench], None]] = {
        "copy": copy_block,
        "segment": segment_block,
        "background": background_block,
    }
    for step in bench.task.digests:
        bench.step = step
        steps[step](bench)


def copy_block(bench: Bench) -> None:
    """Copy frames from the movie into the raw shards, and count their grey levels."""
    channels = [*([] if bench.pc is None else [bench.pc]), *bench.fl]
    shape = (len(bench.frames), *bench.task.shape)
    stacks = [np.empty(shape, np.uint16) for _ in channels]
    reader = shared_reader(bench.job.source)
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
    noticed: dict[str, list[int]] = {}
    found = []
    for k, frame in enumerate(bench.frames):
        with warnings.catch_warnings(record=True, action="always") as caught:
            labels[k], frame_boxes = _apply(methods, phase[k], bench.at(frame))
        found.append(frame_boxes)
        for warning in caught:
            if not issubclass(warning.category, DeprecationWarning):
                noticed.setdefault(str(warning.message), []).append(frame)
    for message, at in noticed.items():
        bench.warn("segment", f"FOV {bench.task.fov}, frames {as_ranges(at)}: {message}")
    bench.put(labels_name(bench.phase), labels)
    objects = scratch.ragged(boxes=found)
    bench.wrote(scratch.save(scratch.block_file(bench.work, "objects", bench.block), **objects))


def _apply(methods: list[Method], frame: np.ndarray, where: str) -> tuple[np.ndarray, npt.NDArray[np.int32]]:
    """Run preprocessors and the segmenter on a frame, and check what comes out."""
    result = frame
    for method in methods:
        if result.shape != frame.shape or result.dtype not in (np.uint8, np.uint16):
            raise AlgorithmError(
                f"{where}: a preprocessor gave {result.dtype} {result.shape}, not uint8 or uint16 {frame.shape}"
            )
        try:
            result = np.asarray(method(result))
        except PyamaError:
            raise
        except Exception as error:
            raise AlgorithmError(f"{where}: segmentation failed: {type(error).__name__}: {error}") from error
    if result.shape != frame.shape or result.dtype.kind not in "iu":
        raise AlgorithmError(f"{where}: the segmenter must give whole-number labels of shape {frame.shape}")
    return without_gaps(result, where)


def without_gaps(labels: np.ndarray, where: str) -> tuple[np.ndarray, npt.NDArray[np.int32]]:
    """Labels as they are stored, and their boxes: 0 for background, objects 1..N in the order of their numbers."""
    found = boxes(labels) if labels.dtype == np.uint16 else None
    if found is None or not found[:, 2].all():  # the box of a number that does not occur is empty
        values, places = np.unique(labels, return_inverse=True)
        if values[0] < 0 or np.count_nonzero(values) > np.iinfo(np.uint16).max:
            raise AlgorithmError(f"{where}: labels must be 0 for background and at most 65535 objects")
        labels = np.where(labels == 0, 0, places.reshape(labels.shape) + (values[0] != 0))
        found = boxes(labels)
    return labels, found


def background_block(bench: Bench) -> None:
    """Estimate the background of every fluorescence frame: its tiles, and the plane where that is to be stored."""
    bench.drop(raw_name("pc", bench.phase))
    for channel in bench.fl:
        levels = _measure_background(bench, channel)
        _save_levels(bench, levels)
        bench.drop(raw_name("fl", channel))


def _measure_background(bench: Bench, channel: int) -> dict[str, Histogram]:
    labels, raw = bench.get(labels_name(bench.phase)), bench.get(raw_name("fl", channel))
    group, given = background_name(channel), bench.params.background_params
    full = f"{group}/0" in bench.specs
    planes = np.empty(raw.shape if full else raw.shape[1:], np.float32)
    grids = np.empty((len(raw), *grid_shape(bench.task.shape, given["tile_size"])))
    background, corrected = FineLevels(), FineLevels()
    for k, frame in enumerate(bench.frames):
        grids[k] = tile_grid(raw[k], labels[k], **given)
        if np.isnan(grids[k, 0, 0]):
            bench.warn("background", f"{bench.at(frame)}, channel {channel}: cells leave no background to measure")
        out = background_plane(grids[k], given["tile_size"], planes[k] if full else planes)
        background.add(out)
        corrected.add_corrected(raw[k], out, bench.params.background_weight)
    bench.put(group, grids, "tiles")
    if full:
        bench.put(group, planes)
        bench.drop(group)
    return {group: background.histogram(), f"{CORRECTED}_ch_{channel}": corrected.histogram()}


def _save_levels(bench: Bench, levels: Mapping[str, Histogram]) -> None:
    bench.wrote(scratch.save_levels(scratch.block_file(bench.work, f"levels_{bench.step}", bench.block), levels))
