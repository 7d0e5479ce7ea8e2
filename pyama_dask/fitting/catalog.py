"""Models by name: built in, or loaded from user code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import ConfigError
from pyama_dask.fitting import curves, maturation
from pyama_dask.fitting.models import Array, Model, NumericSlopes, Parameter, result_of
from pyama_dask.methods import entry_points

GROUP = "pyama_dask.models"
"""Group of entry points."""

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
            curve=curves.exponential_decay,
            slopes=curves.exponential_decay_slopes,
        ),
        Model(
            name="trivial",
            source="straight line",
            parameters=(
                Parameter("intercept", 0.0, -1e12, 1e12, "", linear=True),
                Parameter("slope", 0.0, -1e12, 1e12, "1/h", linear=True),
            ),
            curve=curves.line,
            slopes=curves.line_slopes,
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
            curve=curves.onset,
            slopes=curves.onset_slopes,
            loss="soft_l1",
            refined=3,
        ),
    )
}
"""Built-in models by name."""


def find_model(name: str) -> Model:
    """Find a model by its name.

    Parameters
    ----------
    name
        Name of a built-in model or an entry point, ``package.module:MODEL``, or ``path/to/file.py:MODEL``.

    Raises
    ------
    ConfigError
        If there is no such model, or its curve or derivatives are invalid.
    """
    if name in MODELS:
        return MODELS[name]
    model = entry_points.load("model", GROUP, name, MODELS)
    if not isinstance(model, Model):
        raise ConfigError(f"model {name!r} is of type {type(model).__name__}, but must be a pyama_dask.fitting.Model")
    check_model(model, name)
    return model


def known_models() -> dict[str, str]:
    """Origin of each named model."""
    return entry_points.places(GROUP, MODELS)


def model_identity(name: str) -> str:
    """Name of a model, with a digest of its source file unless it is built in."""
    return entry_points.identity("model", GROUP, name, MODELS)


TRIED = np.linspace(0.3717, 19.713, 24)
"""Times in hours at which user models are checked."""


def check_model(model: Model, name: str) -> None:
    """Refuse a model whose curve or derivatives fail, have a wrong shape, or contradict each other.

    Raises
    ------
    ConfigError
        If a function is wrong; the message names it, with file and line.
    """
    starts = np.array([[p.default for p in model.parameters]] * 2)
    starts += 1e-3 * np.array([[p.high - p.default if p.high - p.default < 1 else 1.0 for p in model.parameters]])
    every = np.arange(len(model.names))
    shape = (2, TRIED.size)
    curve = _tried(name, "curve", model.curve, shape, TRIED[None], starts)
    slopes = _tried(name, "slopes", model.slopes, (2, every.size, TRIED.size), TRIED[None], starts, every)
    if not np.isfinite(curve).all() or not np.isfinite(slopes).all():
        where = entry_points.defined_at(model.curve if not np.isfinite(curve).all() else model.slopes)
        raise ConfigError(f"model {name!r}{where}: is not finite at its start values, for times of {TRIED[0]:.1f} h on")
    across = NumericSlopes(model.curve)(TRIED[None], starts, every)
    wrong = np.abs(slopes - across).max((0, 2)) > 1e-2 * np.abs(across).max((0, 2)) + 1e-6 * np.abs(curve).max()
    if wrong.any():
        where, by = entry_points.defined_at(model.slopes), model.names[int(np.argmax(wrong))]
        raise ConfigError(f"model {name!r}: its slopes{where} by {by!r} are not the derivative of its curve")


def _tried(
    name: str, what: str, function: Callable[..., Array], shape: tuple[int, ...], *given: npt.NDArray[Any]
) -> Array:
    """Array that a function of a model returns, provided that it leaves its arguments unchanged."""
    where = f"model {name!r}: its {what}"
    copies = [one.copy() for one in given]
    result = result_of(where, function, shape, *copies)
    if not all(map(np.array_equal, copies, given)):
        raise ConfigError(
            f"{where}{entry_points.defined_at(function)} changes the arrays that it is given. Fix: let it copy them"
        )
    return result
