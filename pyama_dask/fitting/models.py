"""Models of traces: a curve, its derivatives, and parameters with start values, bounds and units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import exception_text
from pyama_dask.errors import ConfigError
from pyama_dask.methods import entry_points

Array = npt.NDArray[np.float64]
Curve = Callable[[Array, Array], Array]
"""(cells or 1, times) times and (cells, P) parameters -> (cells, times) values."""
Slopes = Callable[[Array, Array, npt.NDArray[np.intp]], Array]
"""The same arguments and the indices of some parameters -> (cells, indices, times) derivatives by these."""
Loss = Literal["linear", "soft_l1"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model."""

    name: str
    default: float
    """Start value; for a fixed parameter, its value."""
    low: float
    high: float
    unit: str
    fixed: bool = False
    linear: bool = False
    """True if the curve is jointly linear in all parameters with this mark."""
    tries: tuple[float, ...] = ()
    """Further start values; ignored for fixed and linear parameters."""
    along: bool = False
    """True if `tries` are fractions of the time from a trace's first to its last sample."""

    def __post_init__(self) -> None:
        numbers = (self.low, self.default, self.high)
        if self.low > self.high:
            raise ConfigError(f"{self.name}: its low {self.low:g} is above its high {self.high:g}")
        if not all(map(math.isfinite, numbers)) or not self.low <= self.default <= self.high:
            raise ConfigError(
                f"{self.name}: {self.default:g} must be a number from {self.low:g} to {self.high:g}. Fix: change its "
                "start or the bounds"
            )
        if not self.fixed and self.low == self.high:
            raise ConfigError(f"{self.name}: both bounds are {self.low:g}. Fix: set it to fixed")


@dataclass(frozen=True)
class Model:
    """A curve with its derivatives and parameters."""

    name: str
    """Identifier (letters, digits and _); it becomes part of file names."""
    source: str
    """Source of the formula and its constants."""
    parameters: tuple[Parameter, ...]
    curve: Curve
    slopes: Slopes
    loss: Loss = "linear"
    """Default loss of its fits."""
    refined: int = 1
    """Number of best starts that are followed to their minimum."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not all(name.isidentifier() for name in self.names):
            raise ConfigError(f"model {self.name!r}: its name and parameters must consist of letters, digits and _")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"model {self.name!r}: two parameters have the same name: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the curve's order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def fitted(self) -> npt.NDArray[np.intp]:
        """Indices of the parameters that are not fixed."""
        return np.flatnonzero([not parameter.fixed for parameter in self.parameters])

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Model:
        """Model with changed start values, bounds or fixed parameters.

        Parameters
        ----------
        changes
            New values of ``default``, ``low``, ``high`` or ``fixed``, by parameter name.

        Raises
        ------
        ConfigError
            If there is no such parameter, or its value is outside its bounds.
        """
        unknown = sorted(set(changes) - set(self.names))
        if unknown:
            raise ConfigError(f"{self.name} has no parameter {unknown[0]!r}; it has: {', '.join(self.names)}")
        parameters = tuple(replace(parameter, **changes.get(parameter.name, {})) for parameter in self.parameters)
        return replace(self, parameters=parameters)


def result_of(where: str, function: Callable[..., Array], shape: tuple[int, ...], *given: object) -> Array:
    """Call a function of a model and return its result as a float64 array.

    Parameters
    ----------
    where
        Description of the function, for messages.
    function, shape, given
        The function, the required shape of its result, and its arguments.

    Raises
    ------
    ConfigError
        If the function fails, or its result is not a real array of this shape.
    """
    try:
        result = np.asarray(function(*given)).astype(np.float64, order="C", casting="same_kind", copy=False)
    except (Exception, SystemExit, GeneratorExit) as error:  # user code may raise anything
        raise ConfigError(f"{where}{entry_points.defined_at(function)} fails: {exception_text(error)}") from error
    if result.shape != shape:
        raise ConfigError(
            f"{where}{entry_points.defined_at(function)} returns an array {result.shape}, but must return {shape}"
        )
    return result


@dataclass(frozen=True)
class NumericSlopes:
    """Derivatives of a curve by central differences, for models without analytical ones.

    Parameters
    ----------
    curve
        Curve of the model; it must also be defined slightly beyond the parameters' bounds.
    """

    curve: Curve

    def __call__(self, times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
        """Compute (cells, wanted, times) derivatives."""
        out = np.empty((len(parameters), len(wanted), times.shape[1]))
        for i, place in enumerate(wanted):
            step = np.zeros_like(parameters)
            step[:, place] = 6e-6 * np.maximum(np.abs(parameters[:, place]), 1e-3)
            across = self.curve(times, parameters + step) - self.curve(times, parameters - step)
            out[:, i] = across / (2 * step[:, place, None])
        return out
