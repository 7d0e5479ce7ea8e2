"""Projections of the planes of a frame: maximum, mean, and the sharpest plane."""

from __future__ import annotations

import numpy as np

from pyama_dask.kernels.image_types import Frame, Planes
from pyama_dask.kernels.pixel_types import in_type
from pyama_dask.kernels.sharpness import sharpness


def max_projection(planes: Planes) -> Frame:
    """Highest value of each pixel over all planes.

    Parameters
    ----------
    planes
        (Z, H, W) numbers, Z at least 1.

    Returns
    -------
    (H, W) in the same type.
    """
    return np.asarray(planes.max(axis=0))


def mean_projection(planes: Planes) -> Frame:
    """Mean of each pixel over all planes.

    Parameters
    ----------
    planes
        (Z, H, W) numbers, Z at least 1.

    Returns
    -------
    (H, W) in the same type; the mean is computed in float64, and rounded for integers.
    """
    return in_type(planes.mean(axis=0, dtype=np.float64), planes.dtype)


def sharpest_plane(planes: Planes) -> Frame:
    """Sharpest plane of a frame, by the mean squared difference of neighbours (`kernels.sharpness`).

    Planes are compared within one frame only, so that neighbouring frames may take different planes.

    Parameters
    ----------
    planes
        (Z, H, W) uint8, uint16 or floats, Z at least 1.

    Returns
    -------
    (H, W) copy of one plane: the first of those that are equally sharp, or if no plane has two columns.
    """
    found = np.nan_to_num([sharpness(plane) for plane in planes], nan=-1.0)
    return np.array(planes[int(np.argmax(found))])
