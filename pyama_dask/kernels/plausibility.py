"""Judgement of labels without truth: objects alike in size, followed from frame to frame, on most of the texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.scores import Match, match, seg

Labels = npt.NDArray[np.integer]
EVEN = 1.8
"""Unevenness up to which objects count as alike; merged cells beside debris reach 3 to 600."""
LARGEST = 0.3
"""Fraction of a frame up to which one object is not suspicious."""
PART_OF_TEXTURE = 0.3
"""Fraction of the textured area that plausible objects cover: texture reaches beyond the outlines of cells."""
TIMES_TEXTURE, BESIDES = 3.0, 0.02
"""Area that plausible objects cover at most, relative to the textured area, and as a fraction of the frame besides."""


@dataclass(frozen=True)
class Seen:
    """Objects that a method has found in consecutive frames."""

    count: float
    """Objects per frame, the median over the frames."""
    covered: float
    """Fraction of a frame that is inside objects."""
    largest: float
    """Fraction of a frame that is inside the largest object of all frames."""
    unevenness: float
    """Area of the object that the median pixel is in, divided by the median area; 1 if all are alike, 0 without any."""
    agreement: float
    """Mean overlap (SEG) of objects with those of the next frame, in both directions, 0 to 1; NaN for one frame."""


def look(labels: Sequence[Labels]) -> Seen:
    """Measure what can be seen of labels without truth.

    Parameters
    ----------
    labels
        (H, W) labels of one or several consecutive frames, 0 for background.
    """
    areas = [np.bincount(frame.ravel())[1:] for frame in labels]
    agreement = (
        float(np.mean([_overlap(match(a, b)) for a, b in pairwise(labels)])) if len(labels) > 1 else float("nan")
    )
    return look_at_areas([of[of > 0] for of in areas], labels[0].size, agreement)


def look_at_areas(areas: Sequence[npt.NDArray[np.int64]], pixels: int, agreement: float = float("nan")) -> Seen:
    """Measure objects of known areas.

    Parameters
    ----------
    areas
        (N,) pixels of the objects of each frame, above 0.
    pixels
        Pixels of a frame.
    agreement
        As in `Seen`.
    """
    every = np.sort(np.concatenate(areas))
    return Seen(
        count=float(np.median([of.size for of in areas])),
        covered=float(every.sum()) / (pixels * len(areas)),
        largest=float(every.max(initial=0)) / pixels,
        unevenness=_of_median_pixel(every) / float(np.median(every)) if every.size else 0.0,
        agreement=agreement,
    )


def _of_median_pixel(areas: npt.NDArray[np.int64]) -> float:
    """Area of the object that holds the median pixel of all objects, whose areas are ascending."""
    summed = np.cumsum(areas)
    return float(areas[np.searchsorted(summed, summed[-1] / 2)])


def _overlap(one: Match) -> float:
    """Mean of SEG in both directions; 1 for two empty frames."""
    if not one.true.size and not one.found.size:
        return 1.0
    back = Match(one.found, one.true, one.found_area, one.true_area, one.column, one.row, one.shared)
    return float(np.nan_to_num([seg([one]), seg([back])]).mean())


def plausibility(seen: Seen, textured: float) -> float:
    """Judge labels: 0 to 1, the agreement from frame to frame, lowered for what is unlikely of cells.

    Parameters
    ----------
    seen
        What was found.
    textured
        Fraction of a frame that has texture, whatever it is.
    """
    if not seen.count:
        return 0.0
    even = min(1.0, EVEN / seen.unevenness)
    small = min(1.0, LARGEST / seen.largest) ** 2
    complete = min(1.0, seen.covered / (PART_OF_TEXTURE * textured)) if textured else 1.0
    bounded = min(1.0, (TIMES_TEXTURE * textured + BESIDES) / seen.covered)
    return (1.0 if np.isnan(seen.agreement) else seen.agreement) * even * small * complete * bounded
