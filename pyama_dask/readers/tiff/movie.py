"""Movies that are one TIFF file, or a set of them: OME-TIFF, hyperstacks of ImageJ, and stacks of tifffile."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import tifffile

from pyama_dask.errors import PyamaError, SourceError
from pyama_dask.files.atomic import open_file, read_file
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.folders.plane_table import is_file, list_folder
from pyama_dask.readers.folders.planes import Folder
from pyama_dask.readers.micro_manager import dataset as micro_manager
from pyama_dask.readers.tiff.directories import ENDINGS, find_directories
from pyama_dask.readers.tiff.ome_tiff import files_of, scan_ome
from pyama_dask.readers.tiff.ome_xml import parse_reference
from pyama_dask.readers.tiff.stack import scan_stack

NAME = "OME-TIFF"
COMPANION = ".companion.ome"
"""Ending of files with the metadata of a set of TIFF files."""
_MOST_SETS = 10
_START = 4096
"""Characters of the metadata in which a reference to another file is."""
_OME = tuple(f".ome{ending}" for ending in ENDINGS)


def find(path: Path) -> list[Path]:
    """Find movies.

    Parameters
    ----------
    path
        A TIFF file, the metadata of a set of them, or a folder of OME-TIFF files, but for those of Micro-Manager.

    Returns
    -------
    The file, or a file of each set of OME-TIFF files in the folder, up to ten of them, sorted.
    """
    if path.is_file():
        return [path] if path.name.lower().endswith((*ENDINGS, COMPANION)) and not micro_manager.find(path) else []
    entries = (entry for entry in list_folder(path) if entry.name.lower().endswith((*_OME, COMPANION)))
    names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_file(entry))
    names = [name for name in names if not micro_manager.is_stack(name)]
    companions = [path / name for name in names if name.lower().endswith(COMPANION)]
    return companions or _first_files(path, [name for name in names if name.lower().endswith(_OME)])


def _first_files(folder: Path, names: list[str]) -> list[Path]:
    """First file of each set; there is no need to open all of them if there are many."""
    found, taken = list[Path](), set[str]()
    for name in names:
        if name not in taken and len(found) < _MOST_SETS:
            found.append(folder / name)
            taken |= files_of(*read_ome(folder / name)) if len(names) > 1 else set()
    return found


def scan(root: Path, *, times: bool = True) -> Folder:
    """Find the planes of a movie.

    Parameters
    ----------
    root
        The file, from `find`.
    times
        False to skip the times of frames.

    Raises
    ------
    SourceError
        If the file is damaged.
    UnsupportedSourceError
        If it does not state what its images are, or if they have colours.
    """
    path, text = read_ome(root)
    if text:
        return scan_ome(path, text, times=times)
    if root.name.lower().endswith(_OME) or not find_directories(root)[1]:
        raise SourceError(f"{root}: is cut off, still being written, or damaged. Fix: copy it again")
    try:
        with open_file(root) as opened, tifffile.TiffFile(opened) as file:
            return scan_stack(root, file, times=times)
    except PyamaError:
        raise
    except READ_ERRORS as error:
        raise _damaged(root, error) from error


def read_ome(path: Path) -> tuple[Path, str]:
    """OME metadata of a file, and the file that has them if this one only refers to it; '' without metadata.

    Raises
    ------
    SourceError
        If the file is damaged, or the one that it refers to is not there.
    """
    text = _own_text(path)
    try:
        name = parse_reference(text) if "BinaryOnly" in text[:_START] else None
    except ET.ParseError as error:
        raise _damaged(path, error) from error
    if name is None:
        return path, text
    if not (path.parent / name).is_file():
        raise SourceError(f"{path}: its metadata are in {name}, which is not there. Fix: copy it into the folder")
    return path.parent / name, _own_text(path.parent / name)


def _own_text(path: Path) -> str:
    try:
        if path.name.lower().endswith(COMPANION):
            return read_file(path).decode()
        with open_file(path) as opened, tifffile.TiffFile(opened) as file:
            return file.ome_metadata or ""
    except READ_ERRORS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: cannot be read ({type(error).__name__}: {error}). Fix: copy it again")
