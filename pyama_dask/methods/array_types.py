"""Types of arrays that a step may work on, and conversion between them and NumPy."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from pyama_dask.errors import ConfigError

ArrayType = Literal["numpy", "dask", "cupy", "torch"]
PACKAGES: dict[str, ArrayType] = {
    "dask": "dask",
    "dask_image": "dask",
    "cupy": "cupy",
    "cupyx": "cupy",
    "torch": "torch",
}
"""Packages whose functions and classes mean a type of array."""


def type_of(array: Any) -> ArrayType:
    """Type of an array, by the package of its class."""
    return PACKAGES.get(type(array).__module__.partition(".")[0], "numpy")


def to_type(array: Any, wanted: ArrayType) -> Any:
    """Convert an array; one of the type that is wanted is returned as it is.

    Parameters
    ----------
    array
        Array of any of the types.
    wanted
        ``numpy``, ``dask`` (one chunk), ``cupy`` or ``torch``, which is on the GPU if there is one.

    Raises
    ------
    ConfigError
        If the package is not installed.
    """
    if type_of(array) == wanted and (wanted != "numpy" or isinstance(array, np.ndarray)):
        return array
    plain = to_numpy(array)
    if wanted == "numpy":
        return plain
    package = _imported("dask.array" if wanted == "dask" else wanted)
    if wanted == "dask":
        return package.from_array(plain, chunks=-1, name=False)  # by default, its name is a digest of all pixels
    if wanted == "cupy":
        return package.asarray(plain)
    return package.as_tensor(plain, device="cuda" if package.cuda.is_available() else "cpu")


def stacked(arrays: Iterable[Any], count: int, kind: ArrayType, axis: int = 0) -> Any:
    """Stack arrays of one type along a new axis; those of NumPy one by one, so that few are held.

    Parameters
    ----------
    arrays
    count
        Number of arrays, 1 at least.
    kind
        Their type; one of Dask becomes one chunk.
    axis
        Place of the new axis.
    """
    if kind != "numpy":
        made = _imported("dask.array" if kind == "dask" else kind).stack([*arrays], axis)
        return made.rechunk(-1) if kind == "dask" else made
    rest = iter(arrays)
    first = next(rest)
    whole = np.empty((*first.shape[:axis], count, *first.shape[axis:]), first.dtype)
    along = np.moveaxis(whole, axis, 0)
    along[0] = first
    for k, array in enumerate(rest, 1):
        along[k] = array
    return whole


def to_numpy(array: Any) -> np.ndarray:
    """Convert an array to NumPy; lazy ones are computed in this thread."""
    kind = type_of(array)
    if kind == "dask":
        return np.asarray(array.compute(scheduler="synchronous"))
    if kind == "cupy":
        return np.asarray(array.get())
    return np.asarray(array.detach().cpu() if kind == "torch" else array)


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"the step works on arrays of {package}, which is not installed. Fix: pip install {package}"
        ) from error
