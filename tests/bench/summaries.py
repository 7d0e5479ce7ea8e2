"""What the summary of a FOV costs: sharpness and light of each frame, and the task that joins all numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bench.kernels import cpu_seconds, frame_of_200_cells
from bench.table import Row
from pyama_dask.config.load import parse_config
from pyama_dask.kernels.sharpness import level_and_spread, sharpness
from pyama_dask.kernels.tracking import link
from pyama_dask.methods.tracker_parameters import tracking_parameters
from pyama_dask.steps.context import TaskContext
from pyama_dask.steps.summary import summarise
from pyama_dask.store import intermediate
from pyama_dask.store.summary import load_summary
from pyama_dask.store.trace_csv import feature_columns
from pyama_dask.workflow.task import Job, Task

FRAMES, BLOCK, CELLS, SHAPE = 180, 12, 200, (2048, 2048)
"""Of the FOV that is summarised."""


def measure(directory: Path) -> list[Row]:
    """Measure one frame, and one FOV."""
    phase, fluorescence = frame_of_200_cells()

    def look() -> None:
        sharpness(phase)
        level_and_spread(phase)
        level_and_spread(fluorescence)

    context = made_fov(directory)
    joined = cpu_seconds(lambda: summarise(context), 9)
    read = cpu_seconds(lambda: load_summary(context.work), 25)
    size = (context.work / "summary.npz").stat().st_size
    return [
        ("CPU time of sharpness and light of a 2048 x 2048 frame, 2 channels", f"{cpu_seconds(look, 25) * 1e3:.2f} ms",
         "at most 4 ms"),
        (f"CPU time of the summary of a FOV of {CELLS} cells x {FRAMES} frames, in `gather`", f"{joined * 1e3:.0f} ms",
         "at most 100 ms"),
        ("CPU time of reading such a summary; its size", f"{read * 1e3:.1f} ms, {size / 1e3:.0f} kB", ""),
    ]  # fmt: skip


def made_fov(directory: Path) -> TaskContext:
    """Context of the task that summarises a FOV whose other tasks have left their tables."""
    config = parse_config({
        "input": "a.nd2", "output": directory,
        "channels": {"pc": {"channel": 0, "features": ["area", "aspect_ratio"]},
                     "fl": [{"channel": 1, "features": ["intensity_total", "intensity_mean"]}]},
        "params": {"tracking_params": tracking_parameters("iou", {}), "background_params": {"tile_size": 100}},
    })  # fmt: skip
    job = Job(Path("a.nd2"), directory, config, tuple(range(FRAMES)), BLOCK)
    context = TaskContext(Task("gather", 0, SHAPE, 0, FRAMES, None, {"summary": "a"}), job)
    context.images.mkdir(parents=True)
    attributes = {"attributes": {"times_min": list(range(FRAMES))}}
    (context.images / "zarr.json").write_text(json.dumps(attributes | {"zarr_format": 3, "node_type": "group"}))
    context.work.mkdir(parents=True)
    random = np.random.default_rng(0)
    corners = random.integers(100, 1900, (CELLS, 2))
    boxes = [np.hstack([corners + t % 3, corners + 40 + t % 3]).astype(np.int32) for t in range(FRAMES)]
    ids = link(boxes)
    for block, (start, stop) in enumerate(job.blocks):
        frames = np.repeat(np.arange(start, stop), CELLS)
        values = {name: random.random(frames.size) for name in feature_columns(config)}
        light = random.random((2, stop - start))
        tables = {
            "light": {"sharpness": light[0], "level": light, "spread": light},
            "objects": intermediate.ragged(boxes=boxes[start:stop], areas=[np.full(CELLS, 900)] * (stop - start)),
            "rows": {"frame": frames, **values},
        }
        for name, arrays in tables.items():
            intermediate.save(intermediate.block_file(context.work, name, block), **arrays)
    intermediate.save(context.work / "tracks.npz", **intermediate.ragged(ids=ids, boxes=boxes))
    return context
