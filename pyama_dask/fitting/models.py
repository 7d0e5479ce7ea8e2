"""What a model of traces is: a curve, its derivatives, and parameters with start values, bounds and units; as data."""

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
"""(cells or 1, times) and parameters (cells, P) -> values (cells, times)."""
Slopes = Callable[[Array, Array, npt.NDArray[np.intp]], Array]
"""The same and the places of some parameters -> derivatives by these (cells, places, times)."""
Loss = Literal["linear", "soft_l1"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model."""

    name: str
    default: float
    """Start value, or the value if it is fixed."""
    low: float
    high: float
    unit: str
    fixed: bool = False
    linear: bool = False
    """Whether the curve is linear in it, and in all others with this mark together."""
    tries: tuple[float, ...] = ()
    """Other start values; those of a fixed or a linear parameter are not used."""
    along: bool = False
    """Whether `tries` are fractions of the way from a trace's first time to its last."""

    def __post_init__(self) -> None:
        numbers = (self.low, self.default, self.high)
        if self.low > self.high:
            raise ConfigError(f"{self.name}: its low {self.low:g} is above its high {self.high:g}")
        if not all(map(math.isfinite, numbers)) or not self.low <= self.default <= self.high:
            raise ConfigError(
                f"{self.name}: {self.default:g} must be a number from {self.low:g} to {self.high:g}; change its start "
                "or the bounds"
            )
        if not self.fixed and self.low == self.high:
            raise ConfigError(f"{self.name}: both bounds are {self.low:g}; fix it instead")


@dataclass(frozen=True)
class Model:
    """A curve with its parameters."""

    name: str
    """Of letters, digits and _, as files are named by it."""
    source: str
    """Where the formula and its constants come from."""
    parameters: tuple[Parameter, ...]
    curve: Curve
    slopes: Slopes
    loss: Loss = "linear"
    """Loss that its fits use where nothing else is asked for."""
    refined: int = 1
    """How many of the best starts are followed to their minimum."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not all(name.isidentifier() for name in self.names):
            raise ConfigError(f"model {self.name!r}: names of it and its parameters must be of letters, digits and _")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"model {self.name!r}: two parameters have the same name: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the curve's."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def fitted(self) -> npt.NDArray[np.intp]:
        """Places of the parameters that are not fixed."""
        return np.flatnonzero([not parameter.fixed for parameter in self.parameters])

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Model:
        """Model with other start values, bounds, or parameters fixed.

        Parameters
        ----------
        changes
            New values of `Parameter.default`, ``low``, ``high`` or ``fixed``, by name of the parameter.

        Raises
        ------
        ConfigError
            If there is no such parameter, or its value is not within its bounds.
        """
        unknown = sorted(set(changes) - set(self.names))
        if unknown:
            raise ConfigError(f"{self.name} has no parameter {unknown[0]!r}; it has: {', '.join(self.names)}")
        parameters = tuple(replace(parameter, **changes.get(parameter.name, {})) for parameter in self.parameters)
        return replace(self, parameters=parameters)


def result_of(where: str, function: Callable[..., Array], shape: tuple[int, ...], *given: object) -> Array:
    """Give the array (float64) that a function of a model makes.

    Parameters
    ----------
    where
        What the function is, for messages.
    function, shape, given
        The function, what its result must be like, and what it is called with.

    Raises
    ------
    ConfigError
        If the function fails, or gives something else.
    """
    try:
        found = np.asarray(function(*given)).astype(np.float64, order="C", casting="same_kind", copy=False)
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever other people's code does
        raise ConfigError(f"{where}{entry_points.defined_at(function)} fails: {exception_text(error)}") from error
    if found.shape != shape:
        raise ConfigError(
            f"{where}{entry_points.defined_at(function)} gives an array {found.shape}, but must give {shape}"
        )
    return found


@dataclass(frozen=True)
class NumericSlopes:
    """Derivatives of a curve by central differences, for a model whose author has none on paper.

    Parameters
    ----------
    curve
        Of a model; it must be defined a little beyond the bounds of its parameters, too.
    """

    curve: Curve

    def __call__(self, times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
        """Give (cells, wanted, times) derivatives."""
        out = np.empty((len(parameters), len(wanted), times.shape[1]))
        for i, place in enumerate(wanted):
            step = np.zeros_like(parameters)
            step[:, place] = 6e-6 * np.maximum(np.abs(parameters[:, place]), 1e-3)
            across = self.curve(times, parameters + step) - self.curve(times, parameters - step)
            out[:, i] = across / (2 * step[:, place, None])
        return out
