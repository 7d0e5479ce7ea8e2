"""Filters of frames of floats: Gaussian, median of five, opening by a disk. They work on whole rows at a time."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.morphology import disk
from pyama_dask.kernels.resize import Image

Float = TypeVar("Float", np.float32, np.float64)


def gaussian(image: npt.NDArray[Float], sigma: float) -> npt.NDArray[Float]:
    """Gaussian filter, cut off at four standard deviations.

    Parameters
    ----------
    image
        (H, W) float32 or float64; it is continued at its borders by mirroring, with the edge pixels repeated.
    sigma
        Standard deviation in pixels, above 0.

    Returns
    -------
    (H, W) in the same type, in whose precision it is computed.
    """
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(image.dtype)
    rows, columns = (np.pad(np.arange(n), reach, mode="symmetric") for n in image.shape)
    out = np.empty_like(image)
    _gaussian(image, weights, rows, columns, out)
    return out


def median_of_five(image: Image) -> Image:
    """Median of five pixels above each other, then of five beside each other; the image is continued by mirroring."""
    rows, columns = (np.pad(np.arange(n), 2, mode="symmetric") for n in image.shape)
    out = np.empty_like(image)
    _median(image, rows, columns, out)
    return out


def grey_opening(image: Image, radius: int) -> Image:
    """Opening by a disk: bright structures narrower than it are flattened. Pixels outside the image never count.

    Parameters
    ----------
    image
        (H, W) float32.
    radius
        Of the disk, in pixels; see `kernels.morphology.disk`.
    """
    reach = disk(radius)
    lowest, highest = np.full(image.shape, np.inf, np.float32), np.full(image.shape, np.inf, np.float32)
    _lowest(image, reach, lowest)
    _lowest(-lowest, reach, highest)
    return -highest


# ----------------------------------------------------------------------------------------- loops over rows


@compiled
def _gaussian(image: Any, weights: Any, rows: Any, columns: Any, out: Any) -> None:
    reach, width = weights.size - 1, image.shape[1]
    wide = np.empty(columns.size, weights.dtype)
    for y in range(image.shape[0]):
        row = wide[reach : reach + width]
        _weigh(image[rows[y + reach]], weights[0], row)
        for k in range(1, reach + 1):
            _add_weighted(image[rows[y + reach - k]], image[rows[y + reach + k]], weights[k], row)
        for x in range(reach):
            wide[x], wide[reach + width + x] = row[columns[x]], row[columns[reach + width + x]]
        _weigh(row, weights[0], out[y])
        for k in range(1, reach + 1):
            _add_weighted(wide[reach - k : reach - k + width], wide[reach + k :], weights[k], out[y])


@compiled
def _weigh(row: Any, weight: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = weight * row[x]


@compiled
def _add_weighted(one: Any, other: Any, weight: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] += weight * (one[x] + other[x])


@compiled
def _median(image: Any, rows: Any, columns: Any, out: Any) -> None:
    wide = np.empty(columns.size, np.float32)
    width = image.shape[1]
    for y in range(image.shape[0]):
        row = wide[2 : 2 + width]
        _median_rows(
            image[rows[y]], image[rows[y + 1]], image[rows[y + 2]], image[rows[y + 3]], image[rows[y + 4]], row
        )
        for x in range(2):
            wide[x], wide[2 + width + x] = row[columns[x]], row[columns[2 + width + x]]
        _median_rows(wide[0:], wide[1:], wide[2:], wide[3:], wide[4:], out[y])


@compiled
def _median_rows(a: Any, b: Any, c: Any, d: Any, e: Any, out: Any) -> None:
    """Drop the lowest and the highest of four, then take the median of the other two and the fifth."""
    for x in range(out.size):
        low = max(min(a[x], b[x]), min(c[x], d[x]))
        high = min(max(a[x], b[x]), max(c[x], d[x]))
        out[x] = max(min(low, high), min(max(low, high), e[x]))


@compiled
def _lowest(image: Any, reach: Any, out: Any) -> None:
    """Lowest pixel of a disk around each: each row's lowest within growing distances, for all rows of the disk."""
    height, width = image.shape
    row, wider = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        row[:] = image[y]
        grown = 0
        for dy in range(reach.size - 1, -1, -1):  # from the narrowest row of the disk to the widest
            while grown < reach[dy]:
                _widen(row, wider)
                row, wider = wider, row
                grown += 1
            for at in (y - dy, y + dy) if dy else (y, y):
                if 0 <= at < height:
                    _take_lower(row, out[at])


@compiled
def _widen(row: Any, out: Any) -> None:
    last = row.size - 1
    for x in range(1, last):
        out[x] = min(row[x - 1], row[x], row[x + 1])
    out[0], out[last] = min(row[0], row[min(1, last)]), min(row[last], row[max(last - 1, 0)])


@compiled
def _take_lower(row: Any, out: Any) -> None:
    for x in range(out.size):
        out[x] = min(out[x], row[x])
