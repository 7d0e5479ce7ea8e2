"""The movie of a run, checked before and after each task against the file that the run was planned for.

A run must not mix two movies. The driver takes a `Snapshot` before planning and sends it with every task. A task
compares the file with it before it reads the first frame, and again after the last one.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from pathlib import Path

from pyama_dask.errors import SourceError
from pyama_dask.files import atomic
from pyama_dask.readers.content import FORM, Content
from pyama_dask.readers.registry import find_places, open_reader
from pyama_dask.readers.state import State, changed, wait_for_clock


@dataclass(frozen=True)
class Snapshot:
    """State of a movie at the time of planning."""

    path: Path
    state: State
    """State as seen by the driver's host."""
    content: Content

    @property
    def identity(self) -> str:
        """Identity of the content."""
        return self.content.identity

    def has_identity(self, identity: str) -> bool:
        """True if an identity, possibly in the form of older versions, is that of this movie."""
        return identity == (self.identity if identity.startswith(FORM) else atomic.identity(self.path))

    def check(self, difference: str, now: State) -> bool:
        """Check that a movie that differs from the snapshot has only grown.

        Parameters
        ----------
        difference
            Description of the difference; '' if they are equal.
        now
            Current state of the movie.

        Returns
        -------
        True if the movie has grown: it still begins with the same content, judged by the samples.

        Raises
        ------
        SourceError
            If the movie has changed in any other way.
        """
        if not difference:
            return False
        if now.size > self.state.size:
            with self.path.open("rb") as file:
                if self.content.is_start_of(file):
                    return True
            difference = "its earlier bytes were overwritten, and it grew"
        raise changed(self.path, difference)


def take_snapshot(path: Path) -> Snapshot:
    """Take a snapshot of a movie.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes meanwhile.
    """
    wait_for_clock(State.of(path))
    before = State.of(path)
    try:
        with path.open("rb") as file:
            content = Content.of(file, find_places(path)(file))
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Fix: check the disk") from error
    if difference := before.difference(State.of(path)):
        raise changed(path, difference)
    return Snapshot(path, before, content)


class SharedMovie:
    """Movie that is open for the tasks of a run.

    Parameters
    ----------
    planned
        Snapshot for which the run was planned.
    now
        Current state of the movie, already compared with the snapshot.
    """

    def __init__(self, planned: Snapshot, now: State) -> None:
        self.planned, self.state = planned, now
        self.reader = open_reader(planned.path, planned.state.size, times=False)  # tasks need no times
        try:
            _ = self.reader.metadata  # opens the file
            self.check()
        except BaseException:
            self.reader.close()
            raise

    def check(self) -> None:
        """Check the file again after frames were read from it.

        Raises
        ------
        SourceError
            If the file has changed since the last check, or the path leads to another file.
        """
        now = State.of(self.planned.path)
        difference = self.state.difference(now)
        if not self.state.is_same_file(now):  # even if it is only a longer copy: the open file is no longer checked
            raise changed(self.planned.path, difference)
        self.planned.check(difference, now)
        self.state = now


_SHARED: dict[Path, SharedMovie] = {}


def shared_movie(planned: Snapshot) -> SharedMovie:
    """Return the only open movie of this process, so that tasks find the file open and its index read.

    It stays open until `close_shared_readers` or the end of the process; a changed file is opened again.

    Raises
    ------
    SourceError
        If the movie is not the one that the run was planned for.
    """
    path, now = planned.path, State.of(planned.path)
    movie = _SHARED.get(path)
    if movie and movie.state == now and movie.planned == planned:
        return movie
    planned.check(planned.state.difference_anywhere(now), now)
    if movie and movie.planned == planned and movie.state.is_same_file(now) and now.size > movie.state.size:
        movie.state = now
        return movie
    close_shared_readers()
    _SHARED[path] = SharedMovie(planned, now)
    return _SHARED[path]


@atexit.register  # nd2 complains if the movie is still open when a worker ends
def close_shared_readers() -> None:
    """Close the readers that `shared_movie` opened."""
    while _SHARED:
        _SHARED.popitem()[1].reader.close()
