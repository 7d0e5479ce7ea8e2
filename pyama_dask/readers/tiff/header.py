"""Size, pixel type and pixel size of TIFF files with one image each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.files.images import pixel_size_of
from pyama_dask.readers.damage import READ_ERRORS


@dataclass(frozen=True)
class TiffHeader:
    """Description of a TIFF file with one image."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    dtype: str
    """NumPy name of the pixel type."""
    pixel_size_um: float | None
    """Micrometres per pixel; None if the file does not say."""


def read_header(path: Path) -> TiffHeader:
    """Read the description of a file.

    Raises
    ------
    SourceError
        If the file cannot be read.
    UnsupportedSourceError
        If it has several pages, or colours.
    """
    try:
        with open_file(path) as opened, tifffile.TiffFile(opened) as file:
            page, pages = file.pages.first, len(file.pages)
            shape, dtype, size = page.shape, page.dtype, pixel_size_of(file)
    except READ_ERRORS as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}: {error}). Fix: copy it again") from error
    if pages > 1:
        raise UnsupportedSourceError(
            f"{path}: has {pages} pages, but each image must be one file. Fix: save each page as one file"
        )
    if len(shape) != 2 or dtype is None or dtype.kind not in "iuf":
        raise UnsupportedSourceError(
            f"{path}: is not a grey image (its shape is {shape}, its pixel type {dtype}). "
            "Fix: save each channel as one file"
        )
    return TiffHeader((int(shape[0]), int(shape[1])), np.dtype(dtype).newbyteorder("=").name, size)


def first_header(paths: Iterable[Path]) -> TiffHeader | None:
    """Description of the first file that can be read; None if there is no such file.

    Raises
    ------
    UnsupportedSourceError
        If this file has several pages, or colours.
    """
    for path in paths:
        try:
            return read_header(path)
        except UnsupportedSourceError:
            raise
        except SourceError:
            continue
    return None
