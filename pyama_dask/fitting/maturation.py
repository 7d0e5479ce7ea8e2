"""Fluorescence from mRNA: translation, maturation and decay, numerically stable for equal rates.

With rates ``a = beta + km``, ``b = beta`` and ``c = delta``, the bracket of the textbook formula is ``km`` times the
divided difference of ``exp(-x d)`` at a, b and c, which is smooth where rates are equal (delta = beta, delta = beta +
km). Its derivative by a rate is the divided difference with that rate repeated. Both are computed as positive means of
``exp(-x)``: by recurrence for distant rates, as a series for close ones, with little cancellation anywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

T0, KTL, DELTA, OFFSET, KM, BETA, SCALE = range(7)
"""Indices of the parameters."""
_CLOSE = 0.25
"""Distance of two numbers below which their difference loses digits."""
_NEAR = 0.5
"""The same for three numbers."""
_SHARES = tuple(1.0 / math.factorial(k) for k in range(2, 16))


def maturation(times: npt.NDArray[np.float64], parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fluorescence of cells over time.

    Parameters
    ----------
    times
        (cells or 1, times) in hours.
    parameters
        (cells, 7): t0, ktl, delta, offset, km, beta, scale.

    Returns
    -------
    numpy.ndarray
        (cells, times) fluorescence, in units of ``scale``.
    """
    values = np.empty((len(parameters), times.shape[1]))
    _values(times, parameters, values)
    return values


