"""Offsets of overlapping tiles: peaks of the normalised cross-correlation in their overlaps.

The correlation is the masked one of Padfield 2012 (doi:10.1109/TIP.2011.2181402): each shift is normalised by the
pixels that the tiles share at that shift. Both masks are rectangles, so that their sums come from summed-area tables
and one Fourier transform per tile is enough. Shading and the pattern of the camera's rows and columns are the same in
all tiles and would draw the peak to where they match; they are removed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts when they are used

Image = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
FINE, COARSE = 1.5, 12.0
"""Standard deviations in pixels of the Gaussians whose difference is compared: noise is finer than cells, background
is coarser."""
NARROWEST = 8
"""Smallest width in pixels of an overlap that is compared."""
UNIFORM = 1e-9
"""Largest variance of an overlap without content, relative to that of the overlap that has most."""
LEAST_NCC = 0.5
"""Smallest correlation of an offset that counts: noise reaches 0.1, real overlaps without cells 0.3, with cells 0.9."""


class Offset(NamedTuple):
    """Place of a tile's corner relative to that of another one, and how well the tiles agree there."""

    y: float
    """Pixels."""
    x: float
    """Pixels."""
    ncc: float
    """Normalised cross-correlation, -1 to 1; 0 if there is nothing to compare."""
    at_limit: bool
    """True if the best shift lies at the limit of the search, so that the true one may lie beyond."""

    @property
    def accepted(self) -> bool:
        """True if the offset counts."""
        return self.ncc >= LEAST_NCC and not self.at_limit


def pair_offsets(
    tiles: Sequence[npt.NDArray[Any]], stage: npt.ArrayLike, max_shift: float
) -> dict[tuple[int, int], Offset]:
    """Measure the offsets of all neighbours among the tiles of a well.

    Parameters
    ----------
    tiles
        N arrays of (H, W) grey levels.
    stage
        (N, 2) y, x of their corners in pixels, as the stage states them.
    max_shift
        Largest error of the stage between two neighbours along each axis, in pixels.

    Returns
    -------
    Offset of the second tile from the first, by indices of both, for all `neighbours`; to a fraction of a pixel, by a
    parabola through the peak along each axis.
    """
    at, levelled = np.asarray(stage, np.float64), [_Tile(tile) for tile in tiles]
    pairs = neighbours(at, tiles[0].shape) if levelled else []
    return {(i, j): _pair_offset(levelled[i], levelled[j], at[j] - at[i], max_shift) for i, j in pairs}


def offsets_at(
    tiles: Sequence[npt.NDArray[Any]], stage: npt.ArrayLike, positions: npt.ArrayLike, max_shift: float
) -> dict[tuple[int, int], Offset]:
    """Describe the offsets of tiles at positions that another method has found.

    Parameters
    ----------
    tiles
        N arrays of (H, W) grey levels.
    stage
        (N, 2) y, x of their corners in pixels, as the stage states them.
    positions
        (N, 2) y, x of their corners in pixels, as they were found.
    max_shift
        Largest error of the stage between two neighbours along each axis, in pixels.

    Returns
    -------
    Offset of the second tile from the first, by indices of both, for all `neighbours`, with the correlation on whole
    pixels there. Those farther from the stage than `max_shift` are at the limit.
    """
    at, found = np.asarray(stage, np.float64), np.asarray(positions, np.float64)
    levelled, offsets = [_Tile(tile) for tile in tiles], dict[tuple[int, int], Offset]()
    for i, j in neighbours(at, tiles[0].shape) if levelled else []:
        y, x = found[j] - found[i]
        far = bool((np.abs((y, x) - (at[j] - at[i])) > max_shift).any())
        offsets[i, j] = Offset(float(y), float(x), _ncc_at(levelled[i], levelled[j], np.array([y, x])), far)
    return offsets


def levelled(tile: npt.NDArray[Any]) -> Image:
    """(H, W) tile as it is compared here: without shading, pattern of the camera, noise and slow changes."""
    return _Tile(tile).facing(np.zeros(2, np.int64), 0)[0]


