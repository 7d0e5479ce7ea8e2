"""Stacks of Micro-Manager: TIFF files with a map of their images at the end, several for large datasets.

Their OME metadata are not used: they are not there after a crash, and name no planes that are missing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.channel_kinds import default_channel_name
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.folders.plane_table import is_file, list_folder
from pyama_dask.readers.folders.planes import TIFF
from pyama_dask.readers.micro_manager.images import Acquisition, Image
from pyama_dask.readers.tiff.directories import find_directories

STACK = "MMStack"
"""Part of the names of these files."""
_ABOUT = 51123
"""Tag with the metadata of an image."""
_INDICES = "PositionIndex", "FrameIndex", "ChannelIndex", "SliceIndex"
"""Keys of an image's metadata with its place."""


@dataclass
class _Found:
    """Images of all files."""

    images: list[Image] = field(default_factory=list)
    summaries: list[Mapping[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_stacks(folder: Path) -> Acquisition:
    """Read the maps of all stacks in a folder.

    Parameters
    ----------
    folder
        Folder of one dataset.

    Raises
    ------
    SourceError
        If a file is damaged, or there are several datasets.
    UnsupportedSourceError
        If images have colours.
    """
    stacks = (entry for entry in list_folder(folder) if STACK in entry.name and entry.name.endswith(".tif"))
    names = sorted(entry.name for entry in stacks if is_file(entry))
    starts = sorted({name.partition(STACK)[0].strip("_") for name in names})
    if len(starts) > 1:
        raise SourceError(f"{folder}: holds {len(starts)} datasets: {', '.join(starts)}. Fix: give each its own folder")
    found = _Found()
    for name in names:
        try:
            _read_file(folder, name, found)
        except READ_ERRORS as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{folder / name}: cannot be read ({error}). Fix: copy it again") from error
    return _numbered(folder, found)


def _read_file(folder: Path, name: str, found: _Found) -> None:
    with open_file(folder / name) as file:
        about = tifffile.read_micromanager_metadata(file, {"Summary", "IndexMap"})
        found.summaries.append(about.get("Summary") or {})
        if "IndexMap" in about:
            rows = [tuple(map(int, row)) for row in about["IndexMap"]]
            images = [Image((p, t, c, z), name, offset) for c, z, t, p, offset in rows]
        else:
            found.notes.append(f"{name} has no map of its images, because its recording was not completed")
            images = list(_images_of(folder / name, name, file))
    directories = set(find_directories(folder / name)[0])  # the map of an aborted recording may be longer
    there = [image for image in images if image.place in directories]
    if lost := len(images) - len(there):
        found.notes.append(f"{name}: {lost} of the {len(images)} images in its map are not there; they are missing")
    found.images += there


def _images_of(path: Path, name: str, file: BinaryIO) -> Iterator[Image]:
    """Images of a file without a map, by their own metadata."""
    for offset in find_directories(path)[0]:
        try:
            about = json.loads(read_about(file, Image((0, 0, 0, 0), name, offset)).rstrip(b"\0"))
            p, t, c, z = (int(about[key]) for key in _INDICES)
        except (struct.error, ValueError, LookupError, TypeError):
            continue  # the last image may be incomplete
        yield Image((p, t, c, z), name, offset)


def read_about(file: BinaryIO, image: Image) -> bytes:
    """Metadata of an image, from the tag in its directory; empty if it has none."""
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    file.seek(image.place)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    for tag, _, size, offset in struct.iter_unpack(f"{order}HHII", file.read(12 * count)):
        if tag == _ABOUT:
            file.seek(offset)
            return file.read(size)
    return b""


def _numbered(folder: Path, found: _Found) -> Acquisition:
    """Number positions from 0, and describe the images by the first one of each."""
    positions = sorted({image.at[0] for image in found.images})
    ranks = {position: rank for rank, position in enumerate(positions)}
    firsts = {ranks[image.at[0]]: image for image in reversed(found.images)}
    pages = [_describe(folder, firsts[rank]) for rank in range(len(positions))]
    summary = next((summary for summary in found.summaries if summary), {})
    count = max((image.at[2] for image in found.images), default=0) + 1
    named = [str(name) for name in summary.get("ChNames") or ()]
    return Acquisition(
        images=[image._replace(at=(ranks[image.at[0]], *image.at[1:])) for image in found.images],
        fovs=[f"Pos{position}" for position in positions],
        shapes=[shape for shape, _ in pages],
        channels=[named[k] if k < len(named) else default_channel_name(k) for k in range(count)],
        dtype=np.result_type(*(dtype for _, dtype in pages)).name if pages else "uint16",
        form=TIFF,
        summary=summary,
        read_about=read_about,
        notes=found.notes,
    )


def _describe(folder: Path, image: Image) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Size and pixel type of an image."""
    path = folder / image.file
    try:
        with open_file(path) as opened, tifffile.TiffFile(opened) as file:
            file.filehandle.seek(image.place)
            page = tifffile.TiffPage(file, index=0)
            shape, dtype = page.shape, page.dtype
    except READ_ERRORS as error:
        raise SourceError(f"{path}: cannot be read ({error}). Fix: copy it again") from error
    if len(shape) != 2 or dtype is None:
        raise UnsupportedSourceError(f"{path}: has images in colours. Fix: save each channel in grey levels")
    return (int(shape[0]), int(shape[1])), dtype.newbyteorder("=")
