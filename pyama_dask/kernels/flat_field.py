"""Flat-field correction: the shading of the optics, estimated from the frames of many wells.

As in the pipeline of Singh et al. 2014 (doi:10.1111/jmi.12178), the images of a plate are averaged and smoothed: cells
differ from well to well, and the shading does not. Each frame gives the medians of its tiles relative to its own level;
their median over all frames is free of cells, and a polynomial through it is the shading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre
from pydantic import Field, InstanceOf

from pyama_dask.config.units import AnyPath
from pyama_dask.kernels.bitmask import Bits, empty_words
from pyama_dask.kernels.image_types import Frame
from pyama_dask.kernels.pixel_types import in_type
from pyama_dask.kernels.tiles import Grid, tile_edges, tile_medians

TILES = 32
"""Number of tiles along the shorter side of a frame; they are small, so that few frames have a cell in the same one."""
DEGREE = 6
"""Degree of the polynomial along each axis."""

Profile = npt.NDArray[np.float32]
"""(H, W) share of the light that each pixel gets, relative to the mean of all pixels."""


def shading_profile(frames: Iterable[np.ndarray], *, dark: float = 0.0) -> Profile:
    """Estimate the smooth shading that frames of one channel have in common.

    Take frames of at least 20 wells or sites: less than half of them may have a cell at the same place. Frames are read
    one by one, and only the medians of their tiles stay in memory.

    Parameters
    ----------
    frames
        (H, W) uint8 or uint16, all of one shape.
    dark
        Grey level of the camera without light.

    Returns
    -------
    Profile with mean 1. It does not follow dust and other marks smaller than a sixth of the frame.

    Raises
    ------
    ValueError
        If there are no frames, or they are not brighter than `dark` everywhere.
    """
    shape, levels = (0, 0), []
    for frame in frames:
        shape = frame.shape
        levels.append(_relative_levels(frame, dark))
    profile = _polynomial(np.median(levels, axis=0), shape) if levels else np.zeros(1)
    if not profile.min() > 0:  # or NaN
        raise ValueError(f"no shading to be found: frames must be brighter than {dark:g}. Fix: use another dark level")
    return np.asarray(profile / profile.mean(), np.float32)


def correct(frame: np.ndarray, profile: Profile, *, dark: float | npt.NDArray[np.floating] = 0.0) -> np.ndarray:
    """Divide a frame by the shading.

    Parameters
    ----------
    frame
        (H, W) uint8, uint16 or floats.
    profile
        (H, W) from `shading_profile`.
    dark
        Grey level of the camera without light, which has no shading; or (H, W) levels of the background, of which the
        mean stays.

    Returns
    -------
    Frame in its dtype. Integers are rounded, and values beyond their range become its limits.
    """
    light = (frame - np.asarray(dark, np.float32)) / profile + np.float32(np.mean(dark))
    return in_type(np.asarray(light), frame.dtype)


def polynomial_surface(
    coefficients: Sequence[Sequence[float]],
    shape: tuple[int, int],
    *,
    origin: tuple[float, float],
    scale: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Evaluate a polynomial in x and y at all pixels.

    Parameters
    ----------
    coefficients
        Row n has those of degree n: of x^n, x^(n-1) y, and so on to y^n.
    shape
        (H, W) of the frame.
    origin
        y, x of the pixel at which x and y are 0.
    scale
        Steps of y and x per pixel.
    """
    y, x = ((np.arange(n) - at) * step for n, at, step in zip(shape, origin, scale, strict=True))
    surface = np.zeros(shape)
    for n, row in enumerate(coefficients):
        for k, value in enumerate(row):
            surface += np.outer(value * y**k, x ** (n - k))
    return surface


def flat_field(
    frame: Frame,
    *,
    profile: Annotated[
        Literal["estimate"] | InstanceOf[np.ndarray] | AnyPath,
        Field(description="estimate, or a TIFF file with the share of light of each pixel"),
    ] = "estimate",
    dark: Annotated[float, Field(ge=0, description="grey level of the camera without light")] = 0.0,
) -> Frame:
    """Divide a frame by the shading, as a step of a pipeline; see `correct`.

    Parameters
    ----------
    frame
        (H, W) uint8, uint16 or floats.
    profile
        (H, W) share of the light that each pixel gets, above 0. A plan replaces ``estimate`` by `shading_profile`, and
        a path by the pixels of the file, before the function is called.
    dark
        Grey level of the camera without light.

    Returns
    -------
    (H, W) in the same type; integers are rounded.

    Raises
    ------
    ValueError
        If the profile is not an array, or has another shape than the frame.
    """
    if not isinstance(profile, np.ndarray) or profile.shape != frame.shape:
        what = f"of {profile.shape} pixels" if isinstance(profile, np.ndarray) else repr(str(profile))
        raise ValueError(
            f"flat_field: a frame of {frame.shape} pixels needs a profile of them, not {what}. Fix: give it"
        )
    return correct(frame, np.asarray(profile, np.float32), dark=dark)


def _relative_levels(frame: np.ndarray, dark: float) -> Grid:
    """Medians of all tiles, relative to the level of the frame; NaN without light."""
    all_pixels = Bits(empty_words(frame.shape), frame.shape[1])
    light = tile_medians(frame, all_pixels, tile_size=_tile_size(frame.shape), min_fraction=0) - dark
    level = float(np.median(light))
    return light / (level if level > 0 else np.nan)


def _tile_size(shape: tuple[int, ...]) -> int:
    return max(2, min(shape) // TILES)


def _polynomial(grid: Grid, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Fit a polynomial to the tiles by least squares, and evaluate it at the pixels."""
    down, across = (_fit(n, _tile_size(shape)) for n in shape)
    return np.asarray(down @ grid @ across.T)


def _fit(n: int, tile_size: int) -> npt.NDArray[np.float64]:
    """(pixels, tiles) matrix that turns values of tiles along an axis into those of the polynomial at the pixels."""
    edges = tile_edges(n, tile_size)
    tiles = (edges[:-2] + edges[2:]) / n - 1  # from -1 to 1 over the frame
    pixels = (2 * np.arange(n) + 1) / n - 1
    degree = min(DEGREE, tiles.size - 1)
    return np.asarray(legendre.legvander(pixels, degree) @ np.linalg.pinv(legendre.legvander(tiles, degree)))
