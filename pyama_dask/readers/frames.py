"""Frames of a movie as a run reads them: its channels in one plane, the maximum of all planes, or all of them."""

from __future__ import annotations

import google_crc32c
import numpy as np

from pyama_dask.readers.base import Reader, planes_of


def read_planes(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
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

    Returns
    -------
    (C, H, W) grey levels.
    """
    first, *others = planes_of(z, reader.metadata.z_planes)
    highest = reader.read_frame(fov, frame, channels=channels, z=first)
    for plane in others:
        np.maximum(highest, reader.read_frame(fov, frame, channels=channels, z=plane), out=highest)
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


def digest_of(planes: np.ndarray) -> int:
    """CRC-32C of the channels of a frame as they were read."""
    return int(google_crc32c.value(np.ascontiguousarray(planes)))


def read_chosen(reader: Reader, fov: int, frame: int, channels: list[int], z: int | str | None) -> np.ndarray:
    """Planes of a frame as a run reads them: (C, H, W), or (C, Z, H, W) with ``z: all``."""
    return read_stacks(reader, fov, frame, channels) if z == "all" else read_planes(reader, fov, frame, channels, z)
