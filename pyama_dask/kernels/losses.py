"""Objects that a segmenter drops for their size: counts for the summary of a run, and thresholds for warnings.

A segmenter returns labels and nothing else. The built-in ones also note what they dropped, for a caller who collects
these notes in the same thread; all others leave it unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

LARGE_LOSS = 0.1
"""Fraction of a frame, lost to objects dropped as too large, above which a warning is issued."""
LEAST_LOSS = 0.02
"""Fraction of a frame up to which nothing that is dropped gives a warning: dust, and the noise of an empty frame."""


@dataclass(frozen=True)
class Losses:
    """Objects of one frame that were dropped for their size; unknown by default."""

    too_small: int = -1
    too_large: int = -1
    """Numbers of objects; -1 if unknown."""
    lost: float = math.nan
    """Fraction of the frame's pixels in those that were too large; nan if unknown."""


_noted: ContextVar[list[Losses] | None] = ContextVar("noted", default=None)


def note(losses: Losses) -> None:
    """Note what a segmenter dropped from a frame, if a caller collects it."""
    if (found := _noted.get()) is not None:
        found.append(losses)


@contextmanager
def collected() -> Iterator[list[Losses]]:
    """Collect what segmenters note in the block, one entry per segmented frame."""
    found = list[Losses]()
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)
