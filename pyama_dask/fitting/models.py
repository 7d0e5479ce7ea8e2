"""Models of traces: a curve, its derivatives, and parameters with start values, bounds and units; all as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import ConfigError
from pyama_dask.fitting import maturation

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
        if not all(map(math.isfinite, numbers)) or not self.low <= self.default <= self.high:
            raise ConfigError(f"{self.name}: {self.default:g} must be a number from {self.low:g} to {self.high:g}")
        if not self.fixed and self.low == self.high:
            raise ConfigError(f"{self.name}: both bounds are {self.low:g}; fix it instead")


@dataclass(frozen=True)
class Model:
    """A curve with its parameters."""

    name: str
    source: str
    """Where the formula and its constants come from."""
    parameters: tuple[Parameter, ...]
    curve: Curve
    slopes: Slopes
    loss: Loss = "linear"
    """Loss that its fits use where nothing else is asked for."""
    refined: int = 1
    """How many of the best starts are followed to their minimum."""

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


def line(times: Array, parameters: Array) -> Array:
    """``intercept + slope * t``."""
    intercept, slope = _columns(parameters)
    values: Array = intercept + slope * times
    return values


def line_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `line`."""
    ones = np.ones((len(parameters), 1))
    return _stacked([ones, times * ones], wanted, times)


def exponential_decay(times: Array, parameters: Array) -> Array:
    """``offset + amplitude * exp(-rate * t)``."""
    amplitude, rate, offset = _columns(parameters)
    values: Array = offset + amplitude * np.exp(-rate * times)
    return values


def exponential_decay_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `exponential_decay`."""
    amplitude, rate, _ = _columns(parameters)
    left = np.exp(-rate * times)
    return _stacked([left, -amplitude * times * left, np.ones((len(parameters), 1))], wanted, times)


def onset(times: Array, parameters: Array) -> Array:
    """``offset + amplitude * (1 - exp(-rise * d)) * exp(-decay * d)`` with ``d = t - t0`` where positive, else 0."""
    t0, amplitude, rise, decay, offset = _columns(parameters)
    d = np.maximum(times - t0, 0.0)
    values: Array = offset - amplitude * np.expm1(-rise * d) * np.exp(-decay * d)
    return values


def onset_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `onset`; by t0 that before t0, at t0 itself."""
    t0, amplitude, rise, decay, _ = _columns(parameters)
    d = np.maximum(times - t0, 0.0)
    risen, left = -np.expm1(-rise * d), np.exp(-decay * d)
    by_d = amplitude * left * (rise * np.exp(-rise * d) - decay * risen)
    columns = [
        np.where(d > 0, -by_d, 0.0),
        risen * left,
        amplitude * d * np.exp(-rise * d) * left,
        -amplitude * d * risen * left,
        np.ones((len(parameters), 1)),
    ]
    return _stacked(columns, wanted, times)


def _columns(parameters: Array) -> Array:
    """(P, cells, 1): one column for each parameter."""
    return parameters.T[:, :, None]


def _stacked(columns: list[Array], wanted: npt.NDArray[np.intp], times: Array) -> Array:
    """(cells, wanted, times) of some of the columns (cells, times or 1)."""
    out = np.empty((len(columns[0]), len(wanted), times.shape[1]))
    for i, place in enumerate(wanted):
        out[:, i] = columns[place]
    return out


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="maturation",
            source="Krzyszton et al. 2019, doi:10.1016/j.nano.2019.102077; km and beta of eGFP from its table 1",
            parameters=(
                Parameter("t0", 0.0, -1.0, 1.0, "h", tries=(-0.5, 0.5)),
                Parameter("ktl", 1e3, 1.0, 5e8, "1/h", linear=True),
                Parameter("delta", 1e-2, 1e-5, 11.0, "1/h", tries=(0.1, 1.0)),
                Parameter("offset", 0.0, -1e6, 1e6, "", linear=True),
                Parameter("km", 1.28, 1e-5, 30.0, "1/h", fixed=True),
                Parameter("beta", 5.22e-3, 1e-5, 10.0, "1/h", fixed=True),
                Parameter("scale", 1.0, 1e-6, 1e6, "", fixed=True),
            ),
            curve=maturation.maturation,
            slopes=maturation.maturation_slopes,
        ),
        Model(
            name="exponential_decay",
            source="first-order decay to a constant",
            parameters=(
                Parameter("amplitude", 1e3, 0.0, 5e8, "", linear=True),
                Parameter("rate", 0.1, 1e-5, 1e2, "1/h", tries=(0.01, 1.0, 10.0)),
                Parameter("offset", 0.0, -1e9, 1e9, "", linear=True),
            ),
            curve=exponential_decay,
            slopes=exponential_decay_slopes,
        ),
        Model(
            name="trivial",
            source="straight line",
            parameters=(
                Parameter("intercept", 0.0, -1e12, 1e12, "", linear=True),
                Parameter("slope", 0.0, -1e12, 1e12, "1/h", linear=True),
            ),
            curve=line,
            slopes=line_slopes,
        ),
        Model(
            name="two_rate_onset",
            source="expression without maturation, Leonhardt et al. 2014, doi:10.1016/j.nano.2013.11.008, "
            "with ktl / (delta - beta) as amplitude, delta - beta as rise and beta as decay",
            parameters=(
                Parameter("t0", 0.0, -1.0, 1e3, "h", tries=tuple(k / 16 for k in range(16)), along=True),
                Parameter("amplitude", 1e3, 0.0, 5e8, "", linear=True),
                Parameter("rise", 0.5, 1e-3, 1e2, "1/h", tries=(0.1, 2.0)),
                Parameter("decay", 1e-2, 0.0, 11.0, "1/h", tries=(0.1,)),
                Parameter("offset", 0.0, -1e9, 1e9, "", linear=True),
            ),
            curve=onset,
            slopes=onset_slopes,
            loss="soft_l1",
            refined=3,
        ),
    )
}
"""What comes with the package, by name."""


def find_model(name: str) -> Model:
    """Find a model by its name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"{name!r} is not a model; known are: {', '.join(MODELS)}")
    return MODELS[name]
