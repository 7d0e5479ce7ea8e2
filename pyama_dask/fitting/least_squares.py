"""Fits of a model to thousands of traces: vectorised Levenberg-Marquardt within bounds, from several starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import ConfigError
from pyama_dask.fitting import lm_steps
from pyama_dask.fitting.models import Array, Loss, Model, result_of

AT_ONCE = 256
"""Cells that are fitted together, few enough for a core's cache; results do not depend on it."""
_RUNNING, _FLAT, _FALLS_NO_MORE, _MOVES_NO_MORE, _EXACT, _SLOW, _NOT_FINITE, _FEW, _INFINITE = range(9)
_CONVERGED = (_FLAT, _FALLS_NO_MORE, _MOVES_NO_MORE, _EXACT)
_MESSAGES = {
    _FLAT: "converged: no parameter lowers the cost",
    _FALLS_NO_MORE: "converged: the cost falls no more",
    _MOVES_NO_MORE: "converged: the parameters move no more",
    _EXACT: "converged: the fit is exact",
    _SLOW: "not converged after {evaluations} evaluations of the model",
    _NOT_FINITE: "the model has no finite values where the fit starts",
    _FEW: "too few points: {points} for {fitted} parameters; at least {needed} are needed",
    _INFINITE: "a value or its time is infinite",
}


@dataclass(frozen=True)
class Limits:
    """Termination criteria of a fit."""

    cost: float = 1e-10
    """Relative decrease of the cost, both the actual one and the one predicted by the linearised model."""
    step: float = 1e-8
    """Change of the parameters relative to their size, both in units of the values."""
    gradient: float = 1e-8
    """Cosine of the angle between the residuals and the model's change by any parameter."""
    evaluations: int = 200
    """Largest number of model evaluations per start."""


