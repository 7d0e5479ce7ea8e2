"""One image of a well from its overlapping tiles, blended linearly over the overlaps.

Tiles are placed on whole pixels: interpolation between pixels would smooth the noise of each tile differently, which
segmentation by local standard deviation would see. A tile thus lies up to half a pixel off along each axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]


class Mosaic(NamedTuple):
    """Canvas of a well, and the places of its tiles on it."""

    shape: tuple[int, int]
    """(height, width) of the canvas in pixels."""
    tile_shape: tuple[int, int]
    """(H, W) of each tile."""
    corners: tuple[tuple[int, int], ...]
    """y, x of each tile's first pixel on the canvas; the least of each is 0."""

    @property
    def places(self) -> tuple[tuple[slice, slice], ...]:
        """Rows and columns of the canvas that each tile covers."""
        height, width = self.tile_shape
        return tuple((slice(y, y + height), slice(x, x + width)) for y, x in self.corners)


def lay_out(positions: npt.ArrayLike, tile_shape: tuple[int, int]) -> Mosaic:
    """Lay out tiles on the smallest canvas that holds them all.

    Parameters
    ----------
    positions
        (N, 2) y, x of the tiles' corners in pixels, N at least 1. They count from the least, and are rounded.
    tile_shape
        (H, W) of a tile.
    """
    at = np.asarray(positions, np.float64).reshape(-1, 2)
    corners = np.floor(at - at.min(0) + 0.5).astype(int)  # not to even, so that tiles a pixel apart stay so
    height, width = (corners.max(0) + tile_shape).tolist()
    return Mosaic((height, width), tile_shape, tuple((y, x) for y, x in corners.tolist()))


def blend(tiles: Iterable[npt.NDArray[Any]], mosaic: Mosaic) -> npt.NDArray[Any]:
    """Blend the tiles of one frame.

    Tiles are added one by one, so that only one needs to be in memory beside the canvas.

    Parameters
    ----------
    tiles
        (H, W) unsigned integers, one array per place of the mosaic, in its order.
    mosaic
        From `lay_out`.

    Returns
    -------
    Canvas in the tiles' dtype, rounded. Where tiles agree, so does the canvas, exactly. Pixels that no tile covers are
    those of `owners` that are -1; they repeat the nearest pixel that is covered, because edges and uniform areas would
    mislead the thresholds of segmentation.
    """
    canvas = np.zeros(mosaic.shape, np.float32)
    weights, scale = _tile_weights(mosaic.tile_shape), _inverse_sums(mosaic)
    for tile, place in zip(tiles, mosaic.places, strict=True):
        canvas[place] += tile * weights * scale[place]
    gaps, nearest = _gaps(mosaic)
    canvas[gaps] = canvas.flat[nearest]
    return np.rint(canvas, out=canvas).astype(tile.dtype)


def owners(mosaic: Mosaic) -> npt.NDArray[np.int16]:
    """Find the tile with the greatest weight at each pixel; the first of equal ones.

    Returns
    -------
    Indices of tiles in the canvas's shape; -1 where there is no tile.
    """
    owner, greatest = np.full(mosaic.shape, -1, np.int16), np.zeros(mosaic.shape, np.float32)
    weights = _tile_weights(mosaic.tile_shape)
    for index, place in enumerate(mosaic.places):
        more = weights > greatest[place]
        owner[place][more] = index
        greatest[place][more] = weights[more]
    return owner


def _tile_weights(shape: tuple[int, int]) -> Weights:
    """Product of the distances to the nearest edge along both axes, which falls linearly towards each edge."""
    down, across = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(np.float32) for n in shape)
    return np.outer(down, across)


@lru_cache(maxsize=2)
def _inverse_sums(mosaic: Mosaic) -> Weights:
    """Inverse of the sum of all tiles' weights at each pixel; 0 where there is no tile."""
    sums = np.zeros(mosaic.shape, np.float32)
    for place in mosaic.places:
        sums[place] += _tile_weights(mosaic.tile_shape)
    return np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)


@lru_cache(maxsize=2)
def _gaps(mosaic: Mosaic) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Mask of the pixels that no tile covers, and flat indices of the covered pixel nearest to each."""
    gaps = _inverse_sums(mosaic) == 0
    (height, width), (rows, columns) = mosaic.tile_shape, np.nonzero(gaps)
    nearest, distance = np.zeros(rows.size, np.int64), np.full(rows.size, np.inf, np.float32)
    for y, x in mosaic.corners:
        row, column = np.clip(rows, y, y + height - 1), np.clip(columns, x, x + width - 1)
        here = np.hypot(row - rows, column - columns, dtype=np.float32)
        nearer = here < distance
        nearest[nearer] = np.ravel_multi_index((row[nearer], column[nearer]), mosaic.shape)
        distance[nearer] = here[nearer]
    return gaps, nearest
