"""Documents of a FOV's store: arrays and groups, with the OME-NGFF metadata that viewers read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pyama_dask.files.palette import cell_colours, rgb
from pyama_dask.store.array_documents import array_document
from pyama_dask.store.layout import DOCUMENT, ArraySpec

VERSION = "0.5"
"""Version of OME-NGFF."""
MOST_COLOURS = 20_000
"""Largest number of labels whose colours are stored: a megabyte."""


@dataclass(frozen=True)
class Look:
    """Name, colour and grey levels with which viewers show a group."""

    label: str
    """Name for users, such as that of the channel."""
    colour: str = "#FFFFFF"
    """Colour of the brightest pixels."""
    window: tuple[float, float] | None = None
    """Grey levels that are shown as black and white; None for labels."""
    ids: Sequence[int] = ()
    """Labels that are shown, in order of their colours."""


def documents(
    specs: Mapping[str, ArraySpec],
    *,
    scale: tuple[float, float | None],
    attributes: Mapping[str, Any],
    looks: Mapping[str, Look] | None = None,
    pixels: Mapping[str, float | None] | None = None,
) -> dict[str, bytes]:
    """Contents of all ``zarr.json`` files of a FOV's store, by path in the store.

    Parameters
    ----------
    specs
        Arrays of the store.
    scale
        Minutes between frames, and micrometres per pixel; None if that is not known.
    attributes
        Attributes of the root group.
    looks
        Looks of groups; viewers show the others as they see fit.
    pixels
        Micrometres per pixel of groups where they are others than in `scale`.
    """
    raw = next((name for spec in specs.values() if not spec.is_labels and (name := spec.group)), "")
    found = {DOCUMENT: group_document(attributes)}
    for group in dict.fromkeys(spec.group for spec in specs.values()):
        full, look = specs.get(f"{group}/0"), (looks or {}).get(group)
        of = scale[0], (pixels or {}).get(group, scale[1])
        found[f"{group}/{DOCUMENT}"] = group_document(ngff(full, of, raw, look) if full else {}, listed(full))
    return found | {f"{spec.path}/{DOCUMENT}": array_document(spec) for spec in specs.values()}


def group_document(attributes: Mapping[str, Any], members: Mapping[str, Any] | None = None) -> bytes:
    """``zarr.json`` of a group.

    Parameters
    ----------
    attributes
        Its attributes.
    members
        Documents of the arrays that programs are to find when they list the group, by name; None to have them look.
    """
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if members is not None:
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": dict(members)}
    return _indented(document).encode()


def _indented(value: object, levels: int = 2) -> str:
    """``json.dumps(value, indent=1)``; what is some levels of dictionaries below is encoded once, as FOVs share it."""
    if not levels or not isinstance(value, dict) or not value:
        return _indented_once(json.dumps(value))
    items = ",\n".join(f"{json.dumps(key)}: {_indented(of, levels - 1)}" for key, of in value.items())
    return "{\n " + items.replace("\n", "\n ") + "\n}"


@lru_cache(maxsize=256)
def _indented_once(value: str) -> str:
    return json.dumps(json.loads(value), indent=1)


def listed(full: ArraySpec | None) -> dict[str, Any]:
    """Members that a channel's group lists: only the array at full resolution, if there is one.

    napari's own reader takes every array of a group for a level of one pyramid: also the display level, whose grey
    levels differ, and the tiles of a background. These two are opened by their paths.
    """
    return {} if full is None else {str(full.level): json.loads(array_document(full))}


def ngff(spec: ArraySpec, scale: tuple[float, float | None], raw: str, look: Look | None = None) -> dict[str, Any]:
    """OME-NGFF 0.5 attributes of a channel's group, without level 1, which has different grey levels.

    Parameters
    ----------
    spec
        Array of the group at full resolution.
    scale
        As for `documents`.
    raw
        Group of the raw channel that labels belong to.
    look
        Look of the group; None if that is not known.
    """
    minutes, pixel = scale
    unit = {} if pixel is None else {"unit": "micrometer"}
    size = pixel or 1.0
    space = {"type": "space"}
    kinds = {"t": {"type": "time", "unit": "minute"}, "z": space, "y": space | unit, "x": space | unit}
    steps = [*spec.stored((minutes, size, size), 1.0)]
    multiscale = {
        "name": spec.group,
        "axes": [
            {"name": axis} | kinds.get(axis, {"type": "space"} | (unit if axis != "z" else {})) for axis in spec.axes
        ],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": steps}]}],
    }
    ome: dict[str, Any] = {"version": VERSION, "multiscales": [multiscale]}
    if spec.is_labels:
        ome["image-label"] = {"version": VERSION} | ({"source": {"image": f"../{raw}"}} if raw else {})
    if look is not None:
        ome["omero"] = {"channels": [shown_as(spec, look)]}
        if spec.is_labels:
            ome["image-label"]["colors"] = colours(look.ids)
    return {"ome": ome}


def shown_as(spec: ArraySpec, look: Look) -> dict[str, Any]:
    """Name, colour and grey levels of a channel, as OMERO and most viewers read them.

    napari-ome-zarr hides labels and leaves them without a name unless they have this, too, and refuses labels that have
    limits of grey levels.
    """
    integer = np.dtype(spec.dtype).kind == "u"
    low, high = look.window or (0.0, 1.0)
    window = {"min": 0, "max": int(np.iinfo(spec.dtype).max)} if integer else {"min": low, "max": high}
    if not spec.is_labels:
        window |= {"start": low, "end": high}
    return {"label": look.label, "color": look.colour.removeprefix("#"), "active": True, "window": window}


def colours(ids: Sequence[int]) -> list[dict[str, Any]]:
    """Colours of labels, as ``image-label`` has them."""
    found = cell_colours(len(ids))
    return [{"label-value": int(k), "rgba": [*rgb(colour), 255]} for k, colour in zip(ids, found, strict=True)]
