"""Datasets of Micro-Manager: a folder of TIFF stacks (``_MMStack_Pos0.ome.tif``), or an NDTiff dataset with its index.

Names, times and stage positions are those of the images; Micro-Manager does not say which way y points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import fill_table, is_file, is_folder, list_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder, Planes, stat_files
from pyama_dask.readers.fov_names import distinct_names
from pyama_dask.readers.micro_manager.images import Acquisition, Image
from pyama_dask.readers.micro_manager.ndtiff import INDEX, read_ndtiff
from pyama_dask.readers.micro_manager.stacks import STACK, read_stacks
from pyama_dask.readers.times import Stamps, choose_times

NAME = "Micro-Manager"
FULL = "Full resolution"
"""Folder of the images in a dataset with several resolutions."""
_SITE = re.compile(r"([A-Za-z]{1,2}\d{1,2})-Site_(\d+)", re.ASCII)
"""Name of a position that Micro-Manager's generator for plates has made."""


def find(path: Path) -> list[Path]:
    """Find datasets.

    Parameters
    ----------
    path
        Folder of a dataset, one of its files, or the folder above.

    Returns
    -------
    Folders with the images of the datasets, sorted; empty if nothing is found.
    """
    if path.is_file():
        return [path.parent] if STACK in path.name or (path.parent / INDEX).is_file() else []
    if path.name != FULL and (path / FULL / INDEX).is_file():
        return [path / FULL]
    if _has_images(path):
        return [path]
    inner = sorted(Path(entry) for entry in list_folder(path) if not entry.name.startswith(".") and is_folder(entry))
    places = (folder / FULL if (folder / FULL / INDEX).is_file() else folder for folder in inner)
    return [folder for folder in places if _has_images(folder)]


def _has_images(folder: Path) -> bool:
    return any((entry.name == INDEX or is_stack(entry.name)) and is_file(entry) for entry in list_folder(folder))


def is_stack(name: str) -> bool:
    """True for the name of a file that Micro-Manager has written."""
    return STACK in name and name.lower().endswith(".tif") and not name.startswith(".")


def scan(root: Path, *, times: bool = True) -> Folder:
    """Find the planes of a dataset.

    Frames that it announces and that are not there are missing; positions, channels and z planes are those that exist.

    Parameters
    ----------
    root
        Folder of the images, from `find`.
    times
        False to skip the times of frames, for which the metadata of one image per FOV and frame are read.

    Raises
    ------
    SourceError
        If a file is damaged, or no image is there.
    UnsupportedSourceError
        If images have colours or an unknown form.
    """
    found = read_ndtiff(root) if (root / INDEX).is_file() else read_stacks(root)
    if not found.images:
        raise SourceError(f"{root}: has no images. Fix: pass the folder of a complete dataset")
    files = sorted({image.file for image in found.images})
    of_file = {name: number for number, name in enumerate(files)}
    places = np.array([image.at for image in found.images], np.int64)
    _, frames, n_channels, z_planes = (places.max(axis=0) + 1).tolist()
    shape = len(found.shapes), max(frames, int(found.summary.get("Frames") or 0)), n_channels, z_planes
    names = [image.file for image in found.images]
    table = fill_table(root, shape, places, np.arange(len(names)), names)
    single = _fill_single(table)
    where = np.array([(of_file[image.file], image.place) for image in found.images] + [(ABSENT, 0)], np.int64)
    file, place = where[table, 0].astype(np.int32), where[table, 1]
    about = _read_about(root, found, _first_images(table, found.images, times=times))
    fovs = _fovs(found, about, file != ABSENT)
    identity = repr((fovs, found.channels, found.form)).encode()
    metadata = Metadata(
        path=root,
        format=NAME,
        fovs=fovs,
        n_frames=shape[1],
        channels=tuple(Channel(name, found.dtype, channel_kind(name)) for name in found.channels),
        z_planes=z_planes,
        pixel_size_um=_pixel_size(found, about),
        interval_min=_interval(found),
        notes=tuple(f"{root.name}: {note}" for note in (*found.notes, *_notes(found, fovs, single))),
        **(_times(found, about, file != ABSENT) if times else {}),
    )
    states = stat_files(root, files)
    return Folder(metadata, Planes(root, files, *states, file, place, index=identity, form=found.form)).by_wells()


About = Mapping[tuple[int, int], Mapping[str, Any]]
"""Metadata of the first image by FOV and frame."""


