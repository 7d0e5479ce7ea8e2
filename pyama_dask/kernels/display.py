"""Half-size versions of frames for viewing, in 8 bits or in the same grey levels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Display = npt.NDArray[np.uint8]


def show_intensities(stack: np.ndarray, low: float, high: float, out: Display | None = None) -> Display:
    """Scale 2 x 2 means from `low`..`high` to 0..255.

    Parameters
    ----------
    stack
        (T, H, W) uint8, uint16 or float32; NaN is shown as 0.
    low, high
        Grey levels shown as black and white; all black if they are equal or NaN.
    out
        (T, H // 2, W // 2) array for the result; a new array if None.

    Returns
    -------
    (T, H // 2, W // 2) uint8; an odd last row or column is dropped.
    """
    out = _room(stack) if out is None else out
    if not high > low:
        out.fill(0)
    elif stack.dtype.kind == "u":
        _show_integers(stack, _shades(low, high, int(np.iinfo(stack.dtype).max)), out)
    else:
        _show_floats(stack, low, high, out)
    return out


def _room(stack: np.ndarray) -> Display:
    t, h, w = stack.shape
    return np.empty((t, h // 2, w // 2), np.uint8)


@lru_cache(maxsize=16)
def _shades(low: float, high: float, top: int) -> npt.NDArray[np.uint8]:
    """Grey levels to show for the sums of four pixels from 0 to `top`."""
    sums = np.arange(4 * top + 1)
    return (np.clip((sums / 4 - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@compiled
def _show_integers(stack: Any, shades: Any, out: Any) -> None:
    for t in range(out.shape[0]):
        for y in range(out.shape[1]):
            upper, lower = stack[t, 2 * y], stack[t, 2 * y + 1]
            for x in range(out.shape[2]):
                total = np.int64(upper[2 * x]) + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]
                out[t, y, x] = shades[total]


@compiled
def _show_floats(stack: Any, low: Any, high: Any, out: Any) -> None:
    for t in range(out.shape[0]):
        for y in range(out.shape[1]):
            upper, lower = stack[t, 2 * y], stack[t, 2 * y + 1]
            for x in range(out.shape[2]):
                total = np.float64(upper[2 * x]) + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]
                value = (total / 4 - low) / (high - low)
                out[t, y, x] = np.uint8(min(value, 1.0) * 255) if value > 0 else np.uint8(0)  # 0 for NaN, too


def show_labels(stack: np.ndarray, top: int, out: Display | None = None) -> Display:
    """Subsample labels by 2 and scale them so that `top` is white and no label is black.

    Parameters
    ----------
    stack
        (T, H, W) labels or track ids.
    top
        Largest label of the whole FOV.
    out
        (T, H // 2, W // 2) array for the result; a new array if None.

    Returns
    -------
    (T, H // 2, W // 2) uint8.
    """
    out = _room(stack) if out is None else out
    _show_labels(stack, _label_shades(max(top, 1)), out)
    return out


@lru_cache(maxsize=16)
def _label_shades(top: int) -> npt.NDArray[np.uint8]:
    """Grey levels to show for the labels from 0 to `top`."""
    shades = np.clip(np.ceil(np.arange(top + 1) * 255 / top), 1, 255).astype(np.uint8)
    shades[0] = 0
    return shades


@compiled
def _show_labels(stack: Any, shades: Any, out: Any) -> None:
    top = shades.size - 1
    for t in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                out[t, y, x] = shades[min(np.int64(stack[t, 2 * y, 2 * x]), top)]


def halve(frame: np.ndarray, out: np.ndarray) -> None:
    """Write the means of 2 x 2 pixels, rounded to the nearest integer and halves up.

    Parameters
    ----------
    frame
        (H, W) unsigned integers.
    out
        (H // 2, W // 2) array of the same type; an odd last row or column of the frame is dropped.
    """
    _halve(frame, out)


@compiled
def _halve(frame: Any, out: Any) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            upper = np.int64(frame[2 * y, 2 * x]) + frame[2 * y, 2 * x + 1]
            lower = np.int64(frame[2 * y + 1, 2 * x]) + frame[2 * y + 1, 2 * x + 1]
            out[y, x] = (upper + lower + 2) // 4


def subsample(labels: np.ndarray, out: np.ndarray) -> None:
    """Write every second pixel in both directions, so that labels stay labels.

    Parameters
    ----------
    labels
        (H, W) labels or ids of tracks.
    out
        (H // 2, W // 2) array of the same type.
    """
    out[...] = labels[: 2 * out.shape[0] : 2, : 2 * out.shape[1] : 2]
