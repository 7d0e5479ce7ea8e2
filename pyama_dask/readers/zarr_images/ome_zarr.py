"""OME-Zarr (OME-NGFF 0.4, 0.5 and older): plates, collections of Bio-Formats, and single images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyama_dask.config.well_names import parse_well, well_name
from pyama_dask.config.wells import FORMATS
from pyama_dask.errors import PyamaError, SourceError, UnsupportedSourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name
from pyama_dask.readers.folders.plane_table import is_folder, list_folder
from pyama_dask.readers.folders.planes import ABSENT, Folder
from pyama_dask.readers.fov_names import distinct_names
from pyama_dask.readers.times import choose_times
from pyama_dask.readers.zarr_images import run_output
from pyama_dask.readers.zarr_images.documents import DOCUMENTS, ome_attributes

if TYPE_CHECKING:
    from pyama_dask.readers.zarr_images.arrays import StoredArray

NAME = "OME-Zarr"
ENDING = ".zarr"
_SERIES = "bioformats2raw.layout"
_MICROMETRES = {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3}
_MINUTES = {"day": 1440.0, "hour": 60.0, "minute": 1.0, "second": 1 / 60, "millisecond": 1 / 60_000}


def find(path: Path) -> list[Path]:
    """Find plates and images.

    Parameters
    ----------
    path
        Folder of a plate or an image, its document, or the folder above.

    Returns
    -------
    Folders of them, sorted; empty if nothing is found.
    """
    if path.is_file():
        return find(path.parent) if path.name in DOCUMENTS else []
    if run_output.find(path):  # which may have a plate beside its other images
        return []
    if {"plate", "multiscales", _SERIES} & ome_attributes(path).keys():
        return [path]
    inner = sorted(entry.name for entry in list_folder(path) if entry.name.endswith(ENDING) and is_folder(entry))
    return [path / name for name in inner if {"plate", "multiscales", _SERIES} & ome_attributes(path / name).keys()]


@dataclass(frozen=True)
class _Image:
    """An image, which is a FOV."""

    path: str
    """From the root; '' for the root itself."""
    name: str
    about: Mapping[str, Any]
    """Its OME-NGFF metadata."""
    plate: str | None = None
    well: str | None = None
    site: int | None = None
    fault: str = ""
    """Reason why it cannot be read; '' if it can."""


@dataclass(frozen=True)
class _Scale:
    """Axes and coordinates of the full resolution of an image."""

    array: str
    """Path from the image."""
    axes: str
    """Axes before height and width."""
    pixel_um: float | None
    minutes: float | None
    """Between frames."""
    corner_um: tuple[float, float] | None
    """x, y of the first pixel."""
    has_unit: bool


def scan(root: Path, *, times: bool = True) -> Folder:
    """Find the planes of a plate or an image.

    Parameters
    ----------
    root
        Its folder, from `find`.
    times
        False to leave out the times of frames.

    Raises
    ------
    SourceError
        If a document or an array is damaged, or there is no image.
    UnsupportedSourceError
        If images have axes that movies have not.
    """
    from pyama_dask.readers.zarr_images.planes import Piece, read_arrays  # noqa: PLC0415  (zarr is slow to import)

    notes = list[str]()
    images = _images(root, notes)
    images, scales = _with_scales(root, images)
    if all(scale.corner_um in (None, (0, 0)) for scale in scales):  # as programs write that know no positions
        scales = [replace(scale, corner_um=None) for scale in scales]
    pieces = [
        Piece(f"{image.path}/{scale.array}".strip("/"), fov, scale.axes, fault=image.fault)
        for fov, (image, scale) in enumerate(zip(images, scales, strict=True))
    ]
    index = [(image.path, image.well, image.site, image.about) for image in images]
    found = read_arrays(root, pieces, json.dumps(index, sort_keys=True).encode())
    held = found.planes.file != ABSENT
    dtype = np.result_type(*(array.dtype for array in found.arrays)).name
    metadata = Metadata(
        path=root,
        format=NAME,
        fovs=tuple(_fov(*about) for about in zip(images, scales, found.arrays, held, strict=True)),
        n_frames=held.shape[1],
        channels=tuple(Channel(name, dtype, channel_kind(name)) for name in _channel_names(images[0], held.shape[2])),
        z_planes=held.shape[3],
        pixel_size_um=scales[0].pixel_um,
        interval_min=scales[0].minutes,
        plate_shape=_plate_shape(ome_attributes(root).get("plate")),
        read_memory=found.read_memory,
        notes=tuple(f"{root.name}: {note}" for note in (*notes, *found.notes, *_notes(images, scales))),
        **(choose_times([], np.asarray(held.any(axis=(2, 3))), scales[0].minutes) if times else {}),
    )
    return Folder(metadata, found.planes).by_wells()


def _fov(image: _Image, scale: _Scale, array: StoredArray, held: npt.NDArray[np.bool_]) -> FovInfo:
    shape = array.shape[-2], array.shape[-1]
    places: dict[str, Any] = {"plate": image.plate, "well": image.well, "site": image.site}
    return FovInfo(image.name, shape, _centre(scale, shape), **places, **absent_planes(held))


# ------------------------------------------------------------------------------------------ images


def _images(root: Path, notes: list[str]) -> list[_Image]:
    """Images of a plate or of a collection, or the only one."""
    about = ome_attributes(root)
    try:
        if "plate" in about:
            images = _plate_images(root, about["plate"], notes)
        elif "multiscales" in about:
            images = [_Image("", root.name.removesuffix(ENDING).removesuffix(".ome"), about)]
        else:
            images = list(_series(root))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{root}: has damaged OME-Zarr metadata ({error!r}). Fix: copy it again") from error
    if not images:
        raise SourceError(f"{root}: has no images. Fix: copy it again")
    names = distinct_names([image.name for image in images])
    return [replace(image, name=name) for image, name in zip(images, names, strict=True)]


def _plate_images(root: Path, plate: Mapping[str, Any], notes: list[str]) -> list[_Image]:
    """Images of all wells; a well whose document is damaged has one that cannot be read."""
    wells = [(str(well["path"]), _well(well)) for well in plate["wells"]]
    _refuse_twice(root, [name for _, name in wells], "the well")
    found = []
    for path, name in wells:
        try:
            fields = _fields(root, path)
        except SourceError as error:
            found.append(_Image(path, f"{name} s1", {}, plate.get("name"), name, 1, str(error)))
            continue
        for site, field in fields.items():
            image = _Image(f"{path}/{field}", f"{name} s{site}", {}, plate.get("name"), name, site)
            found += _with_attributes(root, image, notes)
        if not fields:
            notes.append(f"well {name} is on the plate, but has no images")
    return found


def _with_attributes(root: Path, image: _Image, notes: list[str]) -> Iterator[_Image]:
    """Yield the image with its metadata or its fault; nothing if it is not there."""
    try:
        about = ome_attributes(root / image.path) if _is_inside(image.path) else {}
    except SourceError as error:
        yield replace(image, fault=str(error))
        return
    if "multiscales" in about:
        yield replace(image, about=about)
    else:
        notes.append(f"{image.path} is on the plate, but not there")


def _fields(root: Path, well: str) -> dict[int, str]:
    """Paths of the images of a well by site; raises `SourceError` if its document is damaged."""
    where = root / well
    if not _is_inside(well):
        raise SourceError(f"{root}: the path of a well, {well}, leads out of the plate. Fix: correct its path")
    try:
        fields = [str(image["path"]) for image in ome_attributes(where).get("well", {}).get("images", ())]
    except (LookupError, TypeError, AttributeError) as error:
        raise SourceError(f"{where}: has damaged OME-Zarr metadata ({error!r}). Fix: copy it again") from error
    sites = _sites(fields)
    _refuse_twice(where, [f"s{site}" for site in sites], "the image")
    return dict(zip(sites, fields, strict=True))


def _is_inside(path: str) -> bool:
    """True if a path that a document states leads to a place below this document."""
    return not {"..", ""}.intersection(path.split("/"))


def _refuse_twice(where: Path, names: Sequence[str], what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SourceError(f"{where}: lists {what} {twice} more than once. Fix: correct the paths in its document")


def _plate_shape(plate: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Rows and columns of a plate; None if they are not those of a usual plate, as some list those with images only."""
    if plate is None:
        return None
    shape = len(plate.get("rows", ())), len(plate.get("columns", ()))
    return shape if shape in FORMATS and str(plate["rows"][0].get("name")).upper() == "A" else None


