"""Drift over a whole movie, from pairs of frames that are measured block by block.

Each frame is compared with the one before, and each tenth frame with the tenth before: errors of a hundred pairs would
add up, those of ten do so less. All pairs of a FOV are solved together by least squares, so that blocks can be measured
in any order and place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # loads `scipy.sparse`, which takes a while, when it is used

from pyama_dask.kernels.drift import Seen, drift_of, seen
from pyama_dask.kernels.image_types import Frame

EVERY = 10
"""Distance in frames between those that are also compared with each other."""
STRAY, STRAY_SHARE = 2.0, 0.1
"""Largest difference in pixels, and per frame between them, of a distant pair from the sum of near ones that counts."""
BRIDGE = 1e-6
"""Weight of an assumed shift; pairs that are measured have weights near 1."""


Known = tuple[int, Seen]
"""Index of a frame, and its transform."""


class Pair(NamedTuple):
    """Drift between two frames."""

    first: int
    """Index of the earlier frame."""
    second: int
    """Index of the later frame."""
    dy: float
    """Pixels down from the first to the second; NaN if there is no clear peak."""
    dx: float
    """Pixels to the right."""
    weight: float
    """Weight in the least squares: the squared confidence, 0 if there is no clear peak."""


class Path(NamedTuple):
    """Drift of all frames of a FOV."""

    shifts: npt.NDArray[np.float64]
    """(T, 2) y, x in pixels of the content of each frame against the first frame."""
    measured: npt.NDArray[np.bool_]
    """(T,) False for frames that no clear pair connects with most others; their shifts are interpolated."""


def frames_before(begin: int) -> list[int]:
    """Frames before a block that are compared with those of the block.

    Parameters
    ----------
    begin
        First frame of the block.

    Returns
    -------
    Ascending indices: the last two frames, and the last tenth frame.
    """
    return sorted({begin - 2, begin - 1, (begin - 1) // EVERY * EVERY} - {-2, -1, -EVERY}) if begin > 0 else []


class PairsOfBlock:
    """Pairs of a block, measured while its frames come one by one; up to four frames are in memory.

    A frame that has no clear peak with the frame before is compared with the last one that had, so that single frames
    without content do not break the chain.

    Parameters
    ----------
    begin
        First frame of the block.
    max_shift, upsample
        As for `drift_between`; distant pairs may have moved further, by as many times as there are frames between.
    """

    def __init__(self, begin: int, *, max_shift: float, upsample: int = 10) -> None:
        self._begin, self._max_shift, self._upsample = begin, max_shift, upsample
        self._last: Known | None = None
        self._clear: Known | None = None
        self._tenth: Known | None = None

    def add(self, index: int, frame: Frame) -> list[Pair]:
        """Measure the pairs whose second frame is the next one, also those without a clear peak.

        Parameters
        ----------
        index
            Of the frame, ascending: first those of `frames_before`, then those of the block. Missing frames may be
            left out.
        frame
            (H, W) numbers.

        Returns
        -------
        Pairs; none for frames before the block.
        """
        now = index, seen(frame)
        pairs = self._pairs(now) if index >= self._begin else []
        if self._clear is None or index < self._begin - 1:
            self._clear = now
        self._last, self._tenth = now, now if index % EVERY == 0 else self._tenth
        return pairs

    def _pairs(self, now: Known) -> list[Pair]:
        pairs = []
        for earlier in (self._last, self._clear if self._clear is not self._last else None):
            if earlier is None:
                continue
            pairs.append(_pair(earlier, now, self._max_shift, self._upsample))
            if pairs[-1].weight:
                self._clear = now
                break
        if now[0] % EVERY == 0 and self._tenth is not None and self._tenth is not self._last:
            pairs.append(_pair(self._tenth, now, self._max_shift, self._upsample))
        return pairs


def drift_pairs(
    frames: Iterable[tuple[int, Frame]], begin: int, *, max_shift: float, upsample: int = 10
) -> Iterator[Pair]:
    """Yield the pairs of a block as `PairsOfBlock` measures them, from indices and frames."""
    block = PairsOfBlock(begin, max_shift=max_shift, upsample=upsample)
    for index, frame in frames:
        yield from block.add(index, frame)


def _pair(first: Known, second: Known, max_shift: float, upsample: int) -> Pair:
    gap = second[0] - first[0]
    found = drift_of(first[1], second[1], max_shift=gap * max_shift, upsample=upsample)
    return Pair(first[0], second[0], found.dy, found.dx, 0.0 if math.isnan(found.dy) else found.confidence**2)


def solved(pairs: Iterable[Pair], n_frames: int) -> Path:
    """Solve all pairs of a FOV for the shifts of its frames.

    Distant pairs that contradict the sum of the near ones do not count: they are where another part of a regular
    pattern fits. Where frames are not connected, the drift is assumed to go on as in the pairs around.

    Parameters
    ----------
    pairs
        Of all blocks, in any order.
    n_frames
        Number of frames of the FOV, at least 1.

    Returns
    -------
    Shifts against the first frame, and which of them are measured.
    """
    clear = sorted(pair for pair in pairs if pair.weight > 0)
    near = [pair for pair in clear if pair.second - pair.first < EVERY]
    assumed = _bridges(near, n_frames)
    rough = _least_squares([*near, *assumed], n_frames)
    parts = _parts(near, n_frames)
    far = [
        pair
        for pair in clear
        if pair.second - pair.first >= EVERY
        and (parts[pair.first] != parts[pair.second] or _stray(pair, rough) <= _tolerance(pair))
    ]
    parts = _parts([*near, *far], n_frames)
    shifts = _least_squares([*near, *far, *assumed], n_frames)
    return Path(shifts - shifts[0], parts == np.bincount(parts).argmax())


def without_drift(
    per_frame: Sequence[npt.NDArray[np.integer]], shifts: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.int32]]:
    """Move the boxes of all frames to where they would be if the stage had not drifted.

    Parameters
    ----------
    per_frame
        (N, 4) boxes (y0, x0, y1, x1) of each of T frames, in pixels.
    shifts
        (T, 2) y, x in pixels of the content of each frame.

    Returns
    -------
    Boxes by whole pixels, so that their sizes stay, all moved by the same so that no corner is negative.
    """
    steps = np.rint(shifts).astype(np.int32)
    back = steps.max(axis=0) - steps
    return [np.asarray(boxes + np.tile(by, 2), np.int32) for boxes, by in zip(per_frame, back, strict=True)]


def cumulated(shifts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Shift of each frame against the first, from the shifts between neighbouring frames.

    Parameters
    ----------
    shifts
        (T - 1, 2) y, x in pixels; NaN for pairs without a clear peak, which take the shift between those of the pairs
        around, by linear interpolation.

    Returns
    -------
    (T, 2) pixels; the first are 0.
    """
    steps = np.asarray(shifts, np.float64).reshape(-1, 2)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(_bridged(steps), axis=0)])


