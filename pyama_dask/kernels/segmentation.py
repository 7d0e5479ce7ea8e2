"""Cells in phase contrast: LOG-STD segmentation of single frames.

The method is the segmentation of PyAMA: the logarithm of the local standard deviation is high inside cells, which
are textured, and low between them; a threshold in the valley of its histogram parts the two, and a morphological
clean-up follows.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.ndimage import gaussian_filter1d

from pyama_dask.config.units import OddSize, OddWindow, Whole
from pyama_dask.errors import MethodWarning
from pyama_dask.kernels.logstd import LocalDeviation
from pyama_dask.kernels.morphology import closing, disk, opening, repeated
from pyama_dask.kernels.runlength import label, solid

HISTOGRAM_BINS = 200
LARGE_LOSS = 0.1
"""Part of a frame in objects that are dropped as too large from which on a warning is due."""


def segment(
    frame: np.ndarray,
    *,
    logstd_window_size: Annotated[
        OddWindow, Field(description="pixels, odd: window of the local standard deviation")
    ] = 3,
    threshold: Annotated[
        Literal["valley", "mode"], Field(description="valley, or mode: mode of the background + 3 sigma")
    ] = "valley",
    morph_size: Annotated[
        OddSize, Field(description="pixels, odd: diameter of the disk that closes gaps and opens bridges")
    ] = 7,
    morph_iterations: Annotated[Whole, Field(description="how often the disk is applied; fewer keeps thin cells")] = 3,
    min_object_size: Annotated[
        Whole | None, Field(description="pixels: smaller objects are dropped; null for no limit")
    ] = 50,
    max_object_size: Annotated[
        Whole | None, Field(description="pixels: larger objects are dropped; null for no limit")
    ] = 10000,
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

    Warns
    -----
    MethodWarning
        If objects that are too large cover much of the frame.

    Raises
    ------
    OverflowError
        If there are more than 65535 objects.
    """
    deviation = LocalDeviation(frame, logstd_window_size)
    mask = deviation.above({"valley": threshold_valley, "mode": threshold_mode}[threshold](deviation))
    reach = repeated(disk(morph_size // 2), morph_iterations)
    smallest, largest = min_object_size or 0, max_object_size or frame.size
    mask = solid(closing(mask, reach), smallest)
    labels, count, too_large = label(opening(mask, reach), smallest, largest)
    if too_large > LARGE_LOSS * frame.size:
        warnings.warn(
            f"objects larger than max_object_size cover more than {LARGE_LOSS:.0%} of the frame and were dropped; "
            "cells may have merged: look at seg_labeled, and try fewer morph_iterations, or 'threshold: mode'",
            MethodWarning,
            stacklevel=2,
        )
    if count > np.iinfo(np.uint16).max:
        raise OverflowError(f"{count} objects in one frame do not fit 16-bit labels; raise min_object_size")
    return labels


def threshold_mode(deviation: LocalDeviation) -> float:
    """Mode of the background plus three standard deviations of the values at or below it."""
    counts, edges = deviation.histogram(HISTOGRAM_BINS)
    mode = float((edges[:-1] + edges[1:])[counts.argmax()] / 2)
    return mode + 3.0 * deviation.spread_up_to(mode)


def threshold_valley(deviation: LocalDeviation) -> float:
    """Lowest point between the background mode and the cell mode of the smoothed histogram.

    The cell mode is the local maximum right of the background mode that rises most above the lowest point between
    the two. Where none rises by 5 % of its own height there is one mode only, and `threshold_mode` decides.
    """
    counts, edges = deviation.histogram(HISTOGRAM_BINS)
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
    return threshold_mode(deviation)
