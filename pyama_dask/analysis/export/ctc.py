"""Results in the format of the Cell Tracking Challenge: one image of labels per frame, and one line per track.

Tracks of that format have no gaps: a cell that is missing in some frames becomes several tracks, each the child of the
one before. Daughters of a division are children of the mother's last track.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tifffile

from pyama_dask.analysis.trace_sources import Sources
from pyama_dask.analysis.trace_tables import frame_numbers, mothers_of
from pyama_dask.errors import StoreError
from pyama_dask.files.atomic import read_file
from pyama_dask.store.arrays import missing_frames, read_frame
from pyama_dask.store.layout import IMAGES, is_group

if TYPE_CHECKING:
    import pandas as pd

LARGEST = int(np.iinfo(np.uint16).max)
"""Largest label that an image of the format holds."""
Numbers = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Tracks:
    """Cells of a FOV in pieces without gaps."""

    cell: Numbers
    """(N,) cell of every row, sorted by cell and frame."""
    frame: Numbers
    """(N,) its frame."""
    label: Numbers
    """(N,) label of its piece."""
    lines: tuple[tuple[int, int, int, int], ...]
    """Label, first frame, last frame and label of the parent of every piece."""
    renumbered: bool
    """True if labels differ from the cell numbers."""

    @classmethod
    def of(cls, cell: Numbers, frame: Numbers, mothers: Mapping[int, int] | None = None) -> Tracks:
        """Cut cells into pieces: the first one has the cell's own number, if all labels fit the images.

        Parameters
        ----------
        cell, frame
            (N,) cell and frame of every row.
        mothers
            Mothers of divided cells, by daughter; those without rows are passed over.
        """
        order = np.lexsort([frame, cell])
        cell, frame = cell[order], frame[order]
        is_same, is_next = (np.r_[False, step][: len(cell)] for step in (np.diff(cell) == 0, np.diff(frame) == 1))
        starts = np.flatnonzero(~(is_same & is_next))
        sizes = np.diff(starts, append=len(cell))
        is_child = is_same[starts]
        labels = cell[starts].copy()
        labels[is_child] = cell.max(initial=0) + 1 + np.arange(is_child.sum())
        renumbered = bool(labels.max(initial=0) > LARGEST)
        if renumbered:
            labels = np.arange(1, len(starts) + 1)
        last = dict(zip(cell[starts].tolist(), labels.tolist(), strict=True))
        born = [last.get((mothers or {}).get(of, 0), 0) for of in cell[starts].tolist()]
        parents = np.where(is_child, np.r_[0, labels[:-1]][: len(labels)], born)
        lines = zip(
            labels.tolist(), frame[starts].tolist(), frame[starts + sizes - 1].tolist(), parents.tolist(), strict=True
        )
        return cls(cell, frame, np.repeat(labels, sizes), tuple(sorted(lines)), renumbered)


def write_fov(sources: Sources, fov: int, table: pd.DataFrame, folder: Path) -> str | None:
    """Write the labels and tracks of a FOV to a folder such as ``03_RES``.

    Parameters
    ----------
    sources
        Traces of the output.
    fov
        Number of the FOV.
    table
        Its traces, with overrides applied.
    folder
        Existing folder of the export, or of the FOV's sample in it.

    Returns
    -------
    Reason why the FOV cannot be written; None if it was.
    """
    images = sources.fovs[fov].directory / IMAGES
    stored = next((path for path in sorted(images.glob("seg_tracked_ch_*/0")) if is_group(path.parent.name)), None)
    if stored is None:
        return "it has no tracked labels (seg_tracked)"
    place = folder / f"{fov:0{max(2, len(str(max(sources.fovs))))}d}_RES"
    try:
        reason = _write(sources, fov, table, stored, place)
    except (StoreError, ValueError) as error:  # the latter of zarr
        reason = f"its tracked labels cannot be read: {str(error).splitlines()[0]}"
    if reason:
        shutil.rmtree(place, ignore_errors=True)
    return reason


def _write(sources: Sources, fov: int, table: pd.DataFrame, stored: Path, place: Path) -> str | None:
    """Write the labels and tracks of a FOV; return the reason if it cannot be written."""
    if gone := missing_frames(stored):
        return f"{len(gone)} frames of its tracked labels are missing"
    good = table[table["good"]]
    frames = frame_numbers(table)[table["good"].to_numpy()]
    tracks = Tracks.of(good["cell"].to_numpy(np.int64), frames, mothers_of(good))
    if tracks.renumbered:
        if len(tracks.lines) > LARGEST:
            return f"it has {len(tracks.lines)} tracks, but the format allows at most {LARGEST}"
        sources.say([f"FOV {fov}: its tracks have other labels than its cells, as the format allows at most {LARGEST}"])
    place.mkdir()
    if reason := _write_masks(place, stored, tracks):
        return reason
    (place / "res_track.txt").write_text("".join(f"{' '.join(map(str, line))}\n" for line in tracks.lines))
    return None


def _write_masks(place: Path, stored: Path, tracks: Tracks) -> str | None:
    """Write one image per frame, one at a time; return the reason if labels and traces disagree."""
    count = json.loads(read_file(stored / "zarr.json"))["shape"][0]
    if beyond := tracks.frame[tracks.frame >= count].tolist():
        return f"its traces have frame {beyond[0]}, but its tracked labels end earlier"
    digits = max(3, len(str(count - 1)))
    for frame, (cells, labels) in enumerate(_by_frame(tracks, count)):
        found = read_frame(stored.parents[1], f"{stored.parent.name}/{stored.name}", frame)
        mask, gone = _mask(found, cells, labels)
        if gone.size:
            return f"cell {gone[0]} is in its traces of frame {frame}, but not in its tracked labels"
        tifffile.imwrite(place / f"mask{frame:0{digits}d}.tif", mask, compression="zlib", metadata=None)
    return None


def _mask(found: npt.NDArray[np.unsignedinteger], cells: Numbers, labels: Numbers) -> tuple[Masks, Numbers]:
    """(H, W) mask of labels where `found` has the numbers of sorted cells, and the cells that it lacks."""
    inside = found > 0
    numbers = found[inside]
    places = np.searchsorted(cells, numbers)
    is_of_one = np.append(cells, 0)[places] == numbers
    mask = np.zeros(found.shape, np.uint16)
    mask[inside] = np.where(is_of_one, np.append(labels, 0)[places], 0)
    return mask, np.delete(cells, places[is_of_one])


def _by_frame(tracks: Tracks, count: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Cells of every frame, sorted, and their labels."""
    order = np.argsort(tracks.frame, kind="stable")
    bounds = np.searchsorted(tracks.frame[order], np.arange(count + 1))
    for start, stop in pairwise(bounds.tolist()):
        rows = order[start:stop]
        yield tracks.cell[rows], tracks.label[rows]
