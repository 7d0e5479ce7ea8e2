"""Drift of the stage: shift of the content of a frame against an earlier one, by phase correlation.

The cross-power spectrum of both frames is normalised, so that light and contrast do not count, and its inverse has a
peak at their shift (Kuglin and Hines 1975). Frequencies count by how far they rise above the noise, and those of
shading do not count. As both frames fade out at the same borders, the peak lies a little too close to 0; so the shift
by whole pixels is taken first, and what both frames have in common is compared again. Its peak is located between
pixels by an upsampled Fourier transform around it (Guizar-Sicairos et al. 2008, doi:10.1364/OL.33.000156), and a
parabola through the highest values.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.fft` when it is used
from pydantic import Field

from pyama_dask.config.units import Count
from pyama_dask.kernels.image_types import Frame
from pyama_dask.kernels.registration import summit
from pyama_dask.kernels.resize import reduce_area

Spectrum = npt.NDArray[np.complex64]
Real = npt.NDArray[np.float32]
WIDTH = 1024
"""Frames whose shorter side is at least twice as long are reduced, so that it has at least this many pixels."""
SMALLEST = 16
"""Shortest side of a frame in which drift is measured, in pixels."""
TAPER = 0.25
"""Part of each side over which a frame fades out, as opposite borders do not fit together."""
COARSEST = 64.0
"""Longest wavelength that counts, in reduced pixels; shading is longer."""
SMOOTHING = 1.5
"""Standard deviation in reduced pixels of the Gaussian that smooths the correlation."""
HIGH = 0.4
"""Frequency in cycles per reduced pixel above which a spectrum is noise."""
NOISE = 4.0
"""Power, in that of the noise, at which a frequency counts half."""
NEAR = 6
"""Distance in reduced pixels from a peak within which other values belong to it."""
NEAREST, MOST_STEPS = 0.75, 4
"""Distance of a peak from a shift by whole reduced pixels beyond which the next one is tried, and how often it is."""
CLEAR, RATIO = 8.0, 1.4
"""Smallest height of a peak that counts: standard deviations of the correlation, and times the second-highest peak.
Noise reaches 5 and 1.3."""


class Drift(NamedTuple):
    """Shift of the content of a frame against an earlier one."""

    dy: float
    """Pixels down; NaN if there is no clear peak."""
    dx: float
    """Pixels to the right; NaN if there is no clear peak."""
    confidence: float
    """Height of the peak: 1 if the frames are the same but for their shift, 0 if they have nothing in common."""


class Seen(NamedTuple):
    """Frame as drift is measured in it."""

    image: Real
    """(h, w) reduced frame."""
    factor: int
    """Pixels of the frame per reduced pixel and axis."""
    spectrum: Spectrum
    """(h, w // 2 + 1) spectrum of the reduced frame, faded out at its borders."""
    shape: tuple[int, ...]
    """(H, W) of the frame."""


def drift_between(
    before: Frame,
    after: Frame,
    *,
    max_shift: Annotated[float, Field(gt=0, le=1e4, description="largest shift along each axis in pixels")] = 40.0,
    upsample: Annotated[Count, Field(le=100, description="values per pixel between which the peak is located")] = 10,
) -> Drift:
    """Measure how far the content of a frame has moved since an earlier one.

    Parameters
    ----------
    before, after
        (H, W) numbers of the same shape.
    max_shift
        Largest shift along each axis in pixels; at most half a side of the frame.
    upsample
        Values per reduced pixel and axis between which the peak is located.

    Returns
    -------
    The shift, NaN if no peak is clear: in frames without content, or with other content, and beyond `max_shift`.
    A pattern of the camera that is stronger than the content has its peak at 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return drift_of(seen(before), seen(after), max_shift=max_shift, upsample=upsample)


def seen(frame: Frame) -> Seen:
    """Transform a frame for `drift_of`, so that it can be compared with several others.

    Parameters
    ----------
    frame
        (H, W) numbers; values that are not finite count as the mean.
    """
    factor = max(1, min(frame.shape) // WIDTH)
    height, width = (scipy.fft.prev_fast_len(n // factor, real=True) * factor for n in frame.shape)
    image = reduce_area(np.asarray(frame[:height, :width], np.float32), factor)
    if not math.isfinite(float(image.sum(dtype=np.float64))):
        known = np.isfinite(image)
        image[~known] = image[known].mean() if known.any() else 0
    return Seen(image, factor, _spectrum(image), frame.shape)


def drift_of(before: Seen, after: Seen, *, max_shift: float, upsample: int = 10) -> Drift:
    """Measure the shift between two frames from `seen`; parameters and result as for `drift_between`."""
    shape, factor = before.image.shape, before.factor
    if before.shape != after.shape:
        raise ValueError(f"frames of {before.shape} and {after.shape} pixels cannot be compared. Fix: use one shape")
    if min(shape) < SMALLEST:
        return NOTHING
    cross, total = _normalised(before.spectrum, after.spectrum, shape)
    if not total:
        return NOTHING
    plane = scipy.fft.irfft2(cross, shape)
    at, height, next_height = _highest(plane, max_shift / factor)
    confidence = min(max(height / total, 0.0), 1.0)
    if height < max(CLEAR * float(plane.std()), RATIO * next_height):
        return NOTHING._replace(confidence=confidence)
    dy, dx = (factor * by for by in _refined(before.image, after.image, at, upsample))
    if max(abs(dy), abs(dx)) > max_shift:
        return NOTHING._replace(confidence=confidence)
    return Drift(dy, dx, confidence)


def _refined(before: Real, after: Real, at: tuple[int, int], upsample: int) -> tuple[float, float]:
    """Shift to fractions of a pixel, from what both images have in common after a shift by whole pixels."""
    for _ in range(MOST_STEPS):
        first, second = _common(before, after, at)
        cross, _ = _normalised(_spectrum(first), _spectrum(second), first.shape)
        y, x = _between_pixels(cross, first.shape, upsample)
        if max(abs(y), abs(x)) < NEAREST:
            break
        at = at[0] + round(y), at[1] + round(x)
    return at[0] + y, at[1] + x


NOTHING = Drift(math.nan, math.nan, 0.0)
"""Drift between frames that have nothing in common."""


def _spectrum(image: Real) -> Spectrum:
    height, width = image.shape
    levelled = image - image[0, 0]  # so that a uniform image is exactly 0
    levelled -= levelled.mean()
    levelled *= _fading(height)[:, None]
    levelled *= _fading(width)
    return np.asarray(scipy.fft.rfft2(levelled), np.complex64)


def _fading(n: int) -> Real:
    """Weights of the pixels of a line: a Tukey window."""
    width = max(1, int(TAPER * n))
    ramp = (1 - np.cos(np.pi * (np.arange(width) + 0.5) / width)) / 2
    out = np.ones(n, np.float32)
    out[:width] *= ramp
    out[n - width :] *= ramp[::-1]
    return out


def _common(before: Real, after: Real, shift: tuple[int, int]) -> tuple[Real, Real]:
    """Part of both images that shows the same, with sides that are quick to transform."""
    first, second = [], []
    for n, by in zip(before.shape, shift, strict=True):
        length = scipy.fft.prev_fast_len(n - abs(by), real=True)
        begin = (n - abs(by) - length) // 2
        first.append(slice(begin + max(-by, 0), begin + max(-by, 0) + length))
        second.append(slice(begin + max(by, 0), begin + max(by, 0) + length))
    return before[tuple(first)], after[tuple(second)]


def _normalised(before: Spectrum, after: Spectrum, shape: tuple[int, ...]) -> tuple[Spectrum, float]:
    """Cross-power spectrum by weights, and the highest correlation that it could have."""
    weights, twice = _band(shape)
    noise = slice(int(HIGH * shape[0]), shape[0] - int(HIGH * shape[0]) + 1)
    floor = NOISE * float(np.median(np.abs(before[noise])) * np.median(np.abs(after[noise])))
    cross = after * np.conj(before)
    power = np.abs(cross)
    weights = np.asarray(weights / np.maximum(power + np.float32(floor), np.finfo(np.float32).tiny), np.float32)
    return cross * weights, float(((weights * power) @ twice).sum()) / math.prod(shape)


@lru_cache(maxsize=16)
def _band(shape: tuple[int, int]) -> tuple[Real, Real]:
    """Weights of the frequencies of an image, and the number of frequencies that each column of a spectrum has."""
    down, across = scipy.fft.fftfreq(shape[0]), scipy.fft.rfftfreq(shape[1])
    square = down[:, None] ** 2 + across**2
    weights = np.exp(-2 * (np.pi * SMOOTHING) ** 2 * square) * (square > COARSEST**-2)
    twice = np.full(across.size, 2.0, np.float32)
    twice[0 if shape[1] % 2 else [0, -1]] = 1
    return weights.astype(np.float32), twice


def _highest(plane: Real, reach: float) -> tuple[tuple[int, int], float, float]:
    """Shift with the highest correlation within reach, its height, and that of the second-highest peak."""
    most = [min(math.ceil(reach), (n - 1) // 2) for n in plane.shape]
    rows, columns = (np.arange(-n, n + 1) for n in most)
    within = plane[np.ix_(rows, columns)]
    row, column = np.unravel_index(int(np.argmax(within)), within.shape)
    y, x = int(rows[row]), int(columns[column])
    far = within[(rows - y)[:, None] ** 2 + (columns - x) ** 2 > NEAR**2]
    return (y, x), float(within[row, column]), float(far.max(initial=0))


def _between_pixels(cross: Spectrum, shape: tuple[int, ...], upsample: int) -> tuple[float, float]:
    """Place of the peak within a pixel of 0, from the correlation at fractions of pixels."""
    steps = np.arange(-upsample, upsample + 1) / upsample
    down = np.exp(2j * np.pi * np.outer(steps, scipy.fft.fftfreq(shape[0]))).astype(np.complex64)
    across = np.exp(2j * np.pi * np.outer(scipy.fft.rfftfreq(shape[1]), steps)).astype(np.complex64)
    values = np.real(down @ (cross @ (across * _band(shape)[1][:, None])))
    row, column = (int(k) for k in np.unravel_index(int(np.argmax(values)), values.shape))
    padded = np.pad(values, 1, constant_values=-np.inf)
    lines = padded[row : row + 3, column + 1], padded[row + 1, column : column + 3]
    y, x = (steps[k] + summit(line) / upsample for k, line in zip((row, column), lines, strict=True))
    return float(y), float(x)
