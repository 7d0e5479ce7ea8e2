"""Planes of a movie that is stored as a folder of image files: which file holds which plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.readers.base import Metadata

ABSENT = -1
"""Number that stands for a plane without a file."""


@dataclass(frozen=True, eq=False)
class Planes:
    """Files and pages of the planes of a movie.

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
    page
        Like `file`: number of the page in the file; None if each file has one page.
    projection
        (FOVs, frames, channels) int32, number of the file with the instrument's own projection over z, or `ABSENT`;
        None without projections.
    index
        Text of the instrument's own index, as far as it describes the movie; part of the identity.
    """

    folder: Path
    files: Sequence[str]
    sizes: npt.NDArray[np.int64]
    written: npt.NDArray[np.int64]
    file: npt.NDArray[np.int32]
    page: npt.NDArray[np.int32] | None = None
    projection: npt.NDArray[np.int32] | None = None
    index: bytes = b""

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


def stat_files(folder: Path, files: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bytes, and times of the last write in nanoseconds, of files in a folder; both (files,) int64."""
    stats = [(folder / name).stat() for name in files]
    sizes = np.array([stat.st_size for stat in stats], np.int64)
    return sizes, np.array([stat.st_mtime_ns for stat in stats], np.int64)
