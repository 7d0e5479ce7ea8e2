"""What each kernel takes for a 2048 x 2048 frame with 200 cells, beside its plain definition (``make bench``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi
from support import reference

from bench.kernels import SEGMENTERS, bright_frame, frame_of_200_cells
from pyama_dask.kernels import (
    background,
    crops,
    display,
    features,
    histogram,
    morphology,
    segmentation,
    sharpness,
    tracking,
)


@cache
def frame() -> dict[str, Any]:
    """One frame, and what the kernels make of it for each other."""
    phase, fluorescence = frame_of_200_cells()
    labels = segmentation.segment(phase)
    boxes = morphology.boxes(labels)
    grid = background.tile_grid(fluorescence, labels)
    plane = background.background_plane(grid, 100, np.empty(phase.shape, np.float32))
    return {
        "phase": phase, "fluorescence": fluorescence, "labels": labels, "boxes": boxes, "grid": grid, "plane": plane,
        "ids": np.arange(len(boxes) + 1, dtype=np.uint16), "out": np.empty_like(labels),
        "sizes": crops.window_shapes(boxes[:, None], np.ones((len(boxes), 1), bool)),
        "seen": np.ones(len(boxes), bool), "float": np.empty_like(plane),
    }  # fmt: skip


def _crops(f: dict[str, Any]) -> None:
    windows = crops.Windows(f["sizes"], 1, np.float32)
    windows.cut_intensities(0, f["fluorescence"], f["plane"], 1.0, crops.Scale.between(0, 100), f["boxes"], f["seen"])


KERNELS: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[dict[str, Any]], Any] | None]] = {
    "segment": (lambda f: segmentation.segment(f["phase"]), lambda f: reference.segment(f["phase"])),
    "boxes": (lambda f: morphology.boxes(f["labels"]), lambda f: ndi.find_objects(f["labels"])),
    "background": (
        lambda f: background.background(f["fluorescence"], f["labels"], f["float"]),
        lambda f: reference.background(f["fluorescence"], f["labels"]),
    ),
    "background from tiles": (lambda f: background.background_plane(f["grid"], 100, f["float"]), None),
    "relabel": (lambda f: tracking.relabel(f["labels"], f["ids"], f["out"]), lambda f: f["ids"][f["labels"]]),
    "shapes": (lambda f: features.measure_shapes(f["labels"], f["boxes"]), None),
    "intensities": (
        lambda f: features.measure_intensities(f["fluorescence"], f["plane"], 1.0, f["labels"], f["boxes"]),
        None,
    ),
    "sharpness": (
        lambda f: sharpness.sharpness(f["phase"]),
        lambda f: np.square(np.diff(f["phase"][::4].astype(np.float64))).mean(),
    ),
    "level and spread": (
        lambda f: sharpness.level_and_spread(f["phase"]),
        lambda f: (f["phase"][::4, ::4].mean(), f["phase"][::4, ::4].std()),
    ),
    "grey levels, raw": (
        lambda f: histogram.WholeLevels().add(f["phase"]),
        lambda f: np.percentile(f["phase"], [1, 99]),
    ),
    "grey levels, above background": (
        lambda f: histogram.FineLevels().add_corrected(f["fluorescence"], f["plane"], 1.0),
        lambda f: np.percentile(f["fluorescence"] - f["plane"], [1, 99]),
    ),
    "crops": (_crops, None),
    "display": (
        lambda f: display.show_intensities(f["phase"][None], 9000.0, 20000.0),
        lambda f: reference.display_level(f["phase"][None], is_labels=False),
    ),
}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenter(benchmark: Any, name: str) -> None:
    benchmark.group = name
    benchmark.pedantic(SEGMENTERS[name], args=(bright_frame(),), rounds=9, warmup_rounds=1)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str) -> None:
    benchmark.group = name
    benchmark.pedantic(KERNELS[name][0], args=(frame(),), rounds=9, warmup_rounds=1)


@pytest.mark.parametrize("name", [name for name, (_, plain) in KERNELS.items() if plain])
def test_plain_definition(benchmark: Any, name: str) -> None:
    plain = KERNELS[name][1]
    assert plain is not None
    benchmark.group = name
    benchmark.pedantic(plain, args=(frame(),), rounds=2, warmup_rounds=0)
