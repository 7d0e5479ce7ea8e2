"""The movie of a run that sees it through a view: without shading, or with stitched wells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from pyama_dask.readers.base import Metadata
from pyama_dask.readers.shared import SharedMovie, Snapshot
from pyama_dask.readers.views.view import View

VIEW = "view.npz"
"""File with the places of all sites and the shading, for other processes."""


@dataclass(frozen=True)
class ViewedSnapshot:
    """State of a movie at the time of planning, and the view of the run.

    The identity is that of the movie: digests of results have the places of a well and the shading.
    """

    movie: Snapshot
    """Snapshot of the movie as it is."""
    digest: str
    """Of the view."""
    view: View | Path = field(compare=False, repr=False)
    """View in the process that has planned the run, and its file for others."""

    @classmethod
    def of(cls, movie: Snapshot, metadata: Metadata) -> ViewedSnapshot:
        """Snapshot of a movie whose metadata describe a view of it."""
        view = View.of(metadata)
        return cls(movie, view.digest, view)

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

    def kept_in(self, folder: Path, /) -> ViewedSnapshot:
        """Snapshot for other processes; the view is written to a file in the folder."""
        if isinstance(self.view, Path):
            return self
        self.view.save(folder / VIEW)
        return replace(self, movie=self.movie.kept_in(folder), view=folder / VIEW)

    def shared(self, now: SharedMovie | None) -> SharedMovie:
        """Open movie; see `Snapshot.shared`."""
        mine = now if isinstance(now, SharedView) and now.planned == self else None
        movie = self.movie.shared(mine.movie if mine else None)
        return mine if mine and movie is mine.movie else SharedView(self, movie)


class SharedView:
    """View of a movie that is open for the tasks of a run.

    Parameters
    ----------
    planned
        Snapshot for which the run was planned.
    movie
        Open movie as it is.
    """

    def __init__(self, planned: ViewedSnapshot, movie: SharedMovie) -> None:
        self.planned, self.movie = planned, movie
        view = View.load(planned.view) if isinstance(planned.view, Path) else planned.view
        self.reader = view.on(movie.reader)

    def check(self) -> None:
        """Check the movie again after frames were read from it; see `SharedMovie.check`."""
        self.movie.check()
