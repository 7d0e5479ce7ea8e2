"""Division of annotated frames into those that a network learns from, and those that it is judged on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyama_dask.kernels.training_crops import UNKNOWN
from pyama_dask.training.augment import Example

FEW = 4
"""Largest number of frames that are all held back in turn."""
SHARE = 0.25
"""Share of the frames that is held back where there are more."""

WINDOWS = (r"_t\d+_y\d+_x\d+(?=\.\w+$)", r"_y\d+_x\d+(?=\.\w+$)")
"""Ends of the names of windows after the FOV, and after the frame."""


@dataclass(frozen=True)
class Held:
    """A part of a frame that a network was not trained on.

    Parameters
    ----------
    index
        Number of the frame.
    region
        Rows and columns of the part.
    """

    index: int
    region: tuple[slice, slice] = (slice(None), slice(None))


@dataclass(frozen=True)
class Fold:
    """A training whose network is judged.

    Parameters
    ----------
    examples
        Frames to train on.
    held
        Parts of frames to judge it on.
    """

    examples: list[Example]
    held: list[Held]


def folds(examples: Sequence[Example], names: Sequence[str], rng: np.random.Generator) -> list[Fold]:
    """Divide frames: two halves of a single frame; two groups of a few frames, each in turn; a quarter of many frames.

    Parameters
    ----------
    examples
        Frames, or windows of frames.
    names
        Names of the frames. Windows by ``pyama-dask annotate`` stay together with those of the same FOV, or if there
        is only one FOV, with those of the same frame.
    rng
        Chooses the frames that are held back.

    Returns
    -------
    Trainings in which there are cells to learn from and to judge by; none if there are too few cells.
    """
    if len(examples) == 1:
        return _halves(examples[0])
    of = _groups(names)
    count = max(of) + 1
    order = rng.permutation(count).tolist()
    groups = [order[: count // 2], order[count // 2 :]] if count <= FEW else [order[: round(SHARE * count)]]
    found = []
    for group in groups:
        held = [index for index, k in enumerate(of) if k in group]
        kept = [example for example, k in zip(examples, of, strict=True) if k not in group]
        if _have_cells(kept) and _have_cells([examples[index] for index in held]):
            found.append(Fold(kept, [Held(index) for index in held]))
    return found


def _groups(names: Sequence[str]) -> list[int]:
    """Number of the group of each frame, from 0."""
    for end in WINDOWS:
        keys = [re.sub(end, "", name) for name in names]
        if len(found := list(dict.fromkeys(keys))) > 1:
            return [found.index(key) for key in keys]
    return list(range(len(names)))


def _have_cells(examples: Sequence[Example]) -> bool:
    return any(len(example.places) for example in examples)


def _halves(example: Example) -> list[Fold]:
    """Each half of a frame in turn, divided along its longer side; no half is without cells."""
    axis = int(np.argmax(example.labels.shape))
    middle = _median_place(example.labels, axis)
    found = []
    for part in (slice(None, middle), slice(middle, None)):
        region = (part, slice(None)) if axis == 0 else (slice(None), part)
        labels = example.labels.copy()
        labels[region] = UNKNOWN
        if (labels > 0).any() and (example.labels[region] > 0).any():
            found.append(Fold([replace(example, labels=labels)], [Held(0, region)]))
    return found


def _median_place(labels: np.ndarray, axis: int) -> int:
    """Row or column that has half of the cells' pixels before it."""
    counts = np.cumsum((labels > 0).sum(axis=1 - axis))
    return int(np.searchsorted(counts, counts[-1] / 2)) + 1
