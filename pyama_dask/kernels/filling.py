"""Masks for frames in which a tracked cell was missed: the one at the nearer end of the gap, moved to its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.kernels.compiled import compiled
from pyama_dask.kernels.overlaps import centres
from pyama_dask.kernels.tracking import Boxes

SHARE = 0.3
"""Smallest part of a moved mask that must be free; else the frame stays without the cell."""
FEWEST = 8
"""Smallest number of cells from which a common motion is estimated."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fills:
    """Masks to draw, sorted by frame, and by track in a frame."""

    frame: npt.NDArray[np.int64]
    """(N,) frames in which tracks are missing."""
    track: Ids
    """(N,) ids of the tracks."""
    source: npt.NDArray[np.int64]
    """(N,) frames whose masks are moved."""
    label: npt.NDArray[np.int64]
    """(N,) labels of the objects in these frames."""
    box: npt.NDArray[np.int64]
    """(N, 4) boxes of these objects, not moved."""
    move: npt.NDArray[np.int64]
    """(N, 2) steps y, x in pixels."""

    def __len__(self) -> int:
        return len(self.frame)

    def of_frames(self, start: int, stop: int) -> Fills:
        """Those in a range of frames."""
        rows = slice(*np.searchsorted(self.frame, [start, stop]).tolist())
        return Fills(*(values[rows] for values in self.columns.values()))

    @property
    def columns(self) -> dict[str, npt.NDArray[np.int64]]:
        """All values by name."""
        return dict(vars(self))

    def boxes(self, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
        """(N, 4) moved boxes, clipped to frames of shape (H, W); empty if outside."""
        limits = np.array([*shape, *shape])
        return np.clip(self.box + np.tile(self.move, 2), 0, limits)


def plan_fills(
    per_frame: Sequence[Boxes],
    tracks: Sequence[Ids],
    longest: int,
    motion: npt.NDArray[np.float64] | None = None,
    *,
    fill_gaps: Annotated[
        bool | None,
        Field(description="true: frames in which a cell is missing get its moved mask; null: only with lap"),
    ] = None,
) -> Fills | None:
    """Find the masks that fill the gaps of tracks.

    A cell is taken to move along the line between its centres at both ends of the gap, after the common motion of all
    cells, so that jumps of the stage are followed.

    Parameters
    ----------
    per_frame, tracks
        (N, 4) boxes and (N,) ids of the objects 1..N of each frame; 0 for objects outside all tracks.
    longest
        Largest number of frames in a gap that is filled.
    motion
        (T, 2) y, x in pixels of all cells against the first frame, where it was measured; None to take the median of
        the cells.
    fill_gaps
        False or None to fill none.

    Returns
    -------
    Fills; None if gaps are not filled.
    """
    if not fill_gaps:
        return None
    counts = [len(of) for of in tracks]
    frame = np.repeat(np.arange(len(tracks)), counts)
    ids = np.concatenate([*tracks, np.zeros(0, np.int64)])
    boxes = np.concatenate([*(of.reshape(-1, 4) for of in per_frame), np.zeros((0, 4), np.int32)]).astype(np.int64)
    label = np.concatenate([*(np.arange(1, count + 1) for count in counts), np.zeros(0, np.int64)])
    order = np.lexsort((frame, ids))
    a, b = order[:-1], order[1:]  # neighbours in time
    steps = frame[b] - frame[a]
    gaps = (ids[a] == ids[b]) & (ids[a] > 0) & (steps > 1) & (steps <= longest + 1)
    a, b, steps = a[gaps], b[gaps], steps[gaps]
    times = steps - 1
    on = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times) + 1
    a, b, steps = (np.repeat(of, times) for of in (a, b, steps))
    part = (on / steps)[:, None]
    source = np.where(2 * on <= steps, a, b)
    at = centres(boxes)
    motion = _common_motion(per_frame, tracks) if motion is None else motion
    still = at - motion[frame]
    place = (1 - part) * still[a] + part * still[b] + motion[frame[a] + on]
    move = np.round(place - at[source]).astype(np.int64)
    last = np.lexsort((ids[a], frame[a] + on))
    found = (frame[a] + on, ids[a], frame[source], label[source], boxes[source], move)
    return Fills(*(values[last] for values in found))


def _common_motion(per_frame: Sequence[Boxes], tracks: Sequence[Ids]) -> npt.NDArray[np.float64]:
    """(T, 2) sum of the median steps of all tracks from frame to frame."""
    steps = np.zeros((len(tracks), 2))
    for t in range(1, len(tracks)):
        both, before, after = np.intersect1d(tracks[t - 1], tracks[t], return_indices=True)
        if np.count_nonzero(both) >= FEWEST:
            moved = centres(per_frame[t][after]) - centres(per_frame[t - 1][before])
            steps[t] = np.median(moved[both > 0], axis=0)
    return np.cumsum(steps, axis=0)


def draw(
    labels: np.ndarray,
    free: npt.NDArray[np.bool_],
    mask: npt.NDArray[np.bool_],
    corner: npt.NDArray[np.int64],
    new: int,
) -> npt.NDArray[np.int32] | None:
    """Draw a moved mask as a new label where pixels are free.

    Parameters
    ----------
    labels
        (H, W) labels, changed in place.
    free
        (L,) True for labels below L on whose pixels the mask may lie, background among them.
    mask
        (h, w) pixels of the object.
    corner
        Place (y, x) of the mask's first pixel in the frame; it may lie outside.
    new
        Label to draw, L or larger.

    Returns
    -------
    (4,) box of what was drawn; None if less than `SHARE` of the mask is free, so that nothing was.
    """
    box = np.array([labels.shape[0], labels.shape[1], 0, 0], np.int32)
    y, x = corner.tolist()
    fits = _draw(labels, free, mask, y, x, 0, box) >= SHARE * np.count_nonzero(mask)
    if not fits or box[2] == 0:
        return None
    _draw(labels, free, mask, y, x, new, box)
    return box


@compiled
def _draw(labels: Any, free: Any, mask: Any, top: int, left: int, new: int, box: Any) -> int:
    """Count free pixels and widen their box; draw them as `new` unless it is 0."""
    count = 0
    for i in range(max(0, -top), min(mask.shape[0], labels.shape[0] - top)):
        for j in range(max(0, -left), min(mask.shape[1], labels.shape[1] - left)):
            y, x = top + i, left + j
            if mask[i, j] and labels[y, x] < free.size and free[labels[y, x]]:
                count += 1
                box[0], box[1] = min(box[0], y), min(box[1], x)
                box[2], box[3] = max(box[2], y + 1), max(box[3], x + 1)
                if new:
                    labels[y, x] = new
    return count
