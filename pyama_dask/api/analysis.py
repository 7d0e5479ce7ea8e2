"""Fits and tables of traces by the names of scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.given_tables import traces_in
from pyama_dask.analysis.tables import cell_key, read_analysis_csv
from pyama_dask.config.units import many
from pyama_dask.errors import ConfigError
from pyama_dask.fitting import MODELS, Model, find_model, fit_cells, known_models

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, Any]
"""Values by parameter: numbers, or objects with ``value``, ``lb`` and ``ub``."""
Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FitModel:
    """A model of traces by the names of scripts; times are in hours."""

    model: Model

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    @property
    def DEFAULTS(self) -> dict[str, float]:  # noqa: N802  (the name scripts use)
        """Start values of all parameters, and the values of those that are fixed."""
        return {parameter.name: parameter.default for parameter in self.model.parameters}

    @property
    def BOUNDS(self) -> dict[str, tuple[float, float]]:  # noqa: N802  (the name scripts use)
        """Smallest and largest values."""
        return {parameter.name: (parameter.low, parameter.high) for parameter in self.model.parameters}

    def eval(self, t: npt.ArrayLike, params: Mapping[str, float] | None = None) -> npt.NDArray[np.float64]:
        """(T,) values at times in hours; parameters that are not given have their defaults."""
        given = self.DEFAULTS | dict(params or {})
        places = np.array([[float(given[name]) for name in self.model.names]])
        values: npt.NDArray[np.float64] = self.model.curve(np.atleast_2d(np.asarray(t, float)), places)[0]
        return values


@dataclass(frozen=True)
class FittingResult:
    """Result of a fit."""

    fitted_params: dict[str, float]
    """Values of the fitted parameters; NaN if no fit was possible."""
    success: bool
    """True if the fit converged."""
    r_squared: float = 0.0
    """1 - SS_residual / SS_total; NaN if no fit was possible."""
    fixed_params: dict[str, float] = field(default_factory=dict)
    """Values of the parameters that were not fitted."""
    message: str = ""
    """Reason for the end of the fit."""

    @property
    def params(self) -> dict[str, float]:
        """Values of all parameters."""
        return self.fitted_params | self.fixed_params


def list_models() -> list[str]:
    """Names of all models: built in, and of installed packages."""
    return list(known_models())


def get_model(model_name: str) -> FitModel:
    """Find a model by its name, or by ``file.py:MODEL``.

    Raises
    ------
    ConfigError
        If there is no such model; it is a ValueError.
    """
    return FitModel(find_model(model_name.lower() if model_name.lower() in MODELS else model_name))


def fit_model(
    model_type: str,
    t_data: npt.ArrayLike,
    y_data: npt.ArrayLike,
    user_params: Values | None = None,
    user_bounds: Bounds | None = None,
    *,
    fixed_params: Values | None = None,
    fit_params: Values | None = None,
) -> FittingResult:
    """Fit a model to one trace, as `pyama_dask.fit_traces` does.

    Parameters
    ----------
    model_type
        Name of the model.
    t_data, y_data
        (T,) times in hours, and values; NaN where there is no sample.
    user_params
        Start values of fitted parameters, and values of fixed ones.
    user_bounds
        Smallest and largest values; a fixed parameter with bounds is fitted.
    fixed_params
        Values of parameters that are not fitted.
    fit_params
        Start values of parameters that are fitted, with their bounds ``lb`` and ``ub`` if these are objects.

    Raises
    ------
    ConfigError
        If the model or a parameter does not exist, or a value is outside its bounds; it is a ValueError.
    """
    model = get_model(model_type).model.changed(_changes(user_params, user_bounds, fixed_params, fit_params))
    times, values = np.asarray(t_data, float), np.asarray(y_data, float)
    fits = fit_cells(times, values[None], model)
    found = dict(zip(model.names, fits.parameters[0].tolist(), strict=True))
    fixed = {parameter.name for parameter in model.parameters if parameter.fixed}
    return FittingResult(
        {name: value for name, value in found.items() if name not in fixed}, bool(fits.success[0]),
        float(fits.r_squared[0]), {name: found[name] for name in model.names if name in fixed}, str(fits.message[0]),
    )  # fmt: skip


def _changes(start: Values | None, bounds: Bounds | None, fixed: Values | None, fit: Values | None) -> dict[str, Any]:
    """Changes of a model's parameters, for `Model.changed`."""
    changes: dict[str, dict[str, Any]] = {}
    kinds: list[tuple[Values | None, dict[str, Any]]] = [(start, {}), (fixed, {"fixed": True}), (fit, {"fixed": False})]
    for given, is_fixed in kinds:
        for name, value in (given or {}).items():
            ends = {key: float(getattr(value, of)) for key, of in _ENDS.items() if hasattr(value, of)}
            number = float(value.value if hasattr(value, "value") else value)
            changes.setdefault(name, {}).update(is_fixed, default=number, **ends)
    for name, (low, high) in (bounds or {}).items():
        changes.setdefault(name, {}).update(low=float(low), high=float(high), fixed=False)
    return changes


