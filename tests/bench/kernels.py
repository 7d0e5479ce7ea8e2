"""All kernels of one frame against their plain definitions, in one process on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from support import reference
from support.bright_cells import bright_movie

from pyama_dask.demo.movie import DemoMovie
from pyama_dask.kernels.background import background
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.features import (
    INTENSITY_FEATURES,
    SHAPE_FEATURES,
    measure_intensities,
    measure_shapes,
)
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import link, relabel
from pyama_dask.methods.onnx_model import shipped_models
from pyama_dask.methods.unet import segment_unet


def frame_of_200_cells() -> tuple[np.ndarray, np.ndarray]:
    """Phase and fluorescence of one 2048 x 2048 frame with 200 cells."""
    movie = DemoMovie(fovs=1, frames=2, shape=(2048, 2048), cells=200)
    return np.asarray(movie[0, 1, 0]), np.asarray(movie[0, 1, 1])


@cache
def bright_frame() -> np.ndarray:
    """2048 x 2048 frame of 2000 bright cells, some in contact."""
    return bright_movie((2048, 2048), cells=2000, seed=1)[0][0]


SEGMENTERS: dict[str, Callable[[np.ndarray], Any]] = {"bright": segment_bright} | {
    f"unet with {name}": partial(segment_unet, model=name, zoom=1.0) for name in shipped_models()
}


def ours(phase: np.ndarray, fluorescence: np.ndarray) -> np.ndarray:
    """Everything that the pipeline computes for a frame; gives the areas."""
    labels = segment(phase)
    found = boxes(labels)
    ids = link([found])[0]
    tracked = np.empty_like(labels)
    relabel(labels, np.concatenate([[0], ids]).astype(np.uint16), tracked)
    back = background(fluorescence, labels)
    shapes = measure_shapes(labels, found)
    intensities = measure_intensities(fluorescence, back, 1.0, labels, found)
    for feature in SHAPE_FEATURES.values():
        feature(shapes)
    for feature in INTENSITY_FEATURES.values():
        feature(intensities)
    return shapes.area


def plain(phase: np.ndarray, fluorescence: np.ndarray) -> np.ndarray:
    """The same by the plain definitions, which measure half of the features."""
    done = reference.process_fov(phase[None], {1: fluorescence[None]}, min_frames=1, border_margin=0)
    return done["rows"]["area_ch_0"].to_numpy()


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Shortest of some calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Shortest CPU time of some calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def measure() -> list[tuple[str, str, str]]:
    """Rows of the table: figure, what was found, target."""
    phase, fluorescence = frame_of_200_cells()
    areas = ours(phase, fluorescence)
    if not np.array_equal(areas, plain(phase, fluorescence)):
        raise ArithmeticError("the kernels do not agree with their plain definitions")
    fast = seconds(lambda: ours(phase, fluorescence), 7)
    slow = seconds(lambda: plain(phase, fluorescence), 2)
    figure = f"all kernels of a 2048 x 2048 frame, {len(areas)} cells ({fast * 1e3:.0f} ms), against plain definitions"
    return [(figure, f"{slow / fast:.1f} times faster", "20 times"), *of_segmenters()]


def of_segmenters() -> list[tuple[str, str, str]]:
    """Rows of the CPU time of each segmenter for dense cells."""
    targets = {"bright": "at most 0.13 s"}
    frame = bright_frame()
    return [
        (
            f"CPU time of `{name}`, a 2048 x 2048 frame of 2000 cells",
            f"{cpu_seconds(lambda segment=method: segment(frame), 9):.3f} s",
            targets.get(name, "at most 0.18 s"),
        )
        for name, method in SEGMENTERS.items()
    ]
