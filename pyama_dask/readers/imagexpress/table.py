"""Table of an ImageXpress plate: which image file holds which plane, which are projections, and which are copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.config.well_names import parse_well
from pyama_dask.errors import SourceError
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import LARGEST, fill_table
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.imagexpress.files import PlateImage
from pyama_dask.readers.imagexpress.metaseries import Head, read_head

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Table:
    """Planes of a plate by their place."""

    sites: tuple[tuple[str, int], ...]
    """Well and number of the site of each FOV: wells by row, then column."""
    waves: tuple[int, ...]
    """Number of each channel in the plate."""
    file: Numbers
    """(FOVs, frames, channels, z) number of the file, or `ABSENT`."""
    projection: Numbers | None
    """(FOVs, frames, channels) number of the file with the projection over z; None without projections."""
    single: tuple[int, ...]
    """Channels with one image instead of several z planes; it stands for each of them."""


@dataclass(frozen=True)
class Copies:
    """Planes that an export has filled in."""

    frames: dict[int, list[int]]
    """By channel, the frames that repeat an earlier one."""
    stacks: list[int]
    """Channels of which all z planes are one image."""


def build_table(root: Path, images: Sequence[PlateImage], held: npt.NDArray[np.bool_], n_frames: int) -> Table:
    """Order the images of a plate.

    Parameters
    ----------
    root
        The plate's folder, for messages.
    images
        Its images, at least one.
    held
        (images,) True for those that have content. Others stand for planes that are missing.
    n_frames
        Number of frames that are announced; the table has more if there are more.

    Raises
    ------
    SourceError
        If two files are the same plane, or numbers are absurdly large.
    """
    wells = {image.name.well: parse_well(image.name.well) for image in images}
    sites = sorted({(image.name.well, image.name.site) for image in images}, key=lambda of: (wells[of[0]], of[1]))
    waves = sorted({image.name.wave for image in images})
    fov_of, channel_of = ({of: n for n, of in enumerate(found)} for found in (sites, waves))
    places = np.array(
        [(fov_of[name.well, name.site], frame or 0, channel_of[name.wave], step) for _, name, frame, step in images]
    )
    shape = tuple((places.max(axis=0) + 1).tolist())
    numbers = np.where(held, np.cumsum(held) - 1, ABSENT)
    table = fill_table(root, shape, places, numbers, [image.file for image in compress(images, held)])
    further = max(n_frames - table.shape[1], 0)
    if further * table[:, 0].size > LARGEST:
        raise SourceError(f"{root}: the HTD file announces {n_frames} frames. Fix: correct TimePoints in the HTD file")
    table = np.pad(table, ((0, 0), (0, further), (0, 0), (0, 0)), constant_values=ABSENT)
    return Table(tuple(sites), tuple(waves), *_split(table))


def _split(table: Numbers) -> tuple[Numbers, Numbers | None, tuple[int, ...]]:
    """Planes, projections, and the channels with one image instead of z planes.

    Parameters
    ----------
    table
        (FOVs, frames, channels, 1 + z) numbers of files; the first plane is that outside the folders of z steps.
    """
    outside, planes = table[..., 0], table[..., 1:].copy()
    if not planes.shape[-1]:
        return table, None, ()
    stacked = (planes != ABSENT).any(axis=(0, 1, 3))
    planes[:, :, ~stacked] = outside[:, :, ~stacked, None]
    projected = bool((outside[:, :, stacked] != ABSENT).any())
    return planes, outside.copy() if projected else None, tuple(np.flatnonzero(~stacked).tolist())


def first_complete(file: Numbers) -> int:
    """FOV with the most planes, the first of several."""
    return int((file != ABSENT).sum(axis=(1, 2, 3)).argmax())


def find_copies(file: Numbers, heads: Mapping[int, Head], fov: int) -> Copies:
    """Find the copies among the planes of one FOV.

    An export fills planes that were not taken with copies of earlier ones, which have the same stamps. All FOVs are
    taken alike.

    Parameters
    ----------
    file
        (FOVs, frames, channels, z) numbers of files, or `ABSENT`.
    heads
        Heads of the files, from `read_series`.
    fov
        The FOV.
    """
    frames, stacks = dict[int, list[int]](), list[int]()
    for channel in range(file.shape[2]):
        over_time, over_z = _series(file, fov, channel)
        earlier = set[tuple[str | None, ...]]()
        for frame, number in over_time.items():
            stamp = _stamp(heads.get(number))
            if stamp is not None and stamp in earlier:
                frames.setdefault(channel, []).append(frame)
            elif stamp is not None:
                earlier.add(stamp)
        stamps = [_stamp(heads.get(number)) for number in over_z]
        if len(set(over_z)) > 1 and None not in stamps and len(set(stamps)) == 1:
            stacks.append(channel)
    return Copies(frames, stacks)


def read_series(paths: Sequence[Path], file: Numbers, fov: int) -> dict[int, Head]:
    """Heads that tell copies: of each channel of one FOV a plane per frame, and all z planes of one frame."""
    series = [_series(file, fov, channel) for channel in range(file.shape[2])]
    numbers = sorted({number for over_time, over_z in series for number in (*over_time.values(), *over_z)})
    heads = in_threads(lambda number: read_head(paths[number]), numbers)
    return {number: head for number, head in zip(numbers, heads, strict=True) if head is not None}


def without_copies(table: Table, copies: Copies) -> Table:
    """Table in which frames that were not taken are absent."""
    file, projection = table.file.copy(), None if table.projection is None else table.projection.copy()
    for channel, frames in copies.frames.items():
        file[:, frames, channel] = ABSENT
        if projection is not None:
            projection[:, frames, channel] = ABSENT
    return replace(table, file=file, projection=projection)


def _series(file: Numbers, fov: int, channel: int) -> tuple[dict[int, int], list[int]]:
    """Files of a channel's lowest plane by frame, and those of all planes of its first frame."""
    held = file[fov, :, channel] != ABSENT
    if not held.any():
        return {}, []
    frame, z = int(held.any(axis=1).argmax()), int(held.any(axis=0).argmax())
    over_time = {int(t): int(file[fov, t, channel, z]) for t in np.flatnonzero(held[:, z])}
    return over_time, file[fov, frame, channel, held[frame]].tolist()


def _stamp(head: Head | None) -> tuple[str | None, ...] | None:
    """Properties that differ between any two planes; None without a time."""
    if head is None or head.value("acquisition-time-local") is None:
        return None
    return tuple(head.value(name) for name in ("acquisition-time-local", "z-position", "Z Step", "plane-guid"))
