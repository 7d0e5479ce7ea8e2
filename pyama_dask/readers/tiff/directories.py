"""Offsets of the images in a TIFF file, found by following their chain and reading nothing else."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import open_file

ENDINGS = (".tif", ".tiff", ".tf8", ".btf")
_FORMS = {
    b"II*\0": ("<", "H", "I", 4, 12),
    b"MM\0*": (">", "H", "I", 4, 12),
    b"II+\0": ("<", "Q", "Q", 8, 20),
    b"MM\0+": (">", "Q", "Q", 8, 20),
}
"""Byte order, formats of the number of tags and of offsets, place of the first offset, and bytes of a tag."""


def find_directories(path: Path) -> tuple[list[int], bool]:
    """Find the directory of each image in a TIFF file.

    Parameters
    ----------
    path
        A classic or a large TIFF file (BigTIFF).

    Returns
    -------
    Offsets in bytes, and whether the chain ends as it must; it does not if the file is cut off.

    Raises
    ------
    SourceError
        If the file cannot be read, or is no TIFF file.
    """
    try:
        with open_file(path) as file:
            return _follow(file.fileno(), path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror}). Fix: check the path") from error


def _follow(file: int, path: Path) -> tuple[list[int], bool]:
    form = _FORMS.get(os.pread(file, 4, 0))
    if form is None:
        raise SourceError(f"{path}: is not a TIFF file despite its name, or empty. Fix: copy it again")
    order, count, offset, place, tag = form
    tags, link = struct.Struct(order + count), struct.Struct(order + offset)
    offsets, seen = list[int](), set[int]()
    try:
        while at := link.unpack(os.pread(file, link.size, place))[0]:
            if at in seen:
                return offsets, False
            place = at + tags.size + tags.unpack(os.pread(file, tags.size, at))[0] * tag
            link.unpack(os.pread(file, link.size, place))  # the directory ends within the file
            offsets.append(at)
            seen.add(at)
    except (struct.error, OverflowError, OSError):  # beyond the end
        return offsets, False
    return offsets, True
