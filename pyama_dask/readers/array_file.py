"""Files of arrays that the driver writes to an output, and workers read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.errors import SourceError

_DAMAGED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors of damaged files: of numpy and `zipfile`, and of whoever takes the arrays for something that they are not."""


@contextmanager
def arrays_of(path: Path, what: str) -> Iterator[dict[str, Any]]:
    """Read the arrays of an ``.npz`` file, for a block that makes something of them.

    Parameters
    ----------
    path
        The file.
    what
        Description of its content, for messages.

    Yields
    ------
    Arrays by name.

    Raises
    ------
    SourceError
        If the file is absent or damaged, or the block fails because of what is in it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a damaged file open
            held = {name: arrays[name] for name in arrays.files}
        yield held
    except _DAMAGED as error:
        raise SourceError(f"{path}: {what} is damaged ({error}). Fix: run again") from error
