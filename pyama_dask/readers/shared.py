"""The movie of a run, checked before and after each task against the one that the run was planned for.

A run must not mix two movies. The driver takes a snapshot before planning and sends it with every task. A task compares
a movie file with it before it reads the first frame, and again after the last one. In a folder, each file is compared
when it is read.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from pyama_dask.errors import SourceError
from pyama_dask.files import atomic
from pyama_dask.readers.base import Metadata, Reader
from pyama_dask.readers.content import FORM, Content
from pyama_dask.readers.folders.content import identity_of, save_folder
from pyama_dask.readers.folders.planes import Folder
from pyama_dask.readers.folders.reader import FolderReader, forget_scan
from pyama_dask.readers.isolated import read_metadata
from pyama_dask.readers.registry import find_places, is_file_format, open_folder, open_reader
from pyama_dask.readers.state import State, changed, wait_for_clock

_NAMED = 3
"""Files that a note names."""
PLANES = "planes.npz"
"""File with the planes of a folder, for other processes."""


class SharedMovie(Protocol):
    """Movie that is open for the tasks of a run."""

    reader: Reader

    def check(self) -> None:
        """Check the movie again after frames were read from it; raises `SourceError` if it has changed."""
        ...


class Snapshot(Protocol):
    """State of a movie at the time of planning; small enough to travel with each task."""

    @property
    def path(self) -> Path:
        """The movie."""
        ...

    @property
    def identity(self) -> str:
        """Identity of the content."""
        ...

    def has_identity(self, identity: str) -> bool:
        """True if an identity, possibly in the form of older versions, is that of this movie."""
        ...

    def growth(self) -> str:
        """Describe how the movie has grown since; '' if it is as it was.

        Raises
        ------
        SourceError
            If it has changed in any other way.
        """
        ...

    def kept_in(self, folder: Path, /) -> Snapshot:
        """Snapshot for other processes; a folder's planes are written to a file there."""
        ...

    def shared(self, now: SharedMovie | None) -> SharedMovie:
        """Open movie: the one that this process has open, if it is this one and unchanged.

        Raises
        ------
        SourceError
            If the movie is not the one that the run was planned for.
        """
        ...


def take_snapshot(path: Path, known: Sequence[str] = ()) -> Snapshot:
    """Take a snapshot of a movie.

    Parameters
    ----------
    path, known
        As for `open_reader`.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes meanwhile.
    """
    return FileSnapshot.of(path) if is_file_format(path) else FolderSnapshot.of(path, known)[0]


def look_at(path: Path, known: Sequence[str] = ()) -> tuple[Snapshot, Metadata]:
    """Take a snapshot of a movie and read its metadata, both of the same files.

    Parameters
    ----------
    path, known
        As for `open_reader`.

    Raises
    ------
    SourceError
        If the movie cannot be read, or changes at this moment.
    """
    if not is_file_format(path):
        return FolderSnapshot.of(path.absolute(), known)
    before = State.of(path) if path.is_file() else None  # reading metadata says what is wrong
    metadata, snapshot = read_metadata(path), FileSnapshot.of(path.absolute())
    if before and (difference := before.difference(snapshot.state)):
        raise changed(path, difference)
    return snapshot, metadata


# ------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class FileSnapshot:
    """State of a movie file at the time of planning."""

    path: Path
    state: State
    """State as seen by the driver's host."""
    content: Content

    @classmethod
    def of(cls, path: Path) -> FileSnapshot:
        """Take the snapshot; see `take_snapshot`."""
        wait_for_clock(State.of(path))
        before = State.of(path)
        try:
            with atomic.open_file(path) as file:
                content = Content.of(file, find_places(path)(file))
        except SourceError:
            raise
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror}). Fix: check permissions and disk") from error
        if difference := before.difference(State.of(path)):
            raise changed(path, difference)
        return cls(path, before, content)

    @property
    def identity(self) -> str:
        """Identity of the content."""
        return self.content.identity

    def has_identity(self, identity: str) -> bool:
        """True if an identity, possibly in the form of older versions, is that of this movie."""
        return identity == (self.identity if identity.startswith(FORM) else atomic.identity(self.path))

    def growth(self) -> str:
        """Describe how the file has grown since; see `Snapshot.growth`."""
        now = State.of(self.path)
        if self.check(self.state.difference(now), now):
            return f"from {self.state.size} to {now.size} bytes"
        return ""

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
            with atomic.open_file(self.path) as file:
                if self.content.is_start_of(file):
                    return True
            difference = "its earlier bytes were overwritten, and it grew"
        raise changed(self.path, difference)

    def kept_in(self, _: Path, /) -> FileSnapshot:
        """Snapshot for other processes: this one."""
        return self

    def shared(self, now: SharedMovie | None) -> SharedMovie:
        """Open file; see `Snapshot.shared`."""
        state = State.of(self.path)
        mine = now if isinstance(now, SharedFile) and now.planned == self else None
        if mine and mine.state == state:
            return mine
        self.check(self.state.difference_anywhere(state), state)
        if mine and mine.state.is_same_file(state) and state.size > mine.state.size:
            mine.state = state
            return mine
        close_shared_readers()
        return SharedFile(self, state)


