"""Planes in a CZI file, from the headers of its subblocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_PLANES = 100_000_000
"""Limit far above any real recording."""


@dataclass(frozen=True)
class CziPlanes:
    """Planes at full resolution."""

    scenes: tuple[int | None, ...]
    """Scene indices, ascending; one None for a file without scenes."""
    boxes: tuple[tuple[int, int, int, int], ...]
    """(x, y, width, height) of each scene."""
    channels: tuple[int, ...]
    """Channel indices, ascending."""
    first: tuple[int, int]
    """Lowest T and Z index."""
    tiles: npt.NDArray[np.int64]
    """(S, T, C, Z) subblocks that make up each plane."""
    pixel_types: tuple[frozenset[str], ...]
    """Names of the pixel types that occur in each channel."""

    blocks: npt.NDArray[np.int64]
    """(S, T, C, Z) directory index of the first subblock of each complete plane; -1 if it is incomplete."""
    whole: npt.NDArray[np.bool_]
    """(S, T, C, Z) mask of the complete planes: those as large as at other time points, without filled-in pixels."""

    @property
    def first_blocks(self) -> npt.NDArray[np.int64]:
        """(S, T) subblock of the complete plane with the lowest z, then channel; -1 if all planes are incomplete."""
        blocks = self.blocks.swapaxes(2, 3).reshape(*self.blocks.shape[:2], -1)
        first = np.argmax(blocks >= 0, axis=2)
        return np.take_along_axis(blocks, first[..., None], axis=2)[..., 0]

    @property
    def of_other_size(self) -> npt.NDArray[np.bool_]:
        """(S, C) channels that have planes, but none as large as those of other channels."""
        there, whole = (np.any(planes, axis=(1, 3)) for planes in (self.tiles > 0, self.whole))
        return np.asarray(there & ~whole)


def find_planes(document: Any, announced_frames: int) -> CziPlanes | None:
    """Collect the subblocks of an open CZI file.

    Parameters
    ----------
    document
        A `pylibCZIrw.czi.CziReader`.
    announced_frames
        Length of the time axis in the file's XML; 0 if the XML has none.

    Returns
    -------
    The planes; None for a file without any.

    Raises
    ------
    ValueError
        If the subblock indices are implausibly large, as in a damaged file.
    """
    rows: list[tuple[int, ...]] = []
    types: dict[int, set[str]] = {}

    def note(index: int, block: Any) -> bool:
        at, box = block.coordinate.to_dict(), block.logicalRect
        channel = at.get("C", 0)
        rows.append((at.get("S", -1), at.get("T", 0), channel, at.get("Z", 0), box.x, box.y, box.w, box.h, index))
        types.setdefault(channel, set()).add(block.pixelType.name)
        return True

    document.enumerate_subblocks_subset(note, only_layer0=True)
    if not rows:
        return None
    table = np.array(rows)
    scene, time, channel, z = table[:, :4].T
    scenes, scene = np.unique(scene, return_inverse=True)
    channels, channel = np.unique(channel, return_inverse=True)
    start, stop = int(time.min()), int(time.max()) + 1
    if stop <= announced_frames:  # otherwise the file is an excerpt that kept the indices of the longer movie
        start, stop = 0, announced_frames
    planes = int(z.max() - z.min()) + 1
    shape = (len(scenes), stop - start, len(channels), planes)
    if math.prod(shape) > _MOST_PLANES:
        raise ValueError(f"it announces {math.prod(shape)} planes")
    places = (scene, time - start, channel, z - z.min())
    tiles = np.zeros(shape, np.int64)
    np.add.at(tiles, places, 1)
    of_scene = [scene == place for place in range(len(scenes))]
    mosaic = tiles.max(axis=(1, 2, 3)) > 1
    boxes = tuple(
        _around(table[rows, 4:8]) if several else _usual(table[rows, 4:8])
        for rows, several in zip(of_scene, mosaic, strict=True)
    )
    whole = _whole(tiles, places, table[:, 4:8], np.array(boxes)[scene], mosaic)
    return CziPlanes(
        scenes=tuple(None if index < 0 else int(index) for index in scenes),
        boxes=boxes,
        channels=tuple(int(index) for index in channels),
        first=(start, int(z.min())),
        tiles=tiles,
        blocks=_first_blocks(whole, places, table[:, 8]),
        whole=whole,
        pixel_types=tuple(frozenset(types[int(index)]) for index in channels),
    )


def _whole(
    tiles: npt.NDArray[np.int64],
    places: tuple[npt.NDArray[np.int64], ...],
    rectangles: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    mosaic: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Mask of complete planes: the one tile equals the scene's box, or number and area of the tiles are as usual."""
    whole = (tiles > 0) & (tiles == tiles.max(axis=1, keepdims=True))
    fits = np.ones(tiles.shape, bool)
    np.logical_and.at(fits, places, np.all(rectangles == boxes, axis=1))
    covered = np.zeros(tiles.shape, np.int64)
    np.add.at(covered, places, rectangles[:, 2] * rectangles[:, 3])
    for s, c, z in np.ndindex(tiles.shape[0], *tiles.shape[2:]):
        if mosaic[s]:
            values, counts = np.unique(covered[s, whole[s, :, c, z], c, z], return_counts=True)
            fits[s, :, c, z] = covered[s, :, c, z] == values[counts.argmax()] if len(values) else False
    return np.asarray(whole & fits)


def _first_blocks(
    whole: npt.NDArray[np.bool_], places: tuple[npt.NDArray[np.int64], ...], blocks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(S, T, C, Z) lowest directory index of the subblocks of each complete plane; -1 for the others."""
    first = np.full(whole.shape, np.iinfo(np.int64).max)
    np.minimum.at(first, places, blocks)
    return np.where(whole, first, -1)


def _usual(rectangles: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    values, counts = np.unique(rectangles, axis=0, return_counts=True)
    x, y, width, height = (int(value) for value in values[counts.argmax()])
    return x, y, width, height


def _around(rectangles: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    x, y = (int(value) for value in rectangles[:, :2].min(axis=0))
    right, bottom = (int(value) for value in (rectangles[:, :2] + rectangles[:, 2:]).max(axis=0))
    return x, y, right - x, bottom - y
