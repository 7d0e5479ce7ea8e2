"""Identity of a movie by its content: equal for copies, different for other movies.

The identity covers the size, the file's own tables, and samples of the rest. Small files are read completely. Each
sample lies in one of equally long cells. A cell is half as long as the smallest frame, so that every frame is sampled;
a movie of more than 20,000 frames has two samples per 20,000th part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from pyama_dask.files.threads import Threads

FORM = "2-"
"""Prefix of every identity; those of older versions have none, see `files.identity`."""
MOST_FRAMES = 20_000
FEWEST_CELLS = 1024
BUDGET = 2**26
"""Total bytes of all samples, unless there are very many; smaller files are read completely."""
WHOLE = 2**18
"""Bytes of a cell, and its sample, in a file that is read completely."""
NARROWEST = 2048
"""Minimum bytes of a sample."""
LARGEST_TABLE = 2**24
"""Largest bytes of a table that are read; the rest of a larger one is covered by the samples only."""
AT_ONCE = 16
"""Concurrent reads: disks and file servers answer several together faster than one by one."""
GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: its multiples modulo 2**64 are spread evenly."""


class Extent(NamedTuple):
    """Range of bytes in a file."""

    offset: int
    size: int


@dataclass(frozen=True)
class Places:
    """Parts of a movie file that its identity depends on."""

    tables: Sequence[Extent]
    """Everything except pixels and per-frame records: index of the frames and metadata of the movie."""
    smallest_frame: int
    """Stored bytes of the smallest frame."""


@dataclass(frozen=True)
class Content:
    """Content of a movie file."""

    size: int
    """Bytes of the file."""
    cell: int
    """Bytes of a cell, which holds one sample."""
    samples: str
    """Digest of the samples."""
    identity: str
    """Digest of size, samples and tables."""

    @classmethod
    def of(cls, file: BinaryIO, places: Places) -> Content:
        """Read the tables and samples of an open file."""
        size = file.seek(0, os.SEEK_END)
        cell = cell_of(size, places.smallest_frame)
        samples = sampled(file, size, cell)
        identity = hashlib.blake2b(f"{size} {samples}".encode(), digest_size=16)
        for table in sorted(places.tables):
            identity.update(os.pread(file.fileno(), min(table.size, LARGEST_TABLE), table.offset))
        return cls(size, cell, samples, FORM + identity.hexdigest())

    def is_start_of(self, file: BinaryIO) -> bool:
        """True if an open file begins with this content, judged by its samples."""
        return file.seek(0, os.SEEK_END) >= self.size and sampled(file, self.size, self.cell) == self.samples


def cell_of(size: int, smallest_frame: int) -> int:
    """Bytes of a cell, from the bytes of the file and of its smallest frame."""
    if size <= BUDGET:
        return WHOLE
    return -(-size // min(max(2 * size // max(smallest_frame, 1) + 1, FEWEST_CELLS), 2 * MOST_FRAMES))


def sampled(file: BinaryIO, size: int, cell: int) -> str:
    """Digest of the samples in the first part of an open file.

    Parameters
    ----------
    file
        File with a file descriptor, open for reading.
    size
        Bytes of the part.
    cell
        Bytes of a cell, which holds one sample; see `cell_of`.
    """
    digest = hashlib.blake2b(digest_size=16)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    try:
        with Threads(AT_ONCE, "content") as readers:
            for data in readers.map(lambda part: _read(file, part), _batches(size, cell)):
                digest.update(data)
    finally:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_NORMAL)
    return digest.hexdigest()


def _read(file: BinaryIO, samples: Iterable[Extent]) -> bytes:
    return b"".join(os.pread(file.fileno(), sample.size, sample.offset) for sample in samples)


def _batches(size: int, cell: int) -> Iterator[list[Extent]]:
    """Batches of samples, each at a different offset in its cell."""
    cells = -(-size // max(cell, 1))
    width = min(cell, max(NARROWEST, BUDGET // max(cells, 1)))
    batch = max(1, min(256, cells // (4 * AT_ONCE), WHOLE // max(width, 1)))
    for first in range(0, cells, batch):
        numbers = range(first, min(first + batch, cells))
        starts = (k * cell + ((k * GOLDEN % 2**64) * (cell - width) >> 64) for k in numbers)
        yield [Extent(start, min(width, size - start)) for start in starts if start < size]


def smallest_extent(starts: Iterable[int], others: Iterable[int], end: int) -> int:
    """Smallest distance in bytes from a start to the next offset; `end` if there are no starts.

    Parameters
    ----------
    starts
        Offsets of frames.
    others
        Offsets of everything else.
    end
        Size of the file.
    """
    frames = set(starts)
    edges = sorted({*frames, *others, end})
    return min((after - start for start, after in pairwise(edges) if start in frames), default=end)
