"""The plate as OME-NGFF: which arrays the image of a FOV has, where they are, and the documents of wells and plate.

An image has the raw channels as one array along t, c, y and x, and labels beside it. A shard of one channel holds the
same bytes as that of the channel's own array in ``images.zarr``: chunks are stored one after the other, and an axis of
length 1 adds nothing. So both are names of one file, and pixels are stored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyama_dask.config.well_names import parse_well, row_name, well_name
from pyama_dask.config.wells import plate_format
from pyama_dask.readers import FovInfo
from pyama_dask.store.array_documents import array_document
from pyama_dask.store.layout import DOCUMENT, ArraySpec, layout
from pyama_dask.store.ngff import VERSION, Look, colours, group_document, shown_as
from pyama_dask.workflow.graph import Role
from pyama_dask.workflow.task import Job

PLATE = "plate.zarr"
"""Folder of the plate in the output."""
LABELS = "labels"
"""Group of an image in which viewers look for labels."""
NAMES: Mapping[Role, str] = {"labels": "segmentation", "tracks": "tracks"}
"""Names of labels in that group."""
IMAGE_DOCUMENTS = (
    f"{LABELS}/{DOCUMENT}",
    *(
        f"{group}{level}{DOCUMENT}"
        for group in ("", *(f"{LABELS}/{name}/" for name in NAMES.values()))
        for level in ("", "0/", "1/")
    ),
)
"""Paths of the documents that an image may have, in its folder."""
HALVES: Mapping[Role, Role] = {"raw": "half_raw", "labels": "half_labels", "tracks": "half_tracks"}
"""Roles at half size, by those at full size."""


def images_in_plate(fovs: Sequence[FovInfo]) -> dict[int, str]:
    """Paths of images in the plate, such as ``B/02/0``, by number of the FOV.

    FOVs outside of wells have none, and FOVs of wells whose names have no row and column.

    Images of a well are counted in the order of the numbers of their FOVs, which never change: what arrives later does
    not move what is there.
    """
    found, taken = dict[int, str](), Counter[str]()
    for fov, info in enumerate(fovs):
        with suppress(ValueError):
            row, column = parse_well(info.well or "")
            well = f"{row_name(row)}/{column + 1:02}"
            found[fov] = f"{well}/{taken[well]}"
            taken[well] += 1
    return found


def image_arrays(job: Job, shape: tuple[int, int]) -> dict[str, tuple[ArraySpec, ArraySpec]]:
    """Arrays of an image at full and at half size, by the group of ``images.zarr`` that they show.

    Parameters
    ----------
    job
        Its config decides which arrays there are.
    shape
        (H, W) of the FOV in pixels.
    """
    shown = [spec for spec in layout(job, shape).values() if spec.level == 0 and spec.role in HALVES]
    raw, found = [spec.group for spec in shown if spec.is_raw], {}
    for spec in shown:
        group = "" if spec.is_raw else f"{LABELS}/{NAMES[spec.role]}"
        stack = (raw.index(spec.group), len(raw)) if spec.is_raw else None
        full = replace(spec, group=group, stack=stack, still=job.n_frames == 1)
        size = (job.n_frames, shape[0] // 2, shape[1] // 2)
        found[spec.group] = full, replace(full, role=HALVES[spec.role], level=1, shape=size)
    return found


def half_arrays(job: Job, shape: tuple[int, int]) -> dict[str, ArraySpec]:
    """Arrays at half size by the group that they show; empty unless the config asks for a plate."""
    if job.config.storage.layout != "plate":
        return {}
    return {f"{group} in the plate": half for group, (_, half) in image_arrays(job, shape).items()}


def is_second_name(path: str) -> bool:
    """Check whether a file of the output, by its path in it, is another name of a shard in ``images.zarr``."""
    return path.startswith(f"{PLATE}/") and path.rpartition("/")[0].endswith("/0")


# ------------------------------------------------------------------------------------------- documents


def image_documents(
    arrays: Mapping[str, tuple[ArraySpec, ArraySpec]],
    *,
    scale: tuple[float, float | None],
    centre: tuple[float, float] | None,
    attributes: Mapping[str, Any],
    looks: Mapping[str, Look],
) -> dict[str, bytes]:
    """Contents of all ``zarr.json`` files of an image, by path in its folder.

    Parameters
    ----------
    arrays
        As from `image_arrays`; without the tracks, while their type is not known.
    scale
        Minutes between frames, and micrometres per pixel; None if that is not known.
    centre
        Stage position (x, y) of the centre of the image in micrometres, y down; None if that is not known.
    attributes
        More attributes of the image, with its ``name``.
    looks
        Looks of groups of ``images.zarr``; those of raw channels must be there, with windows.
    """
    raw = {group: of for group, of in arrays.items() if of[0].is_raw}
    labels = {group: of for group, of in arrays.items() if group not in raw}
    channels = [shown_as(full, looks[group]) for group, (full, _) in raw.items()]
    first = next(iter(raw.values()))
    ome = _multiscale(str(attributes["name"]), first, scale, centre) | {"omero": {"channels": channels}}
    found = {DOCUMENT: group_document({"ome": ome, **attributes})}
    if labels:
        names = [full.group.removeprefix(f"{LABELS}/") for full, _ in labels.values()]
        found[f"{LABELS}/{DOCUMENT}"] = group_document({"ome": {"version": VERSION, "labels": names}})
    for group, of in labels.items():  # without ``omero``, which has to have limits, that viewers refuse for labels
        about: dict[str, Any] = {"version": VERSION, "source": {"image": "../../"}}
        if group in looks:
            about["colors"] = colours(looks[group].ids)
        ome = _multiscale(of[0].group.removeprefix(f"{LABELS}/"), of, scale, centre) | {"image-label": about}
        found[f"{of[0].group}/{DOCUMENT}"] = group_document({"ome": ome})
    for spec in (spec for of in (first, *labels.values()) for spec in of):
        found[f"{spec.path}/{DOCUMENT}"] = array_document(spec)
    return found


def _multiscale(
    name: str,
    of: tuple[ArraySpec, ArraySpec],
    scale: tuple[float, float | None],
    centre: tuple[float, float] | None,
) -> dict[str, Any]:
    """Version and ``multiscales`` of an array at full and half size; positions are those of centres of pixels."""
    minutes, pixel = scale
    full, _ = of
    unit = {} if pixel is None else {"unit": "micrometer"}
    kinds: dict[str, dict[str, str]] = {
        "t": {"type": "time", "unit": "minute"}, "c": {"type": "channel"},
        "y": {"type": "space"} | unit, "x": {"type": "space"} | unit,
    }  # fmt: skip
    size, datasets = pixel or 1.0, []
    for spec in of:
        factor = 2 ** int(spec.level)
        steps = [{"type": "scale", "scale": [*spec.stored((minutes, size * factor, size * factor), 1.0)]}]
        if pixel is not None and centre is not None:
            y, x = (edge + pixel * (factor - 1) / 2 for edge in _corner(full.shape[1:], pixel, centre))
            steps.append({"type": "translation", "translation": [*spec.stored((0.0, y, x), 0.0)]})
        datasets.append({"path": str(spec.level), "coordinateTransformations": steps})
    axes = [{"name": axis} | kinds[axis] for axis in full.axes]
    return {"version": VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def _corner(shape: tuple[int, ...], pixel: float, centre: tuple[float, float]) -> list[float]:
    """Position (y, x) of the first pixel's centre in micrometres."""
    return [middle - (n - 1) / 2 * pixel for middle, n in zip(reversed(centre), shape, strict=True)]


