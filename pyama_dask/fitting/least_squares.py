"""Fits of a model to thousands of traces at once: Levenberg and Marquardt's method within bounds, of several starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import ConfigError
from pyama_dask.fitting import lm_steps
from pyama_dask.fitting.models import Array, Loss, Model, result_of

AT_ONCE = 256
"""Cells that are fitted together: what they need fits a cache. It has no influence on results."""
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
    """When a fit ends."""

    cost: float = 1e-10
    """Relative fall of the cost, as it is and as it would be if the model were linear."""
    step: float = 1e-8
    """Change of the parameters relative to their size, in units of the values."""
    gradient: float = 1e-8
    """Cosine of the angle between residuals and the model's change by any parameter."""
    evaluations: int = 200
    """Evaluations of the model, of one start."""


@dataclass(frozen=True)
class Fits:
    """One row a cell, whether its fit converged or not; NaN where there is nothing to say."""

    parameters: Array
    """(cells, P) in the order of the model's; NaN for fitted ones where no fit was possible."""
    errors: Array
    """(cells, P) standard errors; NaN for parameters that are fixed, infinite where undetermined.

    Of a parameter at a bound it is that which it would have without the bound.
    """
    residual_rms: Array
    """(cells,)"""
    r_squared: Array
    """(cells,) 1 - squared residuals / squares about the mean; below 0 for a fit worse than the mean."""
    points: npt.NDArray[np.int64]
    """(cells,) samples that were used."""
    success: npt.NDArray[np.bool_]
    """(cells,) whether the fit converged."""
    message: npt.NDArray[np.str_]
    """(cells,) how it ended."""

    @classmethod
    def joined(cls, parts: list[Fits]) -> Fits:
        """Fits of all parts' cells."""
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
    """Fit a model to each of many traces.

    Parameters
    ----------
    times
        (times,) of all cells, or (cells, times); in the unit that the model's parameters have, hours.
    values
        (cells, times); NaN where there is no sample.
    model
        What to fit, with bounds, start values and fixed parameters.
    loss
        ``linear`` for least squares, or ``soft_l1``, which outliers pull less; the model's own by default.
    loss_scale
        Residual from which soft-l1 loss grows linearly; the noise of each trace by default.
    limits
        When a fit ends.

    Returns
    -------
    Fits
        A row for each cell; it is the same whatever other cells there are.

    Raises
    ------
    ConfigError
        If the shapes do not fit each other, the loss is not known, or the model fails. What a trace is like raises
        nothing.
    """
    values = np.ascontiguousarray(values, np.float64)
    times = np.ascontiguousarray(np.atleast_2d(np.asarray(times, np.float64)))
    if values.ndim != 2 or times.shape not in {values.shape, (1, values.shape[1])}:
        raise ConfigError(f"values {values.shape} must be (cells, times), and times {times.shape} fit them")
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
    """Fit some cells at once."""
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
        with np.errstate(all="ignore"):  # what is not finite costs more than anything that is
            places, ends[rows] = _best(problem, limits)
            parameters[rows] = problem.all_parameters(places)
            errors[np.ix_(rows, model.fitted)], measured[rows] = _statistics(problem, places)
    success = np.isin(ends, _CONVERGED)
    errors[~success] = np.nan
    fitted = model.fitted.size
    said = [
        _MESSAGES[int(end)].format(evaluations=limits.evaluations, points=n, fitted=fitted, needed=fitted + 1)
        for end, n in zip(ends, points, strict=True)
    ]
    return Fits(parameters, errors, measured[:, 0], measured[:, 1], points, success, np.array(said, np.str_))


