"""Labels of single frames for correction by hand, and corrected ones where training reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.output import open_output
from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import writable
from pyama_dask.runs.annotate import LABELS_END, frame_stem, write_annotated
from pyama_dask.store.layout import labels_name, raw_name

MOST_CELLS = int(np.iinfo(np.uint16).max)


def labels_to_correct(fov: Fov, frame: int) -> npt.NDArray[np.int32]:
    """(H, W) labels of all objects of a frame, as they were segmented; zeros if the run has not found cells.

    Parameters
    ----------
    fov
        The FOV.
    frame
        Index along T of its arrays.
    """
    phase = phase_channel(fov)
    if labels_name(phase) in fov.channels:
        return np.asarray(fov.image(labels_name(phase)).data[frame]).astype(np.int32)
    return np.zeros(fov.image(raw_name("pc", phase)).data.shape[1:], np.int32)


def phase_channel(fov: Fov) -> int:
    """Index of the phase channel.

    Raises
    ------
    OutputError
        If the FOV has no such channel.
    """
    found = next((name for name in fov.channels if name.startswith("pc_ch_")), None)
    if found is None:
        raise OutputError(f"{fov.directory}: has no phase-contrast channel, in which cells could be labelled")
    return int(found.rpartition("_")[2])


def annotation_name(fov: Fov, frame: int) -> str:
    """Name of the files of a whole frame, as `annotate` would name a window of that size at the corner."""
    movie = Path(open_output(fov.directory.parent).metadata["file"]).stem
    return f"{frame_stem(movie, FovPlace.of(fov.attributes), fov.attributes['frames'][frame])}_y0000_x0000"


def save_corrected(
    fov: Fov, frame: int, labels: npt.NDArray[np.integer], folder: Path, *, replace: bool = False
) -> Path:
    """Write a frame and its corrected labels for 'pyama-dask train'.

    Parameters
    ----------
    fov
        The FOV.
    frame
        Index along T of its arrays.
    labels
        (H, W) labels, 0 for background.
    folder
        Where ``NAME.tif`` and ``NAME_labels.tif`` are written; created if it does not exist.
    replace
        True to overwrite labels of this frame that are there.

    Returns
    -------
    Path of the labels.

    Raises
    ------
    OutputError
        If the labels are there already, or the folder is not writable.
    """
    name = annotation_name(fov, frame)
    path = folder / f"{name}{LABELS_END}"
    if path.exists() and not replace:
        raise OutputError(f"{path}: already exists. Fix: save into another folder, or replace it")
    values, numbered = np.unique(labels, return_inverse=True)
    if len(values) > MOST_CELLS:
        raise OutputError(f"{path}: cannot hold {len(values)} labels. Fix: use at most {MOST_CELLS}")
    background = int(0 not in values)
    numbers = (numbered.reshape(labels.shape) + background).astype(np.uint16)
    image = np.asarray(fov.image(raw_name("pc", phase_channel(fov))).data[frame])
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_annotated(folder, name, image, numbers, fov.attributes["pixel_size_um"])
    return path
