"""Conversion of computed values to the type of the pixels that they were computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def in_type(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert values to the type of pixels.

    Parameters
    ----------
    values
        Numbers of any shape.
    dtype
        Type of the pixels.

    Returns
    -------
    The values in that type. For integers, they are rounded, halves to even, and values beyond the range of the type
    become its limits; floats are converted as they are.

    Raises
    ------
    ValueError
        If the type is of integers, and a value is not a number.
    """
    wanted = np.dtype(dtype)
    if values.dtype == wanted:
        return values
    if wanted.kind not in "iu":
        return np.asarray(values, wanted)
    if values.dtype.kind == "f" and np.isnan(values.sum()) and np.isnan(values).any():
        raise ValueError(f"a pixel is not a number, which {wanted} cannot hold. Fix: use frames of floats")
    limits = np.iinfo(wanted)
    rounded = np.rint(values)
    return np.asarray(np.clip(rounded, limits.min, limits.max, out=rounded), wanted)