@dataclass(frozen=True)
class _Problem:
    """Cells to be fitted, all of which have enough samples."""

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
        """Which of the fitted parameters are linear."""
        return np.flatnonzero([self.model.parameters[place].linear for place in self.model.fitted])

    @property
    def linear_places(self) -> npt.NDArray[np.intp]:
        """Places of these among all parameters."""
        return self.model.fitted[self.linear]

    def of(self, cells: npt.NDArray[np.intp]) -> _Problem:
        """Problem of some of the cells, which may occur repeatedly."""
        times = self.times if len(self.times) == 1 else self.times[cells]
        return _Problem(times, self.values[cells], self.scales[cells], self.model)

    def all_parameters(self, places: Array) -> Array:
        """(cells, P) of the fitted ones (cells, F)."""
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
        """Normal equations (cells, F, F) and (cells, F)."""
        cells, fitted, _ = slopes.shape
        squares, gradients = np.empty((cells, fitted, fitted)), np.empty((cells, fitted))
        lm_steps.normal_equations(
            self.values, curves, slopes, self.scales if scales is None else scales, squares, gradients
        )
        return squares, gradients

    def steps(self, squares: Array, gradients: Array, places: Array, damping: Array) -> tuple[Array, Array, Array]:
        """Parameters to try next (cells, F), what they should gain, and the sizes of `steps.measures`."""
        trials, gains, sizes = np.empty_like(places), np.empty(len(places)), np.empty((len(places), 3))
        lm_steps.bounded_steps(squares, gradients, places, self.lows, self.highs, damping, trials, gains)
        lm_steps.measures(squares, gradients, places, self.lows, self.highs, trials, sizes)
        return trials, gains, sizes


def _best(problem: _Problem, limits: Limits) -> tuple[Array, npt.NDArray[np.intp]]:
    """Parameters (cells, F) of the lowest cost from any start, and how the descent to them ended."""
    starts = _starts(problem)
    cells, tried, fitted = starts.shape
    everyone = problem.of(np.repeat(np.arange(cells), tried))
    places, costs, ends = _descend(everyone, starts.reshape(cells * tried, fitted), limits)
    best = np.arange(cells) * tried + costs.reshape(cells, tried).argmin(1)
    return places[best], ends[best]


def _starts(problem: _Problem) -> Array:
    """(cells, starts, F) the best of all combinations of start values, with linear parameters as they fit best."""
    model = problem.model
    candidates = [_with_linear(problem, candidate) for candidate in _candidates(problem)]
    costs = np.stack([cost for _, cost in candidates], axis=1)
    order = costs.argsort(axis=1, kind="stable")[:, : model.refined]
    places = np.stack([place for place, _ in candidates], axis=1)
    return np.take_along_axis(places, order[:, :, None], axis=1)


def _candidates(problem: _Problem) -> list[Array]:
    """Combinations (cells, F) of the start values, within the bounds."""
    first, last = np.nanmin(problem.times, axis=1), np.nanmax(problem.times, axis=1)
    choices = []
    for place in problem.model.fitted:
        parameter = problem.model.parameters[place]
        tries = () if parameter.linear else parameter.tries
        others = [first + share * (last - first) if parameter.along else np.full(len(first), share) for share in tries]
        choices.append([np.full(len(first), parameter.default), *others])
    cells = len(problem.values)
    stacked = (np.array(choice).reshape(len(choices), len(first)).T for choice in itertools.product(*choices))
    return [np.broadcast_to(np.clip(found, problem.lows, problem.highs), (cells, len(choices))) for found in stacked]


def _with_linear(problem: _Problem, places: Array) -> tuple[Array, Array]:
    """Places with the linear parameters that fit least squares best, and their costs."""
    cells = len(places)
    alike = len(problem.times) == 1  # then one curve is that of all cells
    seen = places[:1] if alike else places
    curves = problem.curves(seen).repeat(cells if alike else 1, axis=0)
    slopes = problem.slopes(seen, problem.linear_places).repeat(cells if alike else 1, axis=0)
    moved = _move_linear(problem, places, curves, slopes, np.full(cells, np.inf))
    return moved, problem.costs(curves)


