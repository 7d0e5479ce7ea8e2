"""Features of single cells in one frame: shape from the labels, intensity from the raw pixels of each cell.

A feature is a function of all cells in a frame: it takes `Shapes` or `Intensities` and returns one value per cell.
The config looks up feature names in `SHAPE_FEATURES` and `INTENSITY_FEATURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

PerCell = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of the N cells of a frame, for features that look at them.

    Other steps read these arrays, too, so a feature does not write to them.
    """

    frame: np.ndarray
    """(H, W) grey levels."""
    labels: np.ndarray
    """(H, W) labels 1..N."""
    boxes: npt.NDArray[np.integer]
    """(N, 4) half-open boxes y0, x0, y1, x1."""
    background: npt.NDArray[np.float32] | None = None
    """(H, W) grey levels; None in phase contrast."""
    weight: float = 0.0
    """Fraction of the background that counts, 0 to 1."""


@dataclass(frozen=True)
class Shapes:
    """Shapes of the N cells of a frame, in label order."""

    area: npt.NDArray[np.int64]
    """(N,) pixels."""
    covariance: npt.NDArray[np.float64]
    """(N, 3) variance of y, variance of x and covariance of the pixel coordinates, in pixels squared."""
    perimeter: npt.NDArray[np.float64]
    """(N,) pixels, as scikit-image's `perimeter` with 4-connected borders (Benkrid and Crookes 2000)."""
    pixels: Pixels | None = field(default=None, repr=False)
    """None unless a feature asks for them."""


@dataclass(frozen=True)
class Intensities:
    """Background-corrected intensities of the N cells of a frame, in label order; NaN if the background is NaN."""

    total: npt.NDArray[np.float64]
    """(N,) grey levels."""
    mean: npt.NDArray[np.float64]
    """(N,) grey levels."""
    maximum: npt.NDArray[np.float64]
    """(N,) grey levels."""
    variance: npt.NDArray[np.float64]
    """(N,) population variance of a cell's pixels, in grey levels squared."""
    pixels: Pixels | None = field(default=None, repr=False)
    """None unless a feature asks for them."""


# --------------------------------------------------------------------------------------------- features


def area(shapes: Shapes) -> PerCell:
    """Area in pixels."""
    return shapes.area