def _fill_single(table: npt.NDArray[np.int32]) -> list[int]:
    """Let the plane of a channel without a z stack stand for all z; returns these channels."""
    held = (table != ABSENT).any(axis=(0, 1))
    single = np.flatnonzero(held.sum(axis=1) == 1).tolist() if held.shape[1] > 1 else []
    for channel in single:
        table[:, :, channel] = table[:, :, channel, held[channel]]
    return [int(channel) for channel in single]


def _first_images(table: npt.NDArray[np.int32], images: Sequence[Image], *, times: bool) -> list[Image]:
    """First image of each FOV and frame; with `times` off, of each FOV."""
    first = [[plane[plane != ABSENT][:1] for plane in fov] for fov in table]
    chosen = (image for fov in first for image in [plane for plane in fov if len(plane)][: None if times else 1])
    return [images[int(numbers[0])] for numbers in chosen]


def _read_about(root: Path, found: Acquisition, images: Sequence[Image]) -> About:
    """Metadata of images; each file is opened once."""
    by_file: dict[str, list[Image]] = {}
    for image in images:
        by_file.setdefault(image.file, []).append(image)

    def read(name: str) -> list[tuple[tuple[int, int], Mapping[str, Any]]]:
        with open_file(root / name) as file:
            return [(image.at[:2], _parsed(found.read_about(file, image))) for image in by_file[name]]

    try:
        return dict(about for abouts in in_threads(read, list(by_file)) for about in abouts)
    except OSError as error:
        raise SourceError(
            f"{root}: an image cannot be read ({error.strerror}). Fix: check permissions and disk"
        ) from error


def _parsed(text: bytes) -> Mapping[str, Any]:
    """Metadata of an image; empty if they are damaged, which harms no more than its time."""
    try:
        about = json.loads(text.rstrip(b"\0"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


# ------------------------------------------------------------------------------------------ metadata


def _fovs(found: Acquisition, about: About, held: npt.NDArray[np.bool_]) -> tuple[FovInfo, ...]:
    firsts = [next((of for (number, _), of in about.items() if number == fov), {}) for fov in range(len(held))]
    names = [str(first.get("PositionName") or name) for first, name in zip(firsts, found.fovs, strict=True)]
    return tuple(
        FovInfo(name, shape, _position(first), **_site(name), **absent_planes(planes))
        for name, shape, first, planes in zip(distinct_names(names), found.shapes, firsts, held, strict=True)
    )


def _site(name: str) -> dict[str, Any]:
    """Well and site, from the name of a position."""
    match = _SITE.match(name)
    if match is None:
        return {}
    try:
        return {"well": well_name(*parse_well(match[1])), "site": int(match[2])}
    except ValueError:
        return {}


def _position(first: Mapping[str, Any]) -> tuple[float, float] | None:
    for names in (("XPositionUm", "YPositionUm"), ("XPosition_um_Intended", "YPosition_um_Intended")):
        x, y = (_number(first.get(name)) for name in names)
        if x is not None and y is not None:
            return x, y
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _pixel_size(found: Acquisition, about: About) -> float | None:
    """Micrometres per pixel; Micro-Manager writes 0 where it is not calibrated."""
    stated = [first.get("PixelSizeUm") for first in about.values()][:1]
    sizes = (_number(size) for size in (*stated, found.summary.get("PixelSize_um")))
    return next((size for size in sizes if size), None)


def _interval(found: Acquisition) -> float | None:
    milliseconds = _number(found.summary.get("Interval_ms"))
    return milliseconds / 60_000 if milliseconds and milliseconds > 0 else None


def _times(found: Acquisition, about: About, held: npt.NDArray[np.bool_]) -> dict[str, Any]:
    shown = np.asarray(held.any(axis=(2, 3)))
    seconds = np.full(shown.shape, np.nan)
    for at, first in about.items():
        elapsed = _number(first.get("ElapsedTime-ms"))
        seconds[at] = np.nan if elapsed is None else elapsed / 1000
    return choose_times([Stamps("ElapsedTime-ms of images", seconds)], shown, _interval(found))


def _notes(found: Acquisition, fovs: Sequence[FovInfo], single: Sequence[int]) -> Iterator[str]:
    if single:
        yield f"one z plane only, which stands for all: {', '.join(found.channels[channel] for channel in single)}"
    of_file: dict[str, set[int]] = {}
    for image in found.images:
        of_file.setdefault(image.file, set()).add(image.at[0])
    for file, held in sorted(of_file.items()):
        names, label = [fovs[fov].name for fov in held], file.partition(f"{STACK}_")[2]
        if len(of_file) > 1 and len(names) == 1 and label and not label.startswith(names[0]):
            yield f"{file} has the position {names[0]}, which its name does not say; check which well it is"
            break
