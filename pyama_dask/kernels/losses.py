"""Objects that a segmenter drops for their size: counts and maps for the report of a run, and thresholds for warnings.

A segmenter returns labels and nothing else. The built-in ones also note what they dropped, for a caller who collects
these notes in the same thread; all others leave it unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

LARGE_LOSS = 0.1
"""Fraction of a frame, lost to objects dropped as too large, above which a warning is issued."""
LEAST_LOSS = 0.02
"""Fraction of a frame up to which nothing that is dropped gives a warning: dust, and the noise of an empty frame."""
MAP_SIDE = 512
"""Largest height and width in pixels of a map of objects that were too large: enough for pictures in a report."""


COUNTS = ("too_small", "too_large", "lost")
"""Fields of `Losses` that are numbers."""


@dataclass(frozen=True)
class Losses:
    """Objects of one frame that were dropped for their size; unknown by default."""

    too_small: int = -1
    too_large: int = -1
    """Numbers of objects; -1 if unknown."""
    lost: float = math.nan
    """Fraction of the frame's pixels in those that were too large; nan if unknown."""
    large: npt.NDArray[np.bool_] | None = field(default=None, compare=False)
    """(h, w) map of those that were too large: every n-th row and column of the frame; None without any."""


_noted: ContextVar[list[Losses] | None] = ContextVar("noted", default=None)


def note(losses: Losses, large: Callable[[], np.ndarray] | None = None) -> None:
    """Note what a segmenter dropped from a frame, if a caller collects it.

    Parameters
    ----------
    losses
        Numbers of objects.
    large
        Function that returns the (H, W) objects that were too large, 0 elsewhere; called only if it is needed.
    """
    if (found := _noted.get()) is not None:
        found.append(replace(losses, large=_reduced(large())) if large and losses.too_large > 0 else losses)


def _reduced(objects: np.ndarray) -> npt.NDArray[np.bool_]:
    step = -(-max(objects.shape) // MAP_SIDE)
    return np.asarray(objects[::step, ::step] > 0)


@contextmanager
def collected() -> Iterator[list[Losses]]:
    """Collect what segmenters note in the block, one entry per segmented frame."""
    found = list[Losses]()
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)
