"""Ticks of axes, and numbers in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.02
"""Part of the distance of ticks by which a tick may lie beyond the end of an axis, as times rarely begin at 0."""
UNKNOWN = "\N{EN DASH}"
"""Text for a number that is not known."""
SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
"""Suffixes of ticks, by the number that they stand for."""


@dataclass(frozen=True)
class Axis:
    """Range of an axis, and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def place(self, value: float) -> float:
        """Place of a value from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def axis(
    values: Sequence[float], *, zero: bool = False, most: int = 5, exact: bool = False, whole: bool = False
) -> Axis:
    """Axis that holds all finite values.

    Parameters
    ----------
    values
        Values to hold; without a finite one, the axis goes from 0 to 1.
    zero
        True to begin at 0 if no value is below it. Equal values always get an axis from 0, so that they show no shape.
    most
        Largest number of ticks.
    exact
        True to end the axis at the values instead of at ticks.
    whole
        True for ticks at whole numbers only, as of counts and frames.
    """
    known = [value for value in values if np.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if (zero and low >= 0) or low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    least = (high - low) / max(most - 1, 1)
    step = _step(max(least, 1.0) if whole else least)
    first, last = int(np.ceil(low / step - NEAR)), int(np.floor(high / step + NEAR))
    if not exact:
        first, last = int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))
        low, high = first * step, last * step
    ticks = tuple(float(k * step) for k in range(first, last + 1))
    return Axis(float(low), float(high), ticks, _labels(ticks, step))


def _step(least: float) -> float:
    """Smallest of 1, 2, 5, 10, ... times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9)))


def round_up(least: float) -> int:
    """Smallest of 1, 2, 5, 10, 20, ... that is not below `least`."""
    return round(_step(max(least, 1.0)))


def _labels(ticks: Sequence[float], step: float) -> tuple[str, ...]:
    """Labels with as many digits as tell ticks apart, and one suffix for all."""
    largest = max((abs(tick) for tick in ticks), default=1.0)
    if step < 1e-4:
        return tuple(f"{tick:.1e}" if tick else "0" for tick in ticks)
    unit, suffix = next(
        ((unit, suffix) for unit, suffix in SUFFIXES if largest >= unit * (10 if suffix == "k" else 1)), (1.0, "")
    )
    digits = max(0, -int(np.floor(np.log10(step / unit) + 1e-9)))
    return tuple(f"{tick / unit:.{digits}f}{suffix}" if tick else "0" for tick in ticks)


def number(value: float | None, digits: int = 4) -> str:
    """Number with a few significant digits and separated thousands; an en dash if unknown."""
    if value is None or not np.isfinite(value):
        return UNKNOWN
    if isinstance(value, (int, np.integer)) or (value == round(value) and abs(value) < 1e15):
        return f"{value:,.0f}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def share(value: float) -> str:
    """Fraction in percent."""
    return UNKNOWN if not np.isfinite(value) else f"{value:.0%}" if value >= 0.1 or not value else f"{value:.1%}"
