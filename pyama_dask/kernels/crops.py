"""Crops: the pixels of single cells, in windows that are the same over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled


def padded_boxes(boxes: npt.NDArray[np.integer], padding: int, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Boxes (..., 4) widened by `padding` pixels on every side, as far as the (H, W) frame reaches."""
    h, w = shape
    top = np.maximum(boxes[..., :2] - padding, 0)
    bottom = np.minimum(boxes[..., 2:] + padding, np.array([h, w]))
    return np.concatenate([top, bottom], axis=-1).astype(np.int32)


def window_shapes(boxes: npt.NDArray[np.integer], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Size of every cell's window: that of its largest box.

    Parameters
    ----------
    boxes
        (N, T, 4) half-open boxes.
    valid
        (N, T) frames in which the cell was seen.

    Returns
    -------
    (N, 2) height and width in pixels.
    """
    sizes = np.where(valid[..., None], boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sizes.max(axis=1, initial=0), np.int32)


@dataclass(frozen=True)
class Scale:
    """How grey levels become crop values: ``(grey - offset) / scale``, clipped to 0..1."""

    offset: float
    scale: float

    @classmethod
    def between(cls, low: float, high: float) -> Scale:
        """Scale that takes `low` to 0 and `high` to 1; a channel that is constant, or unknown, becomes 0."""
        return cls(low if np.isfinite(low) else 0.0, high - low if high > low else 1.0)


def cut_intensities(
    stack: np.ndarray,
    background: npt.NDArray[np.float32] | None,
    weight: float,
    scale: Scale,
    boxes: npt.NDArray[np.int32],
    valid: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Cut the windows of all cells out of a block of frames, scaled to 0..1.

    Parameters
    ----------
    stack
        (T, H, W) grey levels.
    background
        (T, H, W), of which `weight` times is subtracted; None for none. NaN becomes 0.
    scale
        How grey levels become 0..1.
    boxes, valid
        (N, T, 4) half-open boxes and (N, T) frames in which each cell was seen.
    sizes
        (N, 2) of the windows.

    Returns
    -------
    One flat array with the windows (T, h, w) of all cells, one after the other; the box of a frame is at the
    top-left corner of its window, and all else is 0.
    """
    out = np.zeros(len(stack) * int(sizes.astype(np.int64).prod(1).sum()), np.float32)
    subtract = background is not None
    back = background if background is not None else np.zeros((1, 1, 1), np.float32)
    _cut_intensities(
        stack,
        back,
        weight if subtract else 0.0,
        subtract,
        scale.offset,
        scale.scale,
        boxes,
        valid,
        sizes,
        out,
    )
    return out


@compiled
def _cut_intensities(
    stack: Any,
    back: Any,
    weight: Any,
    subtract: Any,
    offset: Any,
    scale: Any,
    boxes: Any,
    valid: Any,
    sizes: Any,
    out: Any,
) -> None:
    frames = stack.shape[0]
    start = 0
    for n in range(boxes.shape[0]):
        h, w = sizes[n, 0], sizes[n, 1]
        for t in range(frames):
            if valid[n, t]:
                y0, x0, y1, x1 = boxes[n, t]
                for y in range(y0, y1):
                    place = start + (y - y0) * w - x0
                    for x in range(x0, x1):
                        value = np.float64(stack[t, y, x])
                        if subtract:
                            value -= weight * np.float64(back[t, y, x])
                        value = (value - offset) / scale
                        if value > 0:  # not for NaN
                            out[place + x] = min(value, 1.0)
            start += h * w


def cut_masks(
    tracked: np.ndarray,
    ids: npt.NDArray[np.integer],
    boxes: npt.NDArray[np.int32],
    valid: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.int32],
) -> npt.NDArray[np.uint8]:
    """Cut the masks of all cells out of a block of tracked labels, as `cut_intensities` does; 1 is the cell itself.

    Parameters
    ----------
    tracked
        (T, H, W) track ids.
    ids
        (N,) ids of the cells.
    boxes, valid, sizes
        As for `cut_intensities`.
    """
    out = np.zeros(len(tracked) * int(sizes.astype(np.int64).prod(1).sum()), np.uint8)
    _cut_masks(tracked, ids, boxes, valid, sizes, out)
    return out


@compiled
def _cut_masks(tracked: Any, ids: Any, boxes: Any, valid: Any, sizes: Any, out: Any) -> None:
    frames = tracked.shape[0]
    start = 0
    for n in range(boxes.shape[0]):
        h, w = sizes[n, 0], sizes[n, 1]
        for t in range(frames):
            if valid[n, t]:
                y0, x0, y1, x1 = boxes[n, t]
                for y in range(y0, y1):
                    place = start + (y - y0) * w - x0
                    for x in range(x0, x1):
                        out[place + x] = tracked[t, y, x] == ids[n]
            start += h * w
