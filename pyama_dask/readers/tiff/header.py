"""Size, pixel type and pixel size of TIFF files with one image each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import tifffile

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.files.images import pixel_size_of
from pyama_dask.readers.damage import READ_ERRORS

Item = TypeVar("Item")
_FEW = 5
"""Files that tell what most of them are."""


class HasForm(Protocol):
    """Description of a file by the size and pixel type of its image."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def dtype(self) -> str:
        """NumPy name of the pixel type."""


Described = TypeVar("Described", bound=HasForm)


@dataclass(frozen=True)
class TiffHeader:
    """Description of a TIFF file with one image."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    dtype: str
    """NumPy name of the pixel type."""
    pixel_size_um: float | None
    """Micrometres per pixel; None if the file does not say."""

    @property
    def form(self) -> tuple[tuple[int, int], str]:
        """Size and pixel type."""
        return self.shape, self.dtype


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


def common_header(paths: Iterable[Path]) -> TiffHeader | None:
    """Description that most files share; None if none of them can be read.

    So an odd file, which is refused when it is read, harms its own FOV only.

    Raises
    ------
    UnsupportedSourceError
        If all that can be read have several pages, or colours.
    """
    headers, refused = list[TiffHeader](), list[UnsupportedSourceError]()
    for path in paths:
        try:
            headers.append(read_header(path))
        except UnsupportedSourceError as error:
            refused.append(error)
        except SourceError:
            continue
    if refused and not headers:
        raise refused[0]
    return most_common(headers)


def most_common(headers: Sequence[Described]) -> Described | None:
    """First description whose size and pixel type most have; None without any."""
    counts = Counter((header.shape, header.dtype) for header in headers)
    return max(headers, key=lambda header: counts[header.shape, header.dtype], default=None)


def few_of(items: Sequence[Item]) -> list[Item]:
    """Return up to five items, spread evenly over all of them."""
    chosen = np.linspace(0, len(items) - 1, _FEW).round().astype(int).tolist() if len(items) > _FEW else []
    return [items[number] for number in chosen] or list(items)
