"""A movie that a run reads: the file that the run was planned for, checked before and after each task.

A run must not mix two movies. The driver takes a `Snapshot` before it plans, which travels with every task. A task
compares the file with it before it reads its first frame, and looks again after its last one.
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
    """A movie when its run was planned."""

    path: Path
    state: State
    """As the driver's host saw it."""
    content: Content

    @property
    def identity(self) -> str:
        """Identity of the content."""
        return self.content.identity

    def has_identity(self, identity: str) -> bool:
        """Whether an identity, which may have the form of older versions, is the one of this movie."""
        return identity == (self.identity if identity.startswith(FORM) else atomic.identity(self.path))

    def check(self, difference: str, now: State) -> bool:
        """See whether a movie that differs from the snapshot has only grown.

        Parameters
        ----------
        difference
            Difference in words; '' if there is none.
        now
            State of the movie.

        Returns
        -------
        Whether the movie has grown: it begins with the content that it had, as far as the samples tell.

        Raises
        ------
        SourceError
            If it has changed.
        """
        if not difference:
            return False
        if now.size > self.state.size:
            with self.path.open("rb") as file:
                if self.content.is_start_of(file):
                    return True
            difference = "bytes that it had before were written over, and it grew"
        raise changed(self.path, difference)


def take_snapshot(path: Path) -> Snapshot:
    """Take a snapshot of a movie.

    Raises
    ------
    SourceError
        If it cannot be read, or changes at this moment.
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
    """A movie that is open for the tasks of a run.

    Parameters
    ----------
    planned
        The movie when the run was planned.
    now
        State of the movie, which is compared with the snapshot already.
    """

    def __init__(self, planned: Snapshot, now: State) -> None:
        self.planned, self.state = planned, now
        self.reader = open_reader(planned.path, planned.state.size, times=False)  # tasks need none
        try:
            _ = self.reader.metadata  # which opens the file
            self.check()
        except BaseException:
            self.reader.close()
            raise

    def check(self) -> None:
        """Look again at the file, after frames were read from it.

        Raises
        ------
        SourceError
            If it has changed since the last look, or its path leads to another file.
        """
        now = State.of(self.planned.path)
        difference = self.state.difference(now)
        if not self.state.is_same_file(now):  # even if it only is a longer copy: the open file is not known any more
            raise changed(self.planned.path, difference)
        self.planned.check(difference, now)
        self.state = now


_SHARED: dict[Path, SharedMovie] = {}


def shared_movie(planned: Snapshot) -> SharedMovie:
    """Give this process's only open movie, so that the tasks of a run find the file open and its index read.

    It stays open until `close_shared_readers`, or the end of the process; a file that has changed is opened again.

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


@atexit.register  # a worker ends with the movie open, which nd2 complains about
def close_shared_readers() -> None:
    """Close the readers that `shared_movie` has left open."""
    while _SHARED:
        _SHARED.popitem()[1].reader.close()
