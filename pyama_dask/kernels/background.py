"""Fluorescence background: medians of tiles between the cells, and a smooth surface through them.

The method is PyAMA's tiled interpolation after Schwarzfischer et al. (2011): half-overlapping tiles, the median of
each tile's uncovered pixels, and a bicubic spline through the tile centres.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts, which take half a second, when they are used
from pydantic import Field

from pyama_dask.config.units import Count, Fraction, Whole
from pyama_dask.kernels.bitmask import Bits, dilate, pack, unpack
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.histogram import FineLevels
from pyama_dask.kernels.morphology import disk
from pyama_dask.kernels.runlength import find_runs

Grid = npt.NDArray[np.float64]
"""(gy, gx) one value per tile."""
MOST_LEVELS = 8192
"""Largest number of grey levels in the histograms that all tiles share."""
STRIP = 2**17
"""Number of pixels of a background that are made and counted together."""
TERMS = 4
"""Number of nonzero terms of a cubic spline at one point, per axis."""


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

    A background is made strip by strip, so that it is counted while it is in the processor's cache.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape, self._height = shape, max(STRIP // max(shape[1], 1), 1)
        self._strip = np.empty((min(self._height, shape[0]), shape[1]), np.float32)
        self.background: FineLevels | None = None
        """Grey levels of the backgrounds; None to not count them."""
        self.corrected: FineLevels | None = None
        """Grey levels of the frames after background subtraction; None to not count them."""

    def add(
        self, grid: Grid, tile_size: int, out: npt.NDArray[np.float32] | None, frame: np.ndarray | None, weight: float
    ) -> None:
        """Make the background of a frame, and count what is asked for.

        Parameters
        ----------
        grid, tile_size
            As for `background_plane`.
        out
            (H, W) array for the background; None if it is only counted.
        frame
            (H, W) grey levels, needed for `corrected`.
        weight
            Factor of the background that is subtracted from the frame.
        """
        surface = Surface(grid, tile_size, self._shape)
        for start in range(0, self._shape[0], self._height):
            rows = slice(start, min(start + self._height, self._shape[0]))
            strip = self._strip[: rows.stop - start] if out is None else out[rows]
            surface.rows(start, strip)
            if self.background is not None and surface.is_measured:
                self.background.add(strip)
            if self.corrected is not None and frame is not None and surface.is_measured:
                self.corrected.add_corrected(frame[rows], strip, weight)


def cover(labels: np.ndarray, dilation: int) -> Bits:
    """Mask of the cells widened by a disk of radius `dilation` pixels."""
    return dilate(pack(labels), disk(dilation))


# ------------------------------------------------------------------------------------------------ tiles


def tile_edges(n: int, tile_size: int) -> npt.NDArray[np.int64]:
    """Edges of half-overlapping tiles over n pixels: tile i spans ``edges[i]`` to ``edges[i + 2]``."""
    pieces = max(-(-n // tile_size) + 1, 2)
    return np.rint(np.linspace(0, n, 2 * pieces - 1)).astype(np.int64)


def grid_shape(shape: tuple[int, int], tile_size: int) -> tuple[int, int]:
    """(gy, gx) tiles of a frame of (H, W) pixels."""
    gy, gx = (tile_edges(n, tile_size).size - 2 for n in shape)
    return gy, gx


def tile_medians(frame: np.ndarray, covered: Bits, *, tile_size: int, min_fraction: float) -> Grid:
    """Median of each tile's uncovered pixels.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    covered
        Packed (H, W) mask of the pixels to leave out; see `cover`.
    tile_size
        Width of a tile in pixels; tiles overlap by half.
    min_fraction
        Smallest fraction of a tile that must be uncovered.

    Returns
    -------
    (gy, gx) medians in grey levels; NaN for tiles with too few uncovered pixels.
    """
    edges_y, edges_x = (tile_edges(n, tile_size) for n in frame.shape)
    grid = np.full((edges_y.size - 2, edges_x.size - 2), np.nan)
    runs = find_runs(~covered)
    low, bins = _common_levels(frame, covered)
    quarters = np.empty((2, edges_x.size - 1, bins + 2), np.uint32)
    counts, all_counts = np.empty(bins + 2, np.uint32), np.empty(np.iinfo(frame.dtype).max + 1, np.uint32)
    places = np.empty(frame.shape[1], np.int32)
    edges = edges_y, edges_x
    _tile_medians(frame, runs, edges, min_fraction, low, places, quarters, counts, all_counts, grid)
    return grid


def _common_levels(frame: np.ndarray, covered: Bits) -> tuple[int, int]:
    """Lowest level and number of levels of a range that holds nearly all medians, from a sample of uncovered pixels."""
    sample = frame[::8, ::8][unpack(Bits(covered.words[::8], covered.width))[:, ::8] == 0]
    low, high = (int(level) for level in np.percentile(sample, [0.5, 99.5])) if sample.size else (0, 0)
    return low, min(high - low + 1, MOST_LEVELS)


@compiled
def _tile_medians(
    frame: Any, runs: Any, edges: Any, min_fraction: float, low: int,
    places: Any, quarters: Any, counts: Any, all_counts: Any, grid: Any,
) -> None:  # fmt: skip
    """Find medians by counting: each uncovered pixel is counted once, in its quarter of a tile.

    Bin 0 holds grey levels below `low` and the last bin those above the range; a median in either is computed exactly.
    """
    edges_y, edges_x = edges
    for row in range(edges_y.size - 1):
        rows = edges_y[row], edges_y[row + 1]
        _count_quarters(frame, runs, rows, edges_x, low, places, quarters[row % 2])
        for j in range(grid.shape[1] if row else 0):
            y0, y1, x0, x1 = edges_y[row - 1], edges_y[row + 1], edges_x[j], edges_x[j + 2]
            free: Any = np.int64(0)
            for k in range(counts.size):
                counts[k] = quarters[0, j, k] + quarters[0, j + 1, k] + quarters[1, j, k] + quarters[1, j + 1, k]
                free += counts[k]
            if free and free >= min_fraction * ((y1 - y0) * (x1 - x0)):
                upper = _ranked(counts, free // 2)
                lower = upper if free % 2 else _ranked(counts, free // 2 - 1)
                if lower == 0 or upper == counts.size - 1:
                    grid[row - 1, j] = _median(frame, runs, (y0, y1), (x0, x1), free, all_counts)
                else:
                    grid[row - 1, j] = low - 1 + (lower + upper) / 2.0


@compiled
def _count_quarters(frame: Any, runs: Any, rows: Any, edges_x: Any, low: int, places: Any, counts: Any) -> None:
    first, begins, ends = runs
    counts[:] = 0
    above = counts.shape[1] - 1
    for y in range(rows[0], rows[1]):
        row = frame[y]
        for x in range(row.size):
            places[x] = min(max(np.int32(row[x]) - np.int32(low) + 1, 0), above)
        quarter = 0
        for k in range(first[y], first[y + 1]):
            begin = begins[k]
            while begin < ends[k]:  # split the run at the borders of quarters
                while edges_x[quarter + 1] <= begin:
                    quarter += 1
                end = min(ends[k], edges_x[quarter + 1])
                for x in range(begin, end):
                    counts[quarter, np.uint32(places[x])] += 1
                begin = end


@compiled
def _ranked(counts: Any, rank: int) -> int:
    """Bin of the value at a rank from 0."""
    k = 0
    while rank >= counts[k]:
        rank -= counts[k]
        k += 1
    return k


@compiled
def _median(frame: Any, runs: Any, rows: Any, columns: Any, free: int, counts: Any) -> float:
    first, begins, ends = runs
    counts[:] = 0
    for y in range(rows[0], rows[1]):
        for k in range(first[y], first[y + 1]):
            for x in range(max(begins[k], columns[0]), min(ends[k], columns[1])):
                counts[frame[y, x]] += 1
    return (_ranked(counts, (free - 1) // 2) + _ranked(counts, free // 2)) / 2.0


def fill_grid(grid: Grid) -> Grid:
    """Fill NaN tiles with the mean of their finite 8-neighbours, repeatedly, until no NaN remains."""
    grid = grid.copy()
    around = np.ones((3, 3))
    while np.isnan(grid).any() and np.isfinite(grid).any():
        known = np.isfinite(grid)
        total = scipy.ndimage.convolve(np.where(known, grid, 0.0), around, mode="constant")
        count = scipy.ndimage.convolve(known.astype(float), around, mode="constant")
        grow = ~known & (count > 0)
        grid[grow] = total[grow] / count[grow]
    return grid


# ---------------------------------------------------------------------------------------------- surface


class Surface:
    """Bicubic spline through the tile centres, linearly extended by one row of tiles to the image border.

    Parameters
    ----------
    grid
        (gy, gx) tile medians, from `tile_grid`.
    tile_size
        Width of a tile in pixels.
    shape
        (H, W) of the frame.
    """

    def __init__(self, grid: Grid, tile_size: int, shape: tuple[int, int]) -> None:
        self.is_measured = not np.isnan(grid).any()
        """False if the grid has NaN; then the surface is NaN everywhere."""
        self._constant: float | None = None
        if not self.is_measured:
            self._constant = np.nan
        elif 1 in grid.shape:  # too small for a surface
            rows, columns = (_extension(n, tile_size)[1] for n in shape)
            self._constant = (rows @ grid @ columns.T).mean()
        else:
            self._down, self._right = (_basis(n, tile_size) for n in shape)
            self._coefficients = np.pad(self._down.solve @ grid @ self._right.solve.T, (0, TERMS - 1))

    def rows(self, start: int, out: npt.NDArray[np.float32]) -> None:
        """Write the values at the pixel centres of rows from `start` on into a (rows, W) array."""
        if self._constant is not None:
            out.fill(self._constant)
            return
        down, right, row = self._down, self._right, np.empty(self._coefficients.shape[1])
        _evaluate(
            self._coefficients, row, start, down.first, down.weights, right.first, right.weights, right.stretches, out
        )  # fmt: skip


class _Basis:
    """Spline basis along one axis. Pixel values are linear in the tiles, so the basis is computed once per shape.

    `solve` turns tiles into spline coefficients. Pixel k is the dot product of ``weights[:, k]`` with the coefficients
    from ``first[k]`` on; for splines of lower degree the remaining weights are 0. Between two consecutive `stretches`
    all pixels share the same coefficients.
    """

    def __init__(self, n: int, tile_size: int) -> None:
        centres, extended = _extension(n, tile_size)
        degree = min(3, centres.size - 1)
        spline = scipy.interpolate.make_interp_spline(centres, np.eye(centres.size), k=degree)
        self.solve = spline.c @ extended
        at = np.arange(n) + 0.5
        dense = scipy.interpolate.BSpline.design_matrix(at, spline.t, degree, extrapolate=True).toarray()
        self.first = np.clip(np.searchsorted(spline.t, at, side="right") - degree - 1, 0, centres.size - degree - 1)
        self.weights = np.zeros((TERMS, n))
        self.weights[: degree + 1] = np.take_along_axis(dense, self.first[:, None] + np.arange(degree + 1), axis=1).T
        self.stretches = np.concatenate([[0], np.flatnonzero(np.diff(self.first)) + 1, [n]])


@lru_cache(maxsize=16)
def _basis(n: int, tile_size: int) -> _Basis:
    return _Basis(n, tile_size)


def _extension(n: int, tile_size: int) -> tuple[npt.NDArray[np.float64], Grid]:
    """Tile centres plus the two image borders, and the matrix that extrapolates tile values linearly to the borders."""
    edges = tile_edges(n, tile_size)
    centres = (edges[:-2] + edges[2:]) / 2
    count = centres.size
    if count == 1:
        return centres, np.eye(1)
    matrix = np.zeros((count + 2, count))
    matrix[1:-1] = np.eye(count)
    for row, near, far, border in ((0, 0, 1, 0.0), (-1, count - 1, count - 2, float(n))):
        reach = (border - centres[near]) / (centres[far] - centres[near])
        matrix[row, near] += 1.0 - reach
        matrix[row, far] += reach
    return np.concatenate([[0.0], centres, [float(n)]]), matrix


@compiled
def _evaluate(
    coefficients: Any, row: Any, start: int, first_y: Any, weights_y: Any,
    first_x: Any, weights_x: Any, stretches: Any, out: Any,
) -> None:  # fmt: skip
    for y in range(out.shape[0]):
        for j in range(row.size):
            row[j] = 0.0
        for k in range(TERMS):
            weight, from_row = weights_y[k, start + y], first_y[start + y] + k
            for j in range(row.size):
                row[j] += weight * coefficients[from_row, j]
        for k in range(stretches.size - 1):
            begin, end = (
                np.uint64(stretches[k]),
                np.uint64(stretches[k + 1]),
            )  # unsigned skips numba's wraparound
            first = first_x[begin]
            a, b, c, d = row[first], row[first + 1], row[first + 2], row[first + 3]
            for x in range(begin, end):
                out[y, x] = a * weights_x[0, x] + b * weights_x[1, x] + c * weights_x[2, x] + d * weights_x[3, x]
