"""Windows of a frame, from the most textured to the emptiest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.logstd import LocalDeviation


def choose_windows(frame: np.ndarray, size: int, count: int) -> list[tuple[int, int]]:
    """Choose windows where cells are dense, where they are not, and in between.

    The frame is divided into windows that do not overlap. They are ordered by their mean log local standard deviation,
    which is high inside cells, and taken at even steps of that order, from the densest to the emptiest.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    size
        Width and height of a window in pixels.
    count
        Number of windows, at most `most_windows`.

    Returns
    -------
    Top and left of each window.
    """
    corners = [(y, x) for y in _starts(frame.shape[0], size) for x in _starts(frame.shape[1], size)]
    deviation = LocalDeviation(frame).values()
    texture = np.array([deviation[y : y + size, x : x + size].mean() for y, x in corners])
    order = np.argsort(-texture, kind="stable")
    steps = np.linspace(0, len(corners) - 1, count).round().astype(int) if count > 1 else [0]
    return [corners[order[k]] for k in steps]


def most_windows(shape: tuple[int, ...], size: int) -> int:
    """Number of windows of a size that a frame of shape (H, W) holds side by side."""
    return (shape[0] // size) * (shape[1] // size)


def _starts(length: int, size: int) -> npt.NDArray[np.int64]:
    """Starts of as many windows as fit, evenly spread."""
    fitting = length // size
    return np.linspace(0, length - size, fitting).round().astype(np.int64) if fitting > 1 else np.zeros(1, np.int64)