@dataclass(frozen=True)
class Fits:
    """Fit results, one row per cell, converged or not; NaN where a result is undefined."""

    parameters: Array
    """(cells, P) in the order of the model's parameters; NaN for fitted ones if no fit was possible."""
    errors: Array
    """(cells, P) standard errors; NaN for fixed parameters, infinite if the trace does not constrain the parameter.

    At a bound, the error is the one that the parameter would have without the bound.
    """
    residual_rms: Array
    """(cells,) root mean square of the residuals, in units of the values."""
    r_squared: Array
    """(cells,) 1 - SS_residual / SS_total; negative if the fit is worse than the mean."""
    points: npt.NDArray[np.int64]
    """(cells,) number of samples used."""
    success: npt.NDArray[np.bool_]
    """(cells,) True if the fit converged."""
    message: npt.NDArray[np.str_]
    """(cells,) reason for the end of the fit."""

    @classmethod
    def joined(cls, parts: list[Fits]) -> Fits:
        """Concatenated fits."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def fit_cells(
    times: npt.ArrayLike,
    values: npt.ArrayLike,
    model: Model,
    *,
    loss: Loss | None = None,
    loss_scale: float | None = None,
    limits: Limits = Limits(),
) -> Fits:
    """Fit a model to many traces.

    Parameters
    ----------
    times
        (times,) for all cells, or (cells, times); in hours, the unit of the model's parameters.
    values
        (cells, times) values; NaN where there is no sample.
    model
        Model with bounds, start values and fixed parameters.
    loss
        ``linear`` for least squares, or ``soft_l1``, which is robust against outliers; None for the model's default.
    loss_scale
        Residual from which soft-l1 loss grows linearly; None for the noise of each trace.
    limits
        Termination criteria.

    Returns
    -------
    Fits
        One row per cell; a cell's result does not depend on the other cells.

    Raises
    ------
    ConfigError
        If the shapes do not match, the loss is unknown, or the model fails. No trace raises an error, whatever its
        values.
    """
    values = np.ascontiguousarray(values, np.float64)
    times = np.ascontiguousarray(np.atleast_2d(np.asarray(times, np.float64)))
    if values.ndim != 2 or times.shape not in {values.shape, (1, values.shape[1])}:
        raise ConfigError(f"values {values.shape} must be (cells, times), and times {times.shape} must match them")
    loss = loss or model.loss
    if loss not in ("linear", "soft_l1") or (loss_scale is not None and not loss_scale > 0):
        raise ConfigError(f"loss {loss!r} must be 'linear' or 'soft_l1', and its scale {loss_scale} above 0")
    parts = []
    for first in range(0, max(len(values), 1), AT_ONCE):
        part = values[first : first + AT_ONCE]
        ours = times if len(times) == 1 else times[first : first + AT_ONCE]
        parts.append(_fit_part(ours, part, model, _scales(part, loss, loss_scale), limits))
    return Fits.joined(parts)


def _scales(values: Array, loss: Loss, scale: float | None) -> Array:
    scales = np.full(len(values), np.inf if loss == "linear" else scale or np.nan)
    if np.isnan(scales).any():
        lm_steps.noise(values, scales)
    return scales


def _fit_part(times: Array, values: Array, model: Model, scales: Array, limits: Limits) -> Fits:
    """Fit one part of the cells together."""
    values = np.where(np.isnan(times), np.nan, values)
    sampled = ~np.isnan(values)
    points = sampled.sum(1)
    ends = np.full(len(values), _RUNNING)
    ends[points <= model.fitted.size] = _FEW
    ends[(np.isinf(values) | (np.isinf(times) & sampled)).any(1)] = _INFINITE
    rows = np.flatnonzero(ends == _RUNNING)
    parameters = np.tile([np.nan if not p.fixed else p.default for p in model.parameters], (len(values), 1))
    errors = np.full_like(parameters, np.nan)
    measured = np.full((len(values), 2), np.nan)
    if rows.size:
        problem = _Problem(times if len(times) == 1 else times[rows], values[rows], scales[rows], model)
        with np.errstate(all="ignore"):  # non-finite values have an infinite cost
            places, ends[rows] = _best(problem, limits)
            parameters[rows] = problem.all_parameters(places)
            errors[np.ix_(rows, model.fitted)], measured[rows] = _statistics(problem, places)
    success = np.isin(ends, _CONVERGED)
    errors[~success] = np.nan
    fitted = model.fitted.size
    messages = [
        _MESSAGES[int(end)].format(evaluations=limits.evaluations, points=n, fitted=fitted, needed=fitted + 1)
        for end, n in zip(ends, points, strict=True)
    ]
    return Fits(parameters, errors, measured[:, 0], measured[:, 1], points, success, np.array(messages, np.str_))


@dataclass(frozen=True)
class _Problem:
    """Cells to fit; all of them have enough samples."""

    times: Array
    values: Array
    scales: Array
    model: Model

    @property
    def lows(self) -> Array:
        return np.array([self.model.parameters[place].low for place in self.model.fitted])

    @property
    def highs(self) -> Array:
        return np.array([self.model.parameters[place].high for place in self.model.fitted])

    @property
    def linear(self) -> npt.NDArray[np.intp]:
        """Indices of the linear parameters among the fitted ones."""
        return np.flatnonzero([self.model.parameters[place].linear for place in self.model.fitted])

    @property
    def linear_places(self) -> npt.NDArray[np.intp]:
        """Indices of the fitted linear parameters among all parameters."""
        return self.model.fitted[self.linear]

    def of(self, cells: npt.NDArray[np.intp]) -> _Problem:
        """Problem for a selection of cells, possibly with repeats."""
        times = self.times if len(self.times) == 1 else self.times[cells]
        return _Problem(times, self.values[cells], self.scales[cells], self.model)

    def all_parameters(self, places: Array) -> Array:
        """(cells, P) all parameters, from the fitted ones (cells, F)."""
        parameters = np.tile([parameter.default for parameter in self.model.parameters], (len(places), 1))
        parameters[:, self.model.fitted] = places
        return parameters

    def curves(self, places: Array) -> Array:
        shape = (len(places), self.times.shape[1])
        return result_of(
            f"model {self.model.name!r}: its curve", self.model.curve, shape, self.times, self.all_parameters(places)
        )

    def slopes(self, places: Array, wanted: npt.NDArray[np.intp] | None = None) -> Array:
        wanted = self.model.fitted if wanted is None else wanted
        shape = (len(places), len(wanted), self.times.shape[1])
        given = (self.times, self.all_parameters(places), wanted)
        return result_of(f"model {self.model.name!r}: its slopes", self.model.slopes, shape, *given)

    def costs(self, curves: Array) -> Array:
        costs = np.empty(len(self.values))
        lm_steps.costs(self.values, curves, self.scales, costs)
        return costs

    def derivatives(self, curves: Array, slopes: Array, scales: Array | None = None) -> tuple[Array, Array]:
        """Results of `lm_steps.normal_equations`, for other scales than the problem's if given."""
        cells, fitted, _ = slopes.shape
        squares, gradients = np.empty((cells, fitted, fitted)), np.empty((cells, fitted))
        lm_steps.normal_equations(
            self.values, curves, slopes, self.scales if scales is None else scales, squares, gradients
        )
        return squares, gradients

    def steps(self, squares: Array, gradients: Array, places: Array, damping: Array) -> tuple[Array, Array, Array]:
        """Damped steps within the bounds.

        Parameters
        ----------
        squares, gradients, places, damping
            As for `lm_steps.bounded_steps`.

        Returns
        -------
        Next parameters (cells, F), their predicted gains (cells,), and `lm_steps.measures` (cells, 3).
        """
        trials, gains, sizes = np.empty_like(places), np.empty(len(places)), np.empty((len(places), 3))
        lm_steps.bounded_steps(squares, gradients, places, self.lows, self.highs, damping, trials, gains)
        lm_steps.measures(squares, gradients, places, self.lows, self.highs, trials, sizes)
        return trials, gains, sizes


