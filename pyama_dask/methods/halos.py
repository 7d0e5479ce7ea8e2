"""Frames around a block that functions of dask-image, scipy and scikit-image look into, by their names and parameters.

A function along time gives the same at the border of a block as on the whole stack if the block has that many frames
more on both sides. Where a stack ends, the function continues it by its own rule, as on the whole stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pyama_dask.errors import ConfigError

Params = Mapping[str, Any]
Measure = Callable[[Params], int]
AXES = 3
"""Axes of a stack: time, y, x."""
SMALLEST_SIGMA = 1e-15
"""Standard deviation up to which scipy leaves out an axis."""


def halo_of(name: str, params: Params) -> int | None:
    """Number of frames before and after a block that a function of stacks looks into.

    Parameters
    ----------
    name
        ``module:function``.
    params
        Its parameters by name, as in the config, without the stack; the others have the function's defaults.

    Returns
    -------
    Frames on each side; None if the function is not known here.

    Raises
    ------
    ConfigError
        If the function looks through all frames, or parameters along time are missing or cannot be read.
    """
    measure = HALOS.get(name)
    if measure is None:
        return None
    try:
        halo = measure(params)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"{name}: its reach along time cannot be read from its parameters ({type(error).__name__}: {error}). "
            "Fix: correct them, or give 'halo'"
        ) from error
    if halo and _for_time(params, "mode") in ("wrap", "grid-wrap"):
        raise ConfigError(f"{name}: with mode 'wrap', the first frames depend on the last ones. Fix: use 'reflect'")
    return halo


def _for_time(params: Params, key: str, default: Any = None) -> Any:
    """Part of a parameter for time, the first axis; None if `axes` leave out time."""
    value, place = params.get(key, default), _place_of_time(params)
    if place is None:
        return None
    return value[place] if isinstance(value, list | tuple) else value


def _place_of_time(params: Params) -> int | None:
    """Place of time among the axes that a function works along; None if it does not."""
    axes = params.get("axes")
    if axes is None:
        return 0
    given = [axes] if isinstance(axes, int) else list(axes)
    return next((place for place, axis in enumerate(given) if axis % AXES == 0), None)


def _gaussian(params: Params) -> int:
    sigma, radius = float(_for_time(params, "sigma", 1.0) or 0), _for_time(params, "radius")
    if sigma <= SMALLEST_SIGMA:
        return 0
    return int(radius) if radius is not None else int(float(params.get("truncate", 4.0)) * sigma + 0.5)


def _ends(params: Params, *keys: str, default: int | None = None) -> tuple[int, int]:
    """Frames before and after one that its window has, as scipy.ndimage places windows.

    Parameters
    ----------
    params
        Of the function.
    keys
        Parameters that have the window as an array; the first that is given counts, else `size`.
    default
        Size if none is given.
    """
    if _place_of_time(params) is None:
        return 0, 0
    given = next((params[key] for key in keys if params.get(key) is not None), None)
    if given is None:
        size = _for_time(params, "size", default)
        if size is None:
            raise ValueError("no size along time")
        count, first, last = int(size), 0, int(size) - 1
    else:
        window = np.asarray(given)
        number = AXES if params.get("axes") is None else len(np.atleast_1d(params["axes"]))
        if window.ndim != number:
            raise ValueError(f"a window of {window.ndim} axes for {number}")
        used = np.nonzero(window.any(tuple(range(1, number))))[0]  # scipy takes its axes in the order of the stack's
        count, first, last = len(window), int(used.min()), int(used.max())
    centre = count // 2 + int(_for_time(params, "origin", 0))
    return max(centre - first, 0), max(last - centre, 0)


def _footprint(params: Params) -> int:
    return max(_ends(params, "footprint"))


def _uniform(params: Params) -> int:
    return max(_ends(params, default=3))


def _weights(params: Params) -> int:
    return max(_ends({key: value for key, value in params.items() if key != "size"}, "weights"))


def _grey(params: Params) -> int:
    return max(_ends(_flat(params), "structure", "footprint"))


def _grey_twice(params: Params) -> int:
    return sum(_ends(_flat(params), "structure", "footprint"))


def _flat(params: Params) -> Params:
    """Parameters with a structure, whose values are heights, as a window of ones."""
    structure = params.get("structure")
    return params if structure is None else {**params, "structure": np.ones(np.shape(structure))}


def _binary(params: Params) -> int:
    return _iterations(params) * max(_binary_ends(params))


def _binary_twice(params: Params) -> int:
    return _iterations(params) * sum(_binary_ends(params))


def _binary_ends(params: Params) -> tuple[int, int]:
    return _ends({**params, "size": 3}, "structure")


def _iterations(params: Params) -> int:
    count = int(params.get("iterations", 1))
    if count < 1:
        raise ValueError("it is repeated until nothing changes, which may reach through all frames")
    return count


def _one(params: Params) -> int:
    """Three frames, as of a derivative."""
    return 0 if _place_of_time(params) is None else 1


def _along_one_axis(measure: Measure) -> Measure:
    """Reach of a function along `axis`, the last one by default."""

    def reach(params: Params) -> int:
        return measure(params) if int(params.get("axis", -1)) % AXES == 0 else 0

    return reach


BOTH: Mapping[str, Measure] = {
    "gaussian_filter": _gaussian,
    "gaussian_laplace": _gaussian,
    "gaussian_gradient_magnitude": _gaussian,
    "median_filter": _footprint,
    "minimum_filter": _footprint,
    "maximum_filter": _footprint,
    "percentile_filter": _footprint,
    "rank_filter": _footprint,
    "generic_filter": _footprint,
    "uniform_filter": _uniform,
    "convolve": _weights,
    "correlate": _weights,
    "laplace": _one,
    "sobel": _one,
    "prewitt": _one,
}
"""Filters of dask-image and scipy."""
BINARY: Mapping[str, Measure] = {
    "binary_erosion": _binary,
    "binary_dilation": _binary,
    "binary_opening": _binary_twice,
    "binary_closing": _binary_twice,
}
"""Morphology of dask-image and scipy."""
SCIPY: Mapping[str, Measure] = {
    "grey_erosion": _grey,
    "grey_dilation": _grey,
    "grey_opening": _grey_twice,
    "grey_closing": _grey_twice,
    "white_tophat": _grey_twice,
    "black_tophat": _grey_twice,
    "morphological_gradient": _grey,
    "morphological_laplace": _grey,
    "gaussian_filter1d": _along_one_axis(_gaussian),
    "uniform_filter1d": _along_one_axis(_footprint),
    "minimum_filter1d": _along_one_axis(_footprint),
    "maximum_filter1d": _along_one_axis(_footprint),
}
"""Further functions of scipy."""
HALOS: Mapping[str, Measure] = {
    **{f"scipy.ndimage:{name}": measure for name, measure in {**BOTH, **BINARY, **SCIPY}.items()},
    **{f"dask_image.ndfilters:{name}": measure for name, measure in BOTH.items()},
    "dask_image.ndfilters:gaussian": _gaussian,
    **{f"dask_image.ndmorph:{name}": measure for name, measure in BINARY.items()},
    "skimage.filters:gaussian": _gaussian,
}
"""Reach along time by the name of a function."""
