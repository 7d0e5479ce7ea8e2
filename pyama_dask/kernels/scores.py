"""Scores of label images against true labels, frame by frame and over tracks; arrays in, numbers out.

SEG, DET and TRA are the measures of the Cell Tracking Challenge (Ulman et al. 2017, Matula et al. 2015): a true object
is matched by the found object that covers more than half of its pixels. F1 counts pairs whose intersection over union
is above 0.5. Scores without anything to judge are NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.compiled import compiled

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Parents = Mapping[int, int]
"""Label of a track -> label of the track that it continues or descends from."""
SPLIT, MISSED, FALSE = 5.0, 10.0, 1.0
"""Costs of a found object that covers several true ones, of a missed object and of a false one (Matula et al. 2015)."""
REDUNDANT_LINK, MISSED_LINK, WRONG_LINK = 1.0, 1.5, 1.0
"""Costs of links between objects (Matula et al. 2015)."""


@dataclass(frozen=True)
class Match:
    """True and found objects of one frame, and the pairs that share pixels."""

    true: Numbers
    """(N,) ascending labels of the true objects."""
    found: Numbers
    """(M,) ascending labels of the found objects."""
    true_area: Numbers
    """(N,) pixels."""
    found_area: Numbers
    """(M,) pixels."""
    row: Numbers
    """(P,) index in `true` of each pair, ascending."""
    column: Numbers
    """(P,) index in `found` of each pair."""
    shared: Numbers
    """(P,) pixels that both objects have."""

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """(P,) intersection over union of each pair."""
        union = self.true_area[self.row] + self.found_area[self.column] - self.shared
        return np.asarray(self.shared / union, np.float64)

    @property
    def covers(self) -> Flags:
        """(P,) True where the found object covers more than half of the true one; once per true object at most."""
        return np.asarray(2 * self.shared > self.true_area[self.row])

    @property
    def alike(self) -> Flags:
        """(P,) True where intersection over union is above 0.5; once per object at most."""
        return np.asarray(self.iou > 0.5)


def match(truth: npt.NDArray[np.integer], found: npt.NDArray[np.integer]) -> Match:
    """Compare the labels of one frame with the true ones.

    Parameters
    ----------
    truth, found
        Labels of the same shape, 0 for background; any other numbers, not necessarily without gaps.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != found.shape:
        raise ValueError(f"labels have shape {found.shape}, but true labels {truth.shape}")
    a, b = (np.ascontiguousarray(labels).reshape(-1) for labels in (truth, found))
    runs = np.empty((3, _count_runs(a, b)), np.int64)
    _fill_runs(a, b, runs)
    true, rows, true_area = _objects(runs[0], runs[2])
    of_found, columns, found_area = _objects(runs[1], runs[2])
    both = (runs[0] != 0) & (runs[1] != 0)
    pairs, place = np.unique(rows[both] * max(1, of_found.size) + columns[both], return_inverse=True)
    shared = np.bincount(place, weights=runs[2][both], minlength=pairs.size).astype(np.int64)
    row, column = np.divmod(pairs, max(1, of_found.size))
    return Match(true, of_found, true_area, found_area, row, column, shared)