def _best(problem: _Problem, limits: Limits) -> tuple[Array, npt.NDArray[np.intp]]:
    """Parameters (cells, F) with the lowest cost over all starts, and how each descent ended."""
    starts = _starts(problem)
    cells, tried, fitted = starts.shape
    everyone = problem.of(np.repeat(np.arange(cells), tried))
    places, costs, ends = _descend(everyone, starts.reshape(cells * tried, fitted), limits)
    best = np.arange(cells) * tried + costs.reshape(cells, tried).argmin(1)
    return places[best], ends[best]


def _starts(problem: _Problem) -> Array:
    """(cells, starts, F) best combinations of start values, with optimal linear parameters."""
    model = problem.model
    candidates = [_with_linear(problem, candidate) for candidate in _candidates(problem)]
    costs = np.stack([cost for _, cost in candidates], axis=1)
    order = costs.argsort(axis=1, kind="stable")[:, : model.refined]
    places = np.stack([place for place, _ in candidates], axis=1)
    return np.take_along_axis(places, order[:, :, None], axis=1)


def _candidates(problem: _Problem) -> list[Array]:
    """Combinations of the start values (cells, F each), clipped to the bounds."""
    first, last = np.nanmin(problem.times, axis=1), np.nanmax(problem.times, axis=1)
    choices = []
    for place in problem.model.fitted:
        parameter = problem.model.parameters[place]
        tries = () if parameter.linear else parameter.tries
        others = [first + share * (last - first) if parameter.along else np.full(len(first), share) for share in tries]
        choices.append([np.full(len(first), parameter.default), *others])
    cells = len(problem.values)
    stacked = (np.array(choice).reshape(len(choices), len(first)).T for choice in itertools.product(*choices))
    return [np.broadcast_to(np.clip(start, problem.lows, problem.highs), (cells, len(choices))) for start in stacked]


def _with_linear(problem: _Problem, places: Array) -> tuple[Array, Array]:
    """Parameters with the linear ones replaced by their least-squares optimum, and the costs of the given ones."""
    cells = len(places)
    alike = len(problem.times) == 1  # then all cells have the same curve
    seen = places[:1] if alike else places
    curves = problem.curves(seen).repeat(cells if alike else 1, axis=0)
    slopes = problem.slopes(seen, problem.linear_places).repeat(cells if alike else 1, axis=0)
    moved = _move_linear(problem, places, curves, slopes, np.full(cells, np.inf))
    return moved, problem.costs(curves)


def _move_linear(problem: _Problem, places: Array, curves: Array, slopes: Array, scales: Array) -> Array:
    """Parameters with optimal linear ones for the current weights of the residuals; updates `curves` in place."""
    linear = problem.linear
    squares, gradients = problem.derivatives(curves, slopes, scales)
    best, gains = np.empty((len(places), linear.size)), np.empty(len(places))
    before = np.ascontiguousarray(places[:, linear])
    lows, highs, undamped = problem.lows[linear], problem.highs[linear], np.zeros(len(places))
    lm_steps.bounded_steps(squares, gradients, before, lows, highs, undamped, best, gains)
    for k in range(linear.size):
        curves += (best[:, k] - before[:, k])[:, None] * slopes[:, k]
    moved = places.copy()
    moved[:, linear] = best
    return moved


def _tried(problem: _Problem, trials: Array) -> tuple[Array, Array, Array]:
    """Trials with optimal linear parameters, their curves and their costs.

    Without this projection, steps creep along directions in which parameters compensate for each other, such as an
    amplitude and a slow rate (variable projection: Golub and Pereyra 2003, doi:10.1088/0266-5611/19/2/201).
    """
    curves = problem.curves(trials)
    costs = problem.costs(curves)
    projected = curves.copy()
    slopes = problem.slopes(trials, problem.linear_places)
    moved = _move_linear(problem, trials, projected, slopes, problem.scales)
    lower = problem.costs(projected)
    is_lower = lower < costs
    curves[is_lower] = projected[is_lower]
    return np.where(is_lower[:, None], moved, trials), curves, np.where(is_lower, lower, costs)


