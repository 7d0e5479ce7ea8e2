"""Which reader reads which file."""

from __future__ import annotations

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
    place = READERS.get(Path(path).suffix.lower())
    if place is None:
        known = " or ".join(READERS)
        raise SourceError(f"{path}: is not a movie of a known format; give a file that ends in {known}")
    module, name = place
    reader: FileReader[Any] = getattr(importlib.import_module(module), name)(path)
    reader.check()
    return reader
