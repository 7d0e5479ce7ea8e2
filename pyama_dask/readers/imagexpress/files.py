"""Folders of ImageXpress plates: where they are, and which files are in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pyama_dask.config.units import many
from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import is_folder
from pyama_dask.readers.imagexpress.htd import is_description
from pyama_dask.readers.imagexpress.metaseries import read_head
from pyama_dask.readers.imagexpress.names import ImageName, parse_folder_name, parse_image_name

HTD = ".htd"
_DEPTH = 2
"""Levels of folders above a plate that lead to it."""
_FEW = 3
"""Inner folders, plates and images that are searched for marks of a plate."""
_START = 256


class PlateImage(NamedTuple):
    """Image file of a plate."""

    file: str
    """Path from the plate's folder, with ``/`` between folders."""
    name: ImageName
    frame: int | None
    """Frame from 0; None outside folders of time points."""
    step: int
    """Number of the z step from 1; 0 outside folders of z steps, and in ``ZStep_0``."""


@dataclass(frozen=True)
class Listing:
    """Files in the folder of a plate."""

    images: list[PlateImage]
    """Images without their small copies, in the order of their folders and names."""
    descriptions: list[str]
    """Files with the ending HTD."""


class _Place(NamedTuple):
    """Folder of a plate."""

    folder: str
    """Path from the plate's folder with a ``/`` at its end; '' for this folder."""
    frame: int | None
    step: int | None

    def within(self, name: str) -> _Place | None:
        """Folder of this one by its name; None if it has no images of the plate."""
        kind, number = parse_folder_name(name) or ("", 0)
        folder = f"{self.folder}{name}/"
        if kind == "timepoint" and number > 0 and self.frame is None and self.step is None:
            return _Place(folder, number - 1, None)
        return _Place(folder, self.frame, number) if kind == "zstep" and self.step is None else None


def find_plates(path: Path) -> list[Path]:
    """Find the plates that a path leads to; see `imagexpress.find`."""
    if path.suffix.lower() == HTD and path.is_file():
        return [_plate_of(path.parent)] if is_description(_start(path)) else []
    found, folders = list[Path](), [_plate_of(path)]
    for _ in range(_DEPTH + 1):
        deeper = list[Path]()
        for folder in folders:
            files, inner = _seen(folder)
            if _has_marks(folder, files, inner):
                found.append(folder)
            else:
                deeper += [folder / name for name in inner if parse_folder_name(name) is None]
        folders = deeper
    return sorted(found)


def _has_marks(folder: Path, files: list[str], inner: list[str]) -> bool:
    """Tell whether a folder has a plate's description, or images of one plate that MetaMorph has written."""
    images: dict[str, list[Path]] = {}
    for place, names in [(folder, files), *_first_places(folder, inner, levels=2)]:
        for name in names:
            if name.lower().endswith(HTD) and is_description(_start(place / name)):
                return True
            parsed = parse_image_name(name)
            if parsed is not None:
                images.setdefault(parsed.plate, []).append(place / name)
    several = islice((paths for paths in images.values() if len(paths) > 1), _FEW)
    heads = (read_head(path) for paths in several for path in paths[:_FEW])
    return any(head is not None and head.is_metamorph for head in heads)


def _first_places(folder: Path, inner: list[str], levels: int) -> Iterator[tuple[Path, list[str]]]:
    """First folders of time points and z steps in a folder, each with the names of its files."""
    for name in islice((name for name in inner if parse_folder_name(name) is not None), _FEW if levels else 0):
        files, deeper = _seen(folder / name)
        yield folder / name, files
        yield from _first_places(folder / name, deeper, levels - 1)


def list_plate(root: Path) -> Listing:
    """List the files of a plate; each folder is read once.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    images, descriptions = list[PlateImage](), list[str]()
    places = [_Place("", None, None)]
    while places:
        listed = in_threads(lambda place: _listed(root / place.folder), places)
        for place, (files, _) in zip(places, listed, strict=True):
            texts = (place.folder + name for name in files if name.lower().endswith(HTD))
            descriptions += texts
            named = ((name, parse_image_name(name)) for name in files)
            images += [
                PlateImage(place.folder + file, name, place.frame, place.step or 0)
                for file, name in named
                if name is not None and not name.thumb
            ]
        inner = (place.within(name) for place, (_, folders) in zip(places, listed, strict=True) for name in folders)
        places = [place for place in inner if place is not None]
    return Listing(images, descriptions)


def choose_plate(root: Path, listing: Listing) -> str:
    """Name of the plate whose images are in a folder.

    Raises
    ------
    SourceError
        If there are images of several plates.
    """
    plates = Counter(image.name.plate for image in listing.images)
    if len(plates) < 2:
        return next(iter(plates), "")
    described = {PurePosixPath(file).stem for file in listing.descriptions if "/" not in file} & plates.keys()
    if len(described) == 1:
        return described.pop()
    names = ", ".join(sorted(plates)[:5])
    raise SourceError(
        f"{root}: has images of {len(plates)} plates ({names}). Fix: give each plate a folder, as links for example"
    )


def images_of(listing: Listing, plate: str) -> tuple[list[PlateImage], list[str]]:
    """Images of a plate, and notes on images that are not among them."""
    of_plate = [image for image in listing.images if image.name.plate == plate]
    timed = [image for image in of_plate if image.frame is not None]
    notes = []
    if others := len(listing.images) - len(of_plate):
        notes.append(f"{many(others, 'image')} of other plates {_are(others)} left out")
    if timed and (beside := len(of_plate) - len(timed)):
        notes.append(f"{many(beside, 'image')} outside the folders of time points {_are(beside)} left out")
    return timed or of_plate, notes


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def choose_description(listing: Listing, plate: str) -> str | None:
    """File that describes the plate: the topmost one, if possible of its name."""
    return min(
        listing.descriptions,
        key=lambda file: (file.count("/"), PurePosixPath(file).stem != plate, file),
        default=None,
    )


def _plate_of(folder: Path) -> Path:
    """Folder of the plate that a folder of images is in."""
    while parse_folder_name(folder.name) is not None:
        folder = folder.parent
    return folder


def _start(path: Path) -> bytes:
    """First bytes of a file; empty if it cannot be read, or is a pipe."""
    try:
        with open_file(path) as file:
            return file.read(_START)
    except OSError:
        return b""


def _seen(folder: Path) -> tuple[list[str], list[str]]:
    """Names of files and of folders; empty if they cannot be read."""
    try:
        return _entries(folder)
    except OSError:
        return [], []


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    try:
        return _entries(folder)
    except OSError as error:
        raise SourceError(
            f"{folder}: cannot be read ({error.strerror}). Fix: check the path and its permissions"
        ) from error


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of files and of folders, sorted; what has the name of an image is a file, whatever it is."""
    files, folders = list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                is_inner = is_folder(entry) and parse_image_name(entry.name) is None
                (folders if is_inner else files).append(entry.name)
    return sorted(files), sorted(folders)
