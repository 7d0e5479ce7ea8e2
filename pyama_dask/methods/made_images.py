"""Made images and tables on which a step's function is tried: small, always the same, with cells that move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SMALL = (24, 32)
"""(H, W) of small frames; not square, to find functions that swap the axes."""
PITCH, RADIUS = 12, 4
"""Distance and radius of cells in pixels."""
FRAMES = 5
"""Frames of a trial. The last one in five has no cells."""
PLANES = 3
BASE_COLUMNS = {
    "fov": "int64", "cell": "int64", "frame": "int64", "time": "float64", "good": "bool", "position_x": "float64",
    "position_y": "float64", "bbox_x0": "int32", "bbox_y0": "int32", "bbox_x1": "int32", "bbox_y1": "int32",
}  # fmt: skip
"""Columns of every table of traces, and their types."""


@dataclass(frozen=True)
class ImageType:
    """Type of an image: its frames' shape and pixels.

    Parameters
    ----------
    shape
        (H, W) of frames.
    dtype
        Name of the pixels' type.
    is_labels
        True if pixels are ids of objects.
    """

    shape: tuple[int, int]
    dtype: str
    is_labels: bool = False


def made_stack(kind: ImageType, n_frames: int, channel: int = 0) -> np.ndarray:
    """Frames of textured cells, which move by up to two pixels, and differ in light from frame to frame.

    Parameters
    ----------
    kind
        Shape and type of the pixels.
    n_frames
        Number of frames, or of planes.
    channel
        Different numbers give different light.

    Returns
    -------
    (T, H, W) pixels, or labels of the same cells.
    """
    rng = np.random.default_rng([7, channel])
    labels = np.stack([_labels(kind.shape, t) for t in range(n_frames)])
    if kind.is_labels:
        return labels.astype(kind.dtype)
    dtype = np.dtype(kind.dtype)
    top = 200.0 if dtype.itemsize == 1 else 4000.0
    light = rng.uniform(0.2, 0.6, (n_frames, int(labels.max(initial=0)) + 1)) * top
    light[:, 0] = 0
    noise = rng.integers(0, int(top / 5), labels.shape, np.uint16)
    grey = noise + np.take_along_axis(light, labels.reshape(n_frames, -1), axis=1).reshape(labels.shape)
    return (grey > top / 3 if dtype.kind == "b" else grey).astype(dtype)


def _labels(shape: tuple[int, int], frame: int) -> np.ndarray:
    """(H, W) cells on a grid, numbered from 1; without cells in every fifth frame."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None] + frame % 3
    columns = shape[1] // PITCH + 1
    number = y // PITCH * columns + x // PITCH + 1
    inside = (y % PITCH - PITCH // 2) ** 2 + (x % PITCH - PITCH // 2) ** 2 <= RADIUS**2
    return np.where(inside & (frame % FRAMES != FRAMES - 1), number, 0)


def made_traces(columns: Mapping[str, str], fov: int = 0) -> pd.DataFrame:
    """Traces of three cells over five frames, one of which lacks a frame.

    Parameters
    ----------
    columns
        Types of further columns, by name, such as those of features.
    fov
        Number of the FOV.

    Returns
    -------
    Table with `BASE_COLUMNS` and the others, sorted by cell and frame.
    """
    return made_table(BASE_COLUMNS | dict(columns), fov)


def made_table(columns: Mapping[str, str], fov: int = 0) -> pd.DataFrame:
    """Table with some columns, whose rows are those of the cells and frames of `made_traces`.

    Parameters
    ----------
    columns
        Types of the columns, by name.
    fov
        Number of the FOV.

    Returns
    -------
    Table with a row for each cell and frame, or for each cell, or each frame, as far as it has these columns.
    """
    import pandas as pd  # noqa: PLC0415  (it takes long to import)

    cell, frame = (index.ravel()[:-1] for index in np.mgrid[1:4, :FRAMES])
    key = [index for name, index in (("cell", cell), ("frame", frame)) if name in columns]
    rows = np.sort(np.unique(np.stack(key), axis=1, return_index=True)[1]) if key else np.arange(3)
    cell, frame = cell[rows], frame[rows]
    rng = np.random.default_rng([7, fov])
    x, y = cell * PITCH + frame, cell * PITCH
    known = {
        "fov": np.full(cell.size, fov), "cell": cell, "frame": frame, "time": frame * 10.0, "good": cell != 2,
        "position_x": x, "position_y": y, "bbox_x0": x - RADIUS, "bbox_y0": y - RADIUS,
        "bbox_x1": x + RADIUS + 1, "bbox_y1": y + RADIUS + 1,
        "well": np.full(cell.size, "A01"), "site": np.full(cell.size, fov + 1),
    }  # fmt: skip
    made = {
        name: np.asarray(known[name]).astype(dtype) if name in known else _made_column(dtype, cell.size, rng)
        for name, dtype in columns.items()
    }
    return pd.DataFrame(made)


def _made_column(dtype: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of a type, or texts."""
    if dtype.lower().startswith(("int", "uint", "float")):
        return rng.uniform(50, 500, size).astype(dtype.lower())
    values = [True, False] if dtype.startswith("bool") else ["a", "b"]
    return np.resize(np.array(values), size)
