"""Plates of Opera Phenix and Operetta: a measurement folder as Harmony 4 to 7 exports it.

The index names the file of each plane (``URL``), and has the place and time of each. Its stage positions are in metres
from the centre of the well, with y up. Its ``OrientationMatrix``, the rotation of the camera, is not applied: on some
instruments it gives impossible positions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyama_dask.config.units import many
from pyama_dask.config.well_names import plate_shape, well_name
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name
from pyama_dask.readers.folders.plane_table import fill_table, find_files, is_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes
from pyama_dask.readers.opera.index import PLACE, Index, Texts, read_index
from pyama_dask.readers.tiff.header import TiffHeader, common_header, few_of
from pyama_dask.readers.times import Stamps, choose_times

NAME = "Opera"
INDEXES = ("Index.idx.xml", "Index.xml", "Index.ref.xml")
"""Names of indexes, in any case; the first one in a folder is read."""
IMAGES = "images"
"""Name, in lower case, of the folder of images in a measurement."""
LEVELS_ABOVE = 2
"""Levels of folders above a measurement that lead to it."""
_MARK = b"EvaluationInputData"
_START = 4096
_FARTHEST = 1e9
"""Largest distance in micrometres of a position from the centre of its well; no stage goes as far."""


def find(path: Path) -> list[Path]:
    """Find measurements.

    Parameters
    ----------
    path
        Folder of a measurement, its folder of images, its index, or a folder up to two levels above.

    Returns
    -------
    Folders of the measurements, sorted; empty if nothing is found.
    """
    path = path.absolute()
    if not path.is_dir():
        return [_root_of(path)] if _is_index(path) else []
    if path.name.lower() == IMAGES and _find_index(path.parent) is not None:
        return [path.parent]
    found, folders = list[Path](), [path]
    for _ in range(LEVELS_ABOVE + 1):
        deeper = list[Path]()
        for folder in folders:
            index = _find_index(folder)
            if index is None:
                deeper += [Path(entry) for entry in _entries(folder) if is_folder(entry)]
            else:
                found.append(_root_of(index))
        folders = deeper
    return sorted(found)


def scan(root: Path, *, times: bool = True) -> Folder:
    """Read the index of a measurement, and look for its images.

    Parameters
    ----------
    root
        Folder of the measurement, from `find`.
    times
        False to skip the times of frames.

    Raises
    ------
    SourceError
        If there is no index, or it is damaged.
    UnsupportedSourceError
        If the images are no planes that can be processed, such as those of channels in different sizes.
    """
    path = _find_index(root)
    if path is None:
        raise SourceError(f"{root}: has no index of Harmony. Fix: pass the folder that has Images/Index.xml")
    index = read_index(path)
    sites, places = _numbered(index)
    found = _find_images(root, path, index)
    _, n_frames, _, z_planes = (places.max(axis=0) + 1).tolist()
    shape = len(sites), n_frames, len(index.channels), z_planes
    table = fill_table(root, shape, places, found.numbers, found.files)
    _check_once(path, table, found)
    single = _fill_single(table, places) if z_planes > 1 else []
    held = table != ABSENT
    positions = _positions(index, places[:, 0], len(sites))
    identity = repr((index.about, index.channels, sites, positions)).encode()
    planes = Planes(root, found.files, found.sizes, found.written, table, index=identity)
    channels = _read_channels(planes, index)
    metadata = Metadata(
        path=root,
        format=NAME,
        fovs=_fovs(index, sites, positions, held, channels[0].shape),
        n_frames=n_frames,
        channels=tuple(channel.channel for channel in channels),
        z_planes=z_planes,
        pixel_size_um=channels[0].pixel_size_um,
        notes=tuple(f"{root.name}: {note}" for note in (*found.notes, *_notes(index, channels, single))),
        instrument_shading=tuple(index.shading.get(channel, "") for channel in index.channels),
        plate_shape=plate_shape(index.about.get("PlateRows", ""), index.about.get("PlateColumns", "")),
        **(_times(index, places, held) if times else {}),
    )
    return Folder(metadata, planes)


# ------------------------------------------------------------------------------------------ folders


def _find_index(folder: Path) -> Path | None:
    """Index in a folder, or in the folder of images within it."""
    indexes = (index for place in (folder, *_image_folders(folder)) for index in _named_indexes(place))
    return next(filter(_is_index, indexes), None)


def _named_indexes(folder: Path) -> Sequence[Path]:
    """Files with the name of an index, by preference; a folder of many images is listed only if it has to be."""
    usual = [folder / name for name in INDEXES if (folder / name).is_file()]
    names = {name.lower(): place for place, name in enumerate(INDEXES)}
    others = (Path(entry) for entry in _entries(folder) if entry.name.lower() in names)
    return usual or sorted(others, key=lambda path: (names[path.name.lower()], path.name))


def _image_folders(folder: Path) -> list[Path]:
    """Folders of images within a folder; there is one at most on most file systems."""
    return sorted(Path(entry) for entry in _entries(folder) if entry.name.lower() == IMAGES and is_folder(entry))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder, but for hidden ones; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError:
        return


def _is_index(path: Path) -> bool:
    """Tell an index by its name and its start; one that is empty, a pipe, or cannot be read counts, too."""
    if path.name.lower() not in map(str.lower, INDEXES) or path.is_dir():
        return False
    try:
        with open_file(path) as file:
            start = file.read(_START)
    except OSError:
        return True
    return not start or _MARK in start.replace(b"\0", b"")  # zeros are there in UTF-16


def _root_of(index: Path) -> Path:
    return index.parent.parent if index.parent.name.lower() == IMAGES else index.parent


# ------------------------------------------------------------------------------------------ planes


def _numbered(index: Index) -> tuple[list[tuple[int, int, int]], npt.NDArray[np.int64]]:
    """Row, column and field of each FOV, and (images, 4) numbers of FOV, frame, channel and z plane from 0."""
    rows, columns, fields, frames, channels, planes = index.places.T
    # One number for each site: sorting these is much faster than sorting triples.
    _, first, fovs = np.unique((rows * 1000 + columns) * 2**32 + fields, return_index=True, return_inverse=True)
    channels = np.searchsorted(list(index.channels), channels)
    places = np.stack([fovs, frames - frames.min(), channels, planes - planes.min()], axis=1)
    return [tuple(site) for site in index.places[first, :3].tolist()], places


class _Images(NamedTuple):
    """Images of an index that are on disk."""

    files: list[str]
    sizes: npt.NDArray[np.int64]
    written: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    """(images,) number in `files` of each image in the index, or `ABSENT`."""
    notes: list[str]


def _find_images(root: Path, path: Path, index: Index) -> _Images:
    """Look for the images, which are beside the index or in the folder of images below it."""
    searched = []
    for folder in (path.parent, *(_image_folders(root) if path.parent == root else ())):
        start = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        names = [start + name if name else "" for name in _relative(index.urls)]
        searched.append((names, *find_files(root, names)))
    names, sizes, written = max(searched, key=lambda found: (found[1] >= 0).sum())
    held = sizes >= 0
    numbers = np.where(held, np.cumsum(held) - 1, ABSENT)
    return _Images(list(compress(names, held)), sizes[held], written[held], numbers, _missing(index, held))


def _check_once(path: Path, table: npt.NDArray[np.int32], found: _Images) -> None:
    """Refuse an index in which one file is the image of several planes."""
    places = {name: number for number, name in enumerate(found.files)}
    numbers = np.array([places[name] for name in found.files], np.int64)[table[table != ABSENT]]
    images, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        name = found.files[int(images[counts.argmax()])]
        raise SourceError(
            f"{path}: {name} is the image of {counts.max()} different planes. Fix: export the measurement again"
        )


def _relative(urls: Sequence[str]) -> list[str]:
    """Paths within the folder of images; '' for those that lead elsewhere."""
    names = [url.replace("\\", "/") for url in urls]
    return ["" if name.startswith("/") or ".." in name or ":" in name else name for name in names]


def _missing(index: Index, held: npt.NDArray[np.bool_]) -> list[str]:
    """Notes on images that were not recorded, or are not on disk."""
    recorded = np.array([bool(url) for url in index.urls])
    notes = []
    if skipped := int((~recorded).sum()):
        notes.append(f"{skipped} of {many(len(held), 'image')} in the index were not recorded")
    if absent := int((recorded & ~held).sum()):
        example = index.urls[int((recorded & ~held).argmax())]
        notes.append(f"{absent} of {many(len(held), 'image')} in the index are not on disk, such as {example}")
    return notes


def _fill_single(table: npt.NDArray[np.int32], places: npt.NDArray[np.int64]) -> list[int]:
    """Let the only plane of a channel stand for each z plane of the others; return these channels."""
    single = []
    for channel in range(table.shape[2]):
        planes = np.unique(places[places[:, 2] == channel, 3])
        if len(planes) == 1:
            table[:, :, channel] = table[:, :, channel, planes]
            single.append(channel)
    return single


# ------------------------------------------------------------------------------------------ metadata


class _Described(NamedTuple):
    """Channel, and the size of its images."""

    channel: Channel
    shape: tuple[int, int]
    pixel_size_um: float | None
    stated: tuple[int, int] | None
    """(height, width) in the index."""


def _read_channels(planes: Planes, index: Index) -> list[_Described]:
    """Describe the channels by the index and a few files of each."""
    described = []
    for place, texts in enumerate(index.channels.values()):
        files = planes.file[:, :, place]
        paths = map(planes.path_of, few_of(files[files != ABSENT].tolist()))
        described.append(_described(planes.folder, place, texts, common_header(paths)))
    shapes = {channel.shape for channel in described}
    if len(shapes) > 1:
        sizes = ", ".join(f"{one.channel.name} {_size(one.shape)}" for one in described)
        raise UnsupportedSourceError(
            f"{planes.folder}: the channels have images of different sizes ({sizes}). "
            "Fix: measure with one binning, or export the channels as separate measurements"
        )
    return described


def _described(folder: Path, place: int, texts: Texts, header: TiffHeader | None) -> _Described:
    name = texts.get("ChannelName") or default_channel_name(place)
    height, width, size = (_positive(texts.get(key)) for key in ("ImageSizeY", "ImageSizeX", "ImageResolutionX"))
    stated = (int(height), int(width)) if height and width else None
    shape = header.shape if header else stated
    if shape is None:
        raise SourceError(f"{folder}: neither the index nor a file has the size of the images. Fix: copy the images")
    dtype = header.dtype if header else "uint8" if 0 < _positive(texts.get("MaxIntensity")) < 256 else "uint16"
    kind = channel_kind(name, [texts.get("ChannelType", "")])
    # 6.5e-07 m should be 0.65 um, not 0.6499999999999999.
    return _Described(Channel(name, dtype, kind), shape, float(f"{size * 1e6:.12g}") or None, stated)


def _positive(text: str | None) -> float:
    """Finite number above 0; 0 for anything else."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if 0 < number < math.inf else 0.0