def plate_documents(
    listed: Mapping[str, Collection[int]], size: tuple[int, int], name: str, *, only: str | None = None
) -> dict[str, bytes]:
    """Contents of the ``zarr.json`` files of rows, wells and the plate, which comes last, by path in the plate.

    Parameters
    ----------
    listed
        Numbers of the images that are listed, by path of their well, such as ``B/02``; there are no documents without
        one, as viewers refuse a plate without wells.
    size
        Rows and columns, see `plate_size`.
    name
        Name of the plate.
    only
        Well without which there are no documents of wells but its own, and of rows but its own; None for all.
    """
    wells = sorted(listed, key=_order)
    rows = dict.fromkeys(_row(well) for well in wells if only is None or _row(well) == _row(only))
    found = {f"{row}/{DOCUMENT}": group_document({}) for row in rows}
    for well in wells if only is None else listed.keys() & {only}:
        of = {"images": [{"path": str(number), "acquisition": 0} for number in sorted(listed[well])]}
        found[f"{well}/{DOCUMENT}"] = group_document({"ome": {"version": VERSION, "well": of}})
    if wells:
        plate = _plate({well: len(listed[well]) for well in wells}, size, name)
        found[DOCUMENT] = group_document({"ome": {"version": VERSION, "plate": plate}})
    return found


def plate_size(images: Iterable[str], stated: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns of a plate.

    Parameters
    ----------
    images
        Paths of all images that the plate may get.
    stated
        Rows and columns as the movie states them; see `plate_format`.
    """
    return plate_format({well_name(*_order(well_and_number(image)[0])) for image in images}, stated)


def well_and_number(image: str) -> tuple[str, int]:
    """Path of the well of an image, and its number there."""
    well, _, number = image.rpartition("/")
    return well, int(number)


def _plate(images: Mapping[str, int], size: tuple[int, int], name: str) -> dict[str, Any]:
    """Description of a plate with a number of images in each well."""
    most = max(images.values())
    places = {well: _order(well) for well in images}
    return {
        "version": VERSION,
        "name": name,
        "rows": [{"name": row_name(row)} for row in range(size[0])],
        "columns": [{"name": f"{column + 1:02}"} for column in range(size[1])],
        "wells": [{"path": well, "rowIndex": at[0], "columnIndex": at[1]} for well, at in places.items()],
        "acquisitions": [{"id": 0, "name": name, "maximumfieldcount": most}],
        "field_count": most,
    }


def _row(well: str) -> str:
    return well.partition("/")[0]


def _order(well: str) -> tuple[int, int]:
    """Row and column from 0."""
    return parse_well(well.replace("/", ""))
