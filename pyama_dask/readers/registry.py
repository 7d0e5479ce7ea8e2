"""Which reader reads which file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pyama_dask.errors import SourceError
from pyama_dask.readers.base import Reader
from pyama_dask.readers.content import Places
from pyama_dask.readers.file_reader import FileReader

# Names, so that a vendor's package is imported only for a file of its format.
READERS = {".nd2": ("pyama_dask.readers.nd2", "Nd2Reader"), ".czi": ("pyama_dask.readers.czi", "CziReader")}
"""Module and class that read the files with a suffix."""
PLACES = {".nd2": "pyama_dask.readers.nd2_map", ".czi": "pyama_dask.readers.czi_directory"}
"""Module with a function ``places``, for the identity of files with a suffix; none loads a vendor's package."""


def open_reader(path: str | os.PathLike[str], size: int | None = None, *, times: bool = True) -> Reader:
    """Choose the reader for a movie file by its suffix.

    Checks that the file is there and begins as its format does; the rest of it is read at first need.

    Parameters
    ----------
    path
        The movie file.
    size
        Bytes that belong to the movie, of a file that has grown since; by default all.
    times
        Whether its metadata has the times of frames, which some files keep with each frame.

    Raises
    ------
    SourceError
        If there is no such file, or it is not a movie of a known format.
    """
    module, name = check_suffix(path)
    reader: FileReader[Any] = getattr(importlib.import_module(module), name)(path, size, times)
    reader.check()
    return reader


def check_suffix(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Give module and class that read a file, by its suffix.

    Raises
    ------
    SourceError
        If no known format has it.
    """
    place = READERS.get(Path(path).suffix.lower())
    if place is None:
        known = " or ".join(READERS)
        raise SourceError(f"{path}: is not a movie of a known format; give a file that ends in {known}")
    return place


def find_places(path: Path) -> Callable[[BinaryIO], Places]:
    """Give the function that finds, in an open movie file, what its identity depends on."""
    check_suffix(path)
    found: Callable[[BinaryIO], Places] = importlib.import_module(PLACES[path.suffix.lower()]).places
    return found