def _descend(problem: _Problem, places: Array, limits: Limits) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """Follow each start to a minimum: parameters (cells, F), costs and reasons for the end (cells,)."""
    curves = problem.curves(places)
    costs = problem.costs(curves)
    squares, gradients = problem.derivatives(curves, problem.slopes(places))
    damping, growth = np.full(len(places), 1e-3), np.full(len(places), 2.0)
    ends = np.where(np.isfinite(costs), _RUNNING, _NOT_FINITE)
    for _ in range(limits.evaluations):
        going = np.flatnonzero(ends == _RUNNING)
        if not going.size:
            break
        ours = problem.of(going)
        trials, gains, sizes = ours.steps(squares[going], gradients[going], places[going], damping[going])
        trials, curves, tried = _tried(ours, trials)
        falls = costs[going] - tried
        better = (falls > 0) & (gains > 0)
        ends[going] = _ends(ours, limits, costs[going], falls, gains, sizes)
        damping[going], growth[going] = _next_damping(damping[going], growth[going], better, falls, gains)
        places[going[better]], costs[going[better]] = trials[better], tried[better]
        onwards = np.flatnonzero(better & (ends[going] == _RUNNING))
        moved = ours.of(onwards)
        squares[going[onwards]], gradients[going[onwards]] = moved.derivatives(
            curves[onwards], moved.slopes(trials[onwards])
        )
    ends[ends == _RUNNING] = _SLOW
    return places, costs, ends


def _ends(
    problem: _Problem, limits: Limits, costs: Array, falls: Array, gains: Array, sizes: Array
) -> npt.NDArray[np.intp]:
    """Reason for the end of each descent after a step with actual ``falls`` and predicted ``gains``, or `_RUNNING`."""
    slope, step, size = sizes.T
    conditions = [
        np.sqrt(2 * costs) <= 1e-15 * _norms(problem.values),
        slope <= limits.gradient * np.sqrt(2 * costs),
        (np.abs(falls) <= limits.cost * costs) & (gains <= limits.cost * costs),
        step <= limits.step * size,
    ]
    return np.select(conditions, [_EXACT, _FLAT, _FALLS_NO_MORE, _MOVES_NO_MORE], _RUNNING)


def _norms(values: Array) -> Array:
    """(cells,) root of the sum of squares, also if the squares overflow."""
    largest = np.nanmax(np.abs(values), axis=1)
    scaled = np.divide(values, largest[:, None], out=np.zeros_like(values), where=largest[:, None] > 0)
    norms: Array = largest * np.sqrt(np.nansum(scaled**2, axis=1))
    return norms


def _next_damping(
    damping: Array, growth: Array, better: npt.NDArray[np.bool_], falls: Array, gains: Array
) -> tuple[Array, Array]:
    """Damping after an accepted or rejected step, and its growth factor for the next rejection."""
    ratio = np.divide(falls, gains, out=np.zeros_like(falls), where=better)
    less = damping * np.clip(1 - (2 * ratio - 1) ** 3, 0.1, 2.0)
    return np.where(better, less, np.minimum(damping * growth, 1e60)), np.where(better, 2.0, growth * 2)


def _statistics(problem: _Problem, places: Array) -> tuple[Array, Array]:
    """Standard errors (cells, F), and residual RMS and R squared (cells, 2).

    The errors are those of the linearised model at the minimum; for a robust loss, after Huber, from the derivatives
    of the loss. A parameter at its bound counts as free: its error is the one that it would have without the bound.
    """
    curves = problem.curves(places)
    sums = np.empty((len(places), 5))
    lm_steps.sums(problem.values, curves, problem.scales, sums)
    points, residual, total, pulls, bends = sums.T
    squares, _ = problem.derivatives(curves, problem.slopes(places), np.full(len(places), np.inf))
    held = (places <= problem.lows) | (places >= problem.highs)
    inverse = np.empty_like(places)
    lm_steps.inverse_diagonals(squares, held, inverse)
    free = points - places.shape[1]
    errors = np.sqrt(inverse * (pulls / free / (bends / points) ** 2)[:, None])
    r_squared = np.where(total > 0, 1 - residual / total, np.nan)
    return errors, np.stack([np.sqrt(residual / points), r_squared], axis=1)
