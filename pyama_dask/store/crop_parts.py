"""Parts of crops: the pixels of a block's crops of one product, as one flat array, which `gather` joins."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np

from pyama_dask.files.checksums import extended
from pyama_dask.files.paged import BUFFER, PAGE, AppendedFile, PagedFile
from pyama_dask.store.intermediate import undamaged


def save_part(path: Path, part: np.ndarray, *, direct: bool = False) -> tuple[int, int]:
    """Write a part, as an NPY file that is either complete or absent.

    Parameters
    ----------
    path
        Where.
    part
        (n,) values.
    direct
        True to write past the page cache, see `AppendedFile`.

    Returns
    -------
    Size and CRC-32C of the file.
    """
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(part))
    path.parent.mkdir(parents=True, exist_ok=True)
    file = AppendedFile(path, direct=direct)
    try:
        file.append(header.getvalue())
        file.append(part.data.cast("B"))
        return file.finish()
    finally:
        file.drop()


class PartReader:
    """Reader of a part that `save_part` wrote. It is not kept open, as a FOV may have hundreds of blocks.

    Parameters
    ----------
    path
        The file.
    direct
        True to read past the page cache, see `PagedFile`.
    """

    def __init__(self, path: Path, *, direct: bool = False) -> None:
        self.path, self._direct = path, direct
        self._crc = self._crc_at = 0

    @cached_property
    def _header(self) -> tuple[int, np.dtype]:
        """Bytes before the values, and their type."""
        with closing(self._open()) as file:
            start = BytesIO(file.read(0, min(file.size, PAGE)))
        np.lib.format.read_magic(start)
        _, _, dtype = np.lib.format.read_array_header_1_0(start)
        self._crc, self._crc_at = extended(0, start.getvalue()[: start.tell()]), start.tell()
        return start.tell(), dtype

    def _open(self) -> PagedFile:
        return PagedFile(self.path, direct=self._direct)

    def read(self, first: int, count: int) -> np.ndarray:
        """Read values.

        Parameters
        ----------
        first, count
            Index of the first value, and number of values.

        Returns
        -------
        (count,) values.

        Raises
        ------
        StoreError
            If the file is missing, too short or damaged.
        """
        with undamaged(self.path):
            start, dtype = self._header
            values = np.empty(count, dtype)
            with closing(self._open()) as file:
                self._read(file, start + first * dtype.itemsize, values.view(np.uint8))
        return values

    def checksum(self) -> tuple[int, int]:
        """Size and CRC-32C of the file, of which only those bytes are read that were not; raises `StoreError`."""
        with undamaged(self.path), closing(self._open()) as file:
            while self._crc_at < file.size:
                self._read(file, self._crc_at, np.empty(min(BUFFER, file.size - self._crc_at), np.uint8))
            return file.size, self._crc

    def _read(self, file: PagedFile, at: int, out: np.ndarray) -> None:
        """Read bytes, and follow the checksum of the file if they come next."""
        for done in range(0, len(out), BUFFER):
            piece = out[done : done + BUFFER]
            after = at + done + len(piece), min(BUFFER, len(out) - done - len(piece))
            piece[:] = np.frombuffer(file.read(at + done, len(piece), then=after if after[1] else None), np.uint8)
            if at + done == self._crc_at:
                self._crc, self._crc_at = extended(self._crc, piece.data), at + done + len(piece)
