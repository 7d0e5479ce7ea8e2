"""Fits of the maturation model to 10,000 noisy traces: how many converge, to what, and how fast beside scipy's."""

from __future__ import annotations

import time

import numpy as np
from scipy import optimize

from bench.table import Row
from pyama_dask.fitting.catalog import MODELS
from pyama_dask.fitting.least_squares import Fits, fit_cells

HOURS = np.linspace(0.0, 30.0, 180)
MODEL = MODELS["maturation"]
FITTED = MODEL.fitted
CELLS = 10_000
BESIDE = 200
"""Cells that scipy fits too."""
NOISE = 0.02
"""Standard deviation relative to the height of a cell's curve."""


def traces(onset: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Values (cells, times) and true parameters; onset, rates and offset differ from cell to cell."""
    rng = np.random.default_rng(0)
    truth = np.tile([parameter.default for parameter in MODEL.parameters], (CELLS, 1))
    truth[:, 0] = rng.uniform(*onset, CELLS)
    truth[:, 1] = 10 ** rng.uniform(2, 6, CELLS)
    truth[:, 2] = 10 ** rng.uniform(-2, -0.3, CELLS)
    truth[:, 3] = np.minimum(truth[:, 1] * rng.uniform(0, 0.5, CELLS), 9e5)
    clean = MODEL.curve(HOURS[None], truth)
    return clean + NOISE * np.ptp(clean, axis=1, keepdims=True) * rng.normal(size=clean.shape), truth


def with_scipy(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Costs of the fits that scipy makes of the textbook formula with a numeric Jacobian, and seconds a cell."""
    parameters = [MODEL.parameters[place] for place in FITTED]
    start = [parameter.default for parameter in parameters]
    bounds = [parameter.low for parameter in parameters], [parameter.high for parameter in parameters]
    costs = []
    started = time.process_time()
    for row in values:
        found = optimize.least_squares(_textbook, start, bounds=bounds, x_scale="jac", args=(row,))
        costs.append(found.cost)
    return np.array(costs), (time.process_time() - started) / len(values)


def _textbook(fitted: np.ndarray, values: np.ndarray) -> np.ndarray:
    t0, ktl, delta, offset = fitted
    km, beta = 1.28, 5.22e-3
    d = np.maximum(HOURS - t0, 0.0)
    slow, fast = beta - delta, beta - delta + km
    bracket = np.exp(-(beta + km) * d) / fast - np.exp(-beta * d) / slow + km * np.exp(-delta * d) / (slow * fast)
    return np.asarray(ktl * bracket + offset - values)


def right(fits: Fits, truth: np.ndarray) -> float:
    """Share of the converged cells whose parameters are all within three standard errors; none without an error is."""
    within = np.abs(fits.parameters - truth)[:, FITTED] <= 3 * fits.errors[:, FITTED]
    return float(within.all(1)[fits.success].mean())


def measure() -> list[Row]:
    """Rows of the table: figure, what was found, target."""
    values, truth = traces((0.0, 0.8))
    fit_cells(HOURS, values[:10], MODEL)  # compiled
    started = time.process_time()
    fits = fit_cells(HOURS, values, MODEL)
    ours = (time.process_time() - started) / CELLS
    costs, theirs = with_scipy(values[:BESIDE])
    above = (fits.residual_rms[:BESIDE] ** 2 * HOURS.size / 2 > costs * (1 + 1e-6)).sum()
    values, anywhere_truth = traces((-1.0, 1.0))
    anywhere = fit_cells(HOURS, values, MODEL)
    lows, highs = ([getattr(MODEL.parameters[k], name) for k in FITTED] for name in ("low", "high"))
    held = float(((anywhere.parameters[:, FITTED] <= lows) | (anywhere.parameters[:, FITTED] >= highs)).any(1).mean())
    what = f"{CELLS:,} maturation traces of {HOURS.size} points, noise {NOISE:.0%}"
    return [
        (f"{what}: fits that converge", f"{fits.success.mean():.2%}", "97 %"),
        ("of these, all true parameters within 3 standard errors", f"{right(fits, truth):.1%}", "95 %"),
        (
            f"the same with onsets anywhere in their bounds; {held:.0%} of the fits end at a bound",
            f"{right(anywhere, anywhere_truth):.1%}",
            "95 %",
        ),
        (
            f"a fit ({ours * 1e6:.0f} us) against scipy's with a numeric Jacobian ({theirs * 1e3:.1f} ms)",
            f"{theirs / ours:.1f} times faster",
            "10 times",
        ),
        (f"of {BESIDE} fits, those whose cost is above scipy's", f"{above}", "0"),
    ]
