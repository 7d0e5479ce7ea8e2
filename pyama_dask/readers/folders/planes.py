"""Planes of a movie that is stored as a folder of image files: which file holds which plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.config.well_names import parse_well
from pyama_dask.readers.base import PROJECTION, FovInfo, Metadata

ABSENT = -1
"""Number that stands for a plane without a file."""
TIFF = "tiff"
"""Form of planes that are images of TIFF files."""
ZARR = "zarr"
"""Form of planes in Zarr arrays."""


@dataclass(frozen=True, eq=False)
class Planes:
    """Files of the planes of a movie, and places in these files.

    Parameters
    ----------
    folder
        Folder that the file names start at.
    files
        Names of the image files, with ``/`` between folders.
    sizes
        (files,) int64, bytes of each file.
    written
        (files,) int64, time of the last write to each file, in nanoseconds.
    file
        (FOVs, frames, channels, z) int32, number of the file that holds the plane, or `ABSENT`.
    place
        Like `file`, int64: where in the file the plane is; None if each file is one image. For `form`, see there.
    projection
        (FOVs, frames, channels) int32, number of the file with the instrument's own projection over z, or `ABSENT`;
        None without projections.
    index
        Text of the instrument's own index, as far as it describes the movie; part of the identity.
    form
        `TIFF`: `place` is the offset of the image's directory in the file. `ZARR`: `file` is the document of the
        array, and `place` the number of the plane in it; `files` has all chunks, too. Otherwise the NumPy pixel type,
        such as ``>u2``, of pixels that are stored as they are: `place` is the offset of the first one.
    """

    folder: Path
    files: Sequence[str]
    sizes: npt.NDArray[np.int64]
    written: npt.NDArray[np.int64]
    file: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64] | None = None
    projection: npt.NDArray[np.int32] | None = None
    index: bytes = b""
    form: str = TIFF

    def __getitem__(self, fovs: Sequence[int]) -> Planes:
        """Planes of some FOVs, in the order given."""
        order = list(fovs)
        place = None if self.place is None else self.place[order]
        projection = None if self.projection is None else self.projection[order]
        return replace(self, file=self.file[order], place=place, projection=projection)

    def file_of(self, fov: int, frame: int, channel: int, z: int) -> int:
        """Number of the file that holds a plane, or `PROJECTION`; `ABSENT` if there is no such file."""
        if z != PROJECTION:
            return int(self.file[fov, frame, channel, z])
        return ABSENT if self.projection is None else int(self.projection[fov, frame, channel])

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each file by its name."""
        return {name: number for number, name in enumerate(self.files)}

    @property
    def projected(self) -> tuple[int, ...]:
        """Channels with projections."""
        held = () if self.projection is None else np.flatnonzero((self.projection != ABSENT).any(axis=(0, 1))).tolist()
        return tuple(held)

    def path_of(self, file: int) -> Path:
        """Path of a file."""
        return self.folder / self.files[file]


@dataclass(frozen=True, eq=False)
class Folder:
    """Result of a scan of a folder."""

    metadata: Metadata
    planes: Planes

    def close(self) -> None:
        """Do nothing: files are open only while a plane is read."""

    def in_order(self, known: Sequence[str]) -> Folder:
        """Number FOVs as they were numbered before.

        Parameters
        ----------
        known
            Names of FOVs in their order; others follow in the order of the scan.
        """
        places = {fov.name: k for k, fov in enumerate(self.metadata.fovs)}
        first = [places[name] for name in known if name in places]
        order = [*first, *sorted(set(places.values()).difference(first))]
        return (
            self if order == list(range(len(order))) else Folder(_reordered(self.metadata, order), self.planes[order])
        )

    def by_wells(self) -> Folder:
        """Number FOVs by row, column and site, if all of them have a well."""
        fovs = self.metadata.fovs
        if not all(fov.well for fov in fovs):
            return self
        places = [(*parse_well(fov.well or ""), fov.site or 0, k) for k, fov in enumerate(fovs)]
        return self.in_order([fovs[k].name for *_, k in sorted(places)])


def _reordered(metadata: Metadata, order: Sequence[int]) -> Metadata:
    times, source = metadata.times_min, metadata.time_source
    return replace(
        metadata,
        fovs=tuple(metadata.fovs[k] for k in order),
        times_min=None if times is None else times[list(order)],
        time_source=tuple(source[k] for k in order) if isinstance(source, tuple) else source,
    )


def with_projections(folder: Folder) -> Folder:
    """Describe the projections of a scan in its metadata."""
    planes, metadata = folder.planes, folder.metadata
    fovs = tuple(_with_projections(fov, planes, k) for k, fov in enumerate(metadata.fovs))
    return Folder(replace(metadata, fovs=fovs, projected=planes.projected), planes)


def _with_projections(fov: FovInfo, planes: Planes, k: int) -> FovInfo:
    """Add projections of missing frames to `FovInfo.partial`."""
    held = [
        (channel, PROJECTION, tuple(t for t in fov.missing if planes.file_of(k, t, channel, PROJECTION) != ABSENT))
        for channel in planes.projected
    ]
    return replace(fov, partial=(*fov.partial, *(plane for plane in held if plane[2])))


def stat_files(folder: Path, files: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bytes, and times of the last write in nanoseconds, of files in a folder; both (files,) int64.

    Both are 0 for a file that has gone, so that reading it fails.
    """
    states = np.array([_size_and_time(folder / name) for name in files], np.int64).reshape(-1, 2)
    return states[:, 0], states[:, 1]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