def _well(well: Mapping[str, Any]) -> str:
    """Name of a well from its path, or from its numbers if its row and column have unusual names."""
    with suppress(ValueError):
        return well_name(*parse_well(str(well["path"]).replace("/", "")))
    return well_name(int(well["rowIndex"]), int(well["columnIndex"]))


def _sites(fields: Sequence[str]) -> list[int]:
    """Numbers of sites: those of the paths, from 1, or the order of the images."""
    if not all(field.isdecimal() for field in fields):
        return list(range(1, len(fields) + 1))
    numbers = [int(field) for field in fields]
    return [number + (0 in numbers) for number in numbers]


def _series(root: Path) -> Iterator[_Image]:
    """Images of a collection that Bio-Formats has written."""
    listed = ome_attributes(root / "OME").get("series")
    names = [str(name) for name in listed] if listed else _numbered_folders(root)
    for name in filter(_is_inside, names):
        for image in _with_attributes(root, _Image(name, name, {}), []):
            own = name if image.fault else image.about["multiscales"][0].get("name")
            yield replace(image, name=str(own or name))


def _numbered_folders(root: Path) -> list[str]:
    return sorted((entry.name for entry in list_folder(root) if entry.name.isdecimal()), key=int)


# ------------------------------------------------------------------------------------------ axes


