"""Frames of a FOV as small pictures, with outlines of kept and dropped objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import StoreError
from pyama_dask.files.atomic import read_file
from pyama_dask.files.palette import BORDER, KEPT, TOO_LARGE, TOO_SMALL, Picture, as_picture, draw, outlines
from pyama_dask.files.pictures import picked, shrunk
from pyama_dask.kernels.tracking import judge_tracks
from pyama_dask.report.facts import RunFacts
from pyama_dask.store import intermediate
from pyama_dask.store.arrays import read_frame
from pyama_dask.store.drop_maps import TOO_LARGE as TOO_LARGE_MAPS
from pyama_dask.store.drop_maps import load_map
from pyama_dask.store.layout import DOCUMENT, IMAGES
from pyama_dask.workflow.task import WORK, fov_name

AT_BORDER, SHORT = BORDER, TOO_SMALL
"""Colours of objects whose tracks are dropped: at the border, and seen in too few frames."""
TINT = 0.45
"""Opacity of the colour of objects that were dropped as too large, as in previews."""
FINER = 3
"""Rows and columns of a frame that are read for each one of its picture, at least."""


@dataclass(frozen=True)
class Fates:
    """Fates of a FOV's tracks."""

    kept: npt.NDArray[np.int64]
    """Ids of the kept ones."""
    at_border: npt.NDArray[np.int64]
    """Ids of those that come close to the border."""


def read_fates(run: RunFacts, fov: int, shape: tuple[int, int] | None = None) -> Fates | None:
    """Fates of the tracks of a FOV, from its intermediate files; None if these are gone.

    Parameters
    ----------
    run, fov
        Run and number of the FOV.
    shape
        (H, W) of the frames, to tell which tracks are at the border; None if that does not matter.
    """
    work = run.output / WORK / fov_name(fov)
    margin = run.settings["params"]["tracking_params"].get("border_margin")
    try:
        kept = intermediate.load(intermediate.cells_file(work))["ids"]
        if shape is None or not isinstance(margin, int):
            return Fates(kept, np.zeros(0, np.int64))
        held = intermediate.load(intermediate.tracks_file(work))
        boxes, ids = (intermediate.by_frame(held, name) for name in ("boxes", "ids"))
    except (StoreError, OSError, LookupError):
        return None
    judged = judge_tracks(boxes, ids, shape, min_frames=1, border_margin=margin)
    return Fates(kept, np.setdiff1d(judged.border, kept))


def picture_of(run: RunFacts, fov: int, index: int, longest: int, fates: Fates | None) -> Picture | None:
    """Picture of a frame, with outlines if there are tracked labels.

    Parameters
    ----------
    run, fov
        Run and number of the FOV.
    index
        Index of the frame among those of the run.
    longest
        Pixels of the longest side.
    fates
        What became of the tracks; None if unknown.

    Returns
    -------
    (h, w, 3) picture; None if the frame is not stored, or damaged.
    """
    images = run.fov_dir(fov) / IMAGES
    frame = next(
        (read for level in (1, 0) if (read := _stored(images, f"{run.shown}/{level}", index, longest)) is not None),
        None,
    )
    if frame is None or not frame.size:
        return None
    grey = shrunk(frame, longest)
    picture = as_picture(grey)
    _tint_dropped(picture, run, fov, index)
    labels = _stored(images, f"{run.tracked}/0", index, longest) if run.tracked else None
    if labels is not None and labels.size:
        _outline(picture, picked(labels, grey.shape), fates)
    return picture


def _tint_dropped(picture: Picture, run: RunFacts, fov: int, index: int) -> None:
    """Colour the objects that were dropped as too large, of which no labels are stored."""
    block, k = divmod(index, int(run.settings["storage"]["block_frames"]))
    dropped = load_map(intermediate.block_file(run.output / WORK / fov_name(fov), TOO_LARGE_MAPS, block), k)
    if dropped is not None:
        mask = picked(dropped, picture.shape[:2])
        draw(picture, mask, TOO_LARGE, TINT)
        draw(picture, outlines(mask), TOO_LARGE)


def frame_shape(run: RunFacts, fov: int) -> tuple[int, int, int] | None:
    """(T, H, W) of the images of a FOV at full resolution; None if they are not there."""
    try:
        document = json.loads(read_file(run.fov_dir(fov) / IMAGES / f"{run.shown}/0" / DOCUMENT))
        frames, height, width = map(int, document["shape"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return frames, height, width


def _outline(picture: Picture, labels: np.ndarray, fates: Fates | None) -> None:
    rim = outlines(labels)
    if fates is None:
        draw(picture, rim, KEPT)
        return
    kept, border = _members(labels, fates.kept), _members(labels, fates.at_border)
    for mask, colour in ((~kept & ~border, SHORT), (border, AT_BORDER), (kept, KEPT)):
        draw(picture, rim & mask, colour)


def _members(labels: np.ndarray, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mask of the pixels whose label is one of `ids`."""
    table = np.zeros(int(max(labels.max(initial=0), np.max(ids, initial=0))) + 1, np.bool_)
    table[ids] = True
    return np.asarray(table[labels])


def _stored(images: Path, path: str, index: int, longest: int) -> np.ndarray | None:
    """Frame of an array, of a large one every few rows and columns; None if its shard is missing or damaged."""
    try:
        document = json.loads(read_file(images / path / DOCUMENT))
        block = index // int(document["chunk_grid"]["configuration"]["chunk_shape"][0])
        if index >= document["shape"][0] or not (images / path / f"c.{block}.0.0").exists():
            return None
        return read_frame(images, path, index, max(1, max(document["shape"][1:]) // longest // FINER))
    except (OSError, ValueError, LookupError, TypeError, StoreError):
        return None
