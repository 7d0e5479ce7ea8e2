"""Compact bright cells, or dark ones: a flat background, one basin per peak, and a cut at a part of each peak.

A valley divides two cells where it is deep compared with the lower peak, and a cell ends at a part of
its peak, so that neither depends on the brightness of a cell, the exposure, or the offset of the camera.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.config.units import Fraction, Length, Whole
from pyama_dask.errors import MethodWarning
from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.losses import LARGE_LOSS, LEAST_LOSS, Losses, note
from pyama_dask.kernels.persistence import persistence_watershed
from pyama_dask.kernels.resize import Image, between, interpolate_row, reduce_area
from pyama_dask.kernels.smooth import gaussian, grey_opening, median_of_five

REDUCED = 4
"""Factor by which a frame is reduced to find its background."""
SMOOTHING = 0.08
"""Standard deviation of the Gaussian over the frame, in diameters of a cell."""
LEAST_SMOOTHING = 0.5
"""Smallest standard deviation of that Gaussian, in pixels."""
SIGMAS = 1.4826
"""Standard deviations of normal noise per median absolute deviation."""
SAMPLE = 2**16
"""Approximate number of pixels from which base level and noise are found."""
CLOSEST = 0.2
"""Part of these pixels whose values lie closest together, which is background."""
FAINTEST = 1e-3
"""Smallest part of the highest peak that counts as signal in a frame without noise."""


def segment_bright(
    frame: np.ndarray,
    *,
    diameter: Annotated[
        Length, Field(description="typical diameter of a cell: pixels, or micrometres such as '12 um'")
    ] = 14.0,
    part: Annotated[
        Fraction, Field(lt=1, description="0 to 1: a cell ends where it falls below this part of its peak")
    ] = 0.2,
    depth: Annotated[
        Fraction, Field(lt=1, description="0 to 1: a valley this much below the lower peak divides two cells")
    ] = 0.15,
    noise: Annotated[
        float, Field(ge=0, le=1e4, description="cells rise above the background by this many sigmas of its noise")
    ] = 10.0,
    min_object_size: Annotated[
        Whole | None, Field(description="pixels: smaller objects are dropped; null for no limit")
    ] = 30,
    max_object_size: Annotated[
        Whole | None, Field(description="pixels: larger objects are dropped; null for no limit")
    ] = None,
    invert: Annotated[bool, Field(description="true for cells darker than the background")] = False,
) -> npt.NDArray[np.uint16]:
    """Segment the compact bright cells of one frame.

    Subtract the background and smooth, divide what rises above the noise into one basin per cell, and cut each basin at
    a part of its peak.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    diameter
        Typical diameter of a cell in pixels; structures several times as wide are background.
    part
        Part of a cell's peak above the background at which its outline lies.
    depth
        Depth of the valley between two cells, as a part of the lower one's peak.
    noise
        Standard deviations of the smoothed background above which pixels belong to cells.
    min_object_size, max_object_size
        Smallest and largest area of a cell in pixels; None for no limit.
    invert
        True for dark cells on a bright background.

    Returns
    -------
    (H, W) labels: 0 is background, cells are 1..N in raster order of their first pixel.

    Warns
    -----
    MethodWarning
        If too-large objects cover more than `LARGE_LOSS` of the frame, or if most of the area of all objects is
        dropped, as too large or too small.

    Raises
    ------
    OverflowError
        If the frame has more than 65535 objects.
    """
    signal = smoothed_signal(~frame if invert else frame, float(diameter))
    base, sigma = _base_and_noise(signal)
    cut = np.float32(max(noise * sigma, FAINTEST * (float(signal.max()) - base)))
    mask, landscape = np.empty(frame.shape, np.bool_), np.empty(frame.shape, np.float32)
    _above(signal, np.float32(base), cut, mask, landscape)
    basins, count = persistence_watershed(landscape, mask, -math.log1p(-depth))
    labels, kept = _cut_at_part(signal, np.float32(part), basins, count, min_object_size, max_object_size)
    if kept > np.iinfo(np.uint16).max:
        raise OverflowError(f"{kept} objects in one frame do not fit 16-bit labels. Fix: raise min_object_size")
    return labels


def smoothed_signal(frame: np.ndarray, diameter: float) -> Image:
    """Frame less its background, smoothed.

    The background is an opening of the reduced frame by a disk about four cells wide.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16.
    diameter
        Typical diameter of a cell in pixels.

    Returns
    -------
    (H, W) float32 in grey levels.
    """
    small = grey_opening(median_of_five(reduce_area(frame, REDUCED)), int(diameter // 2))
    small = gaussian(small, diameter / REDUCED)
    rest = np.empty(frame.shape, np.float32)
    _subtract(np.ascontiguousarray(frame), small, between(small.shape, frame.shape, (1 / REDUCED, 1 / REDUCED)), rest)
    return gaussian(rest, max(LEAST_SMOOTHING, SMOOTHING * diameter))


def _base_and_noise(signal: Image) -> tuple[float, float]:
    """Level of the background, and the standard deviation of its noise, from a sample of pixels.

    The background is where values lie closest together, so that it is found in crowded frames, too; its noise follows
    from the median deviation below that level, where no cell adds to it.
    """
    step = max(1, math.isqrt(signal.size // SAMPLE))
    sample = np.sort(signal[::step, ::step], axis=None)
    size = max(1, int(CLOSEST * sample.size))
    first = int((sample[size:] - sample[:-size]).argmin()) if size < sample.size else 0
    base = float(np.median(sample[first : first + size]))
    below = sample[: np.searchsorted(sample, base, side="right")]
    return base, SIGMAS * float(base - np.median(below))


def _cut_at_part(
    signal: Image,
    part: np.float32,
    basins: npt.NDArray[np.int32],
    count: int,
    smallest: int | None,
    largest: int | None,
) -> tuple[npt.NDArray[np.uint16], int]:
    """Labels of what is above a part of the peak in each basin, and their number; note and warn of what is dropped."""
    peaks, areas, numbers = (
        np.zeros(count + 1, np.float32),
        np.zeros(count + 1, np.int64),
        np.zeros(count + 1, np.int64),
    )
    _measure(signal, part, basins, peaks, areas)
    low, high = smallest or 0, areas.max(initial=0) if largest is None else largest
    out = np.zeros(basins.shape, np.uint16)
    kept = _renumber(signal, basins, peaks, (areas >= low) & (areas <= high), numbers, out)

    def too_large() -> np.ndarray:
        found = np.zeros(basins.shape, np.uint16)
        _renumber(signal, basins, peaks, areas > high, np.zeros_like(numbers), found)
        return found

    _tell_losses(areas[1:], low, int(high), out.size, too_large)
    return out, int(kept)


def _tell_losses(
    areas: npt.NDArray[np.int64], low: int, high: int, pixels: int, find_large: Callable[[], np.ndarray]
) -> None:
    """Note what was dropped; warn if it was much of the frame, or most of the area of all objects.

    Parameters
    ----------
    areas
        (N,) pixels of all objects.
    low, high
        Smallest and largest area of a cell in pixels.
    pixels
        Of the frame.
    find_large
        Function that returns the objects that are too large, as for `note`.
    """
    small, large = areas[areas < low], areas[areas > high]
    too_small, too_large = int(small.sum()), int(large.sum())
    note(Losses(small.size, large.size, too_large / pixels), find_large)
    most = max(LEAST_LOSS * pixels, areas.sum() / 2)
    if too_large > min(LARGE_LOSS * pixels, most):
        where = f"cover more than {LARGE_LOSS:.0%} of the frame" if too_large > LARGE_LOSS * pixels else MOST
        _warn(f"objects larger than max_object_size {where} and were dropped; {MERGED}")
    if too_small > most:
        _warn(f"objects smaller than min_object_size {MOST} and were dropped; {SPLIT}")


MOST = "are most of the area of all objects"
MERGED = "cells may have merged. Fix: with 'pyama-dask preview', try a smaller depth, or a larger part"
SPLIT = (
    "cells may be split or small. Fix: with 'pyama-dask preview', try a larger diameter, or a smaller min_object_size"
)


def _warn(message: str) -> None:
    warnings.warn(message, MethodWarning, stacklevel=5)


# ----------------------------------------------------------------------------------------- loops over pixels


@compiled
def _subtract(frame: Any, background: Any, at: Any, out: Any) -> None:
    blend = np.empty(background.shape[1], np.float32)
    for y in range(out.shape[0]):
        interpolate_row(background, at, y, blend, out[y])
        for x in range(out.shape[1]):
            out[y, x] = np.float32(frame[y, x]) - out[y, x]


@compiled
def _above(signal: Any, base: Any, cut: Any, mask: Any, landscape: Any) -> None:
    """Subtract the base level; write the pixels above the cut, and the logarithm of these."""
    for y in range(signal.shape[0]):
        for x in range(signal.shape[1]):
            signal[y, x] -= base
            mask[y, x] = signal[y, x] > cut
        for x in range(signal.shape[1]):
            if mask[y, x]:
                landscape[y, x] = math.log(signal[y, x])


@compiled
def _measure(signal: Any, part: Any, basins: Any, cuts: Any, areas: Any) -> None:
    """Find the level at which each basin is cut, and the area above it."""
    for y in range(basins.shape[0]):
        for x in range(basins.shape[1]):
            if basins[y, x]:
                cuts[basins[y, x]] = max(cuts[basins[y, x]], signal[y, x])
    for k in range(cuts.size):
        cuts[k] *= part
    for y in range(basins.shape[0]):
        for x in range(basins.shape[1]):
            if basins[y, x] and signal[y, x] > cuts[basins[y, x]]:
                areas[basins[y, x]] += 1


@compiled
def _renumber(signal: Any, basins: Any, cuts: Any, kept: Any, numbers: Any, out: Any) -> int:
    """Write the labels of the basins to keep, in order of their first pixels; return their number."""
    count = 0
    for y in range(basins.shape[0]):
        for x in range(basins.shape[1]):
            basin = basins[y, x]
            if basin and kept[basin] and signal[y, x] > cuts[basin]:
                if numbers[basin] == 0:
                    count += 1
                    numbers[basin] = count
                out[y, x] = numbers[basin]
    return count
