"""View of a movie: without the shading of the optics, and with stitched wells instead of sites."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.files.atomic import replacing
from pyama_dask.readers.array_file import arrays_of
from pyama_dask.readers.base import FlatField, Metadata, Reader, Tile
from pyama_dask.readers.views.flat_field import FlatFieldReader
from pyama_dask.readers.views.mosaic import MosaicReader, Wells


@dataclass(frozen=True, eq=False)
class View:
    """Corrections and stitching of the frames of a movie as they are read."""

    wells: Wells = field(default_factory=dict)
    """Places of the sites in each well; empty for FOVs as they are in the file."""
    flat_field: FlatField | None = None

    @classmethod
    def of(cls, metadata: Metadata) -> View:
        """View of a movie that its metadata describe."""
        return cls({fov.name: fov.tiles for fov in metadata.fovs if fov.tiles}, metadata.flat_field)

    def on(self, movie: Reader) -> Reader:
        """Reader that shows a movie so; `close` closes the movie."""
        flat = FlatFieldReader(movie, self.flat_field) if self.flat_field else movie
        return MosaicReader(flat, self.wells) if self.wells else flat

    @cached_property
    def digest(self) -> str:
        """Digest of the places and the shading."""
        shading = self.flat_field.digest if self.flat_field else ""
        return hashlib.blake2b(_text(self.wells) + shading.encode(), digest_size=12).hexdigest()

    def save(self, path: Path) -> None:
        """Write the view to a file."""
        flat = self.flat_field or FlatField({})
        arrays: dict[str, Any] = {f"profile_{channel}": profile for channel, profile in flat.profiles.items()}
        arrays |= {f"background_{channel}": levels for channel, levels in flat.backgrounds.items()}
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, wells=np.frombuffer(_text(self.wells), np.uint8), dark=flat.dark, **arrays)

    @classmethod
    def load(cls, path: Path) -> View:
        """Read what `save` wrote.

        Raises
        ------
        SourceError
            If the file is absent or damaged.
        """
        with arrays_of(path, "the view of the movie") as held:
            wells: Mapping[str, list[list[int]]] = json.loads(held.pop("wells").tobytes())
            dark = float(held.pop("dark"))
            profiles, backgrounds = (_by_channel(held, kind) for kind in ("profile_", "background_"))
            tiles = {well: tuple(Tile(*tile) for tile in of) for well, of in wells.items()}
            return cls(tiles, FlatField(profiles, dark, backgrounds) if profiles else None)


def _by_channel(held: Mapping[str, Any], kind: str) -> dict[int, Any]:
    return {int(name.removeprefix(kind)): array for name, array in held.items() if name.startswith(kind)}


def _text(wells: Wells) -> bytes:
    return json.dumps({well: [list(tile) for tile in tiles] for well, tiles in wells.items()}).encode()
