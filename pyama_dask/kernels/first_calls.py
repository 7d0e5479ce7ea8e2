"""First calls of the kernels, on small frames: ``python -m pyama_dask.kernels.first_calls forwards uint16/logstd``.

The first call of a kernel in a process loads its machine code, or compiles and caches it. Calls do not depend on each
other, so two processes can start at opposite ends: where they meet, each finds what the other has cached.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels import (
    background,
    crops,
    display,
    drift,
    features,
    filters,
    histogram,
    lap,
    morphology,
    runlength,
)
from pyama_dask.kernels.bitmask import pack
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.cell_maps import decode, decode_mask, without_gaps
from pyama_dask.kernels.filling import draw
from pyama_dask.kernels.flatten import flatten
from pyama_dask.kernels.logstd import LocalDeviation
from pyama_dask.kernels.resize import reduce_area, zoom
from pyama_dask.kernels.scores import match
from pyama_dask.kernels.sharpness import level_and_spread, sharpness
from pyama_dask.kernels.tiles import grid_shape
from pyama_dask.kernels.tracking import label_areas, relabel

Calls = Sequence[Callable[[], object]]
Frame = npt.NDArray[Any]
SHAPE, TILE = (64, 64), 20
FORWARDS, BACKWARDS = "forwards", "backwards"


def _every_run(frame: Frame) -> Calls:
    labels = np.kron(np.array([[1, 0], [0, 2]], np.uint16), np.ones((32, 32), np.uint16))
    boxes, seen = np.array([[0, 0, 32, 32], [32, 32, 64, 64]], np.int32), np.ones(2, np.bool_)
    plane, grid = frame.astype(np.float32), np.ones(grid_shape(SHAPE, TILE))
    sizes, ids, scale = crops.window_shapes(boxes[:, None], seen[:, None]), np.arange(1, 3), crops.Scale(0.0, 1.0)
    windows, masks = crops.Windows(sizes, 1, np.float32), crops.Windows(sizes, 1, np.uint8)
    planes = background.CountedPlanes(SHAPE)
    planes.background, planes.corrected = histogram.FineLevels(), histogram.FineLevels()
    return (
        lambda: morphology.boxes_and_areas(labels),
        lambda: features.measure_shapes(labels, boxes),
        lambda: features.measure_intensities(frame, plane, 1.0, labels, boxes),
        lambda: windows.cut_intensities(0, frame, plane, 1.0, scale, boxes, seen),
        lambda: masks.cut_masks(0, labels, ids, boxes, seen),
        lambda: display.show_intensities(frame[None], 0.0, 9.0),
        lambda: display.show_intensities(plane[None], 0.0, 9.0),
        lambda: display.show_labels(labels[None], 2),
        lambda: display.show_labels(labels[None].astype(np.uint8), 1),
        lambda: relabel(labels, np.arange(3, dtype=np.uint16), np.empty_like(labels)),
        lambda: (sharpness(frame), level_and_spread(frame)),
        lambda: histogram.WholeLevels().add(frame),
        lambda: [*planes.strips(grid, TILE, frame, 1.0)],
        lambda: background.tile_grid(frame, labels, tile_size=TILE),
    )


def _logstd(frame: Frame) -> Calls:
    """Segment frames of little contrast and of the strongest, whose sums need words of 32 and of 64 bits."""
    mask = pack((frame > np.median(frame)).astype(np.uint16))
    strong = np.where(frame % 2, np.iinfo(frame.dtype).max, frame).astype(frame.dtype)
    return (
        lambda: runlength.label(mask, 0, frame.size),
        lambda: runlength.solid(mask, 9),
        lambda: morphology.closing(mask, morphology.disk(2)),
        *_deviation(LocalDeviation(frame)),
        *_deviation(LocalDeviation(strong, window_size=37)),  # so wide that sums of 8-bit pixels need 64 bits
    )


def _deviation(of: LocalDeviation) -> Calls:
    return lambda: of.above(1.0), lambda: of.histogram(20), lambda: of.spread_up_to(99.0)


def _bright(frame: Frame) -> Calls:
    return lambda: segment_bright(frame), lambda: segment_bright(frame, invert=True)


def _unet(frame: Frame) -> Calls:
    maps = np.stack([frame[:32, :32].astype(np.float32)] * 3)
    return (
        *(lambda factor=factor: flatten(zoom(frame, factor)) for factor in (0.5, 1.0, 1.5)),
        lambda: decode(maps, SHAPE, depth=0.2, touch=0.3, smallest=9),
        lambda: decode_mask(maps[0], SHAPE, depth=0.2, smallest=9),
        lambda: without_gaps(np.full((2, 2), 2, np.uint16)),
    )


def _lap(_frame: Frame) -> Calls:
    """Link cells over a jump of the stage."""
    corners = np.indices((3, 3)).reshape(2, -1).T * 45
    boxes = np.ascontiguousarray(np.hstack([corners, corners + 20]), np.int32)
    return (lambda: lap.link([boxes, boxes + 60], divide=True),)


def _fill_gaps(_frame: Frame) -> Calls:
    labels = np.zeros((4, 4), np.uint16)
    return (
        lambda: draw(labels, np.ones(1, np.bool_), np.ones((2, 2), np.bool_), np.zeros(2, np.int64), 1),
        lambda: label_areas(np.zeros((4, 4), np.uint16), 0),
    )


def _scores(_frame: Frame) -> Calls:
    labels = np.eye(4, dtype=np.uint16)
    return (lambda: match(labels, labels),)


def _resample(frame: Frame) -> Calls:
    plane = frame.astype(np.float32)
    return lambda: reduce_area(plane, 2), lambda: zoom(plane, 0.7), lambda: zoom(plane, 1.5)


EVERY_RUN, FILL_GAPS, DRIFT, PLATE, SCORES = "every_run", "fill_gaps", "drift", "plate", "scores"
KERNELS: Mapping[str, Callable[[Frame], Calls]] = {
    EVERY_RUN: _every_run, "logstd": _logstd, "bright": _bright, "unet": _unet, "lap": _lap, FILL_GAPS: _fill_gaps,
    SCORES: _scores,
    DRIFT: lambda frame: (lambda: drift.seen(frame),),
    PLATE: lambda frame: (lambda: display.halve(frame, np.empty_like(frame[::2, ::2])),),
    "resample": _resample,
    "gaussian": lambda frame: (lambda: filters.gaussian(frame),),
    "median": lambda frame: (lambda: filters.median(frame),),
    "top_hat": lambda frame: (lambda: filters.top_hat(frame, radius=2),),
    "rolling_ball": lambda frame: (lambda: filters.rolling_ball(frame, radius=2),),
}  # fmt: skip
"""Calls of the kernels of every run, and of those that a setting, a method or a step needs; the latter two by name."""


def call_all(wanted: Iterable[str], order: str = FORWARDS) -> None:
    """Call kernels.

    Parameters
    ----------
    wanted
        Types of pixels and keys of `KERNELS`, such as ``uint16/logstd``.
    order
        `FORWARDS` or `BACKWARDS`.
    """
    calls: list[Callable[[], object]] = []
    for one in wanted:
        dtype, _, name = one.partition("/")
        calls += KERNELS[name]((np.indices(SHAPE).prod(0) % 23).astype(dtype))
    for call in calls if order == FORWARDS else reversed(calls):
        call()


if __name__ == "__main__":
    call_all(sys.argv[2:], sys.argv[1])