def _move_linear(problem: _Problem, places: Array, curves: Array, slopes: Array, scales: Array) -> Array:
    """Places with the linear parameters that fit best, with the weights of the residuals as they are; curves follow."""
    linear = problem.linear
    squares, gradients = problem.derivatives(curves, slopes, scales)
    found, gains = np.empty((len(places), linear.size)), np.empty(len(places))
    before = np.ascontiguousarray(places[:, linear])
    lows, highs, undamped = problem.lows[linear], problem.highs[linear], np.zeros(len(places))
    lm_steps.bounded_steps(squares, gradients, before, lows, highs, undamped, found, gains)
    for k in range(linear.size):
        curves += (found[:, k] - before[:, k])[:, None] * slopes[:, k]
    moved = places.copy()
    moved[:, linear] = found
    return moved


def _tried(problem: _Problem, trials: Array) -> tuple[Array, Array, Array]:
    """Trials with the linear parameters that fit best, their curves and their costs.

    A step that leaves the linear parameters to themselves creeps where two parameters make up for each other, such as
    an amplitude and a slow rate (variable projection: Golub and Pereyra 2003, doi:10.1088/0266-5611/19/2/201).
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
    """Follow each start to a minimum: parameters, costs, and how it ended."""
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
    """How each descent ends with a step that lowers its cost by ``falls`` instead of ``gains``, or that it goes on."""
    slope, step, size = sizes.T
    conditions = [
        np.sqrt(2 * costs) <= 1e-15 * _norms(problem.values),
        slope <= limits.gradient * np.sqrt(2 * costs),
        (np.abs(falls) <= limits.cost * costs) & (gains <= limits.cost * costs),
        step <= limits.step * size,
    ]
    return np.select(conditions, [_EXACT, _FLAT, _FALLS_NO_MORE, _MOVES_NO_MORE], _RUNNING)


def _norms(values: Array) -> Array:
    """(cells,) root of the sum of squares, of values whose squares may be too large for a number, too."""
    largest = np.nanmax(np.abs(values), axis=1)
    scaled = np.divide(values, largest[:, None], out=np.zeros_like(values), where=largest[:, None] > 0)
    norms: Array = largest * np.sqrt(np.nansum(scaled**2, axis=1))
    return norms


def _next_damping(
    damping: Array, growth: Array, better: npt.NDArray[np.bool_], falls: Array, gains: Array
) -> tuple[Array, Array]:
    """Damping after a step that was better or not, and by what it grows next time."""
    ratio = np.divide(falls, gains, out=np.zeros_like(falls), where=better)
    less = damping * np.clip(1 - (2 * ratio - 1) ** 3, 0.1, 2.0)
    return np.where(better, less, np.minimum(damping * growth, 1e60)), np.where(better, 2.0, growth * 2)


def _statistics(problem: _Problem, places: Array) -> tuple[Array, Array]:
    """Standard errors (cells, F); and residual RMS and r_squared (cells, 2).

    Errors are those of the linear model at the minimum; of a robust loss, after Huber, with the loss's derivatives. A
    parameter at its bound is not taken for known: its error is that which it would have without the bound.
    """
    curves = problem.curves(places)
    found = np.empty((len(places), 5))
    lm_steps.sums(problem.values, curves, problem.scales, found)
    points, left, about, pulls, bends = found.T
    squares, _ = problem.derivatives(curves, problem.slopes(places), np.full(len(places), np.inf))
    held = (places <= problem.lows) | (places >= problem.highs)
    inverse = np.empty_like(places)
    lm_steps.inverse_diagonals(squares, held, inverse)
    free = points - places.shape[1]
    errors = np.sqrt(inverse * (pulls / free / (bends / points) ** 2)[:, None])
    r_squared = np.where(about > 0, 1 - left / about, np.nan)
    return errors, np.stack([np.sqrt(left / points), r_squared], axis=1)
