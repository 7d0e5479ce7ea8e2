"""Compile the kernels with a run on a small synthetic movie: ``python -m pyama_dask.demo.first_run uint16``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.demo.write_czi import write_czi
from pyama_dask.kernels import lap
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.cell_maps import decode, decode_mask, without_gaps
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.kernels.filling import draw
from pyama_dask.kernels.flatten import flatten
from pyama_dask.kernels.resize import zoom
from pyama_dask.kernels.tracking import label_areas
from pyama_dask.runs.driver import run
from pyama_dask.runs.final_page import final_pages


def first_run(dtype: str) -> None:
    """Run every step in this process, on a movie with pixels of type `dtype`.

    Raises
    ------
    RuntimeError
        If the run fails.
    """
    movie = DemoMovie(fovs=1, frames=6, shape=(200, 240), cells=4, border_margin=20)
    pixels = np.reshape([movie[index] for index in np.ndindex(*movie.shape[:3])], movie.shape)
    if dtype == "uint8":
        pixels = pixels >> 8
    with TemporaryDirectory() as folder:
        write_czi(file := Path(folder, "movie.czi"), pixels.astype(dtype))
        for background in ("full", "grid"):
            document = {
                "input": file,
                "output": Path(folder, background),
                "channels": {
                    "pc": {"channel": 0, "features": list(SHAPE_FEATURES)},
                    "fl": [{"channel": 1, "features": list(INTENSITY_FEATURES)}],
                },
                "params": {"tracking_params": {"min_frames": 2, "border_margin": 0}},
                "storage": {"block_frames": 3, "background": background},
                "cluster": {"kind": "serial"},
            }
            with final_pages(on=False):
                report = run(parse_config(document))
            if report.exit_status:
                raise RuntimeError(f"the run on the synthetic movie failed: {report}")


def dense_methods(dtype: str) -> None:
    """Call the kernels of the segmenters for dense cells, of which a run uses one at most."""
    frame = (np.indices((64, 64)).sum(0) % 23).astype(dtype)
    segment_bright(frame)
    segment_bright(frame, invert=True)
    for factor in (0.5, 1.0, 1.5):
        flatten(zoom(frame, factor))
    maps = np.stack([flatten(frame[:32, :32])] * 3)
    decode(maps, frame.shape, depth=0.2, touch=0.3, smallest=9)
    decode_mask(maps[0], frame.shape, depth=0.2, smallest=9)
    without_gaps(np.full((2, 2), 2, np.uint16))


def follow_cells() -> None:
    """Link cells with the tracker `lap` over a jump of the stage, and fill a gap."""
    corners = np.indices((3, 3)).reshape(2, -1).T * 45
    boxes = np.hstack([corners, corners + 20]).astype(np.int32)
    lap.link([boxes, boxes + 60], divide=True)
    draw(np.zeros((4, 4), np.uint16), np.ones(1, bool), np.ones((2, 2), bool), np.zeros(2, np.int64), 1)
    label_areas(np.zeros((4, 4), np.uint16), 0)


def main(types: Sequence[str]) -> None:
    """Compile the kernels for each pixel type."""
    follow_cells()
    for dtype in types:
        first_run(dtype)
        dense_methods(dtype)


if __name__ == "__main__":
    main(sys.argv[1:])
