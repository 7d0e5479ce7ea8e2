"""Parameters of trackers: those of the method itself, and those that all trackers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyama_dask.config.method_parameters import method_parameters, parameter_model
from pyama_dask.kernels.filling import plan_fills
from pyama_dask.kernels.tracking import keep_cells, within_size
from pyama_dask.methods.registry import find_method

SHARED: tuple[Callable[..., Any], ...] = (keep_cells, within_size, plan_fills)
"""Functions whose keyword-only parameters belong to every tracker."""
FILL_GAPS = frozenset({"lap"})
"""Trackers whose gaps are filled unless the config says otherwise."""

WITHOUT_SHIFT: Mapping[str, Mapping[str, Any]] = {"lap": {"max_shift": 0.0}}
"""Parameters with which trackers look for no shift of frames, for boxes from which it was removed before."""


def tracking_parameters(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Validate ``tracking_params`` and add defaults; shared parameters without a value are left out.

    Parameters
    ----------
    method
        Name of the tracker.
    given
        Parameters by name.

    Raises
    ------
    ConfigError
        If a name is unknown or a value is invalid.
    """
    tracker = find_method("tracker", method)
    filled = method_parameters("params.tracking_params", given, tracker, *SHARED)
    if method in FILL_GAPS and filled["fill_gaps"] is None:
        filled["fill_gaps"] = True
    own = parameter_model(tracker).model_fields
    return {name: value for name, value in filled.items() if value is not None or name in own}


def own_parameters(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``tracking_params`` that the tracker takes itself.

    Parameters
    ----------
    method, given
        As for `tracking_parameters`.
    """
    kept = parameter_model(keep_cells).model_fields
    own = parameter_model(find_method("tracker", method)).model_fields
    return {name: value for name, value in given.items() if name in own and name not in kept}


def parameters_of(method: str, given: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Those of ``tracking_params`` that a function of `SHARED` takes; a tracker's parameter of that name comes first.

    Parameters
    ----------
    method, given
        As for `tracking_parameters`.
    function
        One of `SHARED`.
    """
    own = own_parameters(method, given)
    return {name: given[name] for name in parameter_model(function).model_fields if name in given and name not in own}
