"""Compiled parts of a fit, per cell: cost, normal equations, steps within bounds, and parameter errors.

Each cell is summed in a fixed order, so that its result does not depend on the cells beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyama_dask.kernels.compiled import compiled

SINGULAR = 1e-14
"""Smallest squared share of a column's norm that must be linearly independent of the other columns."""


@compiled
def costs(values: Any, curves: Any, scales: Any, out: Any) -> None:
    """Half the summed loss of all samples that are not NaN; infinite if a curve is not finite.

    Parameters
    ----------
    values, curves
        (cells, times) measured values and model curves.
    scales
        (cells,) residuals from which soft-l1 loss grows linearly; infinite for least squares.
    out
        (cells,) array for the costs.
    """
    for n in range(values.shape[0]):
        total = 0.0
        weight = 1.0 / scales[n]
        for k in range(values.shape[1]):
            if not math.isnan(values[n, k]):
                residual = curves[n, k] - values[n, k]
                total += residual * residual / (1.0 + math.sqrt(1.0 + (residual * weight) ** 2))
        out[n] = total if math.isfinite(total) else math.inf


@compiled
def normal_equations(values: Any, curves: Any, slopes: Any, scales: Any, squares: Any, gradients: Any) -> None:
    """Compute the normal equations of a least-squares problem that bounds the cost from above.

    The problem weights the residuals as the loss does at their current values. A step to its minimum therefore never
    raises the cost of a linear model, however large the residuals are.

    Parameters
    ----------
    values, curves, scales
        As for `costs`.
    slopes
        (cells, F, times) derivatives of the curves by the F fitted parameters.
    squares
        (cells, F, F) array for the curvatures.
    gradients
        (cells, F) array for the gradients.
    """
    fitted = slopes.shape[1]
    weighted, residuals = np.empty((fitted, values.shape[1])), np.empty(values.shape[1])
    for n in range(values.shape[0]):
        weight, count = 1.0 / scales[n], 0
        for k in range(values.shape[1]):
            if not math.isnan(values[n, k]):
                residual = curves[n, k] - values[n, k]
                pull = 1.0 / math.sqrt(math.sqrt(1.0 + (residual * weight) ** 2))
                residuals[count] = pull * residual
                for i in range(fitted):
                    weighted[i, count] = pull * slopes[n, i, k]
                count += 1
        for i in range(fitted):
            gradients[n, i] = _product(weighted[i], residuals, count)
            for j in range(i + 1):
                squares[n, i, j] = squares[n, j, i] = _product(weighted[i], weighted[j], count)


@compiled
def _product(one: Any, other: Any, count: int) -> float:
    """Dot product, in two independent sums so that neither waits for the other."""
    even = odd = 0.0
    for k in range(0, count - 1, 2):
        even += one[k] * other[k]
        odd += one[k + 1] * other[k + 1]
    if count % 2:
        even += one[count - 1] * other[count - 1]
    return even + odd


@compiled
def bounded_steps(
    squares: Any, gradients: Any, places: Any, lows: Any, highs: Any, damping: Any, trials: Any, gains: Any
) -> None:
    """Compute the damped Gauss-Newton step of each cell and its predicted gain.

    A parameter that would leave its bounds is set to its bound, and the step of the others is recomputed. A parameter
    at its bound whose gradient points outwards stays there.

    Parameters
    ----------
    squares, gradients
        Results of `normal_equations`.
    places
        (cells, F) current parameters.
    lows, highs
        (F,) bounds.
    damping
        (cells,) Levenberg-Marquardt damping, relative to the diagonal of ``squares``.
    trials
        (cells, F) array for the next parameters.
    gains
        (cells,) array for the predicted decrease of the cost, if the curve were linear.
    """
    fitted = lows.size
    step, norms, held = np.empty(fitted), np.empty(fitted), np.empty(fitted, np.bool_)
    for n in range(places.shape[0]):
        square, gradient, place = squares[n], gradients[n], places[n]
        _norms(square, norms)
        for i in range(fitted):
            held[i] = (place[i] <= lows[i] and gradient[i] > 0) or (place[i] >= highs[i] and gradient[i] < 0)
            step[i] = 0.0
        for _ in range(fitted):
            _solve(square, gradient, norms, held, damping[n], step)
            inside = True
            for i in range(fitted):
                target = min(max(place[i] + step[i], lows[i]), highs[i])
                if not held[i] and target != place[i] + step[i]:
                    held[i], inside, step[i] = True, False, target - place[i]
            if inside:
                break
        gain = 0.0
        for i in range(fitted):
            trials[n, i] = min(max(place[i] + step[i], lows[i]), highs[i])
            gain -= gradient[i] * step[i]
            for j in range(fitted):
                gain -= 0.5 * step[i] * square[i, j] * step[j]
        gains[n] = gain


@compiled
def measures(squares: Any, gradients: Any, places: Any, lows: Any, highs: Any, trials: Any, out: Any) -> None:
    """Compute the slope of the cost, the size of the step and the size of the parameters, in units of the values.

    The slope is the largest gradient along a movable parameter, divided by the norm of that parameter's derivatives.

    Parameters
    ----------
    squares, gradients, places, lows, highs
        As for `bounded_steps`.
    trials
        (cells, F) parameters after the step.
    out
        (cells, 3) array for the result.
    """
    fitted = lows.size
    norms = np.empty(fitted)
    for n in range(places.shape[0]):
        _norms(squares[n], norms)
        steepest = moved = size = 0.0
        for i in range(fitted):
            gradient, place = gradients[n, i], places[n, i]
            if not ((place <= lows[i] and gradient > 0) or (place >= highs[i] and gradient < 0)):
                steepest = max(steepest, abs(gradient) / norms[i])
            moved += (norms[i] * (trials[n, i] - place)) ** 2
            size += (norms[i] * place) ** 2
        out[n, 0], out[n, 1], out[n, 2] = steepest, math.sqrt(moved), math.sqrt(size)