def aspect_ratio(shapes: Shapes) -> PerCell:
    """Ratio of major to minor axis of the ellipse with the cell's second moments; NaN if the minor axis is 0."""
    major, minor = _axes(shapes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(minor > 0, np.sqrt(major / minor), np.nan)


def circularity(shapes: Shapes) -> PerCell:
    """4 pi area / perimeter squared: near 1 for a disk, lower for long or ragged cells; NaN if the perimeter is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shapes.perimeter > 0, 4 * np.pi * shapes.area / shapes.perimeter**2, np.nan)


def eccentricity(shapes: Shapes) -> PerCell:
    """Eccentricity of the ellipse with the cell's second moments: 0 for a disk, close to 1 for a line."""
    major, minor = _axes(shapes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(major > 0, np.sqrt(np.clip(1 - minor / major, 0, 1)), 0.0)


def _axes(shapes: Shapes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Variances along the major and minor axis; the minor from the determinant, so that it is exactly 0 for lines."""
    yy, xx, yx = shapes.covariance.T
    major = (yy + xx + np.hypot(yy - xx, 2 * yx)) / 2
    determinant = np.clip(yy * xx - yx * yx, 0, None)
    determinant[determinant <= 1e-12 * yy * xx] = 0.0
    minor = np.divide(determinant, major, out=np.zeros_like(major), where=major > 0)
    return major, minor


def intensity_total(intensities: Intensities) -> PerCell:
    """Sum over the cell's pixels, in grey levels."""
    return intensities.total


def intensity_mean(intensities: Intensities) -> PerCell:
    """Mean over the cell's pixels, in grey levels."""
    return intensities.mean


def intensity_max(intensities: Intensities) -> PerCell:
    """Maximum over the cell's pixels, in grey levels."""
    return intensities.maximum


def intensity_variance(intensities: Intensities) -> PerCell:
    """Population variance over the cell's pixels, in grey levels squared."""
    return intensities.variance


SHAPE_FEATURES: Mapping[str, Callable[[Shapes], PerCell]] = {
    f.__name__: f for f in (area, aspect_ratio, circularity, eccentricity)
}
INTENSITY_FEATURES: Mapping[str, Callable[[Intensities], PerCell]] = {
    f.__name__: f for f in (intensity_total, intensity_mean, intensity_max, intensity_variance)
}


# ------------------------------------------------------------------------------------------ measurement


def measure_shapes(labels: np.ndarray, boxes: npt.NDArray[np.integer]) -> Shapes:
    """Measure the shapes of labels 1..N.

    Parameters
    ----------
    labels
        (H, W) labels without gaps.
    boxes
        (N, 4) half-open boxes of the labels.

    Returns
    -------
    Shapes of the N cells.
    """
    sums = np.zeros((len(boxes), 6), np.int64)
    perimeter = np.zeros(len(boxes))
    _shape_sums(labels, boxes, np.empty(_largest(boxes, 1), np.uint8), sums, perimeter)
    n, y, x, yy, xx, yx = sums.T.astype(np.float64)
    squared = 4 * n * n  # coordinates were doubled, so that they are integers relative to the box centre
    covariance = np.stack([n * yy - y * y, n * xx - x * x, n * yx - y * x], axis=1) / squared[:, None]
    return Shapes(sums[:, 0], covariance, perimeter)


def _largest(boxes: npt.NDArray[np.integer], margin: int) -> int:
    """Number of pixels of the largest box, with a margin on all sides."""
    return int((boxes[:, 2:] - boxes[:, :2] + 2 * margin).astype(np.int64).prod(1).max(initial=0))


@compiled
def _shape_sums(labels: Any, boxes: Any, buffer: Any, sums: Any, perimeter: Any) -> None:
    for k in range(boxes.shape[0]):
        y0, x0, y1, x1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        h, w = y1 - y0, x1 - x0
        edge = buffer[: (h + 2) * (w + 2)].reshape((h + 2, w + 2))
        edge[:] = 0
        inside = np.uint64(k + 1)
        for y in range(y0, y1):
            above, at, below = labels[max(y - 1, 0)], labels[y], labels[min(y + 1, labels.shape[0] - 1)]
            for x in range(np.uint64(x0), np.uint64(x1)):  # unsigned indices skip numba's wraparound
                if at[x] != inside:
                    continue
                dy, dx = np.int64(2 * y - y0 - y1 + 1), np.int64(2 * np.int64(x) - x0 - x1 + 1)
                sums[k, 0] += 1
                sums[k, 1] += dy
                sums[k, 2] += dx
                sums[k, 3] += dy * dy
                sums[k, 4] += dx * dx
                sums[k, 5] += dy * dx
                inner = y > y0 and y + 1 < y1 and np.int64(x) > x0 and np.int64(x) + 1 < x1
                if not (
                    inner
                    and above[x] == inside
                    and below[x] == inside
                    and at[x - np.uint64(1)] == inside
                    and at[x + np.uint64(1)] == inside
                ):
                    edge[y - y0 + 1, np.int64(x) - x0 + 1] = 1
        perimeter[k] = _edge_length(edge)


@compiled
def _edge_length(edge: Any) -> float:
    """Length of a border image, from the neighbour configuration of each border pixel."""
    straight, diagonal, mixed = 0, 0, 0
    for y in range(1, edge.shape[0] - 1):
        for x in range(1, edge.shape[1] - 1):
            if edge[y, x]:
                beside = edge[y - 1, x] + edge[y + 1, x] + edge[y, x - 1] + edge[y, x + 1]
                across = edge[y - 1, x - 1] + edge[y - 1, x + 1] + edge[y + 1, x - 1] + edge[y + 1, x + 1]
                code = 1 + 2 * beside + 10 * across
                if code in (5, 7, 15, 17, 25, 27):
                    straight += 1
                elif code in (21, 33):
                    diagonal += 1
                elif code in (13, 23):
                    mixed += 1
    return float(straight + diagonal * np.sqrt(2.0) + mixed * (1.0 + np.sqrt(2.0)) / 2.0)


def measure_intensities(
    frame: np.ndarray,
    background: npt.NDArray[np.float32],
    weight: float,
    labels: np.ndarray,
    boxes: npt.NDArray[np.integer],
) -> Intensities:
    """Measure ``frame - weight * background`` under labels 1..N.

    Parameters
    ----------
    frame
        (H, W) raw fluorescence.
    background
        (H, W) background in grey levels.
    weight
        Fraction of the background that is subtracted, 0 to 1.
    labels, boxes
        (H, W) labels without gaps, and their (N, 4) half-open boxes.

    Returns
    -------
    Intensities of the N cells.
    """
    out = np.zeros((4, len(boxes)))
    _intensities(frame, background, weight, labels, boxes, np.empty(_largest(boxes, 0)), out)
    return Intensities(*out)


@compiled
def _intensities(frame: Any, background: Any, weight: Any, labels: Any, boxes: Any, values: Any, out: Any) -> None:
    for k in range(boxes.shape[0]):
        y0, x0, y1, x1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        count, total, largest = 0, 0.0, -np.inf
        for y in range(y0, y1):
            for x in range(x0, x1):
                if labels[y, x] == k + 1:
                    value = frame[y, x] - weight * np.float64(background[y, x])
                    values[count] = value
                    count += 1
                    total += value
                    if not (value <= largest or np.isnan(largest)):  # NaN stays
                        largest = value
        mean = total / count
        squares = 0.0
        for i in range(count):
            squares += (values[i] - mean) ** 2
        out[0, k], out[1, k], out[2, k], out[3, k] = total, mean, largest, squares / count
