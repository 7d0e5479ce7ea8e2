"""Cut the kept cells out of their frames, and write the crops of a FOV."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from pyama_dask.kernels import crops, display
from pyama_dask.steps.background import Rebuilt
from pyama_dask.steps.context import DISPLAY_FAULTS, TaskContext
from pyama_dask.steps.filled import FilledFrames
from pyama_dask.steps.levels import corrected_name
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import fills_gaps
from pyama_dask.store import intermediate
from pyama_dask.store.crop_parts import PartReader, save_part
from pyama_dask.store.crops import CellsWriter, cells_path
from pyama_dask.store.layout import channel_of, tracked_name
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Job

BATCH_VALUES = 2**22
"""Number of pixels of crops that are read together; a cell with more is read alone."""


class Crops(BlockPart):
    """Windows of the kept cells in every product, as parts that `gather` joins."""

    def __init__(self, context: TaskContext, step: Step) -> None:
        super().__init__(context, step)
        self._ids, self._boxes, self._valid, sizes = cells_to_cut(context)
        frames = context.task.stop - context.task.start
        self._windows = {group: crops.Windows(sizes, frames, np.float32) for group in context.raw_groups}
        self._masks = crops.Windows(sizes, frames, np.uint8)
        self._filled = FilledFrames(context) if fills_gaps(context.job.config) else None
        self._drawn: list[np.ndarray] = []

    def frame(self, k: int) -> None:
        """Cut the cells out of the batch's frame k."""
        context, frame = self._context, self._context.frames[k]
        at, boxes, valid = frame - context.task.start, self._boxes[:, frame], self._valid[:, frame]
        if self._filled is not None:
            boxes, valid = self._with_fills(k, boxes, valid)
        for group, windows in self._windows.items():
            channel = channel_of(group)
            back = None if channel == context.pc else context.shared(Rebuilt, channel).plane(k)
            scale, weight = crop_scale(context, group), context.params.background_weight
            windows.cut_intensities(at, context.seen(self.step, group)[k], back, weight, scale, boxes, valid)
        self._masks.cut_masks(at, context.get(tracked_name(context.phase))[k], self._ids, boxes, valid)

    def _with_fills(self, k: int, boxes: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes to cut and mask of the cells in the batch's frame k, those of filled gaps among them."""
        assert self._filled is not None
        tracks, places = self._filled.drawn(k)
        kept = np.isin(tracks, self._ids)
        rows, places = np.searchsorted(self._ids, tracks[kept]), places[kept]
        self._drawn.append(np.column_stack([rows, np.full(len(rows), self._context.frames[k]), places]))
        boxes, valid = boxes.copy(), valid.copy()
        boxes[rows] = crops.padded_boxes(places, self._context.params.crop_padding, self._context.task.shape)
        valid[rows] = True
        return boxes, valid

    def end(self) -> None:
        """Write the parts for `gather`."""
        if self._filled is not None:
            file = intermediate.filled_file(self._context.work, self._context.block)
            self._context.wrote(intermediate.save(file, drawn=np.concatenate(self._drawn)))
        for product, windows in {**self._windows, "mask": self._masks}.items():
            file = intermediate.part_file(self._context.work, product, self._context.block)
            self._context.wrote(file, save_part(file, windows.flat, direct=self._context.job.direct_io))


def store_crops(context: TaskContext) -> None:
    """Write ``cells.zarr``, one cell at a time."""
    ids, _, _, sizes = cells_to_cut(context)
    boxes, valid, filled = _boxes_with_fills(context)
    products: dict[str, crops.Scale | None] = {group: crop_scale(context, group) for group in context.raw_groups}
    products["mask"] = None
    path = cells_path(context.job.config, context.job.fov_dir(context.task.fov))
    attributes = {"fov": context.task.fov, "crop_padding": context.params.crop_padding}
    with CellsWriter(path) as writer:
        writer.metadata(ids, boxes, valid, attributes, filled)
        for product, scale in products.items():
            writer.product(product, scale)
            windows = _windows(context.parts_of_crops(product), context.job, sizes)
            for cell, crop in zip(ids.tolist(), windows, strict=True):
                context.check()
                writer.crop(product, cell, (crop, *_shown(context, crop)))
        context.shards.check()  # nothing is put in place that was made from damaged parts
    context.wrote(path, writer.checksum)
    context.note(cells=len(ids))


def _boxes_with_fills(context: TaskContext) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(N, T, 4) boxes, (N, T) frames with the cell, and (N, T) filled ones; the last is None if gaps are not filled."""
    boxes, valid = context.cells["boxes"], context.cells["valid"]
    if not fills_gaps(context.job.config):
        return boxes, valid, None
    files = (intermediate.filled_file(context.work, block) for block in range(len(context.job.blocks)))
    drawn = np.concatenate([intermediate.load(context.verified(file))["drawn"] for file in files])
    rows, frames, filled = drawn[:, 0], drawn[:, 1], np.zeros_like(valid)
    boxes[rows, frames], filled[rows, frames] = drawn[:, 2:], True
    return boxes, valid | filled, filled


def _shown(context: TaskContext, crop: np.ndarray) -> list[np.ndarray]:
    """Display level of a crop in a list; empty if display levels are off, or if it fails, with a warning."""
    if context.job.config.storage.display == "off":
        return []
    try:
        if crop.dtype == np.uint8:
            return [display.show_labels(crop, 1)]
        return [display.show_intensities(crop, 0.0, 1.0)]
    except DISPLAY_FAULTS as error:
        context.warn(f"{context.task.place}: no display level of the crops: {error}")
        return []


def _windows(parts: Sequence[PartReader], job: Job, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the (T, h, w) windows cell by cell from the blocks' parts, read in batches of cells."""
    areas = sizes.astype(np.int64).prod(1)
    for batch in batches(areas * job.n_frames, BATCH_VALUES):
        windows = _read_windows(parts, job, int(areas[: batch.start].sum()), sizes[batch])
        while windows:
            yield windows.popleft()


def batches(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Yield successive items whose sizes add up to at most a number; a larger item is alone."""
    first = total = 0
    for place, size in enumerate(sizes.tolist()):
        if place > first and total + size > most:
            yield slice(first, place)
            first, total = place, 0
        total += size
    if len(sizes):
        yield slice(first, len(sizes))


def _read_windows(parts: Sequence[PartReader], job: Job, first: int, sizes: np.ndarray) -> deque[np.ndarray]:
    """(T, h, w) windows of successive cells, the first of which begins at a place in a frame of all windows."""
    areas = sizes.astype(np.int64).prod(1)
    ends = areas.cumsum()
    windows: deque[np.ndarray] = deque()
    for part, (start, stop) in zip(parts, job.blocks, strict=True):
        n = stop - start
        values = part.read(n * first, n * int(areas.sum()))
        if not windows:
            windows.extend(np.empty((job.n_frames, *size), values.dtype) for size in sizes)
        for window, piece in zip(windows, np.split(values, n * ends[:-1]), strict=True):
            window[start:stop] = piece.reshape(n, *window.shape[1:])
    return windows


def cells_to_cut(context: TaskContext) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids, boxes to cut (N, T, 4), frames seen (N, T), and window sizes (N, 2) of the kept cells.

    Windows have room for all planned fills, whether they are drawn or not.
    """
    cells = context.cells
    box = crops.padded_boxes(cells["boxes"], context.params.crop_padding, context.task.shape)
    valid, sizes = cells["valid"], crops.window_shapes(box, cells["valid"])
    if "planned" in cells:
        planned = crops.padded_boxes(cells["planned"], context.params.crop_padding, context.task.shape)
        there = np.asarray((cells["planned"][..., 2:] > cells["planned"][..., :2]).all(-1))
        sizes = np.maximum(sizes, crops.window_shapes(planned, there))
    return cells["ids"], box, valid, sizes


def crop_scale(context: TaskContext, group: str) -> crops.Scale:
    """Scale of the crops of a raw channel; fluorescence is scaled by its levels above background."""
    channel = channel_of(group)
    name = group if channel == context.pc else corrected_name(channel)
    return crops.Scale.between(*context.crop_windows[name].tolist())
