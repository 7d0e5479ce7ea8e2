"""Interface of movie files: `Metadata`, and a `Reader` that returns single frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

ChannelKind = Literal["phase", "fluorescence", "other"]
PROJECTION = -1
"""Plane that stands for the instrument's own projection over z."""
Planes = Sequence[np.ndarray] | np.ndarray
"""(H, W) arrays, one per channel: in a list, or as one (C, H, W) array."""


@dataclass(frozen=True)
class Channel:
    """One channel, as described in the file."""

    name: str
    dtype: str
    """NumPy name of the pixel type in the file, such as ``uint16``."""
    kind: ChannelKind = "other"
    """Guess from the file's flags or the channel name; only a starting point for a config."""


class Tile(NamedTuple):
    """Site of a well, and its place in the image that is stitched from all of them."""

    site: int
    y: int
    """Row of the well's image on which the site's first one lies."""
    x: int


@dataclass(frozen=True)
class FovInfo:
    """One field of view."""

    name: str
    shape: tuple[int, int]
    """(height, width) in pixels."""
    position_um: tuple[float, float] | None = None
    """Position (x, y) of the centre in micrometres, y down: of the stage, or from the middle of the well."""
    missing: tuple[int, ...] = ()
    """Frames that the file announces but of which at least one plane is absent or has another size; ascending."""
    partial: tuple[tuple[int, int, tuple[int, ...]], ...] = ()
    """Planes that the file does hold for the frames in `missing`: channel, z (or `PROJECTION`) and frames."""
    plate: str | None = None
    well: str | None = None
    site: int | None = None
    tiles: tuple[Tile, ...] = ()
    """Sites that a stitched well is blended from; empty for a FOV of the file itself."""

    def lacking(self, channels: Iterable[int], planes: Iterable[int]) -> set[int]:
        """Frames that lack at least one plane of these channels and z planes."""
        held = {(channel, z): frames for channel, z, frames in self.partial}
        needed = product(channels, planes)
        return set().union(*(set(self.missing).difference(held.get(plane, ())) for plane in needed))


