"""Frames of a movie as a run reads them: its channels in one plane, the maximum of all planes, or all of them."""

from __future__ import annotations

from typing import overload

import google_crc32c
import numpy as np

from pyama_dask.readers.base import Planes, Reader, planes_of


@overload
def read_planes(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray: ...


@overload
def read_planes(
    reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None, out: Planes
) -> Planes: ...


def read_planes(
    reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None, out: Planes | None = None
) -> Planes:
    """Read the channels of one frame.

    Parameters
    ----------
    reader
        Open movie.
    fov, frame
        Numbers in the movie, from 0.
    channels
        Channels in the order to return them.
    z
        Plane from 0; None for the first one; ``max`` or ``all`` for the maximum over all planes; ``projection`` for
        the instrument's own projection.
    out
        Memory to read into, as for `Reader.read_into`, which a task may use for each of its frames; None for new
        memory.

    Returns
    -------
    (C, H, W) grey levels; `out`, if it is given.
    """
    first, *others = planes_of(z, reader.metadata.z_planes)
    if out is None:
        highest: Planes = reader.read_frame(fov, frame, channels=channels, z=first)
    else:
        highest = out
        reader.read_into(highest, fov, frame, channels=channels, z=first)
    other = [np.empty_like(plane) for plane in highest] if others else []
    for number in others:
        reader.read_into(other, fov, frame, channels=channels, z=number)
        for levels, more in zip(highest, other, strict=True):
            np.maximum(levels, more, out=levels)
    return highest


def read_stacks(reader: Reader, fov: int, frame: int, channels: list[int]) -> np.ndarray:
    """Read all planes of the channels of one frame.

    Parameters
    ----------
    reader, fov, frame, channels
        As for `read_planes`.

    Returns
    -------
    (C, Z, H, W) grey levels.
    """
    planes = planes_of("all", reader.metadata.z_planes)
    return np.stack([reader.read_frame(fov, frame, channels=channels, z=plane) for plane in planes], axis=1)


def digest_of(planes: Planes) -> int:
    """CRC-32C of the channels of a frame as they were read; contiguous ones are not copied."""
    digest = 0
    for plane in planes:
        digest = google_crc32c.extend(digest, np.ascontiguousarray(plane))
    return digest


def read_chosen(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
    """Planes of a frame as a run reads them: (C, H, W), or (C, Z, H, W) with ``z: all``."""
    return read_stacks(reader, fov, frame, channels) if z == "all" else read_planes(reader, fov, frame, channels, z)
