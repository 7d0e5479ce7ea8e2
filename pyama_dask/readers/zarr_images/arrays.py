"""Zarr arrays in folders: which planes they hold, and the pixels of one plane.

Zarr returns its fill value for chunks that are not there. Here, a plane without any chunk is missing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from pyama_dask.errors import PyamaError, SourceError
from pyama_dask.files import zarr_thread  # noqa: F401  (it ends with the process)
from pyama_dask.files.atomic import open_file
from pyama_dask.files.regular import open_descriptor
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.folders.in_threads import in_threads
from pyama_dask.readers.folders.plane_table import is_file, is_folder, list_folder
from pyama_dask.readers.folders.planes import Planes
from pyama_dask.readers.state import State, changed

DOCUMENTS = ".zarray", "zarr.json"
"""Documents of arrays, of Zarr 2 and 3."""
_FURTHER = ".zattrs", ".zgroup", ".zmetadata"
"""Further documents that zarr may read in the folder of an array."""
LARGEST = 2**24
"""Most chunks, and most planes, that an array may announce: larger numbers are taken for damaged ones."""
LARGEST_PLANE = 2**30
"""Most pixels of a plane."""
MOST_KEPT = 2**27
"""Bytes of pixels that are kept because their chunks hold planes of further frames."""
_ABSENT = 2**64 - 1
"""Offset and size in the index of a shard of a chunk that is not there."""
_PLAIN_INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """Content of an array whose last axes are height and width."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy name of the pixel type."""
    document: str
    """Name of the document in the folder of the array."""
    files: Mapping[str, tuple[int, int]]
    """Bytes, and time of the last write in nanoseconds, of the document and of each file of chunks."""
    held: npt.NDArray[np.bool_]
    """Planes that are there, by the axes before height and width."""
    partial: int
    """Planes that lack some of their chunks."""
    is_coarse: bool
    """True if chunks hold several planes, so that a plane may be there only as a part of its chunk."""
    slab: int
    """Bytes of the planes that are read together, because chunks hold several; 0 if they do not."""


def look_into(folder: Path) -> StoredArray:
    """Find the planes of an array.

    Parameters
    ----------
    folder
        Folder of the array.

    Raises
    ------
    SourceError
        If it is absent or damaged.
    """
    try:
        _check_documents(folder)
        array = zarr.open_array(folder, mode="r")
        _check_shape(folder, array)
        files = dict(_files(folder, ""))
        chunks, there = _chunks(folder, array, files)
    except PyamaError:
        raise
    except READ_ERRORS as error:
        raise SourceError(f"{folder}: cannot be read ({type(error).__name__}: {error}). Fix: copy it again") from error
    held = _spread(np.asarray(there.any(axis=(-2, -1))), chunks, array.shape)
    whole = _spread(np.asarray(there.all(axis=(-2, -1))), chunks, array.shape)
    leading, slab = zip(chunks[:-2], array.shape[:-2], strict=True), _slab(array)
    return StoredArray(
        shape=array.shape,
        dtype=np.dtype(array.dtype).newbyteorder("=").name,
        document=next(name for name in DOCUMENTS if name in files),
        files=files,
        held=held,
        partial=int((held & ~whole).sum()),
        is_coarse=any(min(chunk, count) > 1 for chunk, count in leading),
        slab=slab,
    )


def _check_documents(folder: Path) -> None:
    """Refuse documents that are no files: zarr would wait for the writer of a pipe, and take a folder for absent."""
    for path in (folder / name for name in (*DOCUMENTS, *_FURTHER)):
        if os.path.lexists(path):
            try:
                os.close(open_descriptor(path))
            except OSError as error:
                raise SourceError(f"{path}: cannot be read ({error.strerror}). Fix: copy it again") from error