def absent_planes(held: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Describe the missing planes of one FOV.

    Parameters
    ----------
    held
        (T, C, Z) mask of the planes that the file holds in the usual size.

    Returns
    -------
    Values for `FovInfo.missing` and `FovInfo.partial`, by field name.
    """
    missing = np.flatnonzero(~held.all(axis=(1, 2)))
    some = held[missing]
    partial = [(c, z, tuple(missing[some[:, c, z]].tolist())) for c, z in np.ndindex(held.shape[1:])]
    return {"missing": tuple(missing.tolist()), "partial": tuple(plane for plane in partial if plane[2])}


def check_room(out: Planes, info: Metadata, fov: int, channels: Sequence[int]) -> None:
    """Check that arrays can take the channels of a frame; see `Reader.read_into`.

    Raises
    ------
    ValueError
        If they cannot.
    """
    shape, dtype = info.fovs[fov].shape, info.pixel_type(channels)
    for plane in out:
        if (plane.shape, plane.dtype) != (shape, dtype) or not (plane.flags.c_contiguous and plane.flags.writeable):
            raise ValueError(f"frames of FOV {fov} need contiguous, writable arrays of {shape} {dtype}")
    if len(out) != len(channels):
        raise ValueError(f"{len(out)} arrays for {len(channels)} channels")


def planes_of(z: int | str | None, count: int) -> list[int]:
    """Planes that are read for a plane of the config, of a movie with a number of planes."""
    if z in ("max", "all"):
        return list(range(count))
    return [PROJECTION if z == "projection" else int(z or 0)]


@dataclass(frozen=True, eq=False)
class FlatField:
    """Shading that is removed from frames as they are read."""

    profiles: Mapping[int, npt.NDArray[np.float32]]
    """(H, W) share of the light that each pixel gets, relative to the mean, by channel."""
    dark: float = 0.0
    """Grey level of the camera without light, which has no shading."""
    backgrounds: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    """(H, W) levels of the background by channel, instead of `dark`; their mean stays in the frames."""

    @cached_property
    def digest(self) -> str:
        """Digest of the profiles and the dark level."""
        found = hashlib.blake2b(repr((float(self.dark), sorted(self.profiles))).encode(), digest_size=12)
        for channel in sorted(self.profiles):
            found.update(np.ascontiguousarray(self.profiles[channel]).tobytes())
        for channel in sorted(self.backgrounds):
            found.update(b"background %d" % channel + np.ascontiguousarray(self.backgrounds[channel]).tobytes())
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Metadata:
    """Content of a movie, in the same form for every file format.

    FOVs and channels are numbered by their position in `fovs` and `channels`, frames from 0.
    """

    path: Path
    format: str
    fovs: tuple[FovInfo, ...]
    n_frames: int
    channels: tuple[Channel, ...]
    z_planes: int = 1
    pixel_size_um: float | None = None
    interval_min: float | None = None
    """Nominal time between frames in minutes; None if the file states none above 0."""
    times_min: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    """(FOVs, frames) recorded minutes since the first frame of the movie; NaN where a stamp is missing."""
    time_source: str | tuple[str | None, ...] | None = None
    """Origin of `times_min`, as named in the file: one for all FOVs, or one per FOV. None without times."""
    projected: tuple[int, ...] = ()
    """Channels of which there are the instrument's own projections over z."""
    notes: tuple[str, ...] = ()
    """Contradictions in the file, such as more images than it announces."""
    plate_shape: tuple[int, int] | None = None
    """Rows and columns of the plate that the wells are on; None if the file does not state them."""
    instrument_shading: tuple[str, ...] = field(default=(), repr=False)
    """Shading of each channel as the instrument states it, in its own form; '' where it states none."""
    flat_field: FlatField | None = field(default=None, repr=False)
    """Shading that is removed from the frames; None for frames as they are in the file."""
    read_memory: int = 0
    """Bytes that a process needs to read a frame, beside the frame: where planes are stored together."""

    def pixel_type(self, channels: Sequence[int]) -> np.dtype[Any]:
        """Smallest pixel type that holds the levels of all these channels: that of frames read with them."""
        return np.result_type(*([self.channels[channel].dtype for channel in channels] or [self.channels[0].dtype]))

    def source_of(self, fov: int) -> str | None:
        """Origin of one FOV's times; None without times."""
        return self.time_source[fov] if isinstance(self.time_source, tuple) else self.time_source


@runtime_checkable
class Reader(Protocol):
    """A movie file open for reading.

    Created with a path, it opens the file when needed. Pickling drops the handle, so a reader can be sent to another
    process, which opens the file again. Call `close` when done, or use it as a context manager.
    """

    suffixes: Sequence[str]
    path: Path

    @property
    def metadata(self) -> Metadata:
        """Content of the file.

        Raises
        ------
        SourceError
            If the file is absent, truncated or in another format.
        """
        ...

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read one frame of one FOV.

        Parameters
        ----------
        fov, frame
            Numbers from 0.
        channels
            Channels in the order to return them; None for all, in file order.
        z
            Plane from 0, or `PROJECTION`.

        Returns
        -------
        (C, H, W) array that owns its memory, in the file's pixel type and native byte order.

        Raises
        ------
        MissingFrameError
            If the file lacks the frame in these channels and this plane (it is never replaced by zeros).
        IndexError
            If FOV, frame, channel or plane is out of range.
        """
        ...

    def read_into(
        self, out: Planes, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0
    ) -> None:
        """Read one frame of one FOV into memory of the caller.

        Parameters
        ----------
        out
            C-contiguous (H, W) array for each channel, of the type `Metadata.pixel_type`. After an error, its content
            is undefined.
        fov, frame, channels, z
            As for `read_frame`.

        Raises
        ------
        MissingFrameError, IndexError
            As for `read_frame`.
        ValueError
            If `out` does not fit.
        """
        ...

    def close(self) -> None:
        """Close the file; does nothing if it is already closed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
