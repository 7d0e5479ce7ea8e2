"""From labels and tracks to what is seen and measured in one block: tracking, extraction, cropping, caching.

Each step is a class with what it makes of a block. Frames go through all of them one by one, so that what steps share,
such as the background of a frame, is made once and is never there for the whole block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from pyama_dask import scratch
from pyama_dask.blocks.bench import DISPLAY_FAULTS, Bench
from pyama_dask.blocks.cutting import cells_to_cut, crop_scale
from pyama_dask.kernels import crops, display, features
from pyama_dask.kernels.methods import find_method
from pyama_dask.kernels.tracking import relabel
from pyama_dask.layout import background_name, channel_of, labels_name, raw_name, tracked_name
from pyama_dask.tasks import Step
from pyama_dask.traces import feature_column, feature_columns


class Part(Protocol):
    """What a step makes of a block."""

    def __init__(self, bench: Bench) -> None: ...

    def frame(self, k: int) -> None:
        """Take in the block's frame k."""
        ...

    def end(self) -> None:
        """Write what was made."""
        ...


def finish(bench: Bench) -> None:
    """Relabel one block by track; measure, cut and display what is in it."""
    if "track" in bench.task.digests:
        bench.step = "track"
        relabel_block(bench)
    steps: Mapping[Step, type[Part]] = {"extract": Extraction, "crop": Crops, "cache": Display}
    parts = {step: part(bench) for step, part in steps.items() if step in bench.task.digests}
    for k in range(len(bench.frames)):
        for part in parts.values():
            part.frame(k)
    for step, part in parts.items():
        bench.step = step
        part.end()


def relabel_block(bench: Bench) -> None:
    """Write track ids in place of the labels of single frames."""
    labels = bench.get(labels_name(bench.phase))
    group = tracked_name(bench.phase)
    tracked = np.empty(labels.shape, bench.spec(group).dtype)
    ids = scratch.by_frame(bench.tracks, "ids")
    for k, frame in enumerate(bench.frames):
        relabel(labels[k], np.concatenate([[0], ids[frame]]).astype(tracked.dtype), tracked[k])
    bench.put(group, tracked)


class Extraction:
    """The features of the kept cells in every frame."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._labels = bench.get(labels_name(bench.phase))
        self._ids, self._boxes = (scratch.by_frame(bench.tracks, name) for name in ("ids", "boxes"))
        names = ("cell", "frame", "bbox", *feature_columns(bench.job.config))
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def frame(self, k: int) -> None:
        """Measure the kept cells in the block's frame k."""
        frame = self._bench.frames[k]
        ids, found = self._ids[frame], self._boxes[frame]
        kept = np.isin(ids, self._bench.cells["ids"])
        row = {"cell": ids, "frame": np.full(len(ids), frame), "bbox": found}
        row |= _phase_features(self._bench, self._labels[k], found)
        row |= _fluorescence_features(self._bench, k, self._labels[k], found)
        for name, values in self._columns.items():
            values.append(row[name][kept])

    def end(self) -> None:
        """Leave the rows for `gather`."""
        file = scratch.block_file(self._bench.work, "rows", self._bench.block)
        rows = {name: np.concatenate(values) for name, values in self._columns.items()}
        self._bench.wrote(scratch.save(file, **rows))


def _phase_features(bench: Bench, labels: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Feature columns of all objects of a frame in phase contrast."""
    names = bench.job.config.channels.pc.features if bench.job.config.channels.pc else ()
    if not names:
        return {}
    shapes = features.measure_shapes(labels, found)
    return {feature_column(name, bench.phase): find_method("phase feature", name)(shapes) for name in names}


def _fluorescence_features(bench: Bench, k: int, labels: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Feature columns of all objects of the block's frame k in fluorescence."""
    columns = {}
    for choice in bench.job.config.channels.fl:
        if choice.features:
            channel, weight = int(choice.channel), bench.params.background_weight
            raw = bench.get(raw_name("fl", channel))[k]
            intensities = features.measure_intensities(raw, bench.background(channel, k), weight, labels, found)
            for name in choice.features:
                columns[feature_column(name, channel)] = find_method("fluorescence feature", name)(intensities)
    return columns


class Crops:
    """The kept cells' windows out of every product, as parts that `gather` puts together."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ids, box, valid, sizes = cells_to_cut(bench)
        block = slice(bench.task.start, bench.task.stop)
        self._boxes, self._valid = box[:, block], valid[:, block]
        frames = len(bench.frames)
        self._windows = {group: crops.Windows(sizes, frames, np.float32) for group in bench.raw_groups}
        self._masks = crops.Windows(sizes, frames, np.uint8)

    def frame(self, k: int) -> None:
        """Cut the cells out of the block's frame k."""
        bench, boxes, valid = self._bench, self._boxes[:, k], self._valid[:, k]
        for group, windows in self._windows.items():
            channel = channel_of(group)
            back = None if channel == bench.pc else bench.background(channel, k)
            scale, weight = crop_scale(bench, group), bench.params.background_weight
            windows.cut_intensities(k, bench.get(group)[k], back, weight, scale, boxes, valid)
        self._masks.cut_masks(k, bench.get(tracked_name(bench.phase))[k], self._ids, boxes, valid)

    def end(self) -> None:
        """Leave the parts for `gather`."""
        for product, windows in {**self._windows, "mask": self._masks}.items():
            file = scratch.part_file(self._bench.work, product, self._bench.block)
            self._bench.wrote(scratch.save_part(file, windows.flat))


class Display:
    """The display levels of every product; what fails is a warning, as they are there to look at only."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._groups = [spec.group for spec in bench.specs.values() if spec.level == 1]
        h, w = bench.task.shape
        shape = (len(bench.frames), h // 2, w // 2)
        self._backgrounds = {
            channel: np.empty(shape, np.uint8) for channel in bench.fl if background_name(channel) in self._groups
        }

    def frame(self, k: int) -> None:
        """Show the backgrounds of the block's frame k, which no one holds."""
        with self._forgiven():
            for channel, shown in self._backgrounds.items():
                window = self._bench.windows[background_name(channel)].tolist()
                shown[k] = display.show_intensities(self._bench.background(channel, k)[None], *window)[0]

    def end(self) -> None:
        """Show and write all products."""
        with self._forgiven():
            for group in self._groups:
                self._bench.put(group, self._shown(group), 1)

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Turn what goes wrong into a warning, and leave it at that."""
        try:
            yield
        except DISPLAY_FAULTS as error:
            fov, start = self._bench.task.fov, self._bench.task.start
            self._bench.warn("cache", f"FOV {fov}: no display level from frame {start} on: {error}")
            self._groups, self._backgrounds = [], {}

    def _shown(self, group: str) -> np.ndarray:
        bench = self._bench
        if group.startswith("seg_"):
            return display.show_labels(
                bench.get(group), int(bench.tracks["count" if "tracked" in group else "objects"])
            )
        if group.startswith("fl_background"):
            return self._backgrounds[channel_of(group)]
        return display.show_intensities(bench.get(group), *bench.windows[group].tolist())
