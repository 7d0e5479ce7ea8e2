"""Reader of movies that are folders of TIFF files, such as plates of screening microscopes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyama_dask.readers.base import Metadata, Planes
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.file_reader import FileReader
from pyama_dask.readers.folders.content import load_folder
from pyama_dask.readers.folders.plane_files import read_plane
from pyama_dask.readers.folders.planes import ABSENT, Folder
from pyama_dask.readers.state import COARSE


class Scan(Protocol):
    """Function that finds the planes of a movie; ``times`` is False to skip the times of frames."""

    def __call__(self, *, times: bool) -> Folder:
        """Look into the folder."""
        ...


class FolderReader(FileReader[Folder]):
    """Reader of a folder of TIFF files.

    A file is compared with the scan before and after it is read, so that a run never mixes old and new planes.

    Parameters
    ----------
    path
        The folder, or the pattern of the file names.
    planes
        Function that finds the planes, from the module of the format; or the planes as they were found when a run was
        planned, or their file from `save_folder`.
    times
        False to skip the times of frames.
    known
        Names of FOVs whose numbers are known, in this order; others follow.
    """

    vendor_errors = READ_ERRORS

    def __init__(
        self,
        path: str | os.PathLike[str],
        planes: Scan | Folder | Path,
        times: bool = True,
        known: Sequence[str] = (),
    ) -> None:
        super().__init__(path, None, times)
        self._planes, self._known = planes, known

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._planes, self.times, self._known)

    @property
    def folder(self) -> Folder:
        """Metadata and planes; raises `SourceError` if no plane is found."""
        return self._opened()[0]

    def check(self) -> None:
        """Do nothing: the scan says what is wrong with a folder."""

    def _open(self) -> Folder:
        if isinstance(self._planes, Folder):
            return self._planes
        if isinstance(self._planes, Path):
            return load_folder(self._planes)
        return _recent.get(self.path, self._planes, self.times).in_order(self._known)

    def _describe(self, file: Folder) -> Metadata:
        return file.metadata

    def _fill(self, file: Folder, out: Planes, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        name = f"{file.metadata.fovs[fov].name}, frame {frame}"
        for plane, channel in zip(out, channels, strict=True):
            if file.planes.file_of(fov, frame, channel, z) == ABSENT:  # a projection: planes were looked for before
                raise self._missing(fov, frame, [channel], z)
            plane[...] = read_plane(file.planes, (fov, frame, channel, z), plane.shape, plane.dtype, name)


# ------------------------------------------------------------------------------------------ the most recent scan


@dataclass
class _Recent:
    """The last folder that this process has looked into: a plan reads its metadata, and then a frame of it."""

    key: tuple[Path, bool] | None = None
    state: tuple[tuple[str, int], ...] = ()
    folder: Folder | None = None

    def get(self, path: Path, scan: Scan, times: bool) -> Folder:
        """Scan of the folder, unless it is the last one, and no file was added or removed since."""
        if self.folder is not None and self.key == (path, times) and self.state == _folder_states(self.folder):
            return self.folder
        folder = scan(times=times)
        state = _folder_states(folder)
        is_quiet = all(time.time_ns() - written > COARSE for _, written in state)
        self.key, self.state, self.folder = ((path, times), state, folder) if is_quiet else (None, (), None)
        return folder


_recent = _Recent()


def forget_scan() -> None:
    """Let the next reader look into its folder again: files may have been replaced, which no folder shows."""
    _recent.key = None


def _folder_states(folder: Folder) -> tuple[tuple[str, int], ...]:
    """Time of the last change to each folder that holds files of a movie."""
    root = folder.planes.folder
    names = sorted({name.rpartition("/")[0] for name in folder.planes.files})
    return tuple((name, (root / name).stat().st_mtime_ns) for name in names if (root / name).is_dir())
