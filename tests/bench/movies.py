"""Movies of the demo's cells as ND2 files, for measurements."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from support.write_nd2 import Nd2Writer

from pyama_dask.demo.movie import DemoMovie

MOVIE = "BENCH_MOVIE"
"""Environment variable with the path of a movie that was drawn before."""
SIDE, CELLS = 2048, 196


class BackAndForth:
    """A movie of any length that runs through a short one, back and forth."""

    def __init__(self, movie: DemoMovie, frames: int) -> None:
        fovs, self._period, *rest = movie.shape
        self.shape, self.dtype = (fovs, frames, *rest), movie.dtype
        self._planes = {index: movie[index] for index in np.ndindex(*movie.shape[:3])}

    def __getitem__(self, index: tuple[int, int, int]) -> np.ndarray:
        fov, frame, channel = index
        there, back = frame % (2 * self._period - 2), -frame % (2 * self._period - 2)
        return self._planes[fov, min(there, back), channel]


def write_nd2(path: Path, movie: DemoMovie | BackAndForth) -> Path:
    """Write a movie (FOVs, frames, channels, H, W) plane by plane; gives the path."""
    fovs, frames, channels, height, width = movie.shape
    sizes = {"T": frames, "P": fovs, "C": channels, "Y": height, "X": width}
    with Nd2Writer(path, sizes, channels=["Phase", "GFP"], pixel_size_um=0.65, period_ms=600_000) as writer:
        for frame, fov in np.ndindex(frames, fovs):
            writer.write(np.stack([movie[fov, frame, channel] for channel in range(channels)]), T=frame, P=fov)
    return path


def given_or_drawn(directory: Path, fovs: int, frames: int, side: int = SIDE, cells: int = CELLS) -> Path:
    """The movie that ``BENCH_MOVIE`` names; without it, a new one of phase contrast and one fluorescence channel."""
    if given := os.environ.get(MOVIE):
        return Path(given).absolute()
    print(f"drawing {fovs} FOVs x {frames} frames; {MOVIE}=PATH uses a movie again ...", file=sys.stderr, flush=True)
    movie = DemoMovie(fovs=fovs, frames=frames, shape=(side, side), cells=cells)
    return write_nd2(directory / f"{fovs}x{frames}.nd2", movie)