class SharedFile:
    """Movie file that is open for the tasks of a run.

    Parameters
    ----------
    planned
        Snapshot for which the run was planned.
    now
        Current state of the movie, already compared with the snapshot.
    """

    def __init__(self, planned: FileSnapshot, now: State) -> None:
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


# ------------------------------------------------------------------------------------------------- folders


@dataclass(frozen=True)
class FolderSnapshot:
    """Files of a folder at the time of planning."""

    path: Path
    identity: str
    found: Folder | Path = field(compare=False, repr=False)
    """Planes in the process that has looked into the folder, and their file for others."""

    @classmethod
    def of(cls, path: Path, known: Sequence[str] = ()) -> tuple[FolderSnapshot, Metadata]:
        """Take the snapshot, and read the metadata of the same files; see `look_at`."""
        forget_scan()
        with open_folder(path, known) as reader:
            identity, metadata = identity_of(reader.folder.planes), reader.metadata
            notes = (*metadata.notes, *_notes(path, identity.unread))
            return cls(path, identity.digest, reader.folder), replace(metadata, notes=notes)

    def has_identity(self, identity: str) -> bool:
        """True if an identity is that of this movie."""
        return identity == self.identity

    def growth(self) -> str:
        """Return '': each file was compared when it was read, and files that were added do not matter."""
        return ""

    def kept_in(self, folder: Path, /) -> FolderSnapshot:
        """Snapshot for other processes; the planes are written to a file in the folder."""
        if isinstance(self.found, Path):
            return self
        file = folder / PLANES
        save_folder(self.found, file)
        return replace(self, found=file)

    def shared(self, now: SharedMovie | None) -> SharedMovie:
        """Open folder; see `Snapshot.shared`."""
        if isinstance(now, SharedFolder) and now.planned == self:
            return now
        close_shared_readers()
        return SharedFolder(self)


def _notes(path: Path, unread: Mapping[str, str]) -> Iterator[str]:
    """Notes on files that cannot be read."""
    if unread:
        listed = ", ".join(f"{name} ({problem})" for name, problem in islice(unread.items(), _NAMED))
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        yield f"{path.name}: files that cannot be read: {listed}{more}. Fix: check permissions and disk"


class SharedFolder:
    """Folder that is open for the tasks of a run; each file is compared with the snapshot when it is read."""

    def __init__(self, planned: FolderSnapshot) -> None:
        self.planned = planned
        self.reader: Reader = FolderReader(planned.path, planned.found, times=False)

    def check(self) -> None:
        """Do nothing: the files that were read have been compared."""


# ------------------------------------------------------------------------------------- what a process has open

_SHARED: dict[Path, SharedMovie] = {}


def shared_movie(planned: Snapshot) -> SharedMovie:
    """Return the only open movie of this process, so that tasks find it open and its index read.

    It stays open until `close_shared_readers` or the end of the process; a changed file is opened again.

    Raises
    ------
    SourceError
        If the movie is not the one that the run was planned for.
    """
    movie = _SHARED[planned.path] = planned.shared(_SHARED.get(planned.path))
    return movie


@atexit.register  # nd2 complains if the movie is still open when a worker ends
def close_shared_readers() -> None:
    """Close the readers that `shared_movie` opened."""
    while _SHARED:
        _SHARED.popitem()[1].reader.close()
