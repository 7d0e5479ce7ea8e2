"""Tracker for cells that touch, are missed in some frames, or jump with the stage; it needs boxes only.

Linear assignments, as of Jaqaman et al. 2008 (doi:10.1038/nmeth.1237): first from frame to frame, then of the ends and
beginnings of these pieces over the whole movie. The cost is the generalised IoU of Rezatofighi et al. 2019
(doi:10.1109/CVPR.2019.00075).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.config.units import Whole
from pyama_dask.kernels.assignment import assign
from pyama_dask.kernels.divisions import divided
from pyama_dask.kernels.frame_shift import total_shifts
from pyama_dask.kernels.overlaps import Pairs, overlapping
from pyama_dask.kernels.tracking import Boxes

GROWTH = 0.3
"""Exponent with which the cost that a gap may have grows with its frames: cells move on while they are not seen."""
PER_FRAME = 0.1
"""Cost of each missing frame."""

Cost = Annotated[float, Field(gt=0, lt=1.5, allow_inf_nan=False)]
"""1 - generalised IoU of two boxes: 0 if they are equal, 1 if they just touch, towards 2 the farther they are apart."""


def link(
    per_frame: Sequence[Boxes],
    *,
    near: Annotated[
        Cost, Field(description="0 to 1.5: largest cost from frame to frame: 1 - generalised IoU of the boxes")
    ] = 0.5,
    far: Annotated[
        Cost, Field(description="0 to 1.5: the same where pieces of tracks are joined; 1.3: cells about one cell apart")
    ] = 1.3,
    gap: Annotated[
        Whole, Field(le=10, description="frames in which a cell may be missing; 0: tracks have no gaps")
    ] = 3,
    max_shift: Annotated[
        float,
        Field(
            ge=0, le=50, allow_inf_nan=False, description="cell widths: largest jump of the stage from frame to frame"
        ),
    ] = 5.0,
    divide: Annotated[bool, Field(description="true: find divisions; a mother ends, and two daughters begin")] = False,
) -> list[npt.NDArray[np.int64]] | tuple[list[npt.NDArray[np.int64]], dict[int, int]]:
    """Assign a track id to every object, and on request find the mothers of divided cells.

    Boxes are moved by the common shift of their frames. Objects of neighbouring frames are linked by the assignment of
    least total cost. Then all ends of these pieces are joined with beginnings up to ``gap + 1`` frames later by one
    assignment over the whole movie, where the cost is divided by ``frames ** GROWTH`` and each missing frame adds
    `PER_FRAME`.

    Parameters
    ----------
    per_frame
        (N, 4) boxes of the objects 1..N of each frame, in label order.
    near
        Largest cost of a link from frame to frame.
    far
        Largest cost over which pieces of tracks are joined.
    gap
        Largest number of frames in which a cell may be missing.
    max_shift
        Largest shift of a whole frame from the one before along each axis, in cells; 0 to look for none.
    divide
        Find divisions, with the thresholds of `divisions`.

    Returns
    -------
    (N,) ids per frame, from 1 in the order in which tracks begin; with `divide`, also the mother of each daughter, by
    id.
    """
    boxes = [np.asarray(of, np.float64).reshape(-1, 4) for of in per_frame]
    shifts = total_shifts(boxes, max_shift)
    still = [of - np.tile(shift, 2) for of, shift in zip(boxes, shifts, strict=True)]
    ids = joined(still, _pieces(still, near), far, gap)
    return divided(still, ids) if divide else ids


def box_costs(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(P,) 1 - generalised IoU of (P, 4) and (P, 4) boxes, from 0 for equal boxes to 2."""
    inner = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    hull = (np.maximum(a[:, 2:], b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    return np.asarray(1 - inner / union + (hull - union) / hull)


def near_pairs(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], limit: float) -> Pairs:
    """All pairs of boxes that may cost less than a limit.

    Parameters
    ----------
    a, b
        (N, 4) and (M, 4) boxes.
    limit
        Cost as of `box_costs`, less than 2.

    Notes
    -----
    The hull of two boxes is at least as high as the higher one, and as wide as their distance and half of both widths.
    Where the cost is below the limit, it is at most ``k = 1 / (2 - limit)`` times the sum of their areas. So along each
    axis, their centres are less than ``k - 1/2`` times the sum of their sides apart.
    """
    reach = max(1 / (2 - limit) - 0.5, 0.5)
    return overlapping(_widened(a, reach), _widened(b, reach))


def _widened(boxes: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    """(N, 4) boxes with the same centres that reach from them by so many sides."""
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.hstack([middle - reach * side, middle + reach * side])


def _pieces(still: Sequence[npt.NDArray[np.float64]], near: float) -> list[npt.NDArray[np.int64]]:
    """Link from frame to frame; ids per frame from 1 in the order in which tracks begin."""
    tracks: list[npt.NDArray[np.int64]] = []
    following = 1
    for t, now in enumerate(still):
        ids = np.zeros(len(now), np.int64)
        if t:
            rows, columns = near_pairs(still[t - 1], now, near)
            chosen = assign((rows, columns), box_costs(still[t - 1][rows], now[columns]), near)
            ids[columns[chosen]] = tracks[-1][rows[chosen]]
        fresh = ids == 0
        ids[fresh] = np.arange(following, following + fresh.sum())
        following += int(fresh.sum())
        tracks.append(ids)
    return tracks


def joined(
    still: Sequence[npt.NDArray[np.float64]], pieces: Sequence[npt.NDArray[np.int64]], far: float, gap: int
) -> list[npt.NDArray[np.int64]]:
    """Join the ends of pieces with beginnings of others up to ``gap + 1`` frames later, by one assignment.

    Parameters
    ----------
    still
        (N, 4) boxes per frame, without the shifts of the frames.
    pieces
        (N,) ids per frame, from 1 in the order in which pieces begin.
    far, gap
        As for `link`.

    Returns
    -------
    (N,) ids per frame, from 1 in the order in which tracks begin.
    """
    if not sum(map(len, pieces)):
        return list(pieces)
    ids, boxes = np.concatenate(pieces), np.concatenate(still)
    frames = np.repeat(np.arange(len(pieces)), [len(of) for of in pieces])
    first = np.unique(ids, return_index=True)[1]
    last = len(ids) - 1 - np.unique(ids[::-1], return_index=True)[1]
    ends, starts, costs = _joints(boxes, frames, first, last, far, gap)
    chosen = assign((ends, starts), costs, far)
    follows = np.arange(len(first))
    follows[starts[chosen]] = ends[chosen]
    while (further := follows[follows] != follows).any():  # to the first piece of each track
        follows[further] = follows[follows[further]]
    number = np.unique(follows, return_inverse=True)[1] + 1
    return np.split(number[ids - 1], np.cumsum([len(of) for of in pieces])[:-1])


def _joints(
    boxes: npt.NDArray[np.float64], frames: npt.NDArray[np.int64], first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64], far: float, gap: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:  # fmt: skip
    """Possible joints of pieces: the piece that ends, the one that begins, and the cost.

    Parameters
    ----------
    boxes, frames
        (N, 4) boxes of all objects, and (N,) their frames.
    first, last
        (P,) first and last object of every piece.
    far, gap
        As for `link`.
    """
    ended = _by_frame(frames[last])
    begun = _by_frame(frames[first])
    found = []
    for end, pieces in ended.items():
        for frames_on in range(1, gap + 2):
            others = begun.get(end + frames_on)
            limit = (far - PER_FRAME * (frames_on - 1)) * frames_on**GROWTH
            if others is None or limit <= 0:
                continue
            a, b = boxes[last[pieces]], boxes[first[others]]
            rows, columns = near_pairs(a, b, min(limit, 1.99))
            costs = box_costs(a[rows], b[columns]) / frames_on**GROWTH + PER_FRAME * (frames_on - 1)
            good = costs < far
            found.append((pieces[rows[good]], others[columns[good]], costs[good]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    ends, starts, costs = (np.concatenate(of) for of in zip(*found, strict=True))
    return ends, starts, costs


def _by_frame(frames: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int64]]:
    """Indices by value, ascending."""
    order = np.argsort(frames, kind="stable")
    values, starts = np.unique(frames[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
