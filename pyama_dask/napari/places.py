"""Folders that can be opened: recognised by names and by files that must be there, without opening one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONFIG = "processing_config.yaml"


@dataclass(frozen=True)
class Place:
    """Folder of an output that can be opened."""

    output: Path
    fov: Path | None = None
    """Folder of a FOV; None for the whole output."""
    group: str = ""
    """Channel or product, such as ``pc_ch_0``; '' for all."""


def place_of(path: Path) -> Place | None:
    """Find the output, FOV or channel that a path is the folder of; None for any other path.

    The config in an output stands for it: napari asks for a reader by its name only for files.
    """
    path = path.absolute()
    if path.name == CONFIG and path.is_file():
        path = path.parent
    if (path / CONFIG).is_file() and (path / ".pyama_dask").is_dir():
        return Place(path)
    if _is_fov(path):
        return Place(path.parent, path)
    if path.name == "images.zarr" and _is_fov(path.parent):
        return Place(path.parents[1], path.parent)
    if path.parent.name == "images.zarr" and _is_fov(path.parents[1]) and (path / "zarr.json").is_file():
        from pyama_dask.store.layout import is_group  # noqa: PLC0415  (it takes time, which other folders need not wait for)

        return Place(path.parents[2], path.parents[1], path.name) if is_group(path.name) else None
    return None


def _is_fov(path: Path) -> bool:
    return re.fullmatch(r"fov_\d{3,}", path.name) is not None and (path / "images.zarr" / "zarr.json").is_file()
