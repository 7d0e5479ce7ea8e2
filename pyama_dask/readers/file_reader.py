"""Base of the readers for all formats: opening and closing, forked processes, checks and error messages."""

from __future__ import annotations

import io
import math
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from pyama_dask.errors import MissingFrameError, PyamaError, SourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.base import PROJECTION, Metadata, Planes, check_room


class OpenFile(Protocol):
    """An open movie file of some format."""

    def close(self) -> None:
        """Close the file."""
        ...


File = TypeVar("File", bound=OpenFile)

# A forked process inherits the open files of its parent. Closing or collecting them there would run the vendor's
# clean-up on state shared at the fork; so they are kept and never used.
_INHERITED: list[OpenFile] = []

_START = 16
"""Bytes that suffice to tell the formats apart."""

_DAMAGED = "the file is cut off, still being written, or damaged"


class FileReader(ABC, Generic[File]):
    """Base of the readers: opens the file when needed, checks indices, and allocates the frame.

    Several threads may read at the same time; call `close` only when none of them does.
    """

    suffixes: Sequence[str] = ()
    signatures: Sequence[bytes] = ()
    """First bytes of files in the format."""
    vendor_errors: tuple[type[Exception], ...] = ()
    """Exceptions of the vendor's package on damaged files; `MemoryError` counts too while a file is opened."""

    def __init__(self, path: str | os.PathLike[str], size: int | None = None, times: bool = True) -> None:
        self.path = Path(path).absolute()
        self.size = size
        """Bytes that belong to the movie, for a file that has grown since; None for all."""
        self.times = times
        """False to skip the times of frames."""
        self._metadata: Metadata | None = None
        self._file: File | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.size, self.times)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def metadata(self) -> Metadata:
        """Content of the file; read once, and kept after `close`.

        Raises
        ------
        SourceError
            If the file is absent, truncated or in another format.
        """
        return self._opened()[1] if self._metadata is None else self._metadata

    def check(self) -> None:
        """Check that the path leads to a file that begins like one of this format.

        Raises
        ------
        SourceError
            If the file is absent or begins differently.
        """
        check_start(self.path, check_file(self.path), self.signatures)

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read one frame of one FOV; see `Reader.read_frame`.

        Channels of different pixel types are returned in the smallest type that holds them all.

        Raises
        ------
        MissingFrameError, IndexError
            As for `Reader.read_frame`.
        SourceError
            If the frame cannot be read.
        """
        picked = self._picked(fov, frame, channels, z)
        file, info = self._opened()
        with self._reading(fov, frame):
            pixels = np.empty((len(picked), *info.fovs[fov].shape), info.pixel_type(picked))
            self._fill(file, pixels, fov, frame, picked, z)
        return pixels

    def read_into(
        self, out: Planes, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0
    ) -> None:
        """Read one frame of one FOV into memory of the caller; see `Reader.read_into`.

        Raises
        ------
        MissingFrameError, IndexError, ValueError
            As for `Reader.read_into`.
        SourceError
            If the frame cannot be read.
        """
        picked = self._picked(fov, frame, channels, z)
        file, info = self._opened()
        check_room(out, info, fov, picked)
        with self._reading(fov, frame):
            self._fill(file, out, fov, frame, picked, z)

    def _picked(self, fov: int, frame: int, channels: Sequence[int] | None, z: int) -> Sequence[int]:
        """Channels to read, after checking that the file has them."""
        info = self.metadata
        picked = range(len(info.channels)) if channels is None else channels
        self._check_indices(info, fov, frame, picked, z)
        if frame in info.fovs[fov].missing and frame in info.fovs[fov].lacking(picked, [z]):
            raise self._missing(fov, frame, picked, z)
        return picked

    def _reading(self, fov: int, frame: int) -> AbstractContextManager[None]:
        """Context in which errors of the vendor's package name the frame."""
        return self._readable(f"FOV {fov} ({self.metadata.fovs[fov].name}), frame {frame} cannot be read", MemoryError)

    def _missing(self, fov: int, frame: int, channels: Sequence[int], z: int) -> MissingFrameError:
        plane = "the projection" if z == PROJECTION else f"plane {z}"
        name = self.metadata.fovs[fov].name
        return MissingFrameError(
            f"{self.path}: FOV {fov} ({name}) has no frame {frame} in channels {list(channels)}, {plane}: "
            "it is absent or has another size. Fix: leave out the frame or the FOV"
        )

    def close(self) -> None:
        """Close the file; does nothing if it is already closed."""
        with self._own_lock():
            file, self._file = self._file, None
            if file is not None:
                file.close()

    @abstractmethod
    def _open(self) -> File:
        """Open the file."""

    @abstractmethod
    def _describe(self, file: File) -> Metadata:
        """Read the content of the file."""

    @abstractmethod
    def _fill(self, file: File, out: Planes, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        """Read an existing frame into (H, W) arrays, which `check_room` accepts."""

    def _opened(self) -> tuple[File, Metadata]:
        """File, opened by this process, and its metadata."""
        with self._own_lock():
            if self._file is None:
                self.check()
                with self._readable(_DAMAGED, MemoryError):
                    self._file = self._open()
            if self._metadata is None:
                self._metadata = self._described(self._file)
            return self._file, self._metadata

    def _described(self, file: File) -> Metadata:
        try:
            with self._readable(_DAMAGED, MemoryError):
                info = self._describe(file)
            self._check_counts(info)
            return _without_infinities(info)
        except BaseException:
            self.close()
            raise

    def _check_counts(self, info: Metadata) -> None:
        counts = {"FOVs": len(info.fovs), "frames": info.n_frames, "channels": len(info.channels)}
        counts |= {"planes": info.z_planes, "pixels": min((min(fov.shape) for fov in info.fovs), default=0)}
        for what, count in counts.items():
            if count < 1:
                raise SourceError(f"{self.path}: the file has no {what}. Fix: copy it again, or repeat the recording")

    @contextmanager
    def _readable(self, problem: str, *further: type[Exception]) -> Iterator[None]:
        remedy = "Fix: wait until it is complete, or copy it again" if problem == _DAMAGED else "Fix: copy it again"
        try:
            yield
        except PyamaError:
            raise
        except (*self.vendor_errors, *further) as error:
            raise SourceError(f"{self.path}: {problem} ({type(error).__name__}: {error}). {remedy}") from error

    def _own_lock(self) -> threading.RLock:
        """Lock of this process; a forked process starts without an open file."""
        if self._pid != os.getpid():
            if self._file is not None:
                _INHERITED.append(self._file)
            self._file = None
            self._lock = threading.RLock()
            self._pid = os.getpid()
        return self._lock

    def _check_indices(self, info: Metadata, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        named = [("FOV", fov, len(info.fovs)), ("frame", frame, info.n_frames)]
        if z != PROJECTION or not set(channels) <= set(info.projected):
            named.append(("plane", z, info.z_planes))
        named += [("channel", channel, len(info.channels)) for channel in channels]
        for what, value, count in named:
            if not 0 <= value < count:
                raise IndexError(f"{self.path}: {what} {value} is outside 0..{count - 1}")


def _without_infinities(info: Metadata) -> Metadata:
    """Treat infinite numbers and NaN as absent."""

    def is_finite(*values: float | None) -> bool:
        return all(value is not None and math.isfinite(value) for value in values)

    fovs = (fov if is_finite(*fov.position_um or ()) else replace(fov, position_um=None) for fov in info.fovs)
    times = None if info.times_min is None else np.where(np.isfinite(info.times_min), info.times_min, np.nan)
    no_times = times is None or bool(np.isnan(times).all())
    return replace(
        info,
        fovs=tuple(fovs),
        pixel_size_um=info.pixel_size_um if is_finite(info.pixel_size_um) else None,
        interval_min=info.interval_min if is_finite(info.interval_min) else None,
        times_min=None if no_times else times,
        time_source=None if no_times else info.time_source,
    )


class FirstBytes(io.FileIO):
    """File that appears to end after its first `size` bytes, for readers that search from the end."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        self._end = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, the current position, or the end."""
        return super().seek(self._end + offset) if whence == os.SEEK_END else super().seek(offset, whence)


def check_file(path: Path) -> bytes:
    """Check that a path leads to a file that is not empty, and return its first bytes.

    Raises
    ------
    SourceError
        If the file is absent, empty or unreadable, or is a directory, a pipe or a device.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise SourceError(f"{path}: is a directory. Fix: pass the movie file in it")
        if not stat.S_ISREG(kind):  # opening a pipe would wait for a writer
            raise SourceError(f"{path}: is a pipe or a device. Fix: pass a movie file")
        with open_file(path) as file:
            start = file.read(_START)
    except PyamaError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        from pyama_dask.config.movie_input import HOW  # noqa: PLC0415  (pydantic takes longer to import than the rest)

        fix = HOW if "*" in path.name else "Fix: check the path"
        raise SourceError(f"{path}: no such file. {fix}") from error
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be opened ({error.strerror}). Fix: check the path and its permissions"
        ) from error
    except ValueError as error:  # a NUL, or characters that are not allowed in file names
        raise SourceError(f"{str(path)!r}: cannot be a file name ({error}). Fix: check the path") from error
    if not start:
        raise SourceError(
            f"{path}: the file is empty, or still being written. Fix: wait until it is complete, or copy it again"
        )
    return start


def check_start(path: Path, start: bytes, signatures: Sequence[bytes]) -> None:
    """Check that a file begins with one of the signatures of its format.

    Parameters
    ----------
    path
        The file, for messages.
    start
        Its first bytes, at least as many as the longest signature has.
    signatures
        Accepted beginnings.

    Raises
    ------
    SourceError
        If it begins differently.
    """
    if not start.startswith(tuple(signatures)):
        raise SourceError(
            f"{path}: is not a {path.suffix.lstrip('.').upper()} file despite its name (it begins with {start!r}). "
            "Fix: pass the original movie file under its own name"
        )
