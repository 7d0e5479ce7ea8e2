"""From the movie to raw shards, labels and background of one block: copying, segmentation, background."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import google_crc32c
import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import as_ranges
from pyama_dask.kernels.background import background_plane, tile_grid
from pyama_dask.kernels.histogram import FineLevels, Histogram
from pyama_dask.kernels.morphology import boxes
from pyama_dask.methods.call import Chosen
from pyama_dask.readers import Reader
from pyama_dask.steps.context import CORRECTED, Bench, levels_of
from pyama_dask.steps.part import Part, go_through
from pyama_dask.store import intermediate
from pyama_dask.store.layout import background_name, labels_name, raw_name


def ingest(bench: Bench) -> None:
    """Copy, segment, and estimate the background of one block."""
    parts: list[Part] = []
    if "copy" in bench.task.digests:
        parts.append(Copy(bench))
    if "segment" in bench.task.digests:
        parts.append(Segmentation(bench))
    if "background" in bench.task.digests:
        parts += [Background(bench, channel) for channel in bench.fl]
    go_through(bench, *([part] for part in parts))


def _save_levels(bench: Bench, levels: Mapping[str, Histogram]) -> None:
    """Leave the grey levels that a part has counted."""
    what = levels_of(next(iter(levels)))
    bench.wrote(intermediate.save_levels(intermediate.block_file(bench.work, what, bench.block), levels))


# ------------------------------------------------------------------------------------------------- copying


class Copy(Part):
    """Frames of the movie in the raw shards, and their grey levels."""

    step = "copy"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._movie = bench.movie
        self._channels = [*([] if bench.pc is None else [bench.pc]), *bench.fl]
        self._levels: dict[str, list[Histogram]] = {group: [] for group in bench.raw_groups}

    def frame(self, k: int) -> None:
        """Read the piece's frame k."""
        bench = self._bench
        number = bench.job.frames[bench.frames[k]]
        planes = read_planes(self._movie.reader, bench.task.fov, number, self._channels, bench.params.z)
        bench.bytes_read += planes.nbytes
        bench.frames_read.append(digest_of(planes))
        for group, plane in zip(bench.raw_groups, planes, strict=True):
            bench.room(group)[k] = plane

    def piece(self) -> None:
        """Write and count the raw channels, if they are still those of the movie that the run was planned for."""
        self._movie.check()
        for group, levels in self._levels.items():
            raw = self._bench.room(group)
            self._bench.put(group, raw)
            levels.append(Histogram.of_integers(raw))

    def end(self) -> None:
        """Leave the grey levels."""
        _save_levels(self._bench, {group: Histogram.sum(levels) for group, levels in self._levels.items()})


