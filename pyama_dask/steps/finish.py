"""From labels and tracks to what is seen and measured in one block: tracking, extraction, cropping, caching.

The steps that see the tracked labels take in each frame together: they share its background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from pyama_dask.errors import CancelledError
from pyama_dask.files.atomic import disk_error
from pyama_dask.kernels import crops, display, features
from pyama_dask.kernels.tracking import relabel
from pyama_dask.methods.call import Chosen
from pyama_dask.steps.context import DISPLAY_FAULTS, Bench
from pyama_dask.steps.cutting import cells_to_cut, crop_scale
from pyama_dask.steps.part import Part, go_through
from pyama_dask.store import intermediate
from pyama_dask.store.layout import background_name, channel_of, labels_name, raw_name, tracked_name
from pyama_dask.store.trace_csv import feature_column, feature_columns


def finish(bench: Bench) -> None:
    """Relabel one block by track; measure, cut and display what is in it."""
    rounds: list[list[type[Part]]] = [[Tracking], [Extraction, Crops, Display]]
    go_through(bench, *([part(bench) for part in parts if part.step in bench.task.digests] for parts in rounds))


class Tracking(Part):
    """Track ids in place of the labels of single frames."""

    step = "track"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._ids = intermediate.by_frame(bench.tracks, "ids")
        self._labels, self._tracked = labels_name(bench.phase), tracked_name(bench.phase)

    def frame(self, k: int) -> None:
        """Relabel the piece's frame k."""
        bench, tracked = self._bench, self._bench.room(self._tracked)
        ids = np.concatenate([[0], self._ids[bench.frames[k]]]).astype(tracked.dtype)
        relabel(bench.get(self._labels)[k], ids, tracked[k])

    def piece(self) -> None:
        """Write the tracked labels."""
        self._bench.put(self._tracked, self._bench.room(self._tracked))


class Extraction(Part):
    """The features of the kept cells in every frame."""

    step = "extract"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._ids, self._boxes = (intermediate.by_frame(bench.tracks, name) for name in ("ids", "boxes"))
        channels = bench.job.config.channels
        self._shapes = [Chosen("phase feature", name) for name in (channels.pc.features if channels.pc else ())]
        self._intensities = {
            int(choice.channel): [Chosen("fluorescence feature", name) for name in choice.features]
            for choice in channels.fl
            if choice.features
        }
        names = ("cell", "frame", "bbox", *feature_columns(bench.job.config))
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def frame(self, k: int) -> None:
        """Measure the kept cells in the piece's frame k."""
        bench, frame = self._bench, self._bench.frames[k]
        ids, found = self._ids[frame], self._boxes[frame]
        kept = np.isin(ids, bench.cells["ids"])
        row = {"cell": ids, "frame": np.full(len(ids), frame), "bbox": found}
        row |= self._phase_features(k, found) | self._fluorescence_features(k, found)
        for name, values in self._columns.items():
            values.append(row[name][kept])

    def _phase_features(self, k: int, found: np.ndarray) -> dict[str, np.ndarray]:
        """Feature columns of all objects of the piece's frame k in phase contrast."""
        if not self._shapes:
            return {}
        bench = self._bench
        shapes = features.measure_shapes(bench.get(labels_name(bench.phase))[k], found)
        return measured_columns(self._shapes, bench.phase, bench.at(bench.frames[k]), shapes, len(found))

    def _fluorescence_features(self, k: int, found: np.ndarray) -> dict[str, np.ndarray]:
        """Feature columns of all objects of the piece's frame k in fluorescence."""
        bench, columns = self._bench, dict[str, np.ndarray]()
        for channel, chosen in self._intensities.items():
            raw, labels = bench.get(raw_name("fl", channel))[k], bench.get(labels_name(bench.phase))[k]
            background, weight = bench.background(channel, k), bench.params.background_weight
            intensities = features.measure_intensities(raw, background, weight, labels, found)
            columns |= measured_columns(chosen, channel, bench.at(bench.frames[k]), intensities, len(found))
        return columns

    def end(self) -> None:
        """Leave the rows for `gather`."""
        file = intermediate.block_file(self._bench.work, "rows", self._bench.block)
        rows = {name: np.concatenate(values) for name, values in self._columns.items()}
        self._bench.wrote(intermediate.save(file, **rows))


