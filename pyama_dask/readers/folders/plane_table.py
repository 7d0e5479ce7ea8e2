"""Table of the planes of a folder, filled from the numbers of its files."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError
from pyama_dask.readers.folders.planes import ABSENT

Scalar = TypeVar("Scalar", bound=np.generic)

LARGEST = 2**26
"""Most planes that a folder may announce: numbers that would give more are taken for damaged ones."""


def fill_table(
    root: Path,
    shape: tuple[int, ...],
    places: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    files: Sequence[str],
) -> npt.NDArray[np.int32]:
    """Enter files into a table of planes.

    Parameters
    ----------
    root
        The folder, for messages.
    shape
        Numbers of FOVs, frames, channels and z planes.
    places
        (planes, 4) numbers from 0 of the FOV, frame, channel and z plane of each plane that is announced.
    numbers
        (planes,) number of the file of each plane, or `ABSENT`.
    files
        Names of the files, for messages.

    Returns
    -------
    (FOVs, frames, channels, z) number of the file of each plane, or `ABSENT`.

    Raises
    ------
    SourceError
        If two files are the same plane, or the numbers of planes are absurdly large.
    """
    check_size(root, shape)
    table = np.full(shape, ABSENT, np.int32)
    numbers, at = numbers[numbers != ABSENT], tuple(places[numbers != ABSENT].T)
    table[at] = numbers
    for one, other in zip(numbers[table[at] != numbers], table[at][table[at] != numbers], strict=True):
        if files[one] != files[other]:
            raise SourceError(
                f"{root}: {files[one]} and {files[other]} are the same plane. Fix: move one of them elsewhere"
            )
    return table


def check_size(root: Path, shape: tuple[int, ...]) -> None:
    """Refuse numbers of FOVs, frames, channels and z planes that are absurdly large; raises `SourceError`."""
    if math.prod(shape) > LARGEST:
        raise SourceError(
            f"{root}: has numbers for {shape[0]} FOVs x {shape[1]} frames x {shape[2]} channels x {shape[3]} z planes, "
            "more than a movie can have. Fix: check the numbers in the names of the files, or in the index"
        )


def as_tcz(values: npt.NDArray[Scalar], axes: str) -> npt.NDArray[Scalar]:
    """Values by frame, channel and z, from an array that has some of these axes in any order.

    Parameters
    ----------
    values
        One value per plane.
    axes
        Its axes, each one of ``TCZ``.
    """
    missing = [axis for axis in "TCZ" if axis not in axes]
    order = [*missing, *axes]
    return values[(None,) * len(missing)].transpose([order.index(axis) for axis in "TCZ"])


def find_files(folder: Path, names: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Look for files; each folder is listed once.

    Parameters
    ----------
    folder
        Folder that the names start at.
    names
        Names of files, with ``/`` between folders; '' is not looked for.

    Returns
    -------
    Bytes of each file, `ABSENT` if it is not there, and the time of its last write in nanoseconds; both (files,) int64.
    """
    numbers = {name: number for number, name in enumerate(names) if name}
    sizes, written = [ABSENT] * len(names), [0] * len(names)
    for start in {name[: name.rfind("/") + 1] for name in numbers}:
        for entry in list_folder(folder / start):
            number = numbers.get(start + entry.name)
            if number is not None and is_file(entry):
                with suppress(OSError):  # it has just gone
                    stat = entry.stat()
                    sizes[number], written[number] = stat.st_size, stat.st_mtime_ns
    for number, name in enumerate(names if len(numbers) < len(names) else ()):
        last = numbers.get(name, number)  # the state of a name that is there several times
        sizes[number], written[number] = sizes[last], written[last]
    return np.array(sizes, np.int64), np.array(written, np.int64)


def list_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder; nothing if it does not exist.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return
        raise SourceError(
            f"{folder}: cannot be read ({error.strerror}). Fix: check the path and its permissions"
        ) from error


def is_file(entry: os.DirEntry[str]) -> bool:
    """Tell a file with content, and a link to one; a pipe would block whoever opens it."""
    try:
        return entry.is_file()
    except OSError:  # such as a link to itself
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell a folder, and a link to one that may be followed."""
    try:
        return entry.is_dir()
    except OSError:
        return False
