"""Curves of the built-in models, and their derivatives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyama_dask.fitting.models import Array


def line(times: Array, parameters: Array) -> Array:
    """``intercept + slope * t``."""
    intercept, slope = _columns(parameters)
    values: Array = intercept + slope * times
    return values


def line_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `line`.

    Parameters
    ----------
    times
        (cells or 1, times) in hours.
    parameters
        (cells, P) in the order of the model's parameters.
    wanted
        Indices of the parameters by which to derive.

    Returns
    -------
    (cells, wanted, times) derivatives.
    """
    ones = np.ones((len(parameters), 1))
    return _stacked([ones, times * ones], wanted, times)


def exponential_decay(times: Array, parameters: Array) -> Array:
    """``offset + amplitude * exp(-rate * t)``."""
    amplitude, rate, offset = _columns(parameters)
    values: Array = offset + amplitude * np.exp(-rate * times)
    return values


def exponential_decay_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `exponential_decay`; arguments and result as for `line_slopes`."""
    amplitude, rate, _ = _columns(parameters)
    falling = np.exp(-rate * times)
    return _stacked([falling, -amplitude * times * falling, np.ones((len(parameters), 1))], wanted, times)


def onset(times: Array, parameters: Array) -> Array:
    """``offset + amplitude * (1 - exp(-rise * d)) * exp(-decay * d)`` with ``d = t - t0`` where positive, else 0."""
    t0, amplitude, rise, decay, offset = _columns(parameters)
    d = np.maximum(times - t0, 0.0)
    values: Array = offset - amplitude * np.expm1(-rise * d) * np.exp(-decay * d)
    return values


def onset_slopes(times: Array, parameters: Array, wanted: npt.NDArray[np.intp]) -> Array:
    """Derivatives of `onset`, the left-hand one by t0 at t0 itself; arguments and result as for `line_slopes`."""
    t0, amplitude, rise, decay, _ = _columns(parameters)
    d = np.maximum(times - t0, 0.0)
    risen, falling = -np.expm1(-rise * d), np.exp(-decay * d)
    by_d = amplitude * falling * (rise * np.exp(-rise * d) - decay * risen)
    columns = [
        np.where(d > 0, -by_d, 0.0),
        risen * falling,
        amplitude * d * np.exp(-rise * d) * falling,
        -amplitude * d * risen * falling,
        np.ones((len(parameters), 1)),
    ]
    return _stacked(columns, wanted, times)


def _columns(parameters: Array) -> Array:
    """(P, cells, 1) parameters, one column each."""
    return parameters.T[:, :, None]


def _stacked(columns: list[Array], wanted: npt.NDArray[np.intp], times: Array) -> Array:
    """(cells, wanted, times) selection of the columns, each (cells, times or 1)."""
    out = np.empty((len(columns[0]), len(wanted), times.shape[1]))
    for i, place in enumerate(wanted):
        out[:, i] = columns[place]
    return out
