"""The picture of docs/segmentation.md: ``PYTHONPATH=tests python -m bench.pictures MODEL MOVIE``.

The model must not have been trained on the field of view of the movie, whose frame 8 is shown.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from support.bright_cells import bright_movie

from pyama_dask.demo.movie import DemoMovie
from pyama_dask.files.palette import FOUND, as_picture, draw, grey_range, outlines
from pyama_dask.kernels.bright import segment_bright
from pyama_dask.kernels.segmentation import segment
from pyama_dask.methods.unet import segment_unet
from pyama_dask.runs.one_frame import phase_frames

FIGURE = Path(__file__).parents[2] / "docs/figures/methods.png"
SHOWN = 256
"""Height and width of what is shown of a frame."""


def frames_shown(movie: Path) -> dict[str, np.ndarray]:
    """Whole frames by their descriptions."""
    with phase_frames(movie, 0, None) as phase:
        real = phase.read(0, 8)
    return {
        "separate cells (synthetic)": np.asarray(DemoMovie(fovs=1, frames=9, shape=(512, 512), cells=24)[0, 8, 0]),
        "compact cells (synthetic)": bright_movie((512, 512), cells=220, seed=1)[0][0],
        "flat cells in contact (T98G)": real,
    }


def drawn(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H, W, 3) centre of a frame with outlines."""
    top, left = ((n - SHOWN) // 2 for n in frame.shape)
    inside = np.s_[top : top + SHOWN, left : left + SHOWN]
    picture = as_picture(frame[inside], grey_range([frame], (0.5, 99.5)))
    draw(picture, outlines(labels)[inside], FOUND)
    return picture


def main(model: str, movie: str) -> None:
    """Draw what each built-in method finds with its defaults."""
    methods: dict[str, Callable[..., Any]] = {
        "logstd": segment, "bright": segment_bright, "unet": partial(segment_unet, model=model)
    }  # fmt: skip
    shown = frames_shown(Path(movie))
    figure = Figure(figsize=(8, 8.4), layout="constrained")
    for row, (what, frame) in zip(figure.subplots(3, 3), shown.items(), strict=True):
        for axes, (name, method) in zip(row, methods.items(), strict=True):
            with warnings.catch_warnings(action="ignore"):
                labels = method(frame)
            axes.imshow(drawn(frame, labels), interpolation="none")
            axes.set(xticks=[], yticks=[])
            if frame is next(iter(shown.values())):
                axes.set_title(name)
        row[0].set_ylabel(what)
    figure.savefig(FIGURE, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
