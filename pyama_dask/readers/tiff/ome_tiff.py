"""OME-TIFF: one file, or a set of files, whose metadata name the file and the image of each plane.

tifffile returns zeros for planes of a set that are not there; here, they are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import fill_table
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes, stat_files
from pyama_dask.readers.fov_names import distinct_names
from pyama_dask.readers.tiff.directories import ENDINGS, find_directories
from pyama_dask.readers.tiff.ome_xml import AXES, OmeImage, Run, parse_ome
from pyama_dask.readers.times import Stamps, choose_times


def scan_ome(path: Path, text: str, *, times: bool) -> Folder:
    """Find the planes of the movie that OME-XML describes.

    Parameters
    ----------
    path
        File that has the metadata.
    text
        The metadata.
    times
        False to skip the times of frames.

    Raises
    ------
    SourceError
        If the metadata are damaged, or none of their files is there.
    UnsupportedSourceError
        If images have colours, or the channels of images differ in number.
    """
    images, uuid = _parse(path, text)
    _check(path, images)
    found = _find(path, images, uuid)
    shape = len(images), *np.max([image.sizes for image in images], axis=0).tolist()
    places = np.array([plane.at for plane in found.planes], np.int64).reshape(-1, 4)
    files = [found.files[plane.file] for plane in found.planes]
    table = fill_table(path.parent, shape, places, np.arange(len(files)), files)
    of_plane = np.array([(plane.file, plane.offset) for plane in found.planes] + [(ABSENT, 0)], np.int64)
    file, place = of_plane[table, 0].astype(np.int32), of_plane[table, 1]
    held = file != ABSENT
    index = repr([(image.name, image.sizes, image.channels, image.position_um) for image in images]).encode()
    metadata = Metadata(
        path=path,
        format="OME-TIFF",
        fovs=_fovs(images, held),
        n_frames=shape[1],
        channels=_channels(images),
        z_planes=shape[3],
        pixel_size_um=images[0].pixel_size_um,
        interval_min=_interval(images),
        notes=tuple(f"{path.name}: {note}" for note in (*found.notes, *_notes(images))),
        **(_times(images, held) if times else {}),
    )
    states = stat_files(path.parent, found.files)
    return Folder(metadata, Planes(path.parent, found.files, *states, file, place, index=index)).by_wells()


def files_of(path: Path, text: str) -> set[str]:
    """Names of the files that OME-XML refers to, and of the file that has it; errors as for `scan_ome`."""
    images, uuid = _parse(path, text)
    return {path.name, *(_name_of(run, path, uuid) for image in images for run in image.runs)}


def _parse(path: Path, text: str) -> tuple[tuple[OmeImage, ...], str]:
    try:
        return parse_ome(text)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise SourceError(f"{path}: has damaged OME metadata ({error}). Fix: copy it again") from error


def _check(path: Path, images: Sequence[OmeImage]) -> None:
    if not images:
        raise SourceError(f"{path}: its OME metadata have no images. Fix: pass the file that has pixels")
    for image in images:
        if image.has_colours:
            raise UnsupportedSourceError(f"{path}: {image.name} has colours. Fix: save each channel in grey levels")
        if image.sizes[1] != images[0].sizes[1]:
            raise UnsupportedSourceError(
                f"{path}: {image.name} has {many(image.sizes[1], 'channel')}, but {images[0].name} has "
                f"{images[0].sizes[1]}. Fix: save images with other channels as another file"
            )


# ------------------------------------------------------------------------------------------ files


class _Plane(NamedTuple):
    at: tuple[int, int, int, int]
    """FOV, frame, channel and z."""
    file: int
    offset: int
    """Of its directory in the file."""


@dataclass
class _Found:
    """Files that are there, and their planes."""

    files: list[str]
    planes: list[_Plane] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _find(path: Path, images: Sequence[OmeImage], uuid: str) -> _Found:
    """Look for the files, and for the image of each plane in them."""
    names = {run: _name_of(run, path, uuid) for image in images for run in image.runs}
    named = sorted(set(names.values()))
    if len(named) == 1 and not (path.parent / named[0]).is_file() and path.suffix.lower() in ENDINGS:
        names, named = dict.fromkeys(names, path.name), [path.name]  # a single file that was renamed
    files = [name for name in named if (path.parent / name).is_file()]
    if not files:
        raise SourceError(f"{path}: none of the image files that it names is there. Fix: copy them into its folder")
    found = _Found(files)
    if lost := sorted(set(named).difference(files)):
        found.notes.append(f"{many(len(lost), 'file')} of the set not there, such as {lost[0]}; planes are missing")
    chains = in_threads(lambda name: find_directories(path.parent / name), files)
    for name, (offsets, complete) in zip(files, chains, strict=True):
        if not complete:
            found.notes.append(f"{name} is cut off or still being written: {many(len(offsets), 'image')} found")
    numbers = {name: number for number, name in enumerate(files)}
    for fov, image in enumerate(images):
        for run in image.runs:
            number = numbers.get(names[run], ABSENT)
            if number != ABSENT:
                found.planes += _planes(fov, image, run, number, chains[number][0])
    return found


def _name_of(run: Run, path: Path, uuid: str) -> str:
    """Name of a run's file, relative to the folder; that of the file itself, even if it was renamed."""
    if not run.file or (uuid and run.uuid == uuid):
        return path.name
    name = PurePosixPath(run.file.replace("\\", "/"))
    return name.name if name.is_absolute() or ".." in name.parts or ":" in name.parts[0] else str(name)


