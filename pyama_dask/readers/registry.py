"""Which reader reads which file."""

from __future__ import annotations

import atexit
import importlib
import os
from pathlib import Path
from typing import Any

from pyama_dask.errors import SourceError
from pyama_dask.readers.base import Reader
from pyama_dask.readers.handle import FileReader

# Names, so that a vendor's package is imported only for a file of its format.
READERS = {".nd2": ("pyama_dask.readers.nd2", "Nd2Reader"), ".czi": ("pyama_dask.readers.czi", "CziReader")}
"""Module and class that read the files with a suffix."""


def open_reader(path: str | os.PathLike[str]) -> Reader:
    """Choose the reader for a movie file by its suffix.

    Checks that the file is there and begins as its format does; the rest of it is read at first need.

    Raises
    ------
    SourceError
        If there is no such file, or it is not a movie of a known format.
    """
    module, name = check_suffix(path)
    reader: FileReader[Any] = getattr(importlib.import_module(module), name)(path)
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


_SHARED: dict[Path, tuple[tuple[int, int], Reader]] = {}


def shared_reader(path: Path) -> Reader:
    """Give this process's one reader of a movie, so that the tasks of a run find the file open and its index read.

    It stays open until `close_shared_readers`, or the end of the process; a file that has changed is opened anew.
    """
    state = path.stat()
    version = (state.st_mtime_ns, state.st_size)
    if path not in _SHARED or _SHARED[path][0] != version:
        close_shared_readers()
        _SHARED[path] = (version, open_reader(path))
    return _SHARED[path][1]


@atexit.register  # a worker ends with the movie open, which nd2 complains about
def close_shared_readers() -> None:
    """Close the readers that `shared_reader` has left open."""
    while _SHARED:
        _SHARED.popitem()[1][1].close()
