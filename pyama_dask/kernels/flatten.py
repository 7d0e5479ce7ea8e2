"""Normalisation of frames for a network: the background is subtracted, and the local contrast made equal.

    b = mean of the frame over a square of 164 pixels,  d = frame - b,
    s = root of the mean of d^2 over a square of 324 pixels,  result = d / (s / 2 + median(s) / 2), limited to 4

Both means are taken on the frame reduced fourfold, and enlarged again. Exposure, gain and offset drop out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.ndimage`, which takes a while, when it is used

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.resize import between, interpolate_row, reduce_area

REDUCED = 4
"""Factor by which the frame is reduced for the means."""
BACKGROUND, SPREAD = 41, 81
"""Widths of the squares, in pixels of the reduced frame."""
LIMIT = 4.0
"""Largest absolute value of the result."""


def flatten(frame: np.ndarray) -> npt.NDArray[np.float32]:
    """Normalise a frame for a network; used in training and in runs alike.

    Parameters
    ----------
    frame
        (H, W) uint8, uint16 or float32, in grey levels.

    Returns
    -------
    (H, W) float32 of about unit spread, from -4 to 4; 0 where the frame is constant.
    """
    frame = np.ascontiguousarray(frame)
    small = scipy.ndimage.uniform_filter(reduce_area(frame, REDUCED), BACKGROUND, mode="reflect")
    at = between(small.shape, frame.shape, (1 / REDUCED, 1 / REDUCED))
    variance = np.empty_like(small)
    _variance(frame, small, at, variance)
    spread = np.sqrt(np.maximum(scipy.ndimage.uniform_filter(variance, SPREAD, mode="reflect"), 0))
    scale = 0.5 * spread + np.float32(0.5 * np.median(spread))
    out = np.empty(frame.shape, np.float32)
    _normalise(frame, small, scale, at, out)
    return out


@compiled
def _variance(frame: Any, background: Any, at: Any, out: Any) -> None:
    """Mean square of the frame less its background, in squares of `REDUCED` pixels."""
    blend, row = np.empty(background.shape[1], np.float32), np.empty(frame.shape[1], np.float32)
    for i in range(out.shape[0]):
        out[i] = 0
        bottom = min((i + 1) * REDUCED, frame.shape[0])
        for y in range(i * REDUCED, bottom):
            interpolate_row(background, at, y, blend, row)
            _add_squares(frame[y], row, out[i])
        for j in range(out.shape[1]):
            out[i, j] /= (bottom - i * REDUCED) * (min((j + 1) * REDUCED, row.size) - j * REDUCED)


@compiled
def _add_squares(frame: Any, background: Any, out: Any) -> None:
    for x in range(frame.size):
        background[x] = (np.float32(frame[x]) - background[x]) ** 2
    whole = frame.size // REDUCED
    for j in range(whole):
        total = np.float32(0)
        for k in range(REDUCED):
            total += background[j * REDUCED + k]
        out[j] += total
    for x in range(whole * REDUCED, frame.size):
        out[whole] += background[x]


@compiled
def _normalise(frame: Any, background: Any, scale: Any, at: Any, out: Any) -> None:
    blend, row = np.empty(background.shape[1], np.float32), np.empty(frame.shape[1], np.float32)
    for y in range(frame.shape[0]):
        interpolate_row(background, at, y, blend, row)
        interpolate_row(scale, at, y, blend, out[y])
        _divide(frame[y], row, out[y])


@compiled
def _divide(frame: Any, background: Any, out: Any) -> None:
    """Replace scales by normalised values."""
    limit = np.float32(LIMIT)
    for x in range(frame.size):
        scale = out[x]
        value = (np.float32(frame[x]) - background[x]) / scale if scale > 0 else np.float32(0)
        out[x] = min(max(value, -limit), limit)
