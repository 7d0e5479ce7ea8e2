"""The stitched movie of a run: the movie of its sites, and where they lie in the wells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import write_bytes
from pyama_dask.readers.base import Metadata, Reader, Tile
from pyama_dask.readers.mosaic import MosaicReader, Wells
from pyama_dask.readers.shared import SharedMovie, Snapshot

TILES = "tiles.json"
"""File with the places of all sites, for other processes."""


@dataclass(frozen=True)
class StitchedSnapshot:
    """State of a movie at the time of planning, and the places of its sites in the wells.

    The identity is that of the movie: the places of a well are in the digests of its results.
    """

    movie: Snapshot
    """Snapshot of the movie with sites as FOVs."""
    layout: str
    """Digest of the places."""
    wells: Wells | Path = field(compare=False, repr=False)
    """Places in the process that has planned the run, and their file for others."""

    @classmethod
    def of(cls, movie: Snapshot, metadata: Metadata) -> StitchedSnapshot:
        """Snapshot of a movie whose metadata were stitched."""
        wells = {fov.name: fov.tiles for fov in metadata.fovs}
        return cls(movie, hashlib.blake2b(_text(wells), digest_size=12).hexdigest(), wells)

    @property
    def path(self) -> Path:
        """The movie."""
        return self.movie.path

    @property
    def identity(self) -> str:
        """Identity of the content of the movie."""
        return self.movie.identity

    def has_identity(self, identity: str) -> bool:
        """True if an identity is that of the movie."""
        return self.movie.has_identity(identity)

    def growth(self) -> str:
        """Describe how the movie has grown since; see `Snapshot.growth`."""
        return self.movie.growth()

    def kept_in(self, folder: Path, /) -> StitchedSnapshot:
        """Snapshot for other processes; the places are written to a file in the folder."""
        if isinstance(self.wells, Path):
            return self
        write_bytes(folder / TILES, _text(self.wells))
        return replace(self, movie=self.movie.kept_in(folder), wells=folder / TILES)

    def shared(self, now: SharedMovie | None) -> SharedMovie:
        """Open movie; see `Snapshot.shared`."""
        mine = now if isinstance(now, SharedMosaic) and now.planned == self else None
        movie = self.movie.shared(mine.movie if mine else None)
        if mine and movie is mine.movie:
            return mine
        return SharedMosaic(self, movie)


class SharedMosaic:
    """Stitched movie that is open for the tasks of a run.

    Parameters
    ----------
    planned
        Snapshot for which the run was planned.
    movie
        Open movie with sites as FOVs.
    """

    def __init__(self, planned: StitchedSnapshot, movie: SharedMovie) -> None:
        self.planned, self.movie = planned, movie
        wells = _load(planned.wells) if isinstance(planned.wells, Path) else planned.wells
        self.reader: Reader = MosaicReader(movie.reader, wells)

    def check(self) -> None:
        """Check the movie again after frames were read from it; see `SharedMovie.check`."""
        self.movie.check()


def _text(wells: Wells) -> bytes:
    return json.dumps({well: [list(tile) for tile in tiles] for well, tiles in wells.items()}).encode()


def _load(file: Path) -> Wells:
    try:
        found = json.loads(file.read_bytes())
        return {well: tuple(Tile(*tile) for tile in tiles) for well, tiles in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"{file}: the table of the sites' places is damaged ({error}). Fix: run again") from error
