"""Plates of ImageXpress microscopes, as MetaXpress stores or exports them: folders with one TIFF file per plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from stat import S_ISREG

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.files.atomic import read_file
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes
from pyama_dask.readers.imagexpress.files import choose_description, choose_plate, find_plates, images_of, list_plate
from pyama_dask.readers.imagexpress.htd import PlateDescription, parse_description
from pyama_dask.readers.imagexpress.metaseries import Head, read_head
from pyama_dask.readers.imagexpress.notes import (
    announced_notes,
    channel_titles,
    copy_notes,
    file_notes,
    label_notes,
    single_notes,
)
from pyama_dask.readers.imagexpress.sites import Sites, read_sites
from pyama_dask.readers.imagexpress.table import (
    Copies,
    Table,
    build_table,
    find_copies,
    first_complete,
    read_series,
    without_copies,
)
from pyama_dask.readers.tiff.header import few_of, most_common
from pyama_dask.readers.times import Stamps, choose_times

NAME = "ImageXpress"
_STAMP = "acquisition-time-local"


def find(path: Path) -> list[Path]:
    """Find the plates that a path leads to.

    Parameters
    ----------
    path
        Folder of a plate or within one, the HTD file that describes it, or a folder up to two levels above plates.

    Returns
    -------
    Folders of the plates, sorted; an empty list for other paths. A plate has an HTD file, or images that MetaMorph has
    written and whose names have a well.
    """
    return find_plates(path)


def scan(root: Path, *, times: bool = True) -> Folder:
    """Find the planes of a plate, and read what describes them.

    Frames that the plate's HTD file announces and that are not there are missing; other dimensions end with what is
    there. Images of wells and sites stand for what exists, so a well without images is only mentioned in a note.

    Parameters
    ----------
    root
        Folder of the plate, from `find`.
    times
        False to skip the times of frames, for which one file per FOV and frame is read.

    Raises
    ------
    SourceError
        If there are no images, images of several plates, two files for one plane, or no image that can be read.
    UnsupportedSourceError
        If the images are in colour, or channels differ in size.
    """
    plate = _collect(root)
    paths = [root / file for file in plate.files]
    fov = first_complete(plate.table.file)
    heads = read_series(paths, plate.table.file, fov)
    copies = find_copies(plate.table.file, heads, fov)
    plate = replace(plate, table=without_copies(plate.table, copies))
    sites = read_sites(paths, plate.table.file, times=times)
    metadata = _describe(plate, copies, _heads_of_channels(paths, plate.table, heads, sites), sites)
    planes = Planes(
        folder=root,
        files=plate.files,
        sizes=plate.sizes,
        written=plate.written,
        file=plate.table.file,
        projection=plate.table.projection,
        index=plate.index,
    )
    return Folder(metadata, planes)


@dataclass(frozen=True, eq=False)
class _Plate:
    """Files of a plate, before their heads are read."""

    root: Path
    name: str
    index: bytes
    """Text of the HTD file; empty without one."""
    description: PlateDescription
    files: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    written: npt.NDArray[np.int64]
    table: Table
    notes: tuple[str, ...]


def _collect(root: Path) -> _Plate:
    listing = list_plate(root)
    name = choose_plate(root, listing)
    index = _read_index(root, choose_description(listing, name))
    description = parse_description(index)
    images, notes = images_of(listing, name)
    stats = in_threads(lambda image: _size_and_time(root / image.file), images)
    states = np.array(stats, np.int64).reshape(-1, 2)
    held = states[:, 0] > 0
    if not held.any():
        raise SourceError(f"{root}: has no images of a plate. Fix: pass the folder with the images, or copy it again")
    files = [image.file for image in images]
    sizes, written = states[held].T
    empty = "empty files, folders or pipes instead of images, whose planes are missing"
    return _Plate(
        root=root,
        name=name or root.name,
        index=index,
        description=description,
        files=tuple(compress(files, held)),
        sizes=sizes,
        written=written,
        table=build_table(root, images, held, description.frames),
        notes=(*notes, *file_notes(empty, list(compress(files, ~held)))),
    )


def _read_index(root: Path, file: str | None) -> bytes:
    if file is None:
        return b""
    try:
        return read_file(root / file)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise SourceError(f"{root / file}: {problem}. Fix: check its permissions, or copy it again") from error


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes of a file, 0 if it has gone or is no file, and the time of the last write to it in nanoseconds."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size if S_ISREG(stat.st_mode) else 0, stat.st_mtime_ns


def _heads_of_channels(
    paths: Sequence[Path], table: Table, heads: Mapping[int, Head], sites: Sites
) -> list[Head | None]:
    """Head of an image of each channel that is like most of them; None if no image can be read.

    An odd image, which is refused when it is read, harms its own FOV only. More images are read only where the known
    ones differ from those of most FOVs.
    """
    usual = most_common([site for site in sites.sites if site is not None])
    found = list[Head | None]()
    for channel in range(len(table.waves)):
        numbers = np.unique(table.file[:, :, channel])
        numbers = numbers[numbers != ABSENT].tolist()
        known = [heads[number] for number in numbers if number in heads]
        if usual is None or not known or any(_form(head) != (usual.shape, usual.dtype, 1) for head in known):
            few = [heads[number] if number in heads else read_head(paths[number]) for number in few_of(numbers)]
            read = [head for head in few if head is not None]
            known = [head for head in read if head.samples == 1] or read
        found.append(most_common(known))
    return found


def _form(head: Head) -> tuple[tuple[int, int], str, int]:
    return head.shape, head.dtype, head.samples


def _describe(plate: _Plate, copies: Copies, heads: Sequence[Head | None], sites: Sites) -> Metadata:
    """Content of a plate from its files, and the heads of channels and FOVs."""
    table = plate.table
    channels = _channels(plate, heads)
    titles = channel_titles(table, [channel.name for channel in channels])
    notes = (
        *plate.notes,
        *(announced_notes(plate.description, table) if plate.index else ()),
        *copy_notes(copies, titles),
        *single_notes(table, heads, titles),
        *label_notes(table, sites.sites),
        *file_notes("images that cannot be read", [plate.files[number] for number in sites.unreadable]),
    )
    held = np.asarray((table.file != ABSENT).any(axis=(2, 3)))
    return Metadata(
        path=plate.root,
        format=NAME,
        fovs=_fovs(plate, sites, next(head.shape for head in heads if head is not None)),
        n_frames=table.file.shape[1],
        channels=channels,
        z_planes=table.file.shape[3],
        pixel_size_um=sites.pixel_size_um(),
        notes=tuple(f"{plate.root.name}: {note}" for note in notes),
        plate_shape=plate.description.plate_shape,
        **choose_times([Stamps(_STAMP, sites.seconds)], held, None),
    )


def _channels(plate: _Plate, heads: Sequence[Head | None]) -> tuple[Channel, ...]:
    readable = [head for head in heads if head is not None]
    if not readable:
        raise SourceError(f"{plate.root}: no image can be read, such as {plate.files[0]}. Fix: copy the plate again")
    if any(head.samples > 1 for head in readable):
        raise UnsupportedSourceError(f"{plate.root}: has images in colour. Fix: export grey images in MetaXpress")
    shapes = sorted({head.shape for head in readable})
    if len(shapes) > 1:
        raise UnsupportedSourceError(
            f"{plate.root}: channels have images of different sizes: {shapes[0]} and {shapes[-1]} pixels. "
            "Fix: move the images of one size to another folder"
        )
    return tuple(
        _channel(wave, head or readable[0], plate.description.names.get(wave) or _name(head))
        for wave, head in zip(plate.table.waves, heads, strict=True)
    )


def _channel(wave: int, head: Head, name: str | None) -> Channel:
    # Transmitted light has the wavelength 0.
    modalities = ["fluorescence"] if head.number("wavelength") else []
    name = name or default_channel_name(wave - 1)
    return Channel(name, head.dtype, channel_kind(name, modalities))


def _name(head: Head | None) -> str | None:
    return None if head is None else head.value("_IllumSetting_") or head.value("image-name")


def _fovs(plate: _Plate, sites: Sites, shape: tuple[int, int]) -> tuple[FovInfo, ...]:
    """FOVs of a plate; `shape` is what most of its images have."""
    places = zip(plate.table.sites, plate.table.file, sites.sites, sites.positions_um(), strict=True)
    return tuple(
        FovInfo(
            name=f"{well} s{number}",
            shape=shape if site is None or site.shape == shape else _own_shape(plate, file, shape),
            position_um=position,
            **absent_planes(file != ABSENT),
            plate=plate.name,
            well=well,
            site=number,
        )
        for (well, number), file, site, position in places
    )


def _own_shape(plate: _Plate, file: npt.NDArray[np.int32], usual: tuple[int, int]) -> tuple[int, int]:
    """Shape that most of a few images of a FOV have; the usual one if as many have that."""
    numbers = few_of(np.unique(file[file != ABSENT]).tolist())
    heads = [head for number in numbers if (head := read_head(plate.root / plate.files[number])) is not None]
    shapes = Counter(head.shape for head in heads)
    return max([usual, *shapes], key=lambda shape: shapes[shape])
