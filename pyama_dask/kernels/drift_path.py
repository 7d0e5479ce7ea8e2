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
from scipy.sparse import coo_array, lil_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

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


def drift_pairs(
    frames: Iterable[tuple[int, Frame]], begin: int, *, max_shift: float, upsample: int = 10
) -> Iterator[Pair]:
    """Measure the pairs of a block.

    A frame that has no clear peak with the frame before is compared with the last one that had, so that single frames
    without content do not break the chain.

    Parameters
    ----------
    frames
        Indices and (H, W) frames, ascending: first those of `frames_before`, then those of the block. Missing frames
        may be left out.
    begin
        First frame of the block.
    max_shift, upsample
        As for `drift_between`; distant pairs may have moved further, by as many times as there are frames between.

    Yields
    ------
    All pairs whose second frame is in the block, also those without a clear peak. Up to four frames are in memory.
    """
    last: Known | None = None
    clear: Known | None = None
    tenth: Known | None = None
    for index, frame in frames:
        now = index, seen(frame)
        if index >= begin:
            for earlier in (last, clear if clear is not last else None):
                if earlier is None:
                    continue
                pair = _pair(earlier, now, max_shift, upsample)
                yield pair
                if pair.weight:
                    clear = now
                    break
            if index % EVERY == 0 and tenth is not None and tenth is not last:
                yield _pair(tenth, now, max_shift, upsample)
        if clear is None or index < begin - 1:
            clear = now
        last, tenth = now, now if index % EVERY == 0 else tenth


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
    graph: Any = lil_array((n_frames, n_frames))
    for pair in pairs:
        graph[pair.first, pair.second] = 1
    return np.asarray(connected_components(graph.tocsr(), directed=False)[1], np.int32)


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
    design = coo_array(entries, shape=(len(pairs), n_frames)).tocsc()[:, 1:]
    found = spsolve((design.T @ design).tocsc(), design.T @ (roots[:, None] * steps))
    return np.concatenate([np.zeros((1, 2)), np.asarray(found).reshape(-1, 2)])