def _objects(labels: Numbers, pixels: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Labels of the objects, index of the object of each run (-1 for background), and areas."""
    values, place = np.unique(labels, return_inverse=True)
    area = np.bincount(place, weights=pixels, minlength=values.size).astype(np.int64)
    is_object = values != 0
    index = np.where(is_object, np.cumsum(is_object) - 1, -1)
    return values[is_object], index[place], area[is_object]


@compiled
def _count_runs(a: Any, b: Any) -> int:
    """Number of runs of pixels in which neither label changes; pixels of background in both do not count."""
    count = 0
    for k in range(a.size):
        starts = k == 0 or a[k] != a[k - 1] or b[k] != b[k - 1]
        if starts and (a[k] != 0 or b[k] != 0):
            count += 1
    return count


@compiled
def _fill_runs(a: Any, b: Any, runs: Any) -> None:
    """Write the two labels and the length of each run."""
    last = -1
    for k in range(a.size):
        if a[k] == 0 and b[k] == 0:
            continue
        if k == 0 or a[k] != a[k - 1] or b[k] != b[k - 1]:
            last += 1
            runs[0, last], runs[1, last], runs[2, last] = a[k], b[k], 0
        runs[2, last] += 1


# ------------------------------------------------------------------------------------- objects of frames


def seg(matches: Iterable[Match]) -> float:
    """SEG: mean over all true objects of the Jaccard index with the object that covers them, 0 without one."""
    total, count = 0.0, 0
    for one in matches:
        total += float(one.iou[one.covers].sum())
        count += one.true.size
    return _ratio(total, count)


@dataclass(frozen=True)
class Counts:
    """Objects of all frames, matched at an intersection over union above 0.5."""

    hits: int
    false: int
    missed: int

    @property
    def f1(self) -> float:
        """2 hits / (2 hits + false + missed)."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false + self.missed)

    @property
    def found_per_true(self) -> float:
        """Number of found objects divided by the number of true ones."""
        return _ratio(self.hits + self.false, self.hits + self.missed)


def count(matches: Iterable[Match]) -> Counts:
    """Count matched, false and missed objects."""
    hits = false = missed = 0
    for one in matches:
        here = int(one.alike.sum())
        hits, false, missed = hits + here, false + one.found.size - here, missed + one.true.size - here
    return Counts(hits, false, missed)


def f1(matches: Iterable[Match]) -> float:
    """F1 of objects at an intersection over union above 0.5."""
    return count(matches).f1


@dataclass(frozen=True)
class Correction:
    """Cost of turning found objects and links into the true ones."""

    cost: float
    worst: float
    """Cost of adding all true objects and links."""

    def __add__(self, other: Correction) -> Correction:
        return Correction(self.cost + other.cost, self.worst + other.worst)

    @property
    def score(self) -> float:
        """1 minus the cost divided by the worst one, which it does not exceed."""
        return _ratio(self.worst - min(self.cost, self.worst), self.worst)


def det(matches: Iterable[Match]) -> float:
    """DET: 1 minus the cost of correcting the objects, divided by the cost of adding all of them."""
    every = list(matches)
    return Correction(sum(map(_cost_of_objects, every)), MISSED * sum(one.true.size for one in every)).score


def _cost_of_objects(one: Match) -> float:
    covered = np.bincount(one.column[one.covers], minlength=one.found.size)
    splits, missed = int(np.maximum(covered - 1, 0).sum()), one.true.size - int(covered.sum())
    return SPLIT * splits + MISSED * missed + FALSE * int((covered == 0).sum())


# -------------------------------------------------------------------------------------------- tracks


def tra(matches: Sequence[Match], true_parents: Parents | None = None, found_parents: Parents | None = None) -> float:
    """TRA: 1 minus the cost of correcting objects and links, divided by the cost of adding all; see `correction`."""
    return correction(matches, true_parents, found_parents).score


def correction(
    matches: Sequence[Match], true_parents: Parents | None = None, found_parents: Parents | None = None
) -> Correction:
    """Cost of correcting the objects and links of a movie.

    Objects with the same label in consecutive frames are linked. A track that continues after missing frames is linked
    over the gap as a child to its parent, as files of the challenge have it.

    Parameters
    ----------
    matches
        One per frame, in order.
    true_parents, found_parents
        Parents of tracks; the last object of the parent is linked to the first one of the child.
    """
    true_links = _links([one.true for one in matches], true_parents or {})
    found_links = _links([one.found for one in matches], found_parents or {})
    cost = sum(map(_cost_of_objects, matches)) + _cost_of_links(true_links, found_links, _only_true(matches))
    return Correction(cost, MISSED * sum(one.true.size for one in matches) + MISSED_LINK * true_links.shape[1])


def _links(labels: Sequence[Numbers], parents: Parents) -> Numbers:
    """(3, L) links: index of the earlier object and of the later one in all frames together; 1 if child of parent."""
    label = np.concatenate([np.zeros(0, np.int64), *labels])
    frame = np.repeat(np.arange(len(labels)), [one.size for one in labels])
    order = np.lexsort([frame, label])
    same = np.flatnonzero(np.diff(label[order]) == 0)
    before, after = order[same], order[same + 1]
    within = np.stack([before, after, frame[after] - frame[before] > 1])
    in_order = list(zip(label[order].tolist(), order.tolist(), strict=True))
    first, last = dict(reversed(in_order)), dict(in_order)
    born = [(last[p], first[c], 1) for c, p in sorted(parents.items()) if p in last and c in first]
    return np.concatenate([within, np.array(born, np.int64).reshape(-1, 3).T], axis=1)


def _only_true(matches: Sequence[Match]) -> Numbers:
    """Index of the true object that each found object covers if it covers exactly one, else -1."""
    parts, before = [np.zeros(0, np.int64)], 0
    for one in matches:
        column, row = one.column[one.covers], one.row[one.covers]
        part = np.full(one.found.size, -1)
        part[column] = row + before
        part[np.bincount(column, minlength=part.size) != 1] = -1
        parts.append(part)
        before += one.true.size
    return np.concatenate(parts)


def _cost_of_links(true: Numbers, found: Numbers, true_of: Numbers) -> float:
    """Cost of links that are missed, redundant, or of the other kind."""
    ends = true_of[found[:2]]
    judged = (ends >= 0).all(axis=0)
    size = int(max(true[:2].max(initial=0), ends.max(initial=0))) + 1
    keys, found_keys = true[0] * size + true[1], (ends[0] * size + ends[1])[judged]
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys, found_keys, sorter=order), max(0, keys.size - 1))
    if not keys.size:
        return float(REDUNDANT_LINK * found_keys.size)
    hit = keys[order[place]] == found_keys
    wrong = (true[2][order[place]] != found[2][judged]) & hit
    missed = keys.size - np.unique(found_keys[hit]).size
    cost = MISSED_LINK * missed + REDUNDANT_LINK * (~hit).sum() + WRONG_LINK * wrong.sum()
    return float(cost)


