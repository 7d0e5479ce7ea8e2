"""True labels of the frames of a preview."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.label_sets import LabelMovie, open_labels
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import ImageError


def read_truth(
    path: Path, fov: int, frames: Sequence[int], shape: tuple[int, int]
) -> dict[int, npt.NDArray[np.integer]]:
    """Read the true labels of some frames.

    Parameters
    ----------
    path
        As for `analysis.label_sets.open_labels`: a file, a folder, or an output.
    fov, frames
        Field of view and numbers of the frames in the movie. Labels of as many frames as these, under other numbers,
        are taken in their order.
    shape
        (H, W) of the frames.

    Returns
    -------
    (H, W) labels by number of the frame.

    Raises
    ------
    ImageError
        If labels cannot be read, are of other frames, or have another size.
    """
    held = _movie_of(path, fov).frames
    if not set(frames) <= held.keys() and len(held) == len(frames):
        held = dict(zip(frames, (held[number] for number in sorted(held)), strict=True))
    if missing := [frame for frame in frames if frame not in held]:
        raise ImageError(
            f"{path}: has no labels of frame {as_ranges(missing)}, but of {as_ranges(sorted(held))}. "
            "Fix: give --frames of which there are true labels"
        )
    labels = {frame: held[frame]() for frame in frames}
    for frame, of in labels.items():
        if of.shape != shape:
            raise ImageError(
                f"{path}: labels of frame {frame} have {of.shape[1]} x {of.shape[0]} px, but the movie has "
                f"{shape[1]} x {shape[0]} px. Fix: give labels of the whole frame"
            )
    return labels


def _movie_of(path: Path, fov: int) -> LabelMovie:
    """Labels of a FOV; the only ones if there are no others."""
    movies = open_labels(path, as_truth=True)
    if len(movies) == 1:
        return next(iter(movies.values()))
    if str(fov) not in movies:
        names = list(movies)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ImageError(f"{path}: has no labels of FOV {fov}, but of {shown}. Fix: give the file of this FOV")
    return movies[str(fov)]
