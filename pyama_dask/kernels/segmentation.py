"""Cells in phase contrast: LOG-STD segmentation of single frames.

The method is the segmentation of PyAMA: the logarithm of the local standard deviation is high inside cells, which
are textured, and low between them; a threshold in the valley of its histogram parts the two, and a morphological
clean-up follows.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from pyama_dask.config import OddSize, Whole
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.morphology import closing, disk, fill_holes, keep_sizes, opening

HISTOGRAM_BINS = 200


def segment(
    frame: np.ndarray,
    *,
    logstd_window_size: OddSize = 3,
    threshold: Literal["valley", "mode"] = "valley",
    morph_size: OddSize = 7,
    morph_iterations: Whole = 3,
    min_object_size: Whole | None = 50,
    max_object_size: Whole | None = 10000,
) -> npt.NDArray[np.uint16]:
    """Find the cells of one phase-contrast frame.

    Threshold on the local standard deviation, close, drop specks, fill holes, open, label, and keep objects of
    the right size. Pixels outside the frame never count.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    logstd_window_size
        Width in pixels of the square in which the standard deviation is taken.
    threshold
        ``valley``: lowest point of the histogram between background and cells; ``mode``: mode of the background
        plus three standard deviations.
    morph_size
        Odd diameter in pixels of the disk that closes and opens.
    morph_iterations
        How often the disk is applied.
    min_object_size, max_object_size
        Smallest and largest area of a cell in pixels; None for no limit.

    Returns
    -------
    (H, W) labels: 0 is background, cells are 1..N in raster order of their first pixel, 4-connected.

    Raises
    ------
    OverflowError
        If there are more than 65535 objects.
    """
    values = logstd(frame, logstd_window_size)
    cut = {"valley": threshold_valley, "mode": threshold_mode}[threshold](values)
    mask = (values > np.float32(cut)).view(np.uint8)
    footprint = disk(morph_size // 2)
    mask = closing(mask, footprint, morph_iterations)
    if min_object_size:
        mask = (keep_sizes(mask, min_object_size, None) > 0).view(np.uint8)
    mask = opening(fill_holes(mask), footprint, morph_iterations)
    labels = keep_sizes(mask, min_object_size, max_object_size)
    if (count := int(labels.max(initial=0))) > np.iinfo(np.uint16).max:
        raise OverflowError(f"{count} objects in one frame do not fit 16-bit labels; raise min_object_size")
    return labels.astype(np.uint16)


def logstd(frame: np.ndarray, window_size: int = 3) -> npt.NDArray[np.float32]:
    """Logarithm of the local standard deviation of an integer frame.

    Sums are exact integers, so that the camera's offset cannot cancel the variance away. At the borders the frame
    is mirrored with its edge pixels repeated.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    window_size
        Odd width of the window in pixels.

    Returns
    -------
    (H, W) natural logarithm; 0 where the window is constant.
    """
    h, w = frame.shape
    half = window_size // 2
    rows, columns = (np.pad(np.arange(n), half, mode="symmetric") for n in (h, w))
    out = np.empty((h, w), np.float32)
    _logstd(np.ascontiguousarray(frame), rows, columns, window_size, out)
    return out


@compiled
def _logstd(frame: Any, rows: Any, columns: Any, size: Any, out: Any) -> None:
    height, width = out.shape
    padded = columns.size
    down = np.zeros(padded, np.int64)  # sums over the rows of the window, for every column
    down2 = np.zeros(padded, np.int64)
    n = np.int64(size * size)
    for y in range(height):
        down[:] = 0
        down2[:] = 0
        for k in range(size):
            row = frame[rows[y + k]]
            for x in range(padded):
                value = np.int64(row[columns[x]])
                down[x] += value
                down2[x] += value * value
        for x in range(width):
            s1 = np.int64(0)
            s2 = np.int64(0)
            for k in range(size):
                s1 += down[x + k]
                s2 += down2[x + k]
            scaled = n * s2 - s1 * s1
            out[y, x] = 0.5 * math.log(scaled / (n * n)) if scaled > 0 else 0.0


def threshold_mode(values: npt.NDArray[np.float32]) -> float:
    """Mode of the background plus three standard deviations of the values at or below it."""
    counts, edges = histogram(values)
    mode = float((edges[:-1] + edges[1:])[counts.argmax()] / 2)
    return mode + 3.0 * float(values[values <= mode].std(dtype=np.float64))


def threshold_valley(values: npt.NDArray[np.float32]) -> float:
    """Lowest point between the background mode and the cell mode of the smoothed histogram.

    The cell mode is the local maximum right of the background mode that rises most above the lowest point between
    the two. Where none rises by 5 % of its own height there is one mode only, and `threshold_mode` decides.
    """
    counts, edges = histogram(values)
    centres = (edges[:-1] + edges[1:]) / 2
    smooth = gaussian_filter1d(counts.astype(np.float64), 2.0, mode="nearest")
    k0 = int(smooth.argmax())
    inner = np.arange(k0 + 1, smooth.size - 1)
    peaks = inner[(smooth[inner - 1] < smooth[inner]) & (smooth[inner] >= smooth[inner + 1])]
    if peaks.size:
        rise = smooth[peaks] - np.minimum.accumulate(smooth[k0:])[peaks - k0]
        best = int(rise.argmax())
        if rise[best] >= 0.05 * smooth[peaks[best]]:
            return float(centres[k0 + int(smooth[k0 : peaks[best] + 1].argmin())])
    return threshold_mode(values)


def histogram(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Histogram between minimum and maximum, equal to `numpy.histogram` with `HISTOGRAM_BINS` bins.

    Returns
    -------
    (bins,) counts and (bins + 1,) edges.
    """
    edges = np.histogram_bin_edges(values, HISTOGRAM_BINS)
    counts = np.zeros(HISTOGRAM_BINS, np.int64)
    _count(values.ravel(), edges, counts)
    return counts, edges


@compiled
def _count(values: Any, edges: Any, counts: Any) -> None:
    bins = counts.size
    first = np.float64(edges[0])
    per_value = bins / (np.float64(edges[bins]) - first)
    for value in values:
        k = min(int((value - first) * per_value), bins - 1)
        # the edges decide, as the product is rounded
        if value < edges[k]:
            k -= 1
        elif k < bins - 1 and value >= edges[k + 1]:
            k += 1
        counts[k] += 1