def measured_columns(
    chosen: Sequence[Chosen], channel: int, where: str, measured: features.Shapes | features.Intensities, objects: int
) -> dict[str, np.ndarray]:
    """Columns of the chosen features of a frame, checked."""
    columns = {}
    for method in chosen:
        values = method.array(where, measured)
        if values.shape != (objects,) or values.dtype.kind not in "buif":
            raise method.wrong(where, values, f"one number for each of {objects} objects")
        columns[feature_column(method.name, channel)] = values
    return columns


class Crops(Part):
    """The kept cells' windows out of every product, as parts that `gather` puts together."""

    step = "crop"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._ids, self._boxes, self._valid, sizes = cells_to_cut(bench)
        frames = bench.task.stop - bench.task.start
        self._windows = {group: crops.Windows(sizes, frames, np.float32) for group in bench.raw_groups}
        self._masks = crops.Windows(sizes, frames, np.uint8)

    def frame(self, k: int) -> None:
        """Cut the cells out of the piece's frame k."""
        bench, frame = self._bench, self._bench.frames[k]
        at, boxes, valid = frame - bench.task.start, self._boxes[:, frame], self._valid[:, frame]
        for group, windows in self._windows.items():
            channel = channel_of(group)
            back = None if channel == bench.pc else bench.background(channel, k)
            scale, weight = crop_scale(bench, group), bench.params.background_weight
            windows.cut_intensities(at, bench.get(group)[k], back, weight, scale, boxes, valid)
        self._masks.cut_masks(at, bench.get(tracked_name(bench.phase))[k], self._ids, boxes, valid)

    def end(self) -> None:
        """Leave the parts for `gather`."""
        for product, windows in {**self._windows, "mask": self._masks}.items():
            file = intermediate.part_file(self._bench.work, product, self._bench.block)
            self._bench.wrote(intermediate.save_part(file, windows.flat))


class Display(Part):
    """The display levels of every product; what fails is a warning, as they are there to look at only."""

    step = "cache"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._groups = [spec.group for spec in bench.specs.values() if spec.level == 1]
        self._backgrounds = {
            channel: group for channel in bench.fl if (group := background_name(channel)) in self._groups
        }

    def frame(self, k: int) -> None:
        """Show the backgrounds of the piece's frame k, which no one holds."""
        bench = self._bench
        with self._forgiven():
            for channel, group in self._backgrounds.items():
                window = bench.windows[group].tolist()
                bench.room(group, 1)[k] = display.show_intensities(bench.background(channel, k)[None], *window)[0]

    def piece(self) -> None:
        """Show and write all products."""
        with self._forgiven():
            for group in self._groups:
                self._bench.put(group, self._shown(group), 1)

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Turn what goes wrong into a warning, and leave the block without display levels."""
        bench = self._bench
        try:
            yield
        except DISPLAY_FAULTS as error:
            if isinstance(error, CancelledError) or disk_error(error, bench.job.output):
                raise
            bench.warn("cache", f"FOV {bench.task.fov}: no display level from frame {bench.task.start} on: {error}")
            for group in self._groups:
                bench.remove(group, 1)
            self._groups, self._backgrounds = [], {}

    def _shown(self, group: str) -> np.ndarray:
        bench = self._bench
        if group.startswith("seg_"):
            return display.show_labels(
                bench.get(group), int(bench.tracks["count" if "tracked" in group else "objects"])
            )
        if group.startswith("fl_background"):
            return bench.room(group, 1)
        return display.show_intensities(bench.get(group), *bench.windows[group].tolist())
