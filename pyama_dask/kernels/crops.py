"""Crops: pixels of single cells, in windows of constant size over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled


def padded_boxes(boxes: npt.NDArray[np.integer], padding: int, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Widen boxes by `padding` pixels on every side, and clip them to the frame.

    Parameters
    ----------
    boxes
        (..., 4) half-open boxes y0, x0, y1, x1.
    padding
        Pixels on each side.
    shape
        (H, W) of the frame.

    Returns
    -------
    (..., 4) int32 boxes.
    """
    h, w = shape
    top = np.maximum(boxes[..., :2] - padding, 0)
    bottom = np.minimum(boxes[..., 2:] + padding, np.array([h, w]))
    return np.concatenate([top, bottom], axis=-1).astype(np.int32)


def window_shapes(boxes: npt.NDArray[np.integer], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Window size of every cell: the size of its largest box.

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
    """Linear map from grey levels to crop values: ``(grey - offset) / scale``, clipped to 0..1."""

    offset: float
    scale: float

    @classmethod
    def between(cls, low: float, high: float) -> Scale:
        """Scale that maps `low` to 0 and `high` to 1; everything to 0 if the limits are equal or NaN."""
        return cls(low if np.isfinite(low) else 0.0, high - low if high > low else 1.0)


class Windows:
    """Windows of all cells over a block of frames: each box in the top-left corner of its window, zeros elsewhere.

    Parameters
    ----------
    sizes
        (N, 2) height and width of the cells' windows.
    frames
        Number of frames T in the block.
    dtype
        float32 for intensities in 0..1, uint8 for masks.

    Attributes
    ----------
    flat
        One array that holds the (T, h, w) windows of all cells, one after the other.
    """

    def __init__(self, sizes: npt.NDArray[np.int32], frames: int, dtype: npt.DTypeLike) -> None:
        self._sizes, self._areas = sizes, sizes.astype(np.int64).prod(1)
        self._starts = frames * (self._areas.cumsum() - self._areas)
        self.flat = np.zeros(frames * int(self._areas.sum()), dtype)

    def cut_intensities(
        self,
        k: int,
        frame: np.ndarray,
        background: npt.NDArray[np.float32] | None,
        weight: float,
        scale: Scale,
        boxes: npt.NDArray[np.int32],
        valid: npt.NDArray[np.bool_],
    ) -> None:
        """Cut the cells out of frame `k` of the block, scaled to 0..1.

        Parameters
        ----------
        frame
            (H, W) grey levels.
        background
            (H, W) background, subtracted `weight` times; None to subtract nothing. NaN becomes 0.
        scale
            Map from grey levels to 0..1.
        boxes, valid
            (N, 4) half-open boxes, and (N,) mask of the cells present in the frame.
        """
        back = np.zeros((0, 0), np.float32) if background is None else background
        places = self._starts + k * self._areas
        _cut_intensities(
            frame, back, weight, scale.offset, scale.scale,
            np.ascontiguousarray(boxes), np.ascontiguousarray(valid), self._sizes, places, self.flat,
        )  # fmt: skip

    def cut_masks(
        self,
        k: int,
        tracked: np.ndarray,
        ids: npt.NDArray[np.integer],
        boxes: npt.NDArray[np.int32],
        valid: npt.NDArray[np.bool_],
    ) -> None:
        """Cut the masks of cells out of frame `k` of the block; 1 is the cell itself, 0 all else.

        Parameters
        ----------
        tracked
            (H, W) track ids.
        ids
            (N,) ids of the cells.
        boxes, valid
            (N, 4) half-open boxes, and (N,) mask of the cells present in the frame.
        """
        places = self._starts + k * self._areas
        _cut_masks(
            tracked, ids, np.ascontiguousarray(boxes), np.ascontiguousarray(valid), self._sizes, places, self.flat
        )  # fmt: skip


# ----------------------------------------------- loops over boxes; unsigned indices skip numba's wraparound


@compiled
def _cut_intensities(
    frame: Any, back: Any, weight: float, offset: float, scale: float, boxes: Any, valid: Any,
    sizes: Any, places: Any, out: Any,
) -> None:  # fmt: skip
    for n in range(boxes.shape[0]):
        if valid[n]:
            y0, x0, y1, x1 = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
            for y in range(np.uint64(y0), np.uint64(y1)):
                place = np.uint64(places[n] + (np.int64(y) - y0) * sizes[n, 1] - x0)
                for x in range(np.uint64(x0), np.uint64(x1)):
                    value = np.float64(frame[y, x])
                    if back.size:
                        value -= weight * np.float64(back[y, x])
                    value = (value - offset) / scale
                    out[place + x] = min(value, 1.0) if value > 0 else 0.0  # 0 for NaN, too


@compiled
def _cut_masks(tracked: Any, ids: Any, boxes: Any, valid: Any, sizes: Any, places: Any, out: Any) -> None:
    for n in range(boxes.shape[0]):
        if valid[n]:
            y0, x0, y1, x1 = boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3]
            for y in range(np.uint64(y0), np.uint64(y1)):
                place = np.uint64(places[n] + (np.int64(y) - y0) * sizes[n, 1] - x0)
                for x in range(np.uint64(x0), np.uint64(x1)):
                    out[place + x] = tracked[y, x] == ids[n]