@compiled
def inverse_diagonals(squares: Any, held: Any, out: Any) -> None:
    """Compute the diagonals of the inverses of ``squares``.

    If columns are dependent, held parameters are left out and their entries are infinite; if columns are still
    dependent, the affected entries are infinite too.

    Parameters
    ----------
    squares
        (cells, F, F) curvatures from `normal_equations`.
    held
        (cells, F) mask of the parameters at a bound.
    out
        (cells, F) array for the diagonals.
    """
    fitted = squares.shape[1]
    norms, step, unit = np.empty(fitted), np.empty(fitted), np.empty(fitted)
    free = np.zeros(fitted, np.bool_)
    for n in range(squares.shape[0]):
        _norms(squares[n], norms)
        unit[:], step[:] = 0.0, 0.0
        regular = _solve(squares[n], unit, norms, free, 0.0, step)
        without = free if regular else held[n]
        for i in range(fitted):
            out[n, i] = math.inf
            if not without[i]:
                unit[:], unit[i] = 0.0, -norms[i]
                step[:] = 0.0
                regular = _solve(squares[n], unit, norms, without, 0.0, step)
                out[n, i] = step[i] / norms[i] if regular else math.inf


@compiled
def _norms(square: Any, norms: Any) -> None:
    """Norms of the columns of derivatives; 1 for zero columns."""
    for i in range(norms.size):
        norms[i] = math.sqrt(square[i, i]) if square[i, i] > 0 else 1.0


@compiled
def _solve(square: Any, gradient: Any, norms: Any, held: Any, damping: float, step: Any) -> bool:
    """Solve for the step of the free parameters, given that of the held ones, with columns scaled to norm 1.

    Returns True if the equations are regular; along singular directions the step is 0.
    """
    lower = _cholesky(square, norms, held, damping)
    right = np.zeros(norms.size)
    regular = True
    for i in range(norms.size):
        if not held[i]:
            right[i] = -gradient[i] / norms[i]
            for j in range(norms.size):
                right[i] -= square[i, j] / norms[i] * step[j] if held[j] else 0.0
        for k in range(i):
            right[i] -= lower[i, k] * right[k]
        right[i] /= lower[i, i]
        regular &= math.isfinite(lower[i, i])
    for i in range(norms.size - 1, -1, -1):
        for k in range(i + 1, norms.size):
            right[i] -= lower[k, i] * right[k]
        right[i] /= lower[i, i]
        if not held[i]:
            step[i] = right[i] / norms[i]
    return regular


@compiled
def _cholesky(square: Any, norms: Any, held: Any, damping: float) -> Any:
    """Cholesky factor for the free parameters, with columns scaled to norm 1; infinite diagonal where singular."""
    lower = np.zeros_like(square)
    for i in range(norms.size):
        for j in range(i):
            total = square[i, j] / norms[i] / norms[j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = 0.0 if held[i] or held[j] else total / lower[j, j]
        rest = square[i, i] / norms[i] ** 2 + damping
        for k in range(i):
            rest -= lower[i, k] * lower[i, k]
        lower[i, i] = 1.0 if held[i] else math.sqrt(rest) if rest > SINGULAR else math.inf
    return lower


@compiled
def sums(values: Any, curves: Any, scales: Any, out: Any) -> None:
    """Sum up the samples and residuals of each cell.

    Parameters
    ----------
    values, curves, scales
        As for `costs`.
    out
        (cells, 5) array for the number of samples, the sum of squared residuals, the sum of squared deviations from the
        mean, the sum of squares of the loss's first derivative, and the sum of its second derivative.
    """
    for n in range(values.shape[0]):
        points = total = largest = 0.0
        for value in values[n]:
            if not math.isnan(value):
                points, total, largest = points + 1.0, total + value, max(largest, abs(value))
        mean = total / points if points else 0.0
        residuals = about = pulls = bends = 0.0
        for k in range(values.shape[1]):
            if not math.isnan(values[n, k]):
                residual = curves[n, k] - values[n, k]
                first = 1.0 / math.sqrt(1.0 + (residual / scales[n]) ** 2)
                residuals, about = residuals + residual * residual, about + (values[n, k] - mean) ** 2
                pulls, bends = pulls + (first * residual) ** 2, bends + first * first * first
        if about <= points * (points * 2.3e-16 * largest) ** 2:  # equal values, apart from rounding of the mean
            about = 0.0
        out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = points, residuals, about, pulls, bends


@compiled
def noise(values: Any, out: Any) -> None:
    """Standard deviation of each cell's noise, from the median of second differences; never 0."""
    samples = np.empty(values.shape[1])
    for n in range(values.shape[0]):
        count = 0
        for value in values[n]:
            if not math.isnan(value):
                samples[count] = value
                count += 1
        out[n] = 1.0
        if count > 2:
            present = samples[:count]
            bends = np.abs(present[2:] - 2.0 * present[1:-1] + present[:-2])
            spread = max(np.median(bends) * 1.4826 / math.sqrt(6.0), 1e-6 * (present.max() - present.min()))
            out[n] = spread if spread > 0 else 1.0
