"""Guesses of cell divisions: a track begins beside one that goes on, and both are smaller than that was before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.overlaps import centres, overlapping, sides, squares

SEEN = 3
"""Smallest number of frames from a mother's first frame to the division."""
REACH = 0.85
"""Largest distance of a daughter from the last centre of the mother, in sides of the mother."""
MIDDLE = 0.45
"""Largest distance of the point between the daughters from it."""
AREAS = (0.6, 1.7)
"""Limits of the area of both daughters, in areas of the mother."""
SMALLEST, LARGEST = 0.3, 1.05
"""Limits of the area of the new daughter, and upper limit of the other one's, in areas of the mother."""
ALIKE = 2.2
"""Largest ratio of the areas of the daughters."""


def divided(
    still: Sequence[npt.NDArray[np.float64]], tracks: Sequence[npt.NDArray[np.int64]]
) -> tuple[list[npt.NDArray[np.int64]], dict[int, int]]:
    """Find divisions: the mother's track ends, and two daughters begin.

    Parameters
    ----------
    still
        (N, 4) boxes per frame, without the shifts of the frames.
    tracks
        (N,) ids per frame, each at most once per frame.

    Returns
    -------
    (N,) ids per frame; ids of the second daughters follow the largest one. And the mother of each daughter, by id.
    """
    calls = _calls(still, tracks)
    if not calls:
        return list(tracks), {}
    first = int(max(of.max(initial=0) for of in tracks)) + 1
    parents: dict[int, int] = {}
    current: dict[int, int] = {}  # id of a track from its last division on
    for number, (_, daughter, mother) in enumerate(calls, first):
        parents[daughter] = parents[number] = current.get(mother, mother)
        current[mother] = number
    frames = np.repeat(np.arange(len(tracks)), [len(of) for of in tracks])
    ids = np.concatenate(tracks)
    changes = np.array([mother * len(tracks) + t for t, _, mother in calls])
    order = np.argsort(changes)
    last = np.searchsorted(changes[order], ids * len(tracks) + frames, side="right") - 1
    changed = (last >= 0) & (changes[order][last] // len(tracks) == ids)
    ids[changed] = first + order[last[changed]]
    return np.split(ids, np.cumsum([len(of) for of in tracks])[:-1]), dict(sorted(parents.items()))


def _calls(
    still: Sequence[npt.NDArray[np.float64]], tracks: Sequence[npt.NDArray[np.int64]]
) -> list[tuple[int, int, int]]:
    """Divisions by frame: the frame, the track that begins, and the mother's; no track occurs twice in a frame."""
    began: dict[int, int] = {}
    calls = []
    for t, ids in enumerate(tracks):
        fresh = np.array([k for k, track in enumerate(ids.tolist()) if began.setdefault(track, t) == t], np.int64)
        if t and len(fresh):
            calls += _of_frame(t, still[t - 1 : t + 1], tracks[t - 1 : t + 1], fresh, began)
    return calls


def _of_frame(
    t: int, boxes: Sequence[npt.NDArray[np.float64]], tracks: Sequence[npt.NDArray[np.int64]],
    fresh: npt.NDArray[np.int64], began: dict[int, int],
) -> list[tuple[int, int, int]]:  # fmt: skip
    """Divisions from one frame to the next.

    Parameters
    ----------
    t
        The later frame.
    boxes, tracks
        Of both frames.
    fresh
        Objects of the later frame whose tracks begin.
    began
        First frame of every track so far.
    """
    _, before, sisters = np.intersect1d(tracks[0], tracks[1], return_indices=True)
    old = np.array([began[track] <= t - SEEN for track in tracks[0][before].tolist()], bool)
    before, sisters = before[old], sisters[old]
    mothers = boxes[0][before]
    centre, side = centres(mothers), sides(mothers)
    rows, columns = overlapping(squares(centres(boxes[1][fresh]), 0.0), squares(centre, REACH * side))
    cost = _costs(boxes[1][fresh[rows]], boxes[1][sisters[columns]], mothers[columns])
    found = []
    taken = set[tuple[str, int]]()
    for k in sorted(np.flatnonzero(np.isfinite(cost)).tolist(), key=lambda k: (cost[k], rows[k], columns[k])):
        daughter, mother = int(tracks[1][fresh[rows[k]]]), int(tracks[0][before[columns[k]]])
        if not taken & {("daughter", daughter), ("mother", mother)}:
            taken |= {("daughter", daughter), ("mother", mother)}
            found.append((t, daughter, mother))
    return found


def _costs(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], mother: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(P,) sum of the distances in mothers' sides for (P, 4) boxes of new and other daughters; inf if not alike."""
    side = sides(mother)

    def distance(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.hypot(*(points - centres(mother)).T) / side)

    near, far = distance(centres(one)), distance(centres(other))
    middle = distance((centres(one) + centres(other)) / 2)
    first, second = ((sides(of) / side) ** 2 for of in (one, other))
    good = (near < REACH) & (far < REACH) & (middle < MIDDLE)
    good &= (first > SMALLEST) & (first < LARGEST) & (second < LARGEST)
    good &= (first + second > AREAS[0]) & (first + second < AREAS[1])
    good &= (first < ALIKE * second) & (second < ALIKE * first)
    return np.where(good, near + far + middle, np.inf)
