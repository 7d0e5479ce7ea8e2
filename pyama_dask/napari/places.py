"""Folders that can be opened: recognised by names and by files that must be there, without opening one of others."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG, PLATE, DOCUMENT = "processing_config.yaml", "plate.zarr", "zarr.json"


@dataclass(frozen=True)
class Place:
    """Folder of an output that can be opened."""

    output: Path
    fov: Path | None = None
    """Folder of a FOV; None for the whole output."""
    group: str = ""
    """Channel, product or image of a pipeline, such as ``pc_ch_0`` or ``prepare/gaussian_1``; '' for all."""


def place_of(path: Path) -> Place | None:
    """Find the output, FOV or channel that a path is the folder of; None for any other path.

    The config in an output stands for it: napari asks for a reader by its name only for files. So does its plate; an
    image in the plate stands for its FOV, and a well for the first of its images.
    """
    path = path.absolute()
    if path.name == CONFIG and path.is_file():
        path = path.parent
    if _is_output(path):
        return Place(path)
    if found := _in_plate(path) or _of_pipeline(path):
        return found
    if _is_fov(path):
        return Place(path.parent, path)
    if path.name == "images.zarr" and _is_fov(path.parent):
        return Place(path.parents[1], path.parent)
    if path.parent.name == "images.zarr" and _is_fov(path.parents[1]) and (path / DOCUMENT).is_file():
        from pyama_dask.store.layout import is_group  # noqa: PLC0415  (it takes time, which other folders need not wait for)

        return Place(path.parents[2], path.parents[1], path.name) if is_group(path.name) else None
    return None


def _of_pipeline(path: Path) -> Place | None:
    """Find the image of a pipeline that a path is the group of, or the FOV whose store of a pipeline it is."""
    fov = path.parents[1] if path.parent.suffix == ".zarr" else path.parent
    store = path.parent if path.parent.suffix == ".zarr" else path
    if store.suffix != ".zarr" or store.name.startswith(("images.", "cells.")) or not _is_fov(fov):
        return None
    if path == store:
        return Place(fov.parent, fov) if any(store.glob("*/0/zarr.json")) else None
    from pyama_dask.analysis.own_results import name_of_group  # noqa: PLC0415  (it takes time, see above)

    return Place(fov.parent, fov, name_of_group(path)) if (path / "0" / DOCUMENT).is_file() else None


def _is_output(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / ".pyama_dask").is_dir()


def _is_fov(path: Path) -> bool:
    return re.fullmatch(r"fov_\d{3,}", path.name) is not None and (path / "images.zarr" / DOCUMENT).is_file()


def _in_plate(path: Path) -> Place | None:
    """Find what the plate of an output, or a well or an image in it, shows."""
    plate = next((above for above in (path, *path.parents[:3]) if above.name == PLATE), None)
    if plate is None or not (_is_output(plate.parent) and (plate / DOCUMENT).is_file()):
        return None
    inside = path.relative_to(plate).parts
    if not inside:
        return Place(plate.parent)
    with suppress(OSError, ValueError, LookupError, TypeError):  # an image that is not there, or damaged
        if len(inside) == 2:
            path = path / str(_attributes(path)["ome"]["well"]["images"][0]["path"])
        if len(inside) in (2, 3) and _is_fov(fov := plate.parent / f"fov_{_attributes(path)['fov']:03d}"):
            return Place(plate.parent, fov)
    return None


def _attributes(group: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((group / DOCUMENT).read_bytes())["attributes"]
    return found
