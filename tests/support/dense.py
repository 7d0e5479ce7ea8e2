"""Movies of cells in contact with known masks, what segmentation does to them, and how many traces a tracker keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.int32]
Masks = npt.NDArray[np.uint16]
Link = Callable[[Sequence[Boxes]], Sequence[np.ndarray]]
"""Gives ids per frame."""
LONG = 10
"""Fewest frames of a trace that is judged."""


def made_masks(
    *, frames: int = 40, shape: tuple[int, int] = (256, 256), cells: int = 30, radius: float = 14.0, seed: int = 0
) -> Masks:
    """(T, H, W) masks of cells that wander and push each other, each under its own number; some are in contact.

    Parameters
    ----------
    frames, shape, cells
        Numbers of frames and cells, and (H, W) of a frame in pixels.
    radius
        Mean of both half axes of the cells in pixels.
    seed
        Of places, shapes and steps.
    """
    rng = np.random.default_rng(seed)
    at = rng.uniform(radius, np.array(shape) - radius, (cells, 2))
    axes, turn = radius * rng.uniform(0.75, 1.3, (cells, 2)), rng.uniform(0, np.pi, cells)
    movie = np.zeros((frames, *shape), np.uint16)
    for _ in range(60):
        at = _pushed(at, radius, shape)
    for masks in movie:
        at = _pushed(at + rng.normal(0, 0.12 * radius, at.shape), radius, shape)
        turn += rng.normal(0, 0.1, cells)
        masks[:] = _drawn(at, axes, turn, shape)
    return movie


def _pushed(at: np.ndarray, radius: float, shape: tuple[int, int]) -> np.ndarray:
    """Move centres apart that are closer than a cell is wide, and keep all in the frame."""
    step = at[:, None] - at[None]
    distance = np.hypot(*step.T) + np.eye(len(at)) * 1e9
    push = np.clip(1.9 * radius - distance, 0, None) / distance / 4
    return np.clip(at + (push[..., None] * step).sum(1), radius, np.array(shape) - radius)


def _drawn(at: np.ndarray, axes: np.ndarray, turn: np.ndarray, shape: tuple[int, int]) -> Masks:
    """(H, W) ellipses; a pixel belongs to the one in which it lies deepest."""
    deepest, masks = np.ones(shape), np.zeros(shape, np.uint16)
    for cell, (place, (a, b), angle) in enumerate(zip(at, axes, turn, strict=True), 1):
        reach = int(max(a, b)) + 1
        first = np.maximum(place.astype(int) - reach, 0)
        inside = tuple(slice(start, start + 2 * reach + 2) for start in first.tolist())
        y, x = np.indices(masks[inside].shape) + (first - place)[:, None, None]
        c, s = np.cos(angle), np.sin(angle)
        depth = np.hypot((c * y + s * x) / a, (c * x - s * y) / b)
        mine = depth < deepest[inside]
        masks[inside][mine], deepest[inside][mine] = cell, depth[mine]
    return masks


@dataclass(frozen=True)
class Found:
    """Objects of a movie with known masks, as a segmenter with faults would find them."""

    boxes: tuple[Boxes, ...]
    """(N, 4) boxes per frame."""
    cells: tuple[tuple[frozenset[int], ...], ...]
    """True cells in each object: one, several where they are merged, none if it is false."""
    lengths: dict[int, int]
    """Frames of each true cell."""

    @classmethod
    def of(cls, masks: Masks) -> Found:
        """All objects without faults."""
        boxes, cells = zip(*map(_objects, masks), strict=True)
        lengths: dict[int, int] = {}
        for cell in (cell for of in cells for cell in of):
            lengths[cell] = lengths.get(cell, 0) + 1
        return cls(boxes, tuple(tuple(frozenset([cell]) for cell in of) for of in cells), lengths)

    def with_faults(self, seed: int, *, missing: float = 0.0, merged: float = 0.0, false: float = 0.0) -> Found:
        """Drop a share of the objects, merge a share with one that they touch, and add some at random places."""
        rng = np.random.default_rng(seed)
        every = np.concatenate(self.boxes)
        frames = [
            _faulty(rng, every, boxes, list(cells), missing, merged, false)
            for boxes, cells in zip(self.boxes, self.cells, strict=True)
        ]
        return Found(tuple(boxes for boxes, _ in frames), tuple(tuple(cells) for _, cells in frames), self.lengths)

    def with_jumps(self, seed: int, *, share: float = 0.15, cells: float = 2.0) -> Found:
        """Move everything by so many cells in a random direction from a share of the frames on."""
        rng = np.random.default_rng(seed)
        every = np.concatenate(self.boxes)
        size = cells * np.median(np.sqrt((every[:, 2:] - every[:, :2]).prod(1)))
        angle = rng.uniform(0, 2 * np.pi, len(self.boxes))
        steps = size * np.stack([np.sin(angle), np.cos(angle)], 1) * (rng.random(len(angle)) < share)[:, None]
        places = np.round(np.cumsum(steps, 0)).astype(np.int32)
        moved = tuple(boxes + np.tile(place, 2) for boxes, place in zip(self.boxes, places, strict=True))
        return Found(moved, self.cells, self.lengths)

    def whole(self, ids: Sequence[np.ndarray]) -> tuple[int, int]:
        """Number of long true traces that are kept whole, and of all long ones.

        A trace is whole if all objects that are this cell alone have one id, and everything with this id holds the
        cell.
        """
        of_id: dict[int, list[frozenset[int]]] = {}
        of_cell: dict[int, set[int]] = {}
        for track, cells in zip(np.concatenate(ids).tolist(), (c for of in self.cells for c in of), strict=True):
            of_id.setdefault(track, []).append(cells)
            if len(cells) == 1:
                of_cell.setdefault(min(cells), set()).add(track)
        long = [cell for cell, frames in self.lengths.items() if frames >= LONG]
        kept = [
            cell for cell in long
            if len(tracks := of_cell.get(cell, set())) == 1 and all(cell in cells for cells in of_id[min(tracks)])
        ]  # fmt: skip
        return len(kept), len(long)


def _objects(mask: Masks) -> tuple[Boxes, tuple[int, ...]]:
    """Boxes of the labels of a frame, and the labels."""
    numbers = np.unique(mask[mask > 0])
    places = [np.argwhere(mask == number) for number in numbers]
    boxes = [np.r_[place.min(0), place.max(0) + 1] for place in places]
    return np.array(boxes, np.int32).reshape(-1, 4), tuple(numbers.tolist())


def _faulty(
    rng: np.random.Generator, every: Boxes, boxes: Boxes, cells: list[frozenset[int]],
    missing: float, merged: float, false: float,
) -> tuple[Boxes, list[frozenset[int]]]:  # fmt: skip
    there = rng.random(len(boxes)) >= missing
    for k in np.flatnonzero(there & (rng.random(len(boxes)) < merged)):
        near = (boxes[:, :2] <= boxes[k, 2:]).all(1) & (boxes[:, 2:] >= boxes[k, :2]).all(1) & there
        near[k] = False
        if there[k] and near.any():
            other = rng.choice(np.flatnonzero(near))
            both = boxes[[k, other]]
            boxes = boxes.copy()
            boxes[k] = np.r_[both[:, :2].min(0), both[:, 2:].max(0)]
            cells[k], there[other] = cells[k] | cells[other], False
    extra = every[rng.choice(len(every), rng.binomial(len(boxes), false))]
    moved = rng.integers(0, every[:, 2:].max(0) - (extra[:, 2:] - extra[:, :2]) + 1)
    added = np.hstack([moved, moved + extra[:, 2:] - extra[:, :2]]).astype(np.int32)
    kept = [cell for cell, here in zip(cells, there, strict=True) if here]
    return np.vstack([boxes[there], added]), kept + [frozenset[int]()] * len(added)


def mean_share(movies: Sequence[Found], spoil: Callable[[Found, int], Found], link: Link, seeds: int = 5) -> float:
    """Share of long traces that are kept whole, over all movies and some seeds of the faults."""
    kept = total = 0
    for seed in range(seeds):
        for k, movie in enumerate(movies):
            spoiled = spoil(movie, 100 * k + seed)
            whole, of = spoiled.whole(link(spoiled.boxes))
            kept, total = kept + whole, total + of
    return kept / total
