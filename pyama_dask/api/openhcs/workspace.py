"""Workspace of a plate: a folder of links to its files, so that scripts cannot change the originals by their names."""

from __future__ import annotations

import os
from pathlib import Path

from pyama_dask.errors import OutputError
from pyama_dask.runs.movie import check_outside


def make_workspace(plate: Path, folder: Path) -> Path:
    """Make a folder with the folders of a plate and links to its files; links that are there stay.

    Parameters
    ----------
    plate
        Folder of the plate; it stays as it is.
    folder
        Folder to make, outside of the plate.

    Raises
    ------
    ConfigError
        If the folder is within the plate.
    OutputError
        If it cannot be made, or another file is in the place of a link.
    """
    check_outside(folder, plate)
    plate = plate.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for root, _, files in os.walk(plate):
            below = folder / Path(root).relative_to(plate)
            below.mkdir(exist_ok=True)
            for name in files:
                _link(below / name, Path(root) / name)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder}: cannot be made: {error.strerror}. Fix: choose another output") from error
    return folder


def _link(link: Path, file: Path) -> None:
    if not link.is_symlink():
        if link.exists():
            raise OutputError(f"{link}: is a file instead of a link to {file}. Fix: move it elsewhere")
        link.symlink_to(file)
    elif link.readlink() != file:
        link.unlink()
        link.symlink_to(file)
