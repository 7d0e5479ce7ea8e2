"""Shading of a channel as Harmony has measured it: polynomials in the index, ``FlatfieldProfile``.

Harmony estimates two surfaces from the images of a measurement, of the background and of what is in the foreground
(Kask et al. 2016, doi:10.1111/jmi.12404): an image is the background light, and light that the optics dim towards the
corners.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from pyama_dask.errors import SourceError
from pyama_dask.kernels.flat_field import polynomial_surface

Surface = npt.NDArray[np.float32]
_REMEDY = "Fix: set 'flat_field' to estimate, or to a file"


class InstrumentShading(NamedTuple):
    """Shading of a channel; None for what the instrument has not measured, or has found to be flat."""

    profile: Surface | None
    """(H, W) share of the light that each pixel gets, with mean 1: the foreground."""
    background: Surface | None
    """(H, W) grey levels of the background."""

    @property
    def is_background_only(self) -> bool:
        """True if only the background is uneven as far as the instrument knows."""
        return self.profile is None and self.background is not None and bool(np.ptp(self.background))


def read_shading(text: str, shape: tuple[int, int]) -> InstrumentShading:
    """Evaluate the shading of a channel.

    Parameters
    ----------
    text
        ``FlatfieldProfile`` of the index.
    shape
        (H, W) of the images.

    Raises
    ------
    SourceError
        If the text is damaged, incomplete, of another kind, or for images of another size.
    """
    try:
        return _evaluated(text, shape)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise SourceError(f"the instrument's profile cannot be used: {said}. {_REMEDY}") from error


def _evaluated(text: str, shape: tuple[int, int]) -> InstrumentShading:
    foreground, background = (_surface(_section(text, name), shape) for name in ("Foreground", "Background"))
    level = _section(text, "Background").get("Mean")
    if background is not None and level is None:
        raise ValueError("the background has no 'Mean'")
    if foreground is not None and not (foreground > 0).all():
        raise ValueError("the foreground is not above 0 everywhere")
    profile = None if foreground is None else np.asarray(foreground / foreground.mean(), np.float32)
    if level is None:
        return InstrumentShading(profile, None)
    relative = np.ones(shape) if background is None else background
    return InstrumentShading(profile, np.asarray(float(level) * relative, np.float32))


def _section(text: str, name: str) -> Mapping[str, Any]:
    """Section of a profile; empty if absent. Names of channels, which may be anything, are outside of it."""
    found = re.search(rf'\b{name}"?\s*:\s*(?={{)', text)
    if found is None:
        return {}
    depth = 0
    for end in range(found.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            section: Mapping[str, Any] = yaml.safe_load(text[found.end() : end + 1])
            return section
    raise ValueError(f"'{name}' is cut off")


def _surface(section: Mapping[str, Any], shape: tuple[int, int]) -> npt.NDArray[np.float64] | None:
    """(H, W) values of a section's polynomial; None if it is flat."""
    if not section or section.get("Character") == "Flat":
        return None
    profile = section["Profile"]
    if (kind := profile["Type"]) != "Polynomial":
        raise ValueError(f"it is of type {kind}, not Polynomial")
    width, height = (int(n) for n in profile["Dims"])
    if (height, width) != shape:
        raise ValueError(f"it is for {width} x {height} pixels, but images have {shape[1]} x {shape[0]}")
    (x, y), (scale_x, scale_y) = (map(float, profile[key]) for key in ("Origin", "Scale"))
    coefficients = [[float(value) for value in row] for row in profile["Coefficients"]]
    surface = polynomial_surface(coefficients, shape, origin=(y, x), scale=(scale_y, scale_x))
    if not np.isfinite(surface).all():
        raise ValueError("its values are not finite")
    return surface
