"""Which planes a CZI file holds, from the heads of its subblocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_PLANES = 100_000_000
"""More than any recording has."""


@dataclass(frozen=True)
class CziPlanes:
    """Planes of the full resolution."""

    scenes: tuple[int | None, ...]
    """Scene indices, ascending; one None for a file without scenes."""
    boxes: tuple[tuple[int, int, int, int], ...]
    """(x, y, width, height) of each scene."""
    channels: tuple[int, ...]
    """Channel indices, ascending."""
    first: tuple[int, int]
    """Lowest index along T and Z."""
    tiles: npt.NDArray[np.int64]
    """(S, T, C, Z) subblocks that make up each plane."""
    pixel_types: tuple[frozenset[str], ...]
    """Names of the pixel types that occur in each channel."""

    @property
    def held_frames(self) -> npt.NDArray[np.bool_]:
        """(S, T) frames of which every plane is there, with as many tiles as at the other time points."""
        held = (self.tiles > 0) & (self.tiles == self.tiles.max(axis=1, keepdims=True))
        return np.asarray(np.all(held, axis=(2, 3)))


def find_planes(document: Any, announced_frames: int) -> CziPlanes | None:
    """Look through the subblocks of an open CZI file.

    Parameters
    ----------
    document
        A `pylibCZIrw.czi.CziReader`.
    announced_frames
        Length of the time axis in the file's XML, 0 where it has none.

    Returns
    -------
    The planes, or None for a file without any.

    Raises
    ------
    ValueError
        If the indices of the subblocks are out of all proportion, as in a damaged file.
    """
    rows: list[tuple[int, ...]] = []
    types: dict[int, set[str]] = {}

    def note(_index: int, block: Any) -> bool:
        at, box = block.coordinate.to_dict(), block.logicalRect
        channel = at.get("C", 0)
        rows.append((at.get("S", -1), at.get("T", 0), channel, at.get("Z", 0), box.x, box.y, box.w, box.h))
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
    if stop <= announced_frames:  # otherwise it is a part of a longer movie, with the indices it had there
        start, stop = 0, announced_frames
    planes = int(z.max() - z.min()) + 1
    shape = (len(scenes), stop - start, len(channels), planes)
    if math.prod(shape) > _MOST_PLANES:
        raise ValueError(f"it announces {math.prod(shape)} planes")
    tiles = np.zeros(shape, np.int64)
    np.add.at(tiles, (scene, time - start, channel, z - z.min()), 1)
    return CziPlanes(
        scenes=tuple(None if index < 0 else int(index) for index in scenes),
        boxes=tuple(_box(table[scene == place, 4:]) for place in range(len(scenes))),
        channels=tuple(int(index) for index in channels),
        first=(start, int(z.min())),
        tiles=tiles,
        pixel_types=tuple(frozenset(types[int(index)]) for index in channels),
    )


def _box(rectangles: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    x, y = (int(value) for value in rectangles[:, :2].min(axis=0))
    right, bottom = (int(value) for value in (rectangles[:, :2] + rectangles[:, 2:]).max(axis=0))
    return x, y, right - x, bottom - y
