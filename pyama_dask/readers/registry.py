"""Registry of the readers: by suffix for files, by what is in it for a folder, by its fields for a pattern."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pyama_dask.errors import SourceError
from pyama_dask.readers.base import Metadata, Reader
from pyama_dask.readers.content import Places
from pyama_dask.readers.file_reader import FileReader, check_file

if TYPE_CHECKING:
    from pyama_dask.readers.folders.planes import Folder
    from pyama_dask.readers.folders.reader import FolderReader, Scan

# Names instead of classes, so that a vendor's package is imported only for files of its format.
READERS = {
    ".nd2": ("pyama_dask.readers.nd2.reader", "Nd2Reader"),
    ".czi": ("pyama_dask.readers.czi.reader", "CziReader"),
}
"""Module and class of the reader, by suffix."""
SUFFIXES = " or ".join(READERS)
"""Suffixes of movie files, for messages."""
PLACES = {".nd2": "pyama_dask.readers.nd2.map", ".czi": "pyama_dask.readers.czi.directory"}
"""Module with a function ``places`` for the file's identity, by suffix; none imports a vendor's package."""
FOLDERS = (
    "pyama_dask.readers.imagexpress.plate",
    "pyama_dask.readers.opera.plate",
    "pyama_dask.readers.micro_manager.dataset",
    "pyama_dask.readers.tiff.movie",
    "pyama_dask.readers.zarr_images.ome_zarr",
    "pyama_dask.readers.zarr_images.run_output",
)
"""Modules of formats that are folders, or may be sets of files: a ``NAME``, and functions ``find`` and ``scan``."""
_NAMED = 5
"""Most movies that a message names."""
_ENDING = re.compile(r"(\.ome|\.companion)?\.(tiff?|tf8|btf|zarr|ome)$", re.IGNORECASE)
"""Ending of files and folders of these formats."""
PATTERN = "pyama_dask.readers.tiff.folder"
"""Module for folders of TIFF files whose names follow a pattern."""


def open_reader(
    path: str | os.PathLike[str],
    size: int | None = None,
    *,
    times: bool = True,
    known: Sequence[str] = (),
) -> Reader:
    """Return the reader for a movie.

    Checks that a file exists and begins like its format; the rest is read when needed.

    Parameters
    ----------
    path
        A file, a folder (or its index file), or a pattern such as ``images/p{fov}_t{frame}_c{channel}.tif``.
    size
        Bytes that belong to the movie, for a file that has grown since; None for all.
    times
        False to skip the times of frames, which some files store with each frame.
    known
        Names of FOVs of a folder that keep their numbers, in this order; others follow. A file has its own order.

    Raises
    ------
    SourceError
        If the movie is absent or not in a supported format.
    """
    place = Path(path).absolute()
    if is_file_format(place):
        module, name = READERS[place.suffix.lower()]
        file_reader: FileReader[Any] = getattr(importlib.import_module(module), name)(place, size, times)
        file_reader.check()
        return file_reader
    return open_folder(place, known, times=times)


def open_folder(path: Path, known: Sequence[str] = (), *, times: bool = True) -> FolderReader:
    """Return the reader for a folder or a pattern; see `open_reader`."""
    from pyama_dask.readers.folders.reader import FolderReader  # noqa: PLC0415  (movie files need nothing of folders)

    return FolderReader(path, _scan_of(path), times, known)


def reopen(metadata: Metadata) -> Reader:
    """Reader of a movie whose metadata was read: FOVs have the same numbers, and are seen in the same way."""
    movie = open_reader(metadata.path, times=False, known=[fov.name for fov in metadata.fovs])
    if metadata.flat_field is None and not any(fov.tiles for fov in metadata.fovs):
        return movie
    from pyama_dask.readers.views.view import View  # noqa: PLC0415  (loads SciPy)

    return View.of(metadata).on(movie)


def is_file_format(path: Path) -> bool:
    """True if a path has the suffix of a format that is one file."""
    with suppress(OSError):  # such as a name that is too long
        return path.suffix.lower() in READERS and not path.is_dir()
    return True


def movie_stem(path: Path) -> str:
    """Name that results of a movie begin with: of the file without its suffix, or of the folder."""
    if path.suffix.lower() in READERS:
        return path.stem
    place = next(place for place in (path, *path.parents) if "{" not in str(place))
    return _ENDING.sub("", place.name) or place.name


def is_pattern(path: Path) -> bool:
    """True if a path is a pattern of file names, with fields such as ``{frame}``."""
    return "{" in str(path) and not os.path.lexists(path)


def fixed_part(pattern: Path) -> Path:
    """Folder that a pattern of file names starts at."""
    return next(parent for parent in pattern.parents if os.path.lexists(parent) or not {"{", "*"} & {*str(parent)})


def _scan_of(path: Path) -> Scan:
    """Function that finds the planes of a folder or a pattern."""
    if is_pattern(path):
        root = fixed_part(path)
        return partial(_scan, path, PATTERN, root, path.relative_to(root).as_posix())
    module, root = _find_format(path)
    return partial(_scan, root, module, root)


def _scan(movie: Path, module: str, *where: Path | str, times: bool) -> Folder:
    from pyama_dask.readers.folders.planes import with_projections  # noqa: PLC0415  (movie files need nothing of it)

    found: Folder = importlib.import_module(module).scan(*where, times=times)
    return with_projections(replace(found, metadata=replace(found.metadata, path=movie)))


def _find_format(path: Path) -> tuple[str, Path]:
    """Module of the format, and root, of the only movie that a path leads to.

    Raises
    ------
    SourceError
        If the path leads to no movie or to several, or if two formats claim it.
    """
    formats = {name: importlib.import_module(name) for name in FOLDERS}
    try:
        if not path.is_dir():
            check_file(path)  # such as the index file of a plate
        found = [(name, root) for name, module in formats.items() for root in module.find(path)]
    except SourceError:
        raise
    except OSError as error:  # such as a folder in it that only its owner may read
        place = error.filename or path
        raise SourceError(
            f"{place}: cannot be read ({error.strerror}). Fix: check its permissions, and those of the folders above"
        ) from error
    found = [(name, root) for name, root in found if root == path] or found  # rather than files that lie in it, too
    roots = sorted({str(root) for _, root in found})
    if len(roots) > 1:
        named = ", ".join(roots[:_NAMED]) + (", ..." if len(roots) > _NAMED else "")
        raise SourceError(f"{path}: holds several movies. Fix: name one of them: {named}")
    if len(found) > 1:
        names = " and ".join(formats[name].NAME for name, _ in found)
        raise SourceError(f"{path}: could be a movie of {names}. Fix: keep the images of one movie in the folder")
    if not found:
        raise _unsupported(path)
    return found[0]


def _unsupported(path: Path) -> SourceError:
    if path.is_file():
        return SourceError(
            f"{path}: is not a movie in a supported format. Fix: pass a file that ends in {SUFFIXES}, or a TIFF file"
        )
    movies = sorted(file.name for file in path.iterdir() if file.suffix.lower() in READERS)
    if movies:
        return SourceError(f"{path}: is a directory. Fix: pass the movie in it, such as {movies[0]}")
    formats = ", ".join(str(importlib.import_module(name).NAME) for name in FOLDERS)
    return SourceError(
        f"{path}: is a directory without a movie of {formats}. Fix: pass the folder of one, a file that ends in "
        f"{SUFFIXES}, or a pattern of TIFF files such as 'img_p{{fov}}_t{{frame}}_c{{channel}}.tif'"
    )


def find_places(path: Path) -> Callable[[BinaryIO], Places]:
    """Function that finds the parts of an open movie file that its identity depends on."""
    function: Callable[[BinaryIO], Places] = importlib.import_module(PLACES[path.suffix.lower()]).places
    return function
