"""``cells.zarr``: the crops of single cells over time, one array per cell, product and level.

With hundreds of cells these are thousands of small arrays of one chunk. Creating each through zarr-python takes far
longer than writing its pixels. So documents and chunks are written directly, in the form that the Zarr v3 specification
gives them.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from pyama_dask.config.models import Config
from pyama_dask.files.atomic import beside, files_below, flush_below
from pyama_dask.files.checksums import checksum_of, checksum_of_files, extended
from pyama_dask.files.threads import Threads
from pyama_dask.kernels.crops import Scale
from pyama_dask.store.array_documents import blosc_settings, chunk_document
from pyama_dask.store.compression import OVERHEAD, Compression, compress, room_for
from pyama_dask.store.layout import AXES, DOCUMENT

CELLS = {"directory": "cells.zarr", "zip": "cells.zarr.zip"}
"""Name of the store of a FOV's cells, by ``storage.cells``."""
_MEMBER = re.compile(
    r"((metadata|metadata/(cell_ids|bboxes|valid_frames|filled_frames)|((pc|fl)_ch_\d+|mask)(/\d+(/[01])?)?)/)?(zarr\.json|c(\.0)+)"
)
"""Names of the files in a store."""
THREADS = 2
"""Threads that compress crops while others are written: with a single FOV, nothing else is left to do."""
AT_ONCE = 8 * 2**20
"""Bytes of crops that are compressed at once; a larger one is compressed alone."""


def cells_path(config: Config, fov_dir: Path) -> Path:
    """Path of a FOV's store of cells."""
    return fov_dir / CELLS[config.storage.cells]


class _Array(NamedTuple):
    """An array that is ready to be written."""

    document: bytes
    chunk: str
    """Name of its only chunk."""
    content: memoryview | None
    """Compressed pixels; None if it has none."""
    room: np.ndarray
    """Memory of the pixels, for another array after this one."""


