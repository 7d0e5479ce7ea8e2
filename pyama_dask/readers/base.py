"""What a movie file is to the rest of the package: `Metadata`, and a `Reader` that gives single frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

ChannelKind = Literal["phase", "fluorescence", "other"]


@dataclass(frozen=True)
class Channel:
    """One channel as the file describes it."""

    name: str
    dtype: str
    """NumPy name of the pixel type in the file, such as ``uint16``."""
    kind: ChannelKind = "other"
    """What the file says, or its name suggests; only ever a guess to start a config from."""


@dataclass(frozen=True)
class FovInfo:
    """One field of view."""

    name: str
    shape: tuple[int, int]
    """(height, width) in pixels."""
    position_um: tuple[float, float] | None = None
    """Stage position (x, y) of the centre in micrometres."""
    missing: tuple[int, ...] = ()
    """Frames that the file announces, but of which it does not hold every plane in the usual size, ascending."""
    partial: tuple[tuple[int, int, tuple[int, ...]], ...] = ()
    """Planes that the file does hold of the frames in `missing`: channel, z and frames."""
    plate: str | None = None
    well: str | None = None
    site: int | None = None

    def lacking(self, channels: Iterable[int], planes: Iterable[int]) -> set[int]:
        """Frames of which at least one plane of these channels and z planes is missing."""
        held = {(channel, z): frames for channel, z, frames in self.partial}
        needed = product(channels, planes)
        return set().union(*(set(self.missing).difference(held.get(plane, ())) for plane in needed))


def absent_planes(held: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Describe the planes that one FOV lacks.

    Parameters
    ----------
    held
        (T, C, Z) planes that the file holds in the usual size.

    Returns
    -------
    `FovInfo.missing` and `FovInfo.partial`.
    """
    missing = np.flatnonzero(~held.all(axis=(1, 2)))
    some = held[missing]
    partial = [(c, z, tuple(missing[some[:, c, z]].tolist())) for c, z in np.ndindex(held.shape[1:])]
    return {"missing": tuple(missing.tolist()), "partial": tuple(of for of in partial if of[2])}


@dataclass(frozen=True, eq=False)
class Metadata:
    """What a movie holds, the same for every file format.

    A FOV is named by its place in `fovs`, a frame by its number from 0, a channel by its place in `channels`.
    """

    path: Path
    format: str
    fovs: tuple[FovInfo, ...]
    n_frames: int
    channels: tuple[Channel, ...]
    z_planes: int = 1
    pixel_size_um: float | None = None
    interval_min: float | None = None
    """Nominal time between frames in minutes, where the file states one that is above 0."""
    times_min: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    """(FOVs, frames) minutes since the first frame of the movie, as recorded; NaN where a stamp is missing."""
    time_source: str | tuple[str | None, ...] | None = None
    """Where `times_min` comes from, in the file's own words; None without times. One for all FOVs, or one each."""
    notes: tuple[str, ...] = ()
    """Contradictions in the file, such as more images than it announces."""

    def source_of(self, fov: int) -> str | None:
        """Where the times of one FOV come from; None without times."""
        return self.time_source[fov] if isinstance(self.time_source, tuple) else self.time_source


@runtime_checkable
class Reader(Protocol):
    """A movie file open for reading.

    Made with a path, it opens the file at first need. Pickling drops the handle, so that a reader can be sent
    to another process and opens the file again there. Leave it with `close`, or use it as a context manager.
    """

    suffixes: Sequence[str]
    path: Path

    @property
    def metadata(self) -> Metadata:
        """What the file holds.

        Raises
        ------
        SourceError
            If the file is absent, truncated or not of this format.
        """
        ...

    def read_frame(self, fov: int, frame: int, *, channels: Sequence[int] | None = None, z: int = 0) -> np.ndarray:
        """Read one frame of one FOV with its channels (default: all of them, in file order).

        Returns
        -------
        (C, H, W) array in the file's own pixel type, native byte order, owning its memory.

        Raises
        ------
        MissingFrameError
            If the file does not hold the frame in these channels and this plane (it is never replaced by zeros).
        IndexError
            If FOV, frame, channel or plane are outside the file.
        """
        ...

    def close(self) -> None:
        """Close the file; does nothing when it is closed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
