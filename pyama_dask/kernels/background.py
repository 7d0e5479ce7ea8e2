"""Fluorescence background: medians of tiles between the cells, and a smooth surface through them.

The method is PyAMA's tiled interpolation after Schwarzfischer et al. (2011): half-overlapping tiles, the median of
each tile's uncovered pixels, and a bicubic spline through the tile centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.config.units import Count, Fraction, Whole
from pyama_dask.kernels import scratch
from pyama_dask.kernels.bitmask import Bits, dilate, pack
from pyama_dask.kernels.histogram import FineLevels
from pyama_dask.kernels.morphology import disk
from pyama_dask.kernels.surface import Surface
from pyama_dask.kernels.tiles import Grid, fill_grid, tile_medians

STRIP = 2**17
"""Number of pixels of a background that are made and counted together."""


def background(
    frame: np.ndarray,
    labels: np.ndarray,
    out: npt.NDArray[np.float32] | None = None,
    *,
    tile_size: Annotated[
        Count, Field(description="pixels: tiles whose medians are the background between cells")
    ] = 100,
    dilation: Annotated[
        Whole, Field(description="pixels: cells are widened by this before the background is measured")
    ] = 10,
    min_fraction: Annotated[
        Fraction, Field(description="0 to 1: smallest part of a tile that must be free of cells")
    ] = 0.05,
) -> npt.NDArray[np.float32]:
    """Estimate the smooth background of one fluorescence frame.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16 fluorescence.
    labels
        (H, W) labels of the cells; pixels covered by cells widened by `dilation` are excluded.
    out
        (H, W) array for the result; a new array if None.
    tile_size
        Width of a tile in pixels; tiles overlap by half.
    dilation
        Radius in pixels by which cells are widened.
    min_fraction
        Smallest fraction of a tile that must be free of cells; other tiles are filled from their neighbours.

    Returns
    -------
    (H, W) float32 background in grey levels; all NaN if no tile is free of cells.
    """
    grid = tile_grid(frame, labels, tile_size=tile_size, dilation=dilation, min_fraction=min_fraction)
    return background_plane(grid, tile_size, np.empty(frame.shape, np.float32) if out is None else out)


def tile_grid(
    frame: np.ndarray,
    labels: np.ndarray,
    *,
    tile_size: Count = 100,
    dilation: Whole = 10,
    min_fraction: Fraction = 0.05,
) -> Grid:
    """Measure the tile medians from which the background of one frame is built.

    Parameters
    ----------
    frame, labels, tile_size, dilation, min_fraction
        As for `background`.

    Returns
    -------
    (gy, gx) medians in grey levels, with covered tiles filled from their neighbours; all NaN if every tile is covered.
    """
    return fill_grid(tile_medians(frame, cover(labels, dilation), tile_size=tile_size, min_fraction=min_fraction))


def background_plane(grid: Grid, tile_size: int, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rebuild the background of a frame from its tiles.

    Parameters
    ----------
    grid
        (gy, gx) medians from `tile_grid`.
    tile_size
        Width of a tile in pixels.
    out
        (H, W) array for the background in grey levels; all NaN if the grid is.

    Returns
    -------
    `out`.
    """
    Surface(grid, tile_size, (out.shape[0], out.shape[1])).rows(0, out)
    return out


class CountedPlanes:
    """Backgrounds of frames, of which grey levels are counted as they are made.

    A background is made in strips of rows, so that it is counted, and can be written, while it is in the processor's
    cache.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape, self._together = shape, max(STRIP // max(shape[1], 1), 1)
        self.background: FineLevels | None = None
        """Grey levels of the backgrounds; None to not count them."""
        self.corrected: FineLevels | None = None
        """Grey levels of the frames after background subtraction; None to not count them."""

    def strips(
        self, grid: Grid, tile_size: int, frame: np.ndarray | None, weight: float, height: int | None = None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Make the background of a frame, and count what is asked for.

        Parameters
        ----------
        grid, tile_size
            As for `background_plane`.
        frame
            (H, W) grey levels, needed for `corrected`.
        weight
            Factor of the background that is subtracted from the frame.
        height
            Rows of a strip; None for as many as are made and counted together.

        Yields
        ------
        Strips from top to bottom, (rows, W); the next one takes the same memory.
        """
        surface, height = Surface(grid, tile_size, self._shape), min(height or self._together, max(self._shape[0], 1))
        room = scratch.empty((height, self._shape[1]), np.float32)
        for first in range(0, self._shape[0], height):
            strip = room[: self._shape[0] - first]
            for start in range(0, len(strip), self._together):
                rows = strip[start : start + self._together]
                surface.rows(first + start, rows)
                if surface.is_measured:
                    self._count(rows, frame if frame is None else frame[first + start :][: len(rows)], weight)
            yield strip

    def _count(self, rows: npt.NDArray[np.float32], frame: np.ndarray | None, weight: float) -> None:
        if self.background is not None:
            self.background.add(rows)
        if self.corrected is not None and frame is not None:
            self.corrected.add_corrected(frame, rows, weight)


def cover(labels: np.ndarray, dilation: int) -> Bits:
    """Mask of the cells widened by a disk of radius `dilation` pixels."""
    return dilate(pack(labels), disk(dilation))
