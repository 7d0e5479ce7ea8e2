"""Medians of half-overlapping tiles of a frame, by counting grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts, which take half a second, when they are used

from pyama_dask.kernels.bitmask import Bits, unpack
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.runlength import find_runs

Grid = npt.NDArray[np.float64]
"""(gy, gx) one value per tile."""
MOST_LEVELS = 8192
"""Largest number of grey levels in the histograms that all tiles share."""


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
    _tile_medians(frame, runs, edges, float(min_fraction), low, places, quarters, counts, all_counts, grid)
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