def _planes(fov: int, image: OmeImage, run: Run, number: int, offsets: Sequence[int]) -> Iterator[_Plane]:
    """Planes of a run that are in the file; numbers beyond the sizes of the image are ignored."""
    sizes = dict(zip(AXES, image.sizes, strict=True))
    first = dict(zip(AXES, run.first, strict=True))
    slow, middle, fast = tuple(image.order)
    if any(first[axis] >= sizes[axis] for axis in AXES):
        return
    start = (first[slow] * sizes[middle] + first[middle]) * sizes[fast] + first[fast]
    count = min(len(offsets) if run.planes is None else run.planes, sizes[slow] * sizes[middle] * sizes[fast] - start)
    for linear, offset in enumerate(offsets[run.directory : run.directory + count], start):
        rest, last = divmod(linear, sizes[fast])
        at = dict(zip(image.order, (*divmod(rest, sizes[middle]), last), strict=True))
        yield _Plane((fov, at["T"], at["C"], at["Z"]), number, offset)


# ------------------------------------------------------------------------------------------ metadata


def _fovs(images: Sequence[OmeImage], held: npt.NDArray[np.bool_]) -> tuple[FovInfo, ...]:
    sited = [f"{image.well} s{image.site}" if image.well else image.name for image in images]
    return tuple(
        FovInfo(
            name,
            image.shape,
            image.position_um,
            plate=image.plate,
            well=image.well,
            site=image.site,
            **absent_planes(planes),
        )
        for name, image, planes in zip(distinct_names(sited), images, held, strict=True)
    )


def _channels(images: Sequence[OmeImage]) -> tuple[Channel, ...]:
    dtype = np.result_type(*{image.dtype for image in images}).name
    first = images[0]
    return tuple(
        Channel(name, dtype, channel_kind(name, [modality]))
        for name, modality in zip(first.channels, first.modalities, strict=True)
    )


def _interval(images: Sequence[OmeImage]) -> float | None:
    seconds = images[0].interval_s
    return seconds / 60 if seconds and seconds > 0 else None


def _times(images: Sequence[OmeImage], held: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Times of frames: of the first plane of each."""
    shown = np.asarray(held.any(axis=(2, 3)))
    first = np.full(shown.shape, np.nan)
    for fov, image in enumerate(images):
        for frame, seconds in image.stamps:
            if frame < shown.shape[1]:
                first[fov, frame] = np.fmin(first[fov, frame], seconds)
    return choose_times([Stamps("DeltaT of planes", first)], shown, _interval(images))


def _notes(images: Sequence[OmeImage]) -> Iterator[str]:
    different = {
        "pixel sizes": len({image.pixel_size_um for image in images}),
        "names of channels": len({image.channels for image in images}),
    }
    for what, count in different.items():
        if count > 1:
            yield f"images have different {what}; those of the first one are used"
