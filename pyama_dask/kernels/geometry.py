"""Changes of where pixels lie: moved, cropped and resampled frames, and the sum of several channels.

Integers stay the same type of integers: results are rounded, and clipped at the limits of the type. Functions that give
another shape have a second one that tells the shape, for plans that have no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.ndimage`, which takes a while, when it is used
from pydantic import Field

from pyama_dask.config.units import Count, Whole
from pyama_dask.kernels.image_types import Frame
from pyama_dask.kernels.pixel_types import in_type
from pyama_dask.kernels.resize import reduce_area, zoom

Outside = Literal["zero", "edge"]
"""Value where a moved frame has no pixel: 0, or that of the nearest pixel of the frame."""
Interpolation = Literal["linear", "cubic"]
Pixels = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
ORDERS: Mapping[Interpolation, Literal[1, 3]] = {"linear": 1, "cubic": 3}
MODES: Mapping[Outside, Literal["constant", "nearest"]] = {"zero": "constant", "edge": "nearest"}
WHOLE = 1e-6
"""Largest distance of a factor's inverse from a whole number that counts as that number."""

# --------------------------------------------------------------------------------------------------- shifts


def moved(
    frame: Frame,
    shift: Sequence[float] | npt.NDArray[np.float64],
    *,
    interpolation: Interpolation = "linear",
    outside: Outside = "zero",
) -> Frame:
    """Move the content of a frame, as `scipy.ndimage.shift` does.

    To undo a drift, move by the negative of what `kernels.drift.drift_between` measures.

    Parameters
    ----------
    frame
        (H, W) numbers.
    shift
        y, x in pixels: what lies at (0, 0) is found at (y, x) then. Pixels are copied for whole numbers.
    interpolation
        Between pixels: ``linear``, which smooths noise, or ``cubic``, which may go beyond the values of its neighbours.
    outside
        Pixels that the frame does not reach: ``zero`` or ``edge``.

    Returns
    -------
    (H, W) in the same type; integers are rounded.

    Raises
    ------
    ValueError
        If the shift is not finite.
    """
    y, x = (float(by) for by in shift)
    if not (math.isfinite(y) and math.isfinite(x)):
        raise ValueError(f"a frame cannot be moved by ({y}, {x}). Fix: bridge the shifts that were not measured")
    if y == round(y) and x == round(x):
        return _moved_by_pixels(frame, round(y), round(x), outside)
    real = np.asarray(frame, np.float64)
    return in_type(scipy.ndimage.shift(real, (y, x), order=ORDERS[interpolation], mode=MODES[outside]), frame.dtype)


def _moved_by_pixels(frame: Frame, y: int, x: int, outside: Outside) -> Frame:
    if outside == "edge":
        rows, columns = (np.clip(np.arange(n) - by, 0, n - 1) for n, by in zip(frame.shape, (y, x), strict=True))
        return np.ascontiguousarray(frame[rows][:, columns])
    out = np.zeros(frame.shape, frame.dtype)
    (down, from_down), (across, from_across) = (_kept(n, by) for n, by in zip(frame.shape, (y, x), strict=True))
    out[down, across] = frame[from_down, from_across]
    return out


def _kept(n: int, by: int) -> tuple[slice, slice]:
    """Part of a line of n pixels that moved pixels fill, and where they come from."""
    return slice(min(max(by, 0), n), max(min(n + by, n), 0)), slice(min(max(-by, 0), n), max(min(n - by, n), 0))


def channel_shift(
    frame: Frame,
    *,
    y: Annotated[Pixels, Field(description="pixels by which the channel is moved down")] = 0.0,
    x: Annotated[Pixels, Field(description="pixels by which the channel is moved to the right")] = 0.0,
    interpolation: Annotated[Interpolation, Field(description="between pixels: linear or cubic")] = "linear",
    outside: Annotated[Outside, Field(description="pixels without a source: zero or edge")] = "zero",
) -> Frame:
    """Move a channel against the others, as if cameras or filters were aligned; parameters as for `moved`."""
    return moved(frame, (y, x), interpolation=interpolation, outside=outside)


Steps = Literal["whole", "linear", "cubic"]
"""Moves by whole pixels, or between pixels."""


def drift(
    frame: Frame,
    *,
    by: Annotated[  # noqa: ARG001  (the run measures)
        str | int | None, Field(description="image in which the drift is measured; null: phase contrast")
    ] = None,
    interpolation: Annotated[
        Steps, Field(description="whole: move by whole pixels; linear or cubic: between pixels")
    ] = "linear",
    outside: Annotated[Outside, Field(description="pixels without a source: zero or edge")] = "zero",
) -> Frame:
    """Undo the drift of the stage, so that all frames show what the first one does.

    A run measures the shift of each frame, and calls `undrifted` with it; this is what becomes of the first frame.

    Parameters
    ----------
    frame
        (H, W) pixels.
    by
        Image in which the drift is measured.
    interpolation, outside
        As for `undrifted`.

    Returns
    -------
    (H, W) copy.
    """
    return undrifted(frame, (0.0, 0.0), interpolation=interpolation, outside=outside)


