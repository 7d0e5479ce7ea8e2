"""Change of the size of frames and labels: means of areas, bilinear and nearest-neighbour interpolation.

Pixel centres lie at half numbers, so that a frame and its reduced or enlarged copy cover the same area. Frames are
continued at their borders by their outermost pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Image = npt.NDArray[np.float32]
"""(H, W) float32."""


class Between(NamedTuple):
    """Rows and columns of an image between which those of a result lie, and the weights of the second ones."""

    above: npt.NDArray[np.int32]
    below: npt.NDArray[np.int32]
    down: Image
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    across: Image


def reduce_area(frame: np.ndarray, factor: int) -> Image:
    """Reduce a frame by a whole factor to the means of squares.

    Parameters
    ----------
    frame
        (H, W) numbers.
    factor
        Width of a square in pixels; squares at the lower and right border may be cut off by it.

    Returns
    -------
    (ceil(H / factor), ceil(W / factor)) float32.
    """
    height, width = (-(-n // factor) for n in frame.shape)
    out = np.empty((height, width), np.float32)
    _reduce(np.ascontiguousarray(frame), factor, out)
    return out


def enlarge(image: Image, factor: int, shape: tuple[int, int]) -> Image:
    """Enlarge an image by a whole factor, with bilinear interpolation; the inverse of `reduce_area` on slopes.

    Parameters
    ----------
    image
        (h, w) float32.
    factor
        Pixels per pixel of the image and axis.
    shape
        (H, W) of the result, at most (h * factor, w * factor); what lies beyond is cut off.

    Returns
    -------
    (H, W) float32.
    """
    out = np.empty(shape, np.float32)
    _enlarge(image, between(image.shape, shape, (1 / factor, 1 / factor)), out)
    return out


def zoom(frame: np.ndarray, factor: float) -> np.ndarray:
    """Zoom a frame by any factor: by means of areas below 1, with bilinear interpolation above.

    Parameters
    ----------
    frame
        (H, W) numbers.
    factor
        Pixels of the result per pixel of the frame and axis.

    Returns
    -------
    (max(1, round(H * factor)), max(1, round(W * factor))) float32; the frame itself for a factor of 1.
    """
    if factor == 1:
        return frame
    height, width = (max(1, round(n * factor)) for n in frame.shape)
    out = np.empty((height, width), np.float32)
    scales = frame.shape[0] / height, frame.shape[1] / width
    if factor < 1:
        _reduce_rows(np.ascontiguousarray(frame), scales, out)
    else:
        _enlarge(np.ascontiguousarray(frame), between(frame.shape, out.shape, scales), out)
    return out


def nearest(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize labels to any shape: each pixel takes the label at its centre.

    Parameters
    ----------
    labels
        (h, w) whole numbers.
    shape
        (H, W) of the result.

    Returns
    -------
    (H, W) of the same type; the labels themselves if they have this shape.
    """
    if labels.shape == shape:
        return labels
    rows, columns = ((2 * np.arange(n) + 1) * have // (2 * n) for n, have in zip(shape, labels.shape, strict=True))
    return np.ascontiguousarray(labels[rows][:, columns])


def between(have: tuple[int, ...], shape: tuple[int, ...], scales: tuple[float, float]) -> Between:
    """Find the pixels between which those of a result lie.

    Parameters
    ----------
    have, shape
        (H, W) of an image and of the result.
    scales
        Pixels of the image per pixel of the result, by axis.
    """
    return Between(*_between(have[0], shape[0], scales[0]), *_between(have[1], shape[1], scales[1]))


def _between(have: int, count: int, scale: float) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Image]:
    at = np.clip((np.arange(count) + 0.5) * scale - 0.5, 0, have - 1)
    first = at.astype(np.int32)
    return first, np.minimum(first + 1, have - 1).astype(np.int32), (at - first).astype(np.float32)


# ----------------------------------------------------------------------------------------- loops over rows


@compiled
def _reduce(frame: Any, factor: int, out: Any) -> None:
    height, width = frame.shape
    whole = width // factor
    for i in range(out.shape[0]):
        bottom = min((i + 1) * factor, height)
        row = out[i]
        row[:] = 0
        for y in range(i * factor, bottom):
            for j in range(whole):
                total = np.float32(0)
                for k in range(factor):
                    total += np.float32(frame[y, j * factor + k])
                row[j] += total
            for x in range(whole * factor, width):
                row[whole] += np.float32(frame[y, x])
        rows = bottom - i * factor
        for j in range(whole):
            row[j] /= np.float32(rows * factor)
        if whole < row.size:
            row[whole] /= np.float32(rows * (width - whole * factor))


@compiled
def _reduce_rows(frame: Any, scales: Any, out: Any) -> None:
    """Means of areas whose borders may lie within pixels."""
    height, width = frame.shape
    total = np.empty(width)
    for i in range(out.shape[0]):
        top, bottom = i * scales[0], min((i + 1) * scales[0], height)
        total[:] = 0
        for y in range(int(top), min(int(np.ceil(bottom)), height)):
            share = min(bottom, y + 1) - max(top, y)
            for x in range(width):
                total[x] += share * frame[y, x]
        for j in range(out.shape[1]):
            left, right = j * scales[1], min((j + 1) * scales[1], width)
            mean = 0.0
            for x in range(int(left), min(int(np.ceil(right)), width)):
                mean += (min(right, x + 1) - max(left, x)) * total[x]
            out[i, j] = mean / ((bottom - top) * (right - left))


@compiled
def _enlarge(image: Any, at: Any, out: Any) -> None:
    blend = np.empty(image.shape[1], np.float32)
    for y in range(out.shape[0]):
        interpolate_row(image, at, y, blend, out[y])


@compiled
def interpolate_row(image: Any, at: Any, y: int, blend: Any, out: Any) -> None:
    """Write row y of an enlarged image; `blend` is room for a row of the image."""
    above, below, weight = image[at.above[y]], image[at.below[y]], at.down[y]
    for x in range(blend.size):
        blend[x] = above[x] + weight * (np.float32(below[x]) - np.float32(above[x]))
    left, right, across = at.left, at.right, at.across
    for x in range(out.size):
        first = blend[left[x]]
        out[x] = first + across[x] * (blend[right[x]] - first)
