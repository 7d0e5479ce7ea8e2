"""Images of a dataset of Micro-Manager, in one form for its two formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple


class Image(NamedTuple):
    """One plane in a file."""

    at: tuple[int, int, int, int]
    """FOV, frame, channel and z, each from 0."""
    file: str
    place: int
    """As in `Planes`."""
    about: tuple[int, int] = (0, 0)
    """Offset and bytes of its metadata, where the index has them."""


@dataclass(frozen=True)
class Acquisition:
    """Images of a dataset."""

    images: Sequence[Image]
    fovs: Sequence[str]
    """Names of the FOVs, unless their images have other ones."""
    shapes: Sequence[tuple[int, int]]
    """(height, width) of each FOV."""
    channels: Sequence[str]
    dtype: str
    form: str
    """As in `Planes`."""
    summary: Mapping[str, Any]
    read_about: Callable[[BinaryIO, Image], bytes]
    """Function that reads the metadata of an image, as JSON, from its open file."""
    notes: Sequence[str] = ()