def _with_scales(root: Path, images: Sequence[_Image]) -> tuple[list[_Image], list[_Scale]]:
    """Axes and scales of images; one that cannot be read gets those of another, and the reason as its fault.

    Raises
    ------
    SourceError
        If no image can be read.
    """
    read = [SourceError(image.fault) if image.fault else _scale_or_fault(root, image) for image in images]
    pairs = list(zip(images, read, strict=True))
    good = next(((image, scale) for image, scale in pairs if isinstance(scale, _Scale)), None)
    if good is None:
        raise next(error for error in read if isinstance(error, SourceError))
    instead = replace(good[1], corner_um=None)
    images = [
        image if isinstance(scale, _Scale) else replace(image, about=good[0].about, fault=str(scale))
        for image, scale in pairs
    ]
    return images, [scale if isinstance(scale, _Scale) else instead for scale in read]


def _scale_or_fault(root: Path, image: _Image) -> _Scale | SourceError:
    try:
        return _scale(root, image)
    except SourceError as error:
        return error


def _scale(root: Path, image: _Image) -> _Scale:
    """Axes and scale of the full resolution of an image."""
    where = root / image.path
    try:
        multiscale = image.about["multiscales"][0]
        level = multiscale["datasets"][0]
        axes = [_axis(axis) for axis in multiscale.get("axes", "tczyx")]
        transforms = [*level.get("coordinateTransformations", ()), *multiscale.get("coordinateTransformations", ())]
        names = [name for name, _ in axes]
        if names[-2:] != ["y", "x"] or not set(names[:-2]) <= set("tcz") or len(set(names)) < len(names):
            raise UnsupportedSourceError(
                f"{where}: has the axes {', '.join(names)}. Fix: use t, c and z before y and x"
            )
        scale, shift = np.ones(len(axes)), np.zeros(len(axes))
        for transform in transforms:
            if transform["type"] == "scale":
                scale, shift = scale * transform["scale"], shift * transform["scale"]
            elif transform["type"] == "translation":
                shift = shift + transform["translation"]
        path = str(level["path"])
        if not _is_inside(path):
            raise SourceError(f"{where}: the path of its pixels, {path}, leads out of it. Fix: correct its path")
        return _described(path, axes, scale.tolist(), shift.tolist(), transforms)
    except PyamaError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{where}: has damaged OME-Zarr metadata ({error!r}). Fix: copy it again") from error


def _axis(axis: str | Mapping[str, str]) -> tuple[str, str]:
    """Name and unit of an axis."""
    return (axis.lower(), "") if isinstance(axis, str) else (axis["name"].lower(), axis.get("unit") or "")


def _described(
    array: str,
    axes: Sequence[tuple[str, str]],
    scale: Sequence[float],
    shift: Sequence[float],
    transforms: Sequence[Mapping[str, Any]],
) -> _Scale:
    units = dict(axes)
    sizes = dict(zip(units, scale, strict=True))
    kinds = {transform["type"] for transform in transforms}
    is_scaled = "scale" in kinds and (bool(units["x"]) or sizes["x"] != 1)
    um = {axis: _MICROMETRES.get(units[axis] or "micrometer") for axis in "xy"}
    minutes = _MINUTES.get(units.get("t", ""))
    between = sizes.get("t", 0) * minutes if minutes and "scale" in kinds else 0.0
    corner = None
    if "translation" in kinds and is_scaled and um["x"] and um["y"]:
        corner = shift[-1] * um["x"], shift[-2] * um["y"]
    return _Scale(
        array=array,
        axes="".join(units)[:-2].upper(),
        pixel_um=float(f"{sizes['x'] * um['x']:.12g}") if is_scaled and um["x"] else None,
        minutes=between if between > 0 else None,
        corner_um=corner,
        has_unit=bool(units["x"]) or not is_scaled,
    )


def _centre(scale: _Scale, shape: Sequence[int]) -> tuple[float, float] | None:
    """x, y of the centre, from the corner."""
    if scale.corner_um is None:
        return None
    height, width = ((count - 1) / 2 * (scale.pixel_um or 1.0) for count in shape)
    return scale.corner_um[0] + width, scale.corner_um[1] + height


def _channel_names(image: _Image, count: int) -> list[str]:
    omero = image.about.get("omero")
    stated = omero.get("channels", []) if isinstance(omero, Mapping) else []
    labels = [str(channel.get("label") or "") if isinstance(channel, Mapping) else "" for channel in stated]
    return [labels[k] if k < len(labels) and labels[k] else default_channel_name(k) for k in range(count)]


def _notes(images: Sequence[_Image], scales: Sequence[_Scale]) -> Iterator[str]:
    if not all(scale.has_unit for scale in scales):
        yield "no unit of length is stated; pixel sizes and positions are taken for micrometres"
    if len({scale.pixel_um for scale in scales}) > 1:
        yield "images have different pixel sizes; that of the first one is used"
    if len({tuple(_channel_names(image, 99)) for image in images}) > 1:
        yield "images have different names of channels; those of the first one are used"