def _check_shape(folder: Path, array: zarr.Array[Any]) -> None:
    """Refuse an array that announces more than a movie can have, before its planes are counted."""
    sizes = array.shards or array.chunks
    chunks = math.prod(-(-count // size) for count, size in zip(array.shape, sizes, strict=True))
    planes, pixels = math.prod(array.shape[:-2]), math.prod(array.shape[-2:])
    if array.ndim < 2 or max(chunks, planes) > LARGEST or pixels > LARGEST_PLANE:
        raise SourceError(
            f"{folder}: announces the shape {array.shape} in {chunks} chunks, which no movie has. Fix: copy it again"
        )


def _slab(array: zarr.Array[Any]) -> int:
    """Bytes of the planes that are read together, because chunks hold several; 0 if they do not."""
    planes = math.prod(min(size, count) for size, count in zip(array.chunks[:-2], array.shape[:-2], strict=True))
    return planes * math.prod(array.shape[-2:]) * array.dtype.itemsize if planes > 1 else 0


def read_memory(arrays: Iterable[StoredArray]) -> int:
    """Bytes that a process holds while it reads planes, beside the planes.

    These are planes that are kept for later frames, and those that are decoded, also as they were encoded; never more
    than three times all pixels.
    """
    most, pixels = 0, 0
    for array in arrays:
        pixels += math.prod(array.shape) * np.dtype(array.dtype).itemsize
        most = max(most, 2 * array.slab + (MOST_KEPT if 0 < array.slab <= MOST_KEPT else 0))
    return min(most, 3 * pixels)


def _files(folder: Path, start: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Files of an array, by their names from its folder, without other hidden ones."""
    for entry in list_folder(folder / start if start else folder):
        if is_folder(entry):
            yield from _files(folder, f"{start}{entry.name}/")
        elif is_file(entry) and (not entry.name.startswith(".") or entry.name == DOCUMENTS[0]):
            stat = entry.stat()
            yield start + entry.name, (stat.st_size, stat.st_mtime_ns)


def _chunks(folder: Path, array: zarr.Array[Any], files: Mapping[str, Any]) -> tuple[list[int], npt.NDArray[np.bool_]]:
    """Shape of the smallest parts whose presence is known, and which of them are there, by their grid."""
    outer = list(array.shards or array.chunks)
    grid = [-(-count // size) for count, size in zip(array.shape, outer, strict=True)]
    there = np.zeros(grid, np.bool_)
    for at in np.ndindex(*grid):
        there[at] = array.metadata.encode_chunk_key(at) in files
    if array.shards is None or not _has_plain_index(array):
        return outer, there
    inner = list(array.chunks)
    ratio = [size // part for size, part in zip(outer, inner, strict=True)]
    found = [at for at in np.ndindex(*grid) if there[at]]
    names = [folder / array.metadata.encode_chunk_key(at) for at in found]
    parts = np.zeros([count * times for count, times in zip(grid, ratio, strict=True)], np.bool_)
    for at, held in zip(found, in_threads(lambda path: _in_shard(path, ratio), names), strict=True):
        parts[tuple(slice(k * times, (k + 1) * times) for k, times in zip(at, ratio, strict=True))] = held
    counts = (-(-count // size) for count, size in zip(array.shape, inner, strict=True))
    return inner, parts[tuple(slice(count) for count in counts)]


def _has_plain_index(array: zarr.Array[Any]) -> bool:
    """True if shards end with an index in the usual form."""
    codecs: Any = array.metadata.to_dict().get("codecs")
    about = codecs[0].get("configuration", {}) if codecs and len(codecs) == 1 else {}
    index = [{key: value for key, value in codec.items() if value} for codec in about.get("index_codecs", ())]
    return about.get("index_location", "end") == "end" and index == _PLAIN_INDEX


def _in_shard(path: Path, shape: list[int]) -> npt.NDArray[np.bool_]:
    """Chunks that are in a shard, by its index."""
    count = int(np.prod(shape))
    with open_file(path) as file:
        file.seek(-(16 * count + 4), os.SEEK_END)
        index = np.frombuffer(file.read(16 * count), "<u8").reshape(*shape, 2)
    return np.asarray((index != _ABSENT).any(axis=-1))


def _spread(of_chunks: npt.NDArray[np.bool_], chunks: list[int], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Values of planes from those of their chunks."""
    for axis, count in enumerate(shape[:-2]):
        of_chunks = np.repeat(of_chunks, chunks[axis], axis).take(range(count), axis)
    return of_chunks


def read_array(planes: Planes, number: int, place: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Read one plane of an array, and compare its chunks with those that were there when the run was planned.

    Parameters
    ----------
    planes
        Files of the movie.
    number
        Number of the array's document among them.
    place
        Number of the plane in the array.
    shape
        (height, width) that it must have.
    name
        The array and the plane, for messages.

    Raises
    ------
    SourceError
        If the array is damaged, of another size, or has changed.
    """
    document = planes.path_of(number)
    _check(planes, document)
    array = zarr.open_array(document.parent, mode="r")
    if array.shape[-2:] != shape:
        raise SourceError(f"{name}: has {array.shape[-2:]} pixels, not {shape}. Fix: copy it again")
    lead = tuple(map(int, np.unravel_index(place, array.shape[:-2]))) if array.ndim > 2 else ()
    paths = [document.parent / key for key in _keys(array, lead)]
    for path in paths:
        _check(planes, path)
    pixels = _plane(array, lead, (str(document), *(_planned(planes, path) for path in paths)))
    for path in (document, *paths):
        _check(planes, path)
    return pixels


def _plane(array: zarr.Array[Any], lead: tuple[int, ...], key: tuple[object, ...]) -> npt.NDArray[Any]:
    """Read a plane; of chunks with several planes, all of them, which are kept for the next ones."""
    sizes = array.chunks[:-2]
    if not 0 < _slab(array) <= MOST_KEPT:
        return np.asarray(array[lead or ...])
    first = tuple(k // size * size for k, size in zip(lead, sizes, strict=True))
    slab = _kept.get((key, first))
    if slab is None:
        slab = np.asarray(array[tuple(slice(k, k + size) for k, size in zip(first, sizes, strict=True))])
        _kept[key, first] = slab
        while sum(other.nbytes for other in list(_kept.values())) > MOST_KEPT:
            _kept.pop(next(iter(list(_kept))), None)
    return np.asarray(slab[tuple(k - start for k, start in zip(lead, first, strict=True))])


_kept: dict[tuple[object, ...], npt.NDArray[Any]] = {}
"""Chunks with several planes that were read last, by the state of their files."""


def _keys(array: zarr.Array[Any], lead: tuple[int, ...]) -> list[str]:
    """Names of the files of a plane's chunks."""
    sizes = array.shards or array.chunks
    first = [k // size for k, size in zip(lead, sizes, strict=False)]
    grid = [range(-(-count // size)) for count, size in zip(array.shape[-2:], sizes[-2:], strict=True)]
    return [array.metadata.encode_chunk_key((*first, *at)) for at in product(*grid)]


def _check(planes: Planes, path: Path) -> None:
    """Compare a file with its state when the run was planned, in which it may have been absent."""
    planned = _planned(planes, path)
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        if planned is None:
            return
        raise changed(path, "it is no longer there") from error
    if planned is None:
        raise changed(path, "it was written since")
    if difference := planned.difference_anywhere(State(stat.st_size, stat.st_mtime_ns)):
        raise changed(path, difference)


def _planned(planes: Planes, path: Path) -> State | None:
    """State of a file when the run was planned; None if it was absent."""
    number = planes.numbers.get(path.relative_to(planes.folder).as_posix())
    return None if number is None else State(int(planes.sizes[number]), int(planes.written[number]))
