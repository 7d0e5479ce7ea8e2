"""NDTiff datasets of Micro-Manager: TIFF files, and an index that has the place of each image and of its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

from pyama_dask.config.units import many
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.channel_kinds import default_channel_name
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.micro_manager.images import Acquisition, Image

INDEX = "NDTiff.index"
"""Name of the index."""
_FOV = "position", "row", "column"
"""Axes that tell FOVs apart."""
_TYPES = {0: "<u1", **dict.fromkeys((1, 3, 4, 5, 6), "<u2")}
"""Pixel types by their number in the index; colours have none."""

Axes = Mapping[str, int | str]
Key = tuple[int | str, ...]


class _Entry(NamedTuple):
    """Entry of the index, for one image."""

    axes: Axes
    file: str
    place: int
    """Offset of the first pixel."""
    shape: tuple[int, int]
    """(height, width) in pixels."""
    kind: tuple[int, int]
    """Numbers of the pixel type and the compression."""
    about: tuple[int, int]
    """Offset and bytes of the metadata."""

    def of(self, *axes: str) -> Key:
        """Values on some axes; '' for an axis that the image lacks."""
        return tuple(self.axes.get(axis, "") for axis in axes)


def read_ndtiff(folder: Path) -> Acquisition:
    """Read the index of a dataset.

    Parameters
    ----------
    folder
        Folder with the index.

    Raises
    ------
    SourceError
        If the index is damaged, or none of its files is there.
    UnsupportedSourceError
        If images have colours, different pixel types, or other axes.
    """
    entries, notes = _read_index(folder)
    form = _form(folder, entries)
    _check_axes(folder, [entry.axes for entry in entries])
    fovs, channels, heights = (_ranks([entry.of(*axes) for entry in entries]) for axes in (_FOV, ("channel",), ("z",)))
    shapes, images = dict[int, tuple[int, int]](), dict[tuple[int, int, int, int], Image]()
    for entry in entries:
        fov = fovs[entry.of(*_FOV)]
        if shapes.setdefault(fov, entry.shape) != entry.shape:
            raise UnsupportedSourceError(f"{folder}: has a position with images of several sizes. Fix: leave it out")
        at = fov, int(entry.axes.get("time", 0)), channels[entry.of("channel")], heights[entry.of("z")]
        images[at] = Image(at, entry.file, entry.place, entry.about)  # the last one, if it was taken twice
    summary = _read_summary(folder / entries[0].file)
    return Acquisition(
        images=list(images.values()),
        fovs=[_fov_name(key) for key in fovs],
        shapes=[shapes[fov] for fov in range(len(fovs))],
        channels=_channel_names(folder, list(channels), summary, list(images.values())),
        dtype=np.dtype(form).newbyteorder("=").name,
        form=form,
        summary=summary,
        read_about=read_about,
        notes=notes,
    )


def _read_index(folder: Path) -> tuple[list[_Entry], list[str]]:
    """Entries whose files are there, and notes on others."""
    try:
        entries = [
            _Entry(axes, file, place, (height, width), (kind, packed), (offset, size))
            for axes, file, place, width, height, kind, packed, offset, size, _ in tifffile.read_ndtiff_index(
                folder / INDEX
            )
        ]
    except READ_ERRORS as error:
        raise SourceError(f"{folder / INDEX}: cannot be read ({error}). Fix: copy it again") from error
    names = sorted({entry.file for entry in entries})
    there = {name for name in names if "/" not in name and "\\" not in name and (folder / name).is_file()}
    found = [entry for entry in entries if entry.file in there]
    if not found:
        raise SourceError(f"{folder / INDEX}: names no image that is there. Fix: copy the folder again")
    lost = [name for name in names if name not in there]
    note = f"{many(len(lost), 'file')} not there, such as {lost[0]}; images are missing" if lost else ""
    return found, [note] if note else []


def _form(folder: Path, entries: Sequence[_Entry]) -> str:
    """Pixel type of all images."""
    (kind, packed), *others = {entry.kind for entry in entries}
    if others or packed or kind not in _TYPES:
        raise UnsupportedSourceError(
            f"{folder}: has images in colours, compressed, or of several pixel types. Fix: save them in grey levels"
        )
    return _TYPES[kind]


def _check_axes(folder: Path, axes: Sequence[Axes]) -> None:
    """Refuse axes that a movie has not."""
    known = {*_FOV, "time", "channel", "z"}
    for name in sorted({name for of in axes for name in of} - known):
        if len({of.get(name, 0) for of in axes}) > 1:
            raise UnsupportedSourceError(f"{folder}: has the axis {name!r}. Fix: save one dataset for each value of it")
    if any(not isinstance(of.get("time", 0), int) or int(of.get("time", 0)) < 0 for of in axes):
        raise UnsupportedSourceError(f"{folder}: has times that are not numbered from 0. Fix: save it again")


def _ranks(keys: Sequence[Key]) -> dict[Key, int]:
    """Number from 0 of each key: sorted if they are numbers, else as they appear."""
    distinct = list(dict.fromkeys(keys))
    if all(isinstance(value, int) for key in distinct for value in key):
        distinct.sort()
    return {key: rank for rank, key in enumerate(distinct)}


def _fov_name(key: Key) -> str:
    """Name of a position, or of a tile."""
    return "_".join(f"Pos{value}" if isinstance(value, int) else value for value in key if value != "") or "Pos0"


def _channel_names(folder: Path, keys: Sequence[Key], summary: Mapping[str, Any], images: Sequence[Image]) -> list[str]:
    """Names of channels: in the index, in the summary, or of an image of each."""
    named = summary.get("ChNames") or ()
    if len(named) == len(keys) and all(isinstance(value, int) for key in keys for value in key):
        return [str(name) for name in named]
    return [
        value if isinstance(value, str) and value else _channel_of(folder, images, channel)
        for channel, (value,) in enumerate(keys)
    ]


def _channel_of(folder: Path, images: Sequence[Image], channel: int) -> str:
    image = next(image for image in images if image.at[2] == channel)
    try:
        with open_file(folder / image.file) as file:
            return str(json.loads(read_about(file, image))["Channel"]) or default_channel_name(channel)
    except (OSError, ValueError, LookupError, TypeError):
        return default_channel_name(channel)


def read_about(file: BinaryIO, image: Image) -> bytes:
    """Metadata of an image."""
    offset, size = image.about
    file.seek(offset)
    return file.read(size)


def _read_summary(path: Path) -> Mapping[str, Any]:
    """Metadata of the dataset, which each file begins with; empty if they are damaged."""
    try:
        with open_file(path) as file:
            summary = tifffile.read_micromanager_metadata(file, {"Summary"}).get("Summary")
    except READ_ERRORS:
        return {}
    return summary if isinstance(summary, dict) else {}