class CellsWriter:
    """Writer of a store of cells, which is moved into place when it is complete.

    Parameters
    ----------
    path
        Where the store is to be, a directory, or a file if its name ends in ``.zip``; one that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._building = beside(path)
        self._store = (ZipFile if path.suffix == ".zip" else Directory)(self._building)
        self.checksum: tuple[int, int] | None = None
        """Checksum of the complete store, if that is known without reading it again."""
        self._threads = Threads(THREADS, "crops")
        self._coming: deque[tuple[str, int, Future[list[_Array]]]] = deque()
        self._rooms: list[np.ndarray] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None:
                self._write_coming()
                self._store.close()
                remove_cells(self.path)
                self._put()
        finally:
            self._threads.shutdown(cancel_futures=True)
            self._store.drop()
            _remove(self._building)

    def _put(self) -> None:
        """Move the store into place; file by file if the user has files there."""
        if not self.path.is_dir():
            self._building.rename(self.path)
            self.checksum = self._store.checksum
            return
        for file in files_below(self._building):
            place = self.path / file.relative_to(self._building)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)

    def metadata(
        self,
        ids: np.ndarray,
        boxes: np.ndarray,
        valid: np.ndarray,
        attributes: Mapping[str, Any],
        filled: np.ndarray | None = None,
    ) -> None:
        """Write the root group and ``metadata``.

        Parameters
        ----------
        ids
            (N,) ids of the cells.
        boxes
            (N, T, 4) half-open boxes y0, x0, y1, x1 in pixels.
        valid
            (N, T) mask of the frames with the cell.
        attributes
            Attributes of the root group.
        filled
            (N, T) mask of the frames in which gaps are filled; None if gaps are not filled.
        """
        self._group("", attributes)
        self._group("metadata/", {"box": ["y0", "x0", "y1", "x1"], "half_open": True})
        arrays = {"cell_ids": ids.astype("int32"), "bboxes": boxes.astype("int32"), "valid_frames": valid}
        if filled is not None:
            arrays["filled_frames"] = filled
        for name, array in arrays.items():
            self._write(f"metadata/{name}", self._compressed(array, None))

    def product(self, name: str, scale: Scale | None) -> None:
        """Create the group of a channel or of the mask, after all crops of the one before are written."""
        self._write_coming()
        self._group(f"{name}/", {} if scale is None else {"offset": scale.offset, "scale": scale.scale})

    def crop(self, product: str, cell: int, levels: Iterable[np.ndarray]) -> None:
        """Write the crops of one cell, while those after it are compressed.

        Parameters
        ----------
        product
            Group of the channel, or ``mask``.
        cell
            Id of the cell.
        levels
            (T, h, w) crops by level, full resolution first.
        """
        arrays = [*levels]
        size = sum(array.nbytes for array in arrays)
        while self._coming and (len(self._coming) > THREADS or self._size_of_coming() + size > AT_ONCE):
            self._write_next()
        compressing = self._threads.submit(lambda: [self._compressed(array, AXES) for array in arrays])
        self._coming.append((f"{product}/{cell}/", size, compressing))

    def _size_of_coming(self) -> int:
        return sum(size for _, size, _ in self._coming)

    def _write_coming(self) -> None:
        while self._coming:
            self._write_next()

    def _write_next(self) -> None:
        """Write the group of a cell whose crops are compressed."""
        name, _, compressing = self._coming.popleft()
        self._group(name, {})
        for level, array in enumerate(compressing.result()):
            self._write(f"{name}{level}", array)

    def _group(self, name: str, attributes: Mapping[str, Any]) -> None:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        self._store.put(name, "zarr.json", json.dumps(document).encode())

    def _compressed(self, array: np.ndarray, axes: tuple[str, ...] | None) -> _Array:
        """Document and compressed pixels of an array, which has a single chunk."""
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        try:
            room = self._rooms.pop()
        except IndexError:  # the other thread has the last one
            room = room_for(0)
        if room.size < data.nbytes + OVERHEAD:
            room = room_for(data.nbytes)
        content = compress(data, _compression(data.itemsize), room) if data.size else None
        chunk = ".".join(["c", *("0" for _ in data.shape)])
        return _Array(_document(data.shape, data.dtype.name, axes), chunk, content, room)

    def _write(self, name: str, array: _Array) -> None:
        self._store.put(f"{name}/", "zarr.json", array.document)
        if array.content is not None:
            self._store.put(f"{name}/", array.chunk, array.content)
        if array.room.size <= AT_ONCE // 2:
            self._rooms.append(array.room)


class Directory:
    """Files below a directory, which is created with the first file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: set[str] = set()
        self._files: list[tuple[str, int, int]] = []

    @property
    def checksum(self) -> tuple[int, int]:
        """Checksum of the directory."""
        return checksum_of_files(self._files)

    def put(self, folder: str, name: str, content: bytes | memoryview) -> None:
        """Write a file; its folder ends with a slash, or is empty."""
        self._make(folder.rstrip("/"))
        self._files.append((folder + name, *checksum_of(content)))
        file = os.open(f"{self._path}/{folder}{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)

    def _make(self, folder: str) -> None:
        """Create a folder and those that it is in, unless this was done."""
        if folder in self._made:
            return
        if folder:
            self._make(folder.rpartition("/")[0])
        os.mkdir(f"{self._path}/{folder}")  # noqa: PTH102  (thousands of times)
        self._made.add(folder)

    def close(self) -> None:
        """Wait until everything is on the disk."""
        if self._made:
            flush_below(self._path)

    def drop(self) -> None:
        """Give up what is not complete; nothing is open."""


class ZipFile:
    """Members of a ZIP file, not compressed again."""

    def __init__(self, path: Path) -> None:
        self._file, self._end = path.open("xb"), _End()
        self._zip = zipfile.ZipFile(self._end, "w", zipfile.ZIP_STORED)
        self._crc = 0

    @property
    def checksum(self) -> tuple[int, int]:
        """Checksum of the file."""
        return self._end.start, self._crc

    def put(self, folder: str, name: str, content: bytes | memoryview) -> None:
        """Write a member; its folder ends with a slash, or is empty."""
        self._zip.writestr(zipfile.ZipInfo(folder + name), content)
        self._write()

    def close(self) -> None:
        """Write the directory of members, and wait until everything is on the disk."""
        with self._file:
            self._zip.close()
            self._write()
            self._file.flush()
            os.fsync(self._file.fileno())

    def drop(self) -> None:
        """Close the file, complete or not."""
        with suppress(OSError):  # on a full disk, the error that counts was raised before
            self._file.close()

    def _write(self) -> None:
        """Write the end to the file, as it is final."""
        with self._end.getbuffer() as content:
            self._crc = extended(self._crc, content)
            self._file.write(content)
        self._end.begin_again()


class _End(io.BytesIO):
    """End of a file in memory, at its place in the file: the header of a member is written again after the member."""

    start = 0
    """Place of the end in the file."""

    def tell(self) -> int:
        return self.start + super().tell()

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self.start + super().seek(place - self.start if whence == os.SEEK_SET else place, whence)

    def begin_again(self) -> None:
        """Begin behind what was written so far."""
        self.start += len(self.getbuffer())
        super().seek(0)
        self.truncate()


def remove_cells(path: Path) -> None:
    """Remove a store of cells; other files in its folder stay."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, _, names in os.walk(path, topdown=False):
        place = Path(folder).relative_to(path)
        for name in names:
            if _MEMBER.fullmatch((place / name).as_posix()):
                Path(folder, name).unlink()
        if _MEMBER.fullmatch((place / DOCUMENT).as_posix()):  # also one that a killed run has emptied
            with suppress(OSError):  # it holds other files
                Path(folder).rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _document(shape: tuple[int, ...], dtype: str, axes: tuple[str, ...] | None) -> bytes:
    """``zarr.json`` of an array of a single chunk, compressed with Blosc-LZ4."""
    blosc = blosc_settings(dtype, _compression(np.dtype(dtype).itemsize))
    blosc["shuffle"] = blosc.pop("shuffle")  # the last one, as in all outputs so far
    return chunk_document(shape, dtype, axes, blosc)


def _compression(size: int) -> Compression:
    """Settings for pixels of a number of bytes."""
    return Compression("lz4", 5, "shuffle" if size > 1 else "noshuffle")