def read_planes(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
    """Read the channels (C, H, W) of one frame at a plane, or their maximum over all planes."""
    if z != "max":
        return reader.read_frame(fov, frame, channels=channels, z=int(z or 0))
    highest = reader.read_frame(fov, frame, channels=channels, z=0)
    for plane in range(1, reader.metadata.z_planes):
        np.maximum(highest, reader.read_frame(fov, frame, channels=channels, z=plane), out=highest)
    return highest


def digest_of(planes: np.ndarray) -> int:
    """CRC-32C of the channels (C, H, W) of a frame as they were read."""
    return int(google_crc32c.value(np.ascontiguousarray(planes)))


# -------------------------------------------------------------------------------------------- segmentation


class Segmentation(Part):
    """The cells of every phase-contrast frame, and their boxes."""

    step = "segment"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        params = bench.params
        self._preprocessors = [Chosen("preprocessor", name) for name in params.preprocess]
        self._segmenter = Chosen("segmenter", params.segmentation_method, **params.segmentation_params)
        self._raw, self._labels = raw_name("pc", bench.phase), labels_name(bench.phase)
        self._found: list[np.ndarray] = []
        self._noticed: dict[str, list[int]] = {}

    def frame(self, k: int) -> None:
        """Find the cells of the piece's frame k."""
        bench, frame = self._bench, self._bench.frames[k]
        with warnings.catch_warnings(record=True, action="always") as caught:
            labels, found = segmented(self._preprocessors, self._segmenter, bench.get(self._raw)[k], bench.at(frame))
        bench.room(self._labels)[k] = labels
        self._found.append(found)
        for warning in caught:
            if not issubclass(warning.category, DeprecationWarning):
                self._noticed.setdefault(str(warning.message), []).append(frame)

    def piece(self) -> None:
        """Write the labels; no later step needs the phase-contrast frames."""
        self._bench.put(self._labels, self._bench.room(self._labels))
        self._bench.drop(self._raw)

    def end(self) -> None:
        """Leave the boxes for `link`, and say what the methods noticed."""
        bench = self._bench
        for message, at in self._noticed.items():
            bench.warn("segment", f"FOV {bench.task.fov}, frames {as_ranges(at)}: {message}")
        file = intermediate.block_file(bench.work, "objects", bench.block)
        bench.wrote(intermediate.save(file, **intermediate.ragged(boxes=self._found)))


def segmented(
    preprocessors: Sequence[Chosen], segmenter: Chosen, frame: np.ndarray, where: str
) -> tuple[np.ndarray, npt.NDArray[np.int32]]:
    """Run preprocessors and the segmenter on a frame, and check what comes out: labels and their boxes."""
    image = frame
    for method in preprocessors:
        image = preprocessed(method, image, where)
    labels = segmenter.array(where, image)
    if labels.shape != frame.shape or labels.dtype.kind not in "iu":
        raise segmenter.wrong(where, labels, f"whole-number labels of shape {frame.shape}")
    return without_gaps(labels, segmenter, where)


def preprocessed(method: Chosen, frame: np.ndarray, where: str) -> np.ndarray:
    """Run a preprocessor on a frame, and check what comes out."""
    image = method.array(where, frame)
    if image.shape != frame.shape or image.dtype not in (np.uint8, np.uint16):
        raise method.wrong(where, image, f"uint8 or uint16 {frame.shape}")
    return image


def without_gaps(labels: np.ndarray, segmenter: Chosen, where: str) -> tuple[np.ndarray, npt.NDArray[np.int32]]:
    """Labels as they are stored, and their boxes: 0 for background, objects 1..N in the order of their numbers."""
    found = boxes(labels) if labels.dtype == np.uint16 else None
    if found is None or not found[:, 2].all():  # the box of a number that does not occur is empty
        values, places = np.unique(labels, return_inverse=True)
        if values[0] < 0 or np.count_nonzero(values) > np.iinfo(np.uint16).max:
            given = f"{np.count_nonzero(values)} labels of {values[0]} to {values[-1]}"
            raise segmenter.wrong(where, given, "0 for background and at most 65535 objects")
        labels = np.where(labels == 0, 0, places.reshape(labels.shape) + (values[0] != 0))
        found = boxes(labels)
    return labels, found


# ---------------------------------------------------------------------------------------------- background


class Background(Part):
    """The background of every frame of a fluorescence channel: its tiles, and the plane where that is to be stored."""

    step = "background"

    def __init__(self, bench: Bench, channel: int) -> None:
        super().__init__(bench)
        self._channel, self._raw, self._group = channel, raw_name("fl", channel), background_name(channel)
        self._is_stored = f"{self._group}/0" in bench.specs
        self._levels, self._corrected = FineLevels(), FineLevels()

    def frame(self, k: int) -> None:
        """Measure the tiles of the piece's frame k, and count what comes of them."""
        bench, given = self._bench, self._bench.params.background_params
        raw, labels = bench.get(self._raw)[k], bench.get(labels_name(bench.phase))[k]
        grid = bench.room(self._group, "tiles")[k] = tile_grid(raw, labels, **given)
        if np.isnan(grid[0, 0]):
            where = f"{bench.at(bench.frames[k])}, channel {self._channel}"
            bench.warn("background", f"{where}: cells leave no background to measure")
        if self._is_stored:
            plane = background_plane(grid, given["tile_size"], bench.room(self._group)[k])
        else:
            plane = bench.background(self._channel, k)
        self._levels.add(plane)
        self._corrected.add_corrected(raw, plane, bench.params.background_weight)

    def piece(self) -> None:
        """Write the tiles and the planes; no later step needs what is at full resolution."""
        bench = self._bench
        bench.put(self._group, bench.room(self._group, "tiles"), "tiles")
        if self._is_stored:
            bench.put(self._group, bench.room(self._group))
        bench.drop(self._group)
        bench.drop(self._raw)

    def end(self) -> None:
        """Leave the grey levels of the background, and of the channel less it."""
        corrected = f"{CORRECTED}_ch_{self._channel}"
        _save_levels(self._bench, {self._group: self._levels.histogram(), corrected: self._corrected.histogram()})