def maturation_slopes(
    times: npt.NDArray[np.float64], parameters: npt.NDArray[np.float64], wanted: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Derivatives of `maturation`.

    Parameters
    ----------
    times, parameters
        As for `maturation`.
    wanted
        Indices of the parameters by which to derive.

    Returns
    -------
    numpy.ndarray
        (cells, wanted, times) derivatives.
    """
    slopes = np.empty((len(parameters), len(wanted), times.shape[1]))
    _slopes(times, parameters, wanted, slopes)
    return slopes


@compiled
def _values(times: Any, parameters: Any, values: Any) -> None:
    for n in range(values.shape[0]):
        row = times[n if times.shape[0] > 1 else 0]
        t0, ktl, delta, offset, km, beta, scale = parameters[n]
        for k in range(row.size):
            d = row[k] - t0
            bracket = km * d * d * mean3(beta * d, (beta + km) * d, delta * d) if d > 0 else 0.0
            values[n, k] = scale * (ktl * bracket + offset)


@compiled
def _slopes(times: Any, parameters: Any, wanted: Any, slopes: Any) -> None:
    for n in range(slopes.shape[0]):
        row, out = times[n if times.shape[0] > 1 else 0], slopes[n]
        t0, ktl, delta, offset, km, beta, scale = parameters[n]
        for k in range(row.size):
            d = max(row[k] - t0, 0.0)  # at d = 0, all derivatives except those by offset and scale are 0
            a, b, c = (beta + km) * d, beta * d, delta * d
            x, y, z = _sorted(a, b, c)
            at_x, at_y, at_z = math.exp(-x), math.exp(-y), math.exp(-z)
            third = _mean3(x, y, z, at_x, at_y, at_z)
            by_ktl = scale * km * d * d * third
            cube = scale * ktl * km * d * d * d
            for i in range(wanted.size):
                place = wanted[i]
                if place == T0:
                    slope = -scale * ktl * km * d * (_mean2(y, z, at_y, at_z) - x * third)
                elif place == KTL:
                    slope = by_ktl
                elif place == DELTA:
                    slope = -cube * _mean4(x, y, z, at_x, at_y, at_z, c)
                elif place == OFFSET:
                    slope = scale
                elif place == KM:
                    slope = scale * ktl * d * d * third - cube * _mean4(x, y, z, at_x, at_y, at_z, a)
                elif place == BETA:
                    twice_a = _mean4(x, y, z, at_x, at_y, at_z, a)
                    slope = -cube * (twice_a + _mean4(x, y, z, at_x, at_y, at_z, b))
                else:
                    slope = ktl * by_ktl / scale + offset
                out[i, k] = slope


@compiled
def mean3(x: float, y: float, z: float) -> float:
    """Second divided difference of ``exp(-x)`` at x, y and z: half its mean over their simplex."""
    x, y, z = _sorted(x, y, z)
    return _mean3(x, y, z, math.exp(-x), math.exp(-y), math.exp(-z))


@compiled
def mean4(x: float, y: float, z: float, again: float) -> float:
    """Absolute third divided difference of ``exp(-x)`` at x, y, z and ``again``, which equals one of these."""
    x, y, z = _sorted(x, y, z)
    return _mean4(x, y, z, math.exp(-x), math.exp(-y), math.exp(-z), again)


@compiled
def _sorted(x: float, y: float, z: float) -> tuple[float, float, float]:
    return min(x, y, z), max(min(x, y), min(max(x, y), z)), max(x, y, z)


@compiled
def _mean2(x: float, y: float, at_x: float, at_y: float) -> float:
    """Mean of ``exp(-x)`` between x and y, from the known exponentials."""
    gap = y - x
    if gap > _CLOSE:
        return (at_x - at_y) / gap
    return -at_x * math.expm1(-gap) / gap if gap > 0 else at_x


@compiled
def _mean3(x: float, y: float, z: float, at_x: float, at_y: float, at_z: float) -> float:
    """`mean3` of ascending numbers, from the known exponentials."""
    if z - x < _NEAR:
        return _series(x, y, z, z, 2)
    return (_mean2(x, y, at_x, at_y) - _mean2(y, z, at_y, at_z)) / (z - x)


@compiled
def _mean4(x: float, y: float, z: float, at_x: float, at_y: float, at_z: float, again: float) -> float:
    """`mean4` of ascending numbers, from the known exponentials."""
    if z - x < _NEAR:
        return _series(x, y, z, again, 3)
    if again == x:
        return (_twice_first(x, y, at_x, at_y) - _mean3(x, y, z, at_x, at_y, at_z)) / (z - x)
    if again == z:
        return (_mean3(x, y, z, at_x, at_y, at_z) - _twice_last(y, z, at_y, at_z)) / (z - x)
    return (_twice_last(x, y, at_x, at_y) - _twice_first(y, z, at_y, at_z)) / (z - x)


@compiled
def _twice_first(x: float, y: float, at_x: float, at_y: float) -> float:
    """`mean3` of x, x and y."""
    gap = y - x
    return at_x * _remainder(-gap) if gap < _CLOSE else (at_x - _mean2(x, y, at_x, at_y)) / gap


@compiled
def _twice_last(x: float, y: float, at_x: float, at_y: float) -> float:
    """`mean3` of x, y and y."""
    gap = y - x
    return at_y * _remainder(gap) if gap < _CLOSE else (_mean2(x, y, at_x, at_y) - at_y) / gap


@compiled
def _remainder(x: float) -> float:
    """``(exp(x) - 1 - x) / x ** 2`` for small x."""
    square = x * x
    even = odd = 0.0
    for k in range(5, -1, -1):  # two independent sums, so that neither waits for the other
        even = even * square + _SHARES[2 * k]
        odd = odd * square + _SHARES[2 * k + 1]
    return even + x * odd


@compiled
def _series(w: float, x: float, y: float, z: float, order: int) -> float:
    """Absolute divided difference of ``exp(-x)`` for close numbers, of order 2 (at w, x, y) or 3 (all).

    It is the sum of ``h_k / (k + order)!``, with the complete homogeneous symmetric polynomials ``h_k`` of the
    distances from the middle. These are at most a quarter, so that 12 terms are exact.
    """
    middle = 0.5 * (min(w, x, y, z) + max(w, x, y, z))
    w, x, y, z = middle - w, middle - x, middle - y, middle - z
    h1 = h2 = h3 = h4 = 1.0
    total = _SHARES[order - 2]
    for k in range(1, 12):
        h1 = w * h1
        h2 = h1 + x * h2
        h3 = h2 + y * h3
        h4 = h3 + z * h4
        total += _SHARES[k + order - 2] * (h3 if order == 2 else h4)
    return math.exp(-middle) * total
