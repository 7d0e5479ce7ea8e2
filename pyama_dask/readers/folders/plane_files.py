"""One plane of a movie in a folder, read from its file as it was when a run was planned, or refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pyama_dask.errors import PyamaError, SourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.base import PROJECTION
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.folders.planes import TIFF, ZARR, Planes
from pyama_dask.readers.state import State, changed


def read_plane(
    planes: Planes, at: tuple[int, int, int, int], shape: tuple[int, ...], dtype: np.dtype[Any], name: str
) -> np.ndarray:
    """Read one plane.

    Parameters
    ----------
    planes
        Files of the movie.
    at
        FOV, frame, channel and z of a plane that has a file; z may be `PROJECTION`.
    shape
        (height, width) that it must have.
    dtype
        Pixel type that must hold its pixels.
    name
        FOV and frame, for messages.

    Returns
    -------
    (height, width) array in the file's pixel type.

    Raises
    ------
    SourceError
        If the file is absent, damaged, of another size, or has changed since the run was planned.
    """
    number = planes.file_of(*at)
    path = planes.path_of(number)
    planned = State(int(planes.sizes[number]), int(planes.written[number]))
    place = None if planes.place is None or at[-1] == PROJECTION else int(planes.place[at])
    name = f"{path} ({name})"
    try:
        if planes.form == ZARR:
            from pyama_dask.readers.zarr_images.arrays import read_array  # noqa: PLC0415  (zarr is slow to import)

            pixels = read_array(planes, number, place or 0, shape, name)
        else:
            pixels = _read_file(path, place, shape, planned, planes.form, name)
    except PyamaError:
        raise
    except FileNotFoundError as error:
        raise changed(path, "it is no longer there") from error
    except PermissionError as error:
        fix = "Fix: check its permissions and use --extend, or leave out its FOV"
        raise SourceError(f"{name}: cannot be read ({error.strerror}). {fix}") from error
    except READ_ERRORS as error:
        raise _unreadable(name, f"cannot be read ({type(error).__name__}: {error})") from error
    if not np.can_cast(pixels.dtype, dtype, "safe"):
        raise _unreadable(name, f"has pixels of type {pixels.dtype}, not {dtype}")
    return pixels


def _read_file(
    path: Path, place: int | None, shape: tuple[int, ...], planned: State, form: str, name: str
) -> np.ndarray:
    """Read a plane of a TIFF file, which is compared with its planned state before and after."""
    with open_file(path) as file:
        _check_state(path, file, planned)
        if not planned.size:
            raise _unreadable(name, "is empty")
        if form == TIFF:
            pixels = _read_image(file, place, shape, planned.size, name)
        else:
            pixels = _read_stored(file, place or 0, shape, np.dtype(form), name)
        _check_state(path, file, planned)
        return pixels


def _check_state(path: Path, file: BinaryIO, planned: State) -> None:
    stat = os.fstat(file.fileno())
    if difference := planned.difference_anywhere(State(stat.st_size, stat.st_mtime_ns)):
        raise changed(path, difference)


def _unreadable(name: str, fault: str) -> SourceError:
    return SourceError(f"{name}: {fault}. Fix: copy it again and use --extend, or leave out its FOV")


def _read_image(file: BinaryIO, place: int | None, shape: tuple[int, ...], size: int, name: str) -> np.ndarray:
    """Read an image of a TIFF file: the one whose directory is at an offset, or the first one."""
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first if place is None else _page_at(tiff, place)
        fault = _fault(page, shape, size)
        if place is None and tiff.pages.is_multipage:
            fault = f"has {len(tiff.pages)} pages, not 1"
        if fault:
            raise _unreadable(name, fault)
        return page.asarray()


def _page_at(tiff: tifffile.TiffFile, offset: int) -> tifffile.TiffPage:
    """Image at an offset: to follow the chain of images to it would take as long as the chain is."""
    tiff.filehandle.seek(offset)
    return tifffile.TiffPage(tiff, index=0)


def _read_stored(file: BinaryIO, place: int, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    """Read pixels that are stored as they are."""
    file.seek(place)
    data = file.read(dtype.itemsize * shape[0] * shape[1])
    if len(data) < dtype.itemsize * shape[0] * shape[1]:
        raise _unreadable(name, "is cut off")
    return np.frombuffer(data, dtype).reshape(shape)


def _fault(page: tifffile.TiffPage, shape: tuple[int, ...], size: int) -> str:
    """Say why a page cannot be the plane; '' if it can.

    tifffile returns zeros for strips that are absent, so these are looked for first.
    """
    if page.shape != shape:
        return f"has {_times(page.shape)} pixels, not {_times(shape)}"
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not strips or min(count for _, count in strips) == 0:
        return "has no pixels in a part of the image"
    if max(offset + count for offset, count in strips) > size:
        return "is cut off"
    return ""


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
