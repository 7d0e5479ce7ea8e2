"""Smooth surface through the medians of tiles."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts, which take half a second, when they are used

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.tiles import Grid, tile_edges

TERMS = 4
"""Number of nonzero terms of a cubic spline at one point, per axis."""


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