def neighbours(stage: npt.ArrayLike, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Find the pairs of tiles that overlap along a side.

    Parameters
    ----------
    stage
        (N, 2) y, x of the tiles' corners in pixels.
    shape
        (H, W) of a tile.

    Returns
    -------
    Ascending pairs of indices whose overlap is at least `NARROWEST` pixels wide and half a side long.
    """
    at, size = np.asarray(stage, np.float64).reshape(-1, 2), np.array(shape)
    overlap = size - np.abs(at[:, None] - at)
    found = (overlap >= NARROWEST).all(2) & (overlap >= size / 2).any(2)
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(found, 1))]


class _Tile:
    """Tile of which the medians of rows and columns are known, as in median polish (Tukey 1977)."""

    def __init__(self, image: npt.NDArray[Any]) -> None:
        self.image = image
        self.rows = np.median(image, axis=1).astype(np.float32)
        self.columns = np.median(image - self.rows[:, None], axis=0)

    def facing(self, offset: Whole, reach: int) -> tuple[Image, Whole]:
        """Part of the tile that another one may cover, without levels, noise and slow changes; and its corner."""
        low = np.clip(offset - reach, 0, self.image.shape)
        high = np.clip(offset + self.image.shape + reach, 0, self.image.shape)
        down, across = (slice(*ends) for ends in zip(low, high, strict=True))
        part = self.image[down, across] - self.rows[down, None] - self.columns[across]
        blurred = (scipy.ndimage.gaussian_filter(part, sigma, output=np.float64) for sigma in (FINE, COARSE))
        return next(blurred) - next(blurred), low


def _pair_offset(first: _Tile, second: _Tile, expected: npt.NDArray[np.float64], max_shift: float) -> Offset:
    nearest, reach = np.rint(expected).astype(np.int64), int(np.ceil(max_shift))
    (a, corner_a), (b, corner_b) = first.facing(nearest, reach), second.facing(-nearest, reach)
    shifts = nearest + corner_b - corner_a + np.arange(-reach, reach + 1)[:, None]
    ncc = _ncc(a, b, *shifts.T)
    row, column = (int(k) for k in np.unravel_index(np.argmax(ncc), ncc.shape))
    if np.isinf(ncc[row, column]):
        return Offset(float(expected[0]), float(expected[1]), 0.0, at_limit=False)
    padded = np.pad(ncc, 1, constant_values=-np.inf)
    lines = padded[row : row + 3, column + 1], padded[row + 1, column : column + 3]
    y, x = nearest - reach + (row, column) + [summit(line) for line in lines]
    return Offset(float(y), float(x), float(ncc[row, column]), bool(np.isinf(lines).any()))


def _ncc_at(first: _Tile, second: _Tile, offset: npt.NDArray[np.float64]) -> float:
    """Correlation of two tiles at one offset; 0 if there is nothing to compare."""
    nearest = np.rint(offset).astype(np.int64)
    (a, corner_a), (b, corner_b) = first.facing(nearest, NARROWEST), second.facing(-nearest, NARROWEST)
    if not (a.size and b.size):
        return 0.0
    ncc = _ncc(a, b, *(nearest + corner_b - corner_a)[:, None])[0, 0]
    return float(ncc) if np.isfinite(ncc) else 0.0


def _ncc(a: Image, b: Image, rows: Whole, columns: Whole) -> Image:
    """Correlation of the pixels that both images have, for shifts of `b`; -inf where they are few or uniform."""
    (tall, rows_a, rows_b), (wide, columns_a, columns_b) = map(_shared, a.shape, b.shape, (rows, columns))
    count = np.outer(tall, wide)
    sum_a, square_a = (_sums(image, rows_a, columns_a) for image in (a, a * a))
    sum_b, square_b = (_sums(image, rows_b, columns_b) for image in (b, b * b))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_a, spread_b = square_a - sum_a**2 / count, square_b - sum_b**2 / count
        ncc = (_products(a, b, rows, columns) - sum_a * sum_b / count) / np.sqrt(spread_a * spread_b)
        uneven = (spread_a > UNIFORM * square_a.max()) & (spread_b > UNIFORM * square_b.max())
    return np.where(uneven & (np.minimum.outer(tall, wide) >= NARROWEST), ncc, -np.inf)


def _products(a: Image, b: Image, rows: Whole, columns: Whole) -> Image:
    """Sum of the products of the pixels of `a` and the shifted `b`, for all pairs of shifts."""
    size = [scipy.fft.next_fast_len(n + m, real=True) for n, m in zip(a.shape, b.shape, strict=True)]
    products = scipy.fft.irfft2(scipy.fft.rfft2(a, size) * np.conj(scipy.fft.rfft2(b, size)), size)
    return np.asarray(products[np.ix_(rows % size[0], columns % size[1])])


def _shared(n: int, m: int, by: Whole) -> tuple[Whole, Whole, Whole]:
    """Number of pixels that a line of n shares with one of m that is moved, and their edges in both."""
    edges = np.array([np.clip(by, 0, n), np.clip(m + by, 0, n)])
    return np.maximum(edges[1] - edges[0], 0), edges, np.clip(edges - by, 0, m)


def _sums(image: Image, rows: Whole, columns: Whole) -> Image:
    """Sums over all rectangles of (2, R) edges of rows and (2, C) of columns, by a summed-area table (Crow 1984)."""
    table = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return np.asarray(np.diff(np.diff(table[rows], axis=0)[0][:, columns], axis=1)[:, 0])


def summit(three: Image) -> float:
    """Distance of a parabola's peak from the middle one of three values."""
    before, at, after = three
    bend = before - 2 * at + after
    return float((before - after) / (2 * bend)) if np.isfinite(bend) and bend else 0.0
