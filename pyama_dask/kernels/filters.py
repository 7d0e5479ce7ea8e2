"""Filters of frames as steps of a pipeline: Gaussian, median, and background by a top-hat or a rolling ball.

Integers stay the same type of integers: results are rounded, and clipped at the limits of the type. Floats stay floats.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import scipy  # loads `scipy.ndimage`, which takes a while, when it is used
from pydantic import Field

from pyama_dask.config.units import Count, OddSize
from pyama_dask.kernels import smooth
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.image_types import Frame
from pyama_dask.kernels.morphology import disk
from pyama_dask.kernels.pixel_types import in_type

LARGEST_RADIUS = 1000
"""Largest radius in pixels."""
Radius = Annotated[Count, Field(le=LARGEST_RADIUS)]
EXACT = (np.uint8, np.uint16, np.float32)
"""Types whose values are exact as float32."""


def gaussian(
    frame: Frame,
    *,
    sigma: Annotated[float, Field(ge=0, le=200, description="standard deviation in pixels")] = 1.0,
) -> Frame:
    """Gaussian filter.

    The same as `scipy.ndimage.gaussian_filter` in float64 with its defaults: cut off at four standard deviations, and
    mirrored at the borders with the edge pixels repeated.

    Parameters
    ----------
    frame
        (H, W) numbers.
    sigma
        Standard deviation in pixels; 0 leaves the frame as it is.

    Returns
    -------
    (H, W) in the same type; integers are rounded.
    """
    if not sigma:
        return frame.copy()
    return in_type(smooth.gaussian(np.asarray(frame, np.float64), sigma), frame.dtype)


def median(
    frame: Frame, *, size: Annotated[OddSize, Field(description="odd side of the square window in pixels")] = 3
) -> Frame:
    """Median filter: the same as `scipy.ndimage.median_filter`, mirrored at the borders with the edge pixels repeated.

    Parameters
    ----------
    frame
        (H, W) numbers.
    size
        Side of the square window in pixels.

    Returns
    -------
    (H, W) in the same type.
    """
    if size == 1:
        return frame.copy()
    if size > 3 or frame.dtype not in (np.uint8, np.uint16):
        return np.asarray(scipy.ndimage.median_filter(frame, size))
    padded, out = np.pad(frame, 1, mode="symmetric"), np.empty(frame.shape, frame.dtype)
    _median_of_nine(padded, out)
    return out


def top_hat(
    frame: Frame, *, radius: Annotated[Radius, Field(description="radius of the disk in pixels")] = 25
) -> Frame:
    """Subtract the background by a white top-hat: the frame less its opening by a disk.

    The same as `skimage.morphology.white_tophat` with `skimage.morphology.disk`. Structures that are narrower than the
    disk stay, whatever is wider is subtracted.

    Parameters
    ----------
    frame
        (H, W) numbers.
    radius
        Radius of the disk in pixels, larger than that of a cell.

    Returns
    -------
    (H, W) in the same type, from 0.
    """
    if frame.dtype in EXACT:
        opened = smooth.grey_opening(np.asarray(frame, np.float32), radius)
        return np.asarray(frame - opened.astype(frame.dtype))
    reach = disk(radius)
    around = np.abs(np.arange(-radius, radius + 1))
    return np.asarray(scipy.ndimage.white_tophat(frame, footprint=around <= reach[around][:, None]))


def rolling_ball(
    frame: Frame, *, radius: Annotated[Radius, Field(description="radius of the ball in pixels and grey levels")] = 50
) -> Frame:
    """Subtract the background that a ball reaches as it rolls below the grey levels (Sternberg 1983).

    The same as the frame less `skimage.restoration.rolling_ball`: the ball has as many grey levels as pixels, and the
    background of integers is rounded down. The time grows with the square of the radius.

    Parameters
    ----------
    frame
        (H, W) numbers.
    radius
        Radius of the ball, larger than that of a cell.

    Returns
    -------
    (H, W) in the same type, from 0.

    References
    ----------
    Sternberg 1983, Biomedical image processing, Computer 16, 22-34 (doi:10.1109/MC.1983.1654163).
    """
    real = np.float32 if frame.dtype in (np.float32, np.float16) else np.float64
    square = np.arange(radius + 1.0) ** 2
    cap = radius - np.sqrt(np.maximum(radius**2 - square[:, None] - square, 0))
    padded = np.pad(frame.astype(real), radius, constant_values=np.inf)
    out = np.full(frame.shape, np.inf, real)
    _roll(padded, cap.astype(real), disk(radius), out)
    return np.asarray(frame - out.astype(frame.dtype))


# ------------------------------------------------------------------------------------------ loops over rows


@compiled
def _median_of_nine(padded: Any, out: Any) -> None:
    """Median of each 3 x 3 window: of the highest low, the middle middle and the lowest high of its columns."""
    height, width = out.shape
    low, mid, high = np.empty_like(padded[0]), np.empty_like(padded[0]), np.empty_like(padded[0])
    for y in range(height):
        above, at, below = padded[y], padded[y + 1], padded[y + 2]
        for x in range(width + 2):
            least, most = min(above[x], at[x]), max(above[x], at[x])
            low[x] = min(least, below[x])
            mid[x] = max(least, min(most, below[x]))
            high[x] = max(most, below[x])
        row = out[y]
        for x in range(width):
            a = max(low[x], low[x + 1], low[x + 2])
            b = max(min(mid[x], mid[x + 1]), min(max(mid[x], mid[x + 1]), mid[x + 2]))
            c = min(high[x], high[x + 1], high[x + 2])
            row[x] = max(min(a, b), min(max(a, b), c))


@compiled
def _roll(padded: Any, cap: Any, reach: Any, out: Any) -> None:
    """Lowest sum of a pixel and the ball's depth below its top, over the ball around each pixel."""
    radius = reach.size - 1
    lower = np.empty_like(padded[0])
    for y in range(out.shape[0]):
        row = out[y]
        for dy in range(radius + 1):
            above, below = padded[y + radius - dy], padded[y + radius + dy]
            for x in range(lower.size):
                lower[x] = min(above[x], below[x])
            for dx in range(reach[dy] + 1):
                _sink(lower[radius - dx :], lower[radius + dx :], cap[dy, dx], row)


@compiled
def _sink(left: Any, right: Any, depth: Any, row: Any) -> None:
    for x in range(row.size):
        row[x] = min(row[x], min(left[x], right[x]) + depth)
