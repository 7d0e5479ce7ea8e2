"""Reader that removes the shading of the optics from frames as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np

from pyama_dask.kernels.flat_field import correct
from pyama_dask.readers.base import FlatField, Metadata, Planes, Reader


class FlatFieldReader:
    """Reader of a movie without shading.

    Parameters
    ----------
    movie
        Reader of the movie as it is; `close` closes it.
    flat_field
        Shading of some channels; others stay as they are.
    """

    suffixes: Sequence[str] = ()

    def __init__(self, movie: Reader, flat_field: FlatField) -> None:
        self.path = movie.path
        self._movie, self._flat_field = movie, flat_field

    @cached_property
    def metadata(self) -> Metadata:
        """Content of the movie; raises `SourceError` as its reader does."""
        return replace(self._movie.metadata, flat_field=self._flat_field)

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read one frame; see `Reader.read_frame`. Corrected levels are rounded, and stay in the file's pixel type."""
        pixels = self._movie.read_frame(fov, frame, channels=channels, z=z)
        self._correct(pixels, channels)
        return pixels

    def read_into(
        self, out: Planes, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0
    ) -> None:
        """Read one frame into memory of the caller; see `Reader.read_into`."""
        self._movie.read_into(out, fov, frame, channels=channels, z=z)
        self._correct(out, channels)

    def _correct(self, planes: Planes, channels: Sequence[int] | None) -> None:
        """Remove the shading of (H, W) arrays, in place."""
        info = self._movie.metadata
        profiles, backgrounds = self._flat_field.profiles, self._flat_field.backgrounds
        for k, channel in enumerate(range(len(info.channels)) if channels is None else channels):
            if channel in profiles:
                plane = planes[k].astype(info.channels[channel].dtype, copy=False)
                dark = backgrounds.get(channel, self._flat_field.dark)
                planes[k][...] = correct(plane, profiles[channel], dark=dark)

    def close(self) -> None:
        """Close the reader of the movie."""
        self._movie.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
