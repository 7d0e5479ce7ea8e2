"""Identity of a movie in a folder by its content, and the table of its planes in a file.

The table is written when a run is planned. Workers read it instead of the folder, so that tasks carry no lists of
files, and files that arrive meanwhile do not renumber anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyama_dask.errors import SourceError
from pyama_dask.files.atomic import replacing
from pyama_dask.files.regular import open_descriptor
from pyama_dask.files.threads import Threads
from pyama_dask.readers.array_file import arrays_of
from pyama_dask.readers.content import AT_ONCE, FORM, GOLDEN, MOST_FRAMES
from pyama_dask.readers.folders.planes import Folder, Planes
from pyama_dask.readers.plain import as_plain, from_plain

SAMPLE = 4096
"""Bytes that are read from each file."""
_NUMBERS = ("sizes", "written", "file", "place", "projection")
"""Arrays of `Planes`."""


class Identity(NamedTuple):
    """Identity of a movie in a folder."""

    digest: str
    unread: dict[str, str]
    """Files that could not be read, by name, and why."""


def identity_of(planes: Planes) -> Identity:
    """Digest of the index, the names and sizes of all files, and a sample of each of up to 20,000 files.

    It is equal for a copy of the folder. Names start at the folder, so it may be renamed and moved. A file that cannot
    be read counts without its sample: the tasks that read it fail, and no others.

    Raises
    ------
    SourceError
        If no file can be read.
    """
    digest = hashlib.blake2b(planes.index, digest_size=16)
    if len(planes.files) > 1:  # a single file may be renamed
        digest.update("\n".join(planes.files).encode(errors="surrogateescape"))
    for numbers in (planes.sizes, planes.file, planes.place, planes.projection):
        if numbers is not None:
            digest.update(numbers.tobytes())
    unread, count = dict[str, str](), 0
    for count, (file, sample) in enumerate(_samples(planes), 1):  # noqa: B007
        if isinstance(sample, bytes):
            digest.update(sample)
        else:
            digest.update(b"unread")
            unread[planes.files[file]] = sample.strerror or str(sample)
    if len(unread) == count > 0:
        path, problem = planes.folder / next(iter(unread)), next(iter(unread.values()))
        raise SourceError(f"{path}: cannot be read ({problem}). Fix: check permissions and disk")
    return Identity(FORM + digest.hexdigest(), unread)


def _samples(planes: Planes) -> Iterator[tuple[int, bytes | OSError]]:
    """Number of each file that is sampled, and its sample, or why it cannot be read."""
    count = len(planes.files)
    chosen = range(count) if count <= MOST_FRAMES else np.linspace(0, count - 1, MOST_FRAMES).astype(int).tolist()
    with Threads(AT_ONCE, "content") as threads:
        yield from zip(chosen, threads.map(lambda file: _sample(planes, file), chosen), strict=True)


def _sample(planes: Planes, file: int) -> bytes | OSError:
    """Bytes at a place that differs from file to file."""
    path, room = planes.path_of(file), max(int(planes.sizes[file]) - SAMPLE, 0)
    try:
        opened = open_descriptor(path)
        try:
            return os.pread(opened, SAMPLE, ((file * GOLDEN % 2**64) * room) >> 64)
        finally:
            os.close(opened)
    except OSError as error:
        return error


def save_folder(folder: Folder, path: Path) -> None:
    """Write what a scan has found to a file."""
    planes = folder.planes
    numbers = {f"planes_{name}": getattr(planes, name) for name in _NUMBERS}
    text = json.dumps(
        {
            "metadata": as_plain(folder.metadata),
            "folder": str(planes.folder),
            "files": planes.files,
            "form": planes.form,
        }
    )
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(
            file,
            text=np.frombuffer(text.encode(), np.uint8),
            index=np.frombuffer(planes.index, np.uint8),
            **{name: array for name, array in numbers.items() if array is not None},
        )


def load_folder(path: Path) -> Folder:
    """Read what `save_folder` wrote.

    Raises
    ------
    SourceError
        If the file is absent or damaged.
    """
    with arrays_of(path, "the table of the movie's planes") as held:
        document = json.loads(held.pop("text").tobytes())
        index = held.pop("index").tobytes()
        numbers = {name.removeprefix("planes_"): array for name, array in held.items()}
        metadata, folder = from_plain(document.pop("metadata")), Path(document.pop("folder"))
        return Folder(metadata, Planes(folder, index=index, **document, **numbers))