def _bridged(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Steps with those that are NaN interpolated; 0 if all are NaN."""
    known = np.isfinite(steps).all(1)
    if not known.any():
        return np.zeros_like(steps)
    at = np.arange(len(steps))
    return np.stack([np.interp(at, at[known], column[known]) for column in steps.T], axis=1)


def _bridges(near: Sequence[Pair], n_frames: int) -> list[Pair]:
    """Assumed shifts between all neighbouring frames, whose weights only count where nothing is measured."""
    steps = np.full((n_frames - 1, 2), np.nan)
    for pair in near:
        if pair.second - pair.first == 1:
            steps[pair.first] = pair.dy, pair.dx
    missing = ~np.isfinite(steps).all(1)
    return [Pair(t, t + 1, float(dy), float(dx), BRIDGE) for t, (dy, dx) in enumerate(_bridged(steps)) if missing[t]]


def _parts(pairs: Sequence[Pair], n_frames: int) -> npt.NDArray[np.int32]:
    """Number of the connected part that each frame belongs to."""
    graph: Any = scipy.sparse.lil_array((n_frames, n_frames))
    for pair in pairs:
        graph[pair.first, pair.second] = 1
    return np.asarray(scipy.sparse.csgraph.connected_components(graph.tocsr(), directed=False)[1], np.int32)


def _stray(pair: Pair, shifts: npt.NDArray[np.float64]) -> float:
    return float(np.abs(shifts[pair.second] - shifts[pair.first] - (pair.dy, pair.dx)).max())


def _tolerance(pair: Pair) -> float:
    return STRAY + STRAY_SHARE * (pair.second - pair.first)


def _least_squares(pairs: Sequence[Pair], n_frames: int) -> npt.NDArray[np.float64]:
    """(T, 2) shifts that fit all pairs best, with that of the first frame at 0; the pairs connect all frames."""
    if n_frames == 1:
        return np.zeros((1, 2))
    first, second = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    steps, roots = np.array([pair[2:4] for pair in pairs]), np.sqrt([pair.weight for pair in pairs])
    rows = np.arange(len(pairs))
    entries = (
        np.concatenate([roots, -roots]),
        (np.concatenate([rows, rows]), np.concatenate([second, first])),
    )
    design = scipy.sparse.coo_array(entries, shape=(len(pairs), n_frames)).tocsc()[:, 1:]
    found = scipy.sparse.linalg.spsolve((design.T @ design).tocsc(), design.T @ (roots[:, None] * steps))
    return np.concatenate([np.zeros((1, 2)), np.asarray(found).reshape(-1, 2)])
