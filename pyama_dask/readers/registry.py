"""Registry of the readers by file suffix."""

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

# Names instead of classes, so that a vendor's package is imported only for files of its format.
READERS = {".nd2": ("pyama_dask.readers.nd2", "Nd2Reader"), ".czi": ("pyama_dask.readers.czi", "CziReader")}
"""Module and class of the reader, by suffix."""
PLACES = {".nd2": "pyama_dask.readers.nd2_map", ".czi": "pyama_dask.readers.czi_directory"}
"""Module with a function ``places`` for the file's identity, by suffix; none imports a vendor's package."""


def open_reader(path: str | os.PathLike[str], size: int | None = None, *, times: bool = True) -> Reader:
    """Return the reader for a movie file, chosen by its suffix.

    Checks that the file exists and begins like its format; the rest is read when needed.

    Parameters
    ----------
    path
        The movie file.
    size
        Bytes that belong to the movie, for a file that has grown since; None for all.
    times
        False to skip the times of frames, which some files store with each frame.

    Raises
    ------
    SourceError
        If the file is absent or not in a supported format.
    """
    module, name = check_suffix(path)
    reader: FileReader[Any] = getattr(importlib.import_module(module), name)(path, size, times)
    reader.check()
    return reader


def check_suffix(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Module and class of the reader for a file, by its suffix.

    Raises
    ------
    SourceError
        If the suffix belongs to no supported format.
    """
    place = READERS.get(Path(path).suffix.lower())
    if place is None:
        supported = " or ".join(READERS)
        raise SourceError(f"{path}: is not a movie in a supported format. Fix: pass a file that ends in {supported}")
    return place


def find_places(path: Path) -> Callable[[BinaryIO], Places]:
    """Function that finds the parts of an open movie file that its identity depends on."""
    check_suffix(path)
    function: Callable[[BinaryIO], Places] = importlib.import_module(PLACES[path.suffix.lower()]).places
    return function