def undrifted(
    frame: Frame,
    shift: Sequence[float] | npt.NDArray[np.float64],
    *,
    interpolation: Steps = "linear",
    outside: Outside = "zero",
) -> Frame:
    """Move the content of a frame back by a shift.

    Parameters
    ----------
    frame
        (H, W) pixels.
    shift
        y, x in pixels of its content, which is undone.
    interpolation, outside
        As for `moved`; ``whole`` rounds the shift to whole pixels.

    Returns
    -------
    (H, W) in the same type.
    """
    back = -np.asarray(shift, np.float64)
    if interpolation == "whole":
        return moved(frame, np.rint(back), outside=outside)
    return moved(frame, back, interpolation=interpolation, outside=outside)


# ---------------------------------------------------------------------------------------------------- crops


def crop(
    frame: Frame,
    *,
    top: Annotated[Whole, Field(description="first row")] = 0,
    left: Annotated[Whole, Field(description="first column")] = 0,
    height: Annotated[Count | None, Field(description="number of rows; null for all that follow")] = None,
    width: Annotated[Count | None, Field(description="number of columns; null for all that follow")] = None,
) -> Frame:
    """Cut a rectangle out of a frame.

    Parameters
    ----------
    frame
        (H, W) pixels.
    top, left
        First row and column.
    height, width
        Of the rectangle in pixels; None for all rows or columns that follow.

    Returns
    -------
    (height, width) copy in the same type.

    Raises
    ------
    ValueError
        If the rectangle is not within the frame.
    """
    rows, columns = cropped_shape(frame.shape, top=top, left=left, height=height, width=width)
    return np.array(frame[top : top + rows, left : left + columns], order="C")


def cropped_shape(
    shape: Sequence[int], *, top: int = 0, left: int = 0, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """(height, width) of what `crop` returns for a frame of a shape; raises as `crop` does."""
    rows, columns = (shape[0] - top if height is None else height), (shape[1] - left if width is None else width)
    if min(rows, columns) < 1 or top + rows > shape[0] or left + columns > shape[1]:
        raise ValueError(
            f"rows from {top} and columns from {left}, {max(rows, 0)} x {max(columns, 0)} pixels, are not all within a "
            f"frame of {shape[0]} x {shape[1]}. Fix: change top, left, height or width"
        )
    return rows, columns


# -------------------------------------------------------------------------------------------------- scaling


def resample(
    frame: Frame,
    *,
    factor: Annotated[float, Field(ge=0.01, le=16, description="pixels of the result per pixel and axis")] = 0.5,
) -> Frame:
    """Change the number of pixels: means of areas for a reduction, bilinear interpolation for an enlargement.

    Parameters
    ----------
    frame
        (H, W) numbers.
    factor
        Pixels of the result per pixel of the frame and axis. 1/2, 1/3, ... take the means of whole squares, which the
        lower and right border may cut off; other reductions take means of areas whose borders lie within pixels. Both
        are free of aliasing.

    Returns
    -------
    `resampled_shape` in the same type; computed in float32, and rounded for integers.
    """
    if factor == 1:
        return frame.copy()
    if times := _whole_reduction(factor):
        return in_type(reduce_area(np.asarray(frame, np.float32), times), frame.dtype)
    return in_type(zoom(np.asarray(frame, np.float32), factor), frame.dtype)


def resampled_shape(shape: Sequence[int], *, factor: float = 0.5) -> tuple[int, int]:
    """(height, width) of what `resample` returns for a frame of a shape."""
    if times := _whole_reduction(factor):
        return -(-shape[0] // times), -(-shape[1] // times)
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _whole_reduction(factor: float) -> int:
    """Pixels per pixel of the result and axis if it is a whole number above 1; 0 for other factors."""
    times = round(1 / factor)
    return times if times > 1 and abs(1 / factor - times) < WHOLE * times else 0


# ------------------------------------------------------------------------------------------------- channels


def composite(
    images: Mapping[str, Frame],
    *,
    weights: Annotated[
        dict[str, float] | None, Field(description="weight of each image by name; null for their mean")
    ] = None,
) -> Frame:
    """Sum of several images of the same frame.

    Parameters
    ----------
    images
        (H, W) numbers of the same shape, by name.
    weights
        Weight of each image; images without one do not count. None for the mean of all images.

    Returns
    -------
    (H, W) in the type of the first image; computed in float64, and rounded for integers.

    Raises
    ------
    ValueError
        If there are no images, their shapes differ, or a weight has no image.
    """
    shapes = sorted({image.shape for image in images.values()})
    if len(shapes) != 1:
        found = " and ".join(" x ".join(map(str, shape)) for shape in shapes) or "no image"
        raise ValueError(f"a composite needs images of one shape, not {found}. Fix: name others in 'of'")
    counted = dict.fromkeys(images, 1 / len(images)) if weights is None else weights
    if unknown := [name for name in counted if name not in images]:
        raise ValueError(f"weights: {unknown[0]!r} is not an image here; there are: {', '.join(images)}. Fix: name one")
    total = np.zeros(shapes[0])
    for name, weight in counted.items():
        total += weight * images[name]
    return in_type(total, next(iter(images.values())).dtype)