@dataclass(frozen=True)
class Traces:
    """Numbers of true tracks: all that are long enough, and those that were found."""

    tracks: int
    """True tracks with enough frames."""
    followed: int
    """Tracks found under one id in enough of their frames."""
    whole: int
    """Tracks that are also found under no other id, and whose id has nothing foreign."""

    def __add__(self, other: Traces) -> Traces:
        return Traces(self.tracks + other.tracks, self.followed + other.followed, self.whole + other.whole)

    @property
    def share(self) -> float:
        """Whole tracks divided by all of them."""
        return _ratio(self.whole, self.tracks)


def whole_traces(matches: Sequence[Match], *, min_frames: int = 10, share: float = 0.8) -> Traces:
    """Count the true tracks that are kept whole.

    A track is found in a frame by the object whose intersection over union with it is above 0.5. An id has something
    foreign if it has an object that shares no pixel with the true track, in any frame.

    Parameters
    ----------
    matches
        One per frame, in order; labels are ids of tracks.
    min_frames
        True tracks in fewer frames do not count.
    share
        Fraction of its frames in which a true track must be found under one id.
    """
    true, frames = _times([one.true for one in matches])
    ids, id_frames = _times([one.found for one in matches])
    (track, by), n = _pairs(matches, [one.alike for one in matches])
    (near, near_by), touched = _pairs(matches, [one.shared > 0 for one in matches])
    most = np.zeros(true.size, np.int64)
    np.maximum.at(most, np.searchsorted(true, track), n)
    judged = frames >= min_frames
    followed = judged & (most > 0) & (most >= share * frames)
    all_touch = touched == id_frames[np.searchsorted(ids, near_by)]
    clean = set(zip(near[all_touch].tolist(), near_by[all_touch].tolist(), strict=True))
    by_one = np.bincount(np.searchsorted(true, track), minlength=true.size) == 1
    is_clean = [pair in clean for pair in zip(track.tolist(), by.tolist(), strict=True)]
    with_clean = np.isin(true, track[np.array(is_clean, np.bool_)])
    return Traces(int(judged.sum()), int(followed.sum()), int((followed & by_one & with_clean).sum()))


def _times(labels: Sequence[Numbers]) -> tuple[Numbers, Numbers]:
    """Ascending labels of all frames, and the number of frames of each."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *labels]), return_counts=True)


def _pairs(matches: Sequence[Match], chosen: Sequence[Flags]) -> tuple[Numbers, Numbers]:
    """(2, P) true and found labels of the chosen pairs of all frames, each once, and the number of frames of each."""
    parts = [
        np.stack([one.true[one.row[flags]], one.found[one.column[flags]]])
        for one, flags in zip(matches, chosen, strict=True)
    ]
    return np.unique(np.concatenate([np.zeros((2, 0), np.int64), *parts], axis=1), axis=1, return_counts=True)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
