"""Warnings about a FOV's objects and tracks for the user to look at: few objects, jumps in number, few kept tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pyama_dask.config.units import as_ranges

JUMP, LEAST_JUMP = 0.5, 8
"""Change of the number of objects between frames, as a fraction and in objects, above which a jump is reported."""
FEW_KEPT, LEAST_OBJECTS = 0.2, 10
"""Kept cells per object of a frame below which they are few, from this number of objects per frame."""


def doubts_about_counts(counts: Sequence[int], frames: Sequence[int]) -> Iterator[str]:
    """Describe what is suspicious in the number of objects of each frame.

    Parameters
    ----------
    counts
        Objects of each processed frame.
    frames
        Numbers of these frames in the movie.
    """
    number = np.asarray(counts)
    empty = number == 0
    if 2 * empty.sum() > empty.size and not empty.all():
        yield (
            f"hardly any cells: no object in {empty.sum()} of {empty.size} frames. Fix: look at frames with "
            "'pyama-dask preview'; if there are cells, change segmentation_params or segmentation_method"
        )
    change = np.abs(np.diff(number))
    jumps = np.flatnonzero(change > np.maximum(LEAST_JUMP, JUMP * np.maximum(number[1:], number[:-1])))
    if jumps.size:
        most = int(jumps[change[jumps].argmax()])
        yield (
            f"the number of objects jumps at frames {as_ranges(frames[k + 1] for k in jumps.tolist())}, such as from "
            f"{number[most]} to {number[most + 1]} at frame {frames[most + 1]}; cells may be missed or merged there. "
            f"Fix: look with 'pyama-dask preview --frames {frames[most]},{frames[most + 1]}'"
        )


def doubt_about_kept(kept: int, tracks: int, counts: Sequence[int]) -> str:
    """Describe a number of kept cells that is small compared with the objects of a frame; '' if it is not.

    Parameters
    ----------
    kept, tracks
        Number of kept cells, and of all tracks.
    counts
        Objects of each processed frame.
    """
    usual = float(np.mean(counts)) if len(counts) else 0.0
    if not kept or usual < LEAST_OBJECTS or kept >= FEW_KEPT * usual:
        return ""
    return (
        f"only {kept} of {tracks} tracks {'was' if kept == 1 else 'were'} kept, but frames have about {usual:.0f} "
        "objects: tracks are too short (min_frames) or come close to the border (border_margin). Fix: look with "
        "'pyama-dask preview --tracks'; if tracks break, check the segmentation first"
    )