_ENDS = {"low": "lb", "high": "ub"}
"""Bounds of parameters that are given as objects, by their names here."""


def load_analysis_csv(path: str | Path) -> pd.DataFrame:
    """Read a table of traces for analysis, tidy or wide.

    Returns
    -------
    Table with an index of ``fov`` and ``cell``, so that ``table.loc[(0, 12)]`` is a cell, and the columns ``time``, in
    hours, and ``value``; tables of several movies have ``movie`` before ``fov``. Times of a file that does not state
    their unit are in hours.

    Raises
    ------
    TableError
        If the file is unreadable, or is not such a table.
    """
    table = read_analysis_csv(path, units="h", default_units="h")
    return table.set_index(cell_key(table))


def discover_csv_files(data_path: str | Path) -> list[Path]:
    """Find tables of traces for analysis: the file itself, or those in a folder; fits are left out.

    Raises
    ------
    ConfigError
        If there is no such file or folder.
    """
    path = Path(data_path)
    if not path.exists():
        raise ConfigError(f"{path}: does not exist. Fix: pass a CSV file, or the folder of merged tables")
    return traces_in(path) if path.is_dir() else [path]


def fit_trace_data(
    df: pd.DataFrame,
    model_type: str,
    cell_id: Any = None,
    progress_callback: Callable[..., object] | None = None,
    user_params: Values | None = None,
    user_bounds: Bounds | None = None,
    *,
    fixed_params: Values | None = None,
    fit_params: Values | None = None,
) -> Any:
    """Fit a model to one cell of a table, or to all of them.

    Parameters
    ----------
    df
        Table of `load_analysis_csv`, or one in wide form: times in hours as index, and a column for each cell.
    model_type, user_params, user_bounds, fixed_params, fit_params
        As for `fit_model`.
    cell_id
        Cell of the index, or name or number of the column; None for all cells.
    progress_callback
        Called with the cell, or for all cells with the number of done ones, that of all, and a message.

    Returns
    -------
    `FittingResult` of the cell; for all cells a list of pairs: cell and result.

    Raises
    ------
    ConfigError
        If the model or a parameter is invalid, or there is no such cell; it is a ValueError.
    """
    traces = _traces(df)

    def fitted(cell: Any) -> FittingResult:
        return fit_model(
            model_type, *traces[cell], user_params, user_bounds, fixed_params=fixed_params, fit_params=fit_params
        )

    if cell_id is not None:
        cell = _found(traces, cell_id)
        result = fitted(cell)
        if progress_callback:
            progress_callback(cell_id)
        return result
    results = []
    for done, cell in enumerate(traces, 1):
        results.append((cell, fitted(cell)))
        if progress_callback:
            progress_callback(done, len(traces), f"fitted cell {cell}")
    return results


def _traces(df: pd.DataFrame) -> dict[Any, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Times and values by cell of a table in either form."""
    if {"time", "value"} <= set(df.columns):
        return {
            cell: (of["time"].to_numpy(), of["value"].to_numpy())
            for cell, of in df.groupby(level=[*range(df.index.nlevels)])
        }
    return {cell: (df.index.to_numpy(float), df[cell].to_numpy(float)) for cell in df.columns}


def _found(traces: Mapping[Any, Any], cell: Any) -> Any:
    """Cell of a table by itself, or by the number of its column."""
    if cell in traces:
        return cell
    if isinstance(cell, int) and 0 <= cell < len(traces):
        return list(traces)[cell]
    some = f", such as {next(iter(traces))!r}" if traces else ""
    raise ConfigError(f"cell_id: {cell!r} is not in the table, which has {many(len(traces), 'cell')}{some}")
