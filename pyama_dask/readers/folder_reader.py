"""Reader of movies that are folders of TIFF files, such as plates of screening microscopes."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import tifffile

from pyama_dask.errors import PyamaError, SourceError
from pyama_dask.readers.base import PROJECTION, Metadata
from pyama_dask.readers.file_reader import FileReader
from pyama_dask.readers.folder_content import load_folder
from pyama_dask.readers.planes import ABSENT, Folder
from pyama_dask.readers.state import COARSE, State, changed


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

    vendor_errors = (
        ArithmeticError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )

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

    def _fill(self, file: Folder, pixels: np.ndarray, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        planes = file.planes
        for k, channel in enumerate(channels):
            number = planes.file_of(fov, frame, channel, z)
            if number == ABSENT:  # of a projection: planes were looked for before
                raise self._missing(fov, frame, [channel], z)
            planned = State(int(planes.sizes[number]), int(planes.written[number]))
            page = None if planes.page is None or z == PROJECTION else int(planes.page[fov, frame, channel, z])
            name = f"{planes.path_of(number)} ({file.metadata.fovs[fov].name}, frame {frame})"
            pixels[k] = read_page(planes.path_of(number), page, pixels.shape[1:], pixels.dtype, planned, name)


def read_page(
    path: Path, number: int | None, shape: tuple[int, ...], dtype: np.dtype[Any], planned: State, name: str
) -> np.ndarray:
    """Read one page of a TIFF file.

    Parameters
    ----------
    path
        The file.
    number
        Page from 0; None for the only one of the file.
    shape
        (height, width) that the page must have.
    dtype
        Pixel type that must hold its pixels.
    planned
        State of the file when the run was planned.
    name
        The file, and what is in it, for messages.

    Returns
    -------
    (height, width) array in the file's pixel type.

    Raises
    ------
    SourceError
        If the file is absent, damaged, of another size, or has changed.
    """
    try:
        with path.open("rb") as file:
            _check_state(path, file, planned)
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[number or 0].aspage()
                fault = _fault(page, shape, dtype, planned.size)
                if number is None and len(tiff.pages) > 1:
                    fault = f"has {len(tiff.pages)} pages, not 1"
                if fault:
                    raise SourceError(f"{name}: {fault}. Fix: copy it again, or leave out its FOV")
                pixels = page.asarray()
            _check_state(path, file, planned)
            return pixels
    except PyamaError:
        raise
    except FileNotFoundError as error:
        raise changed(path, "it is no longer there") from error
    except FolderReader.vendor_errors as error:
        problem = f"{name}: cannot be read ({type(error).__name__}: {error})"
        raise SourceError(f"{problem}. Fix: copy it again, or leave out its FOV") from error


def _check_state(path: Path, file: BinaryIO, planned: State) -> None:
    stat = os.fstat(file.fileno())
    if difference := planned.difference_anywhere(State(stat.st_size, stat.st_mtime_ns)):
        raise changed(path, difference)


def _fault(page: tifffile.TiffPage, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> str:
    """Say why a page cannot be the plane; '' if it can.

    tifffile returns zeros for strips that are absent, so these are looked for first.
    """
    if page.shape != shape:
        return f"has {_times(page.shape)} pixels, not {_times(shape)}"
    if page.dtype is None or not np.can_cast(page.dtype, dtype, "safe"):
        return f"has pixels of type {page.dtype}, not {dtype}"
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not strips or min(count for _, count in strips) == 0:
        return "has no pixels in a part of the image"
    if max(offset + count for offset, count in strips) > size:
        return "is cut off"
    return ""


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


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


def _folder_states(folder: Folder) -> tuple[tuple[str, int], ...]:
    """Time of the last change to each folder that holds files of a movie."""
    root = folder.planes.folder
    names = sorted({name.rpartition("/")[0] for name in folder.planes.files})
    return tuple((name, (root / name).stat().st_mtime_ns) for name in names if (root / name).is_dir())