def _positions(index: Index, fovs: npt.NDArray[np.int64], count: int) -> list[tuple[float, float] | None]:
    """Position (x, y) of each FOV in micrometres, of its first image with one."""
    known = np.flatnonzero((np.abs(index.position_um) < _FARTHEST).all(axis=1))  # NaN is not less
    stated, first = np.unique(fovs[known], return_index=True)
    positions: list[tuple[float, float] | None] = [None] * count
    for fov, (x, y) in zip(stated.tolist(), index.position_um[known[first]].round(6).tolist(), strict=True):
        positions[fov] = x, y
    return positions


def _fovs(
    index: Index,
    sites: Sequence[tuple[int, int, int]],
    positions: Sequence[tuple[float, float] | None],
    held: npt.NDArray[np.bool_],
    shape: tuple[int, int],
) -> tuple[FovInfo, ...]:
    plate = index.about.get("Name") or index.about.get("PlateID")
    fovs = []
    for (row, column, site), position, planes in zip(sites, positions, held, strict=True):
        well = well_name(row - 1, column - 1)
        absent = absent_planes(planes)
        fovs.append(FovInfo(f"{well} s{site}", shape, position, plate=plate, well=well, site=site, **absent))
    return tuple(fovs)


def _times(index: Index, places: npt.NDArray[np.int64], held: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Times of frames: of the first image of each."""
    recorded, shown = np.array([bool(url) for url in index.urls]), np.asarray(held.any(axis=(2, 3)))
    found = []
    for source, seconds in zip(("AbsTime", "MeasurementTimeOffset"), index.seconds[recorded].T, strict=True):
        first = np.full(shown.shape, np.nan)
        np.fmin.at(first, tuple(places[recorded, :2].T), seconds)
        found.append(Stamps(f"{source} of images", first))
        if np.isfinite(first[shown]).all() and not (np.diff(first, axis=1) <= 0).any():
            break
    return choose_times(found, shown, None)


def _notes(index: Index, channels: Sequence[_Described], single: Sequence[int]) -> Iterator[str]:
    """Notes on contradictions in the index."""
    empty = sorted(
        {well for well in index.wells if min(well) > 0}
        - {(row, column) for row, column, *_ in index.places[:, :2].tolist()}
    )
    if empty:
        names = ", ".join(well_name(row - 1, column - 1) for row, column in empty[:5])
        yield f"{many(len(empty), 'well')} without images: {names}"
    numbers = np.unique(index.places[:, PLACE.index("TimepointID")])
    if gaps := int(numbers[-1] - numbers[0] + 1 - len(numbers)):
        yield f"{many(gaps, 'frame')} between the first and the last one have no images"
    if single:
        names = ", ".join(channels[channel].channel.name for channel in single)
        yield f"one z plane only, which stands for all: {names}"
    if len({channel.pixel_size_um for channel in channels}) > 1:
        sizes = ", ".join(f"{one.channel.name} {one.pixel_size_um}" for one in channels)
        yield f"the channels have different pixel sizes, of which the first is used: {sizes} um"
    for one in channels:
        if one.stated not in (None, one.shape):
            sizes = f"the index states {_size(one.stated)}, but the images have {_size(one.shape)}"
            yield f"{one.channel.name}: {sizes}"


def _size(shape: tuple[int, int]) -> str:
    """Width and height, as microscopes name them."""
    return f"{shape[1]} x {shape[0]} pixels"
