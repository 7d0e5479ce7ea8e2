"""Methods that are no functions of a frame: features of one cell, and preprocessors with a method ``process``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import exception_text
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.features import Intensities, Pixels, Shapes

CONTEXT = ("ctx", "context")
"""Names of the argument of features of one cell that take the context only."""


@dataclass(frozen=True, eq=False)
class ExtractionContext:
    """One cell in one frame and channel, as features of one cell get it; h and w are the sizes of its box."""

    image: np.ndarray
    """(h, w) grey levels, as in the movie."""
    mask: npt.NDArray[np.bool_]
    """(h, w) True for pixels of the cell."""
    background: npt.NDArray[np.float32]
    """(h, w) grey levels; 0 in phase contrast."""
    background_weight: float
    """Fraction of the background that the config subtracts, 0 to 1; 0 in phase contrast."""
    box: tuple[int, int, int, int]
    """First row and column, and those after the last ones, in the frame."""


class OfOneCell:
    """Feature of a frame's cells that calls a function for each of them.

    Parameters
    ----------
    function
        Takes image, mask and context, or the context alone, and returns a number.
    alone
        True if it takes the context alone.
    """

    def __init__(self, function: Callable[..., Any], *, alone: bool) -> None:
        functools.update_wrapper(self, function)
        self._function, self._alone = function, alone

    def __call__(self, measured: Shapes | Intensities) -> npt.NDArray[Any]:
        """Values of all cells of a frame: (N,), if the function returns numbers."""
        assert measured.pixels is not None
        return np.array([self._value(cell) for cell in _cells(measured.pixels)] or np.empty(0))

    def _value(self, cell: ExtractionContext) -> Any:
        return self._function(cell) if self._alone else self._function(cell.image, cell.mask, cell)


def _cells(pixels: Pixels) -> list[ExtractionContext]:
    """Cells of a frame; the function may change their arrays, which are copies."""
    found = []
    for label, (y0, x0, y1, x1) in enumerate(pixels.boxes.tolist(), 1):
        place = slice(y0, y1), slice(x0, x1)
        image = pixels.frame[place].copy()
        mask = pixels.labels[place] == label
        background = np.zeros(image.shape, np.float32) if pixels.background is None else pixels.background[place].copy()
        found.append(ExtractionContext(image, mask, background, pixels.weight, (y0, x0, y1, x1)))
    return found


def of_one_cell(function: Callable[..., Any]) -> OfOneCell | None:
    """Feature that calls a function for each cell; None for functions of all cells of a frame.

    Functions of one cell take three arguments, image, mask and context, or the context alone: one argument that is
    annotated as `ExtractionContext`, or has one of the names in `CONTEXT`.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a compiled function without signature
        return None
    data = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    if len(data) == 3:
        return OfOneCell(function, alone=False)
    if len(data) == 1 and (data[0].name in CONTEXT or "ExtractionContext" in str(data[0].annotation)):
        return OfOneCell(function, alone=True)
    return None


def looks_at_pixels(function: Callable[..., Any]) -> bool:
    """Check whether a feature needs the pixels of the cells."""
    return isinstance(function, OfOneCell)


def process_of(loaded: Any, name: str) -> Any:
    """Method ``process`` of an object, or of a new object of a class; what has no such method is returned as it is.

    Parameters
    ----------
    loaded
        Object that a config names.
    name
        That name, for messages.

    Raises
    ------
    ConfigError
        If no object of the class can be made.
    """
    if not callable(getattr(loaded, "process", None)):
        return loaded
    if not isinstance(loaded, type):
        return loaded.process
    try:
        return loaded().process
    except Exception as error:  # user code may raise anything
        raise ConfigError(
            f"preprocessor {name!r}: no {loaded.__name__} can be made: {exception_text(error)}. Fix: give all "
            "parameters of its __init__ a default, or name an object instead of the class"
        ) from error
