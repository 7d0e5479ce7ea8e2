"""Cells in phase contrast: LOG-STD segmentation of single frames.

The method is PyAMA's segmentation: the logarithm of the local standard deviation is high inside textured cells and low
between them. A threshold in the valley of its histogram separates the two, followed by a morphological clean-up.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.ndimage`, which takes a while, when it is used
from pydantic import Field

from pyama_dask.config.units import OddSize, OddWindow, Whole
from pyama_dask.errors import MethodWarning
from pyama_dask.kernels.logstd import LocalDeviation
from pyama_dask.kernels.losses import LARGE_LOSS, LEAST_LOSS, Losses, note
from pyama_dask.kernels.morphology import closing, disk, opening, repeated
from pyama_dask.kernels.runlength import label, solid

HISTOGRAM_BINS = 200


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
    morph_iterations: Annotated[
        Whole, Field(description="number of times the disk is applied; lower it to keep thin cells")
    ] = 3,
    min_object_size: Annotated[
        Whole | None, Field(description="pixels: smaller objects are dropped; null for no limit")
    ] = 50,
    max_object_size: Annotated[
        Whole | None, Field(description="pixels: larger objects are dropped; null for no limit")
    ] = 10000,
) -> npt.NDArray[np.uint16]:
    """Segment the cells of one phase-contrast frame.

    Threshold the local standard deviation, close, drop specks, fill holes, open, label, and keep the objects whose
    area is within limits. Pixels outside the frame never count.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    logstd_window_size
        Odd width in pixels of the square window for the standard deviation.
    threshold
        ``valley``: lowest point of the histogram between background and cells; ``mode``: mode of the background
        plus three standard deviations.
    morph_size
        Odd diameter in pixels of the disk for closing and opening.
    morph_iterations
        Number of times the disk is applied.
    min_object_size, max_object_size
        Smallest and largest area of a cell in pixels; None for no limit.

    Returns
    -------
    (H, W) labels: 0 is background, cells are 1..N in raster order of their first pixel, 4-connected.

    Warns
    -----
    MethodWarning
        If too-large objects cover more than `LARGE_LOSS` of the frame, or if most of the textured area is dropped, as
        too large or as too small or thin.

    Raises
    ------
    OverflowError
        If the frame has more than 65535 objects.
    """
    deviation = LocalDeviation(frame, logstd_window_size)
    mask = deviation.above({"valley": threshold_valley, "mode": threshold_mode}[threshold](deviation))
    reach = repeated(disk(morph_size // 2), morph_iterations)
    smallest, largest = min_object_size or 0, max_object_size or frame.size
    textured = mask.area
    mask, specks = solid(closing(mask, reach), smallest)
    mask = opening(mask, reach)
    labels, count, dropped = label(mask, smallest, largest)
    note(
        Losses(specks + dropped.too_small, dropped.too_large, dropped.large_area / frame.size),
        lambda: label(mask, largest + 1, frame.size)[0],
    )
    _warn_of_losses(textured, mask.area, dropped.large_area, frame.size)
    if count > np.iinfo(np.uint16).max:
        raise OverflowError(f"{count} objects in one frame do not fit 16-bit labels. Fix: raise min_object_size")
    return labels


def _warn_of_losses(textured: int, opened: int, too_large: int, pixels: int) -> None:
    """Warn if much of the frame, or most of its texture, is in no object; areas in pixels."""
    least = LEAST_LOSS * pixels
    if too_large > LARGE_LOSS * pixels:
        _warn(
            f"objects larger than max_object_size cover more than {LARGE_LOSS:.0%} of the frame and were dropped",
            MERGED,
        )
    elif too_large > max(least, opened / 2):
        _warn("most of the area of all objects was dropped, as larger than max_object_size", MERGED)
    if textured > max(least, 2 * opened):
        _warn("most of the textured area was dropped, as too small or too thin", VANISHED)


MERGED = (
    "cells may have merged. Fix: with 'pyama-dask preview', try fewer morph_iterations, 'threshold: mode', or another "
    "segmentation_method"
)
VANISHED = (
    "small cells may have vanished. Fix: with 'pyama-dask preview', try a smaller morph_size, fewer morph_iterations, "
    "or a smaller min_object_size"
)


def _warn(what: str, then: str) -> None:
    warnings.warn(f"{what}; {then}", MethodWarning, stacklevel=4)


def threshold_mode(deviation: LocalDeviation) -> float:
    """Mode of the background plus three standard deviations of the values up to the mode."""
    counts, edges = deviation.histogram(HISTOGRAM_BINS)
    mode = float((edges[:-1] + edges[1:])[counts.argmax()] / 2)
    return mode + 3.0 * deviation.spread_up_to(mode)


def threshold_valley(deviation: LocalDeviation) -> float:
    """Lowest point between background mode and cell mode in the smoothed histogram.

    The cell mode is the local maximum, right of the background mode, that rises most above the lowest point between
    the two. If no maximum rises by 5 % of the maximum's height, `threshold_mode` applies.
    """
    counts, edges = deviation.histogram(HISTOGRAM_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    smooth = scipy.ndimage.gaussian_filter1d(counts.astype(np.float64), 2.0, mode="nearest")
    k0 = int(smooth.argmax())
    inner = np.arange(k0 + 1, smooth.size - 1)
    peaks = inner[(smooth[inner - 1] < smooth[inner]) & (smooth[inner] >= smooth[inner + 1])]
    if peaks.size:
        rise = smooth[peaks] - np.minimum.accumulate(smooth[k0:])[peaks - k0]
        best = int(rise.argmax())
        if rise[best] >= 0.05 * smooth[peaks[best]]:
            return float(centres[k0 + int(smooth[k0 : peaks[best] + 1].argmin())])
    return threshold_mode(deviation)
