"""What a fit needs of each cell: its cost, its normal equations, a step within bounds, the spread of its parameters.

Each cell is summed in its own order, so that its result does not depend on the cells beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyama_dask.kernels.compiled import compiled

SINGULAR = 1e-14
"""Least share of a column's norm that must be independent of the others, squared."""


@compiled
def costs(values: Any, curves: Any, scales: Any, out: Any) -> None:
    """Half the sum of the loss of all samples that are not NaN; infinite where a curve is not finite.

    Parameters
    ----------
    values, curves
        (cells, times) measured and modelled.
    scales
        (cells,) residuals from which soft-l1 loss grows linearly; infinite for least squares.
    out
        (cells,) costs.
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
    """Curvature (cells, F, F) and gradient (cells, F) of the least-squares problem that touches the cost from above.

    That is least squares with the weights that the loss gives the residuals as they are: a step to its minimum never
    raises the cost of a linear model, however far the residuals are in the linear part of the loss.
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
    """Sum of products, in two sums of which neither waits for the other."""
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
    """Where each cell goes next: the damped Gauss-Newton step, and what it should gain.

    A parameter that would leave its bounds goes to its bound, and the step of the others is found anew with that. One
    that is at its bound and that the cost pulls outwards stays.

    Parameters
    ----------
    squares, gradients
        As of `normal_equations`.
    places
        (cells, F) parameters now.
    lows, highs
        (F,) bounds.
    damping
        (cells,) of Levenberg and Marquardt, relative to the diagonal of ``squares``.
    trials
        (cells, F) parameters to try next.
    gains
        (cells,) by how much the cost would fall if the curve were linear.
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
    """For each cell (cells, 3): slope of the cost, size of the step and size of the parameters, all in units of values.

    The slope is the largest gradient along a parameter that can move, over the norm of that parameter's derivatives.
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
    """Diagonals (cells, F) of the inverses of ``squares``.

    Where columns are not independent, without those that are held, which are infinite then; all that this does not help
    are infinite, too.
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
    """Norms of the columns of derivatives, 1 for those that are 0."""
    for i in range(norms.size):
        norms[i] = math.sqrt(square[i, i]) if square[i, i] > 0 else 1.0


@compiled
def _solve(square: Any, gradient: Any, norms: Any, held: Any, damping: float, step: Any) -> bool:
    """Step of the parameters that are not held, given the step of those that are; with columns scaled to norm 1.

    Returns whether the equations are regular; there is no step in directions in which they are not.
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
    """Lower triangle of what is not held, with columns scaled to norm 1; infinite on the diagonal where singular."""
    lower = np.zeros_like(square)
    for i in range(norms.size):
        for j in range(i):
            total = square[i, j] / norms[i] / norms[j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = 0.0 if held[i] or held[j] else total / lower[j, j]
        left = square[i, i] / norms[i] ** 2 + damping
        for k in range(i):
            left -= lower[i, k] * lower[i, k]
        lower[i, i] = 1.0 if held[i] else math.sqrt(left) if left > SINGULAR else math.inf
    return lower


@compiled
def sums(values: Any, curves: Any, scales: Any, out: Any) -> None:
    """For each cell (cells, 5): samples, squared residuals, squares about the mean, and what robust errors need.

    The last two are the sums of squares of the loss's derivative and of its second derivative.
    """
    for n in range(values.shape[0]):
        points = total = largest = 0.0
        for value in values[n]:
            if not math.isnan(value):
                points, total, largest = points + 1.0, total + value, max(largest, abs(value))
        mean = total / points if points else 0.0
        left = about = pulls = bends = 0.0
        for k in range(values.shape[1]):
            if not math.isnan(values[n, k]):
                residual = curves[n, k] - values[n, k]
                first = 1.0 / math.sqrt(1.0 + (residual / scales[n]) ** 2)
                left, about = left + residual * residual, about + (values[n, k] - mean) ** 2
                pulls, bends = pulls + (first * residual) ** 2, bends + first * first * first
        if about <= points * (points * 2.3e-16 * largest) ** 2:  # all are the same, but for the mean's rounding
            about = 0.0
        out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = points, left, about, pulls, bends


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
            found = samples[:count]
            bends = np.abs(found[2:] - 2.0 * found[1:-1] + found[:-2])
            spread = max(np.median(bends) * 1.4826 / math.sqrt(6.0), 1e-6 * (found.max() - found.min()))
            out[n] = spread if spread > 0 else 1.0
