"""Frames of a preview, and the part of them that is shown."""

from __future__ import annotations

from collections.abc import Sequence

from pyama_dask.config.units import as_ranges, many, parse_selection
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata
from pyama_dask.runs.first_look import middle_frames

MOST_TRACKED, TRACKED = 100, 10
"""Largest and default number of frames through which objects are tracked."""
SMALLEST_PART = 16
"""Least height and width in pixels of the part that is shown."""


def chosen_frames(frames: str | int | Sequence[int] | None, metadata: Metadata, fov: int, *, tracks: bool) -> list[int]:
    """Numbers of the frames.

    Parameters
    ----------
    frames
        Selection such as ``"0,90,179"``; None for the middle frame, or for `TRACKED` frames around it with tracks.
    metadata
        Of the movie.
    fov
        Field of view.
    tracks
        True if objects are tracked, for which frames must be consecutive.

    Raises
    ------
    ConfigError
        If a frame does not exist, or the frames cannot be tracked through.
    """
    count = metadata.n_frames
    if frames is None:
        return middle_frames(metadata, fov, TRACKED if tracks else 1) or [0]
    try:
        chosen = parse_selection(frames)
    except ValueError as error:
        raise ConfigError(f"frames: {error}") from error
    if chosen[-1] >= count:
        raise ConfigError(f"frames: {chosen[-1]} is not in {metadata.path.name}, whose frames are 0-{count - 1}")
    if tracks and chosen != list(range(chosen[0], chosen[0] + len(chosen))):
        raise ConfigError(
            f"frames: {as_ranges(chosen)} are not consecutive. Fix: give a range such as 80-89 for tracks"
        )
    if tracks and not 2 <= len(chosen) <= MOST_TRACKED:
        raise ConfigError(
            f"frames: has {many(len(chosen), 'frame')}. Fix: give 2 to {MOST_TRACKED} for tracks, such as 80-89"
        )
    return chosen


def checked_part(crop: Sequence[int] | None, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is shown.

    Parameters
    ----------
    crop
        Top, left and size in pixels; None for the whole frame.
    shape
        (H, W) of the frames.

    Raises
    ------
    ConfigError
        If the part is not inside of the frame, or too small.
    """
    if crop is None:
        return (0, 0, *shape)
    if len(crop) != 3 or min(crop) < 0 or crop[2] < SMALLEST_PART:
        given = ",".join(map(str, crop))
        raise ConfigError(
            f"crop: must be row, column and size, at least {SMALLEST_PART} px, such as 300,300,420, not {given}"
        )
    top, left, size = crop
    if top + size > shape[0] or left + size > shape[1]:
        raise ConfigError(
            f"crop: {size} px from row {top}, column {left} reach out of a frame, which has {shape[0]} rows and "
            f"{shape[1]} columns. Fix: give a part inside of it"
        )
    return top, left, size, size
