"""Shards: the files of arrays, written and read frame by frame.

A shard holds one block of one array, so that every shard has exactly one writer. In the form that the Zarr v3
specification gives it, it is its chunks one after the other, then an index with offset and length of each, and the
CRC-32C of the index. An array of tiles has no shards: a file is one chunk.

A shard is written beside its place, flushed to the disk, and put there in one step when its last frame is added; a
worker that was taken for dead and does a block once more, late, changes nothing. Its bytes are the same however many
frames are added at once. Writers and readers take an array's shape and type from its `ArraySpec`, so that a damaged
document changes no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from math import prod
from pathlib import Path

import google_crc32c
import numpy as np

from pyama_dask.errors import StoreError
from pyama_dask.files.paged import AppendedFile, PagedFile
from pyama_dask.kernels import scratch
from pyama_dask.store.compression import OVERHEAD, compress, decompress
from pyama_dask.store.layout import ArraySpec

ABSENT = 2**64 - 1
"""Offset and length of chunks that a shard does not have, such as those after the last frame of an array."""
_INDEX = np.dtype("<u8")
_CRC_BYTES = 4


class _Chunks:
    """Chunks of a shard: their places in frames, and their bytes."""

    def __init__(self, spec: ArraySpec, block: int) -> None:
        self.spec, self.first = spec, block * spec.block_frames
        self.frames = min(spec.block_frames, spec.shape[0] - self.first)
        self.depth, self.height, self.width = spec.chunks
        self._compression = spec.compression

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of chunks of a shard along t, y and x."""
        t, y, x = (
            -(-n // c) for n, c in zip((self.spec.block_frames, *self.spec.shape[1:]), self.spec.chunks, strict=True)
        )
        return t, max(y, 1), max(x, 1)

    @cached_property
    def room(self) -> np.ndarray:
        """(depth, h, w) array for one chunk."""
        return scratch.empty(self.spec.chunks, self.spec.dtype)

    @cached_property
    def packed(self) -> np.ndarray:
        """Memory for one compressed chunk."""
        return scratch.empty((self.room.nbytes + OVERHEAD,), np.uint8)

    def places(self, height: int | None = None) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield the number along y and x of each chunk of a frame, or of its first rows, and its rows and columns."""
        for y in range(self.shape[1] if height is None else -(-height // self.height)):
            for x in range(self.shape[2]):
                rows, columns = (
                    slice(y * self.height, (y + 1) * self.height),
                    slice(x * self.width, (x + 1) * self.width),
                )
                yield y, x, rows, columns

    def encoded(self, pixels: np.ndarray) -> memoryview:
        """Bytes of a chunk that holds (frames, h, w) pixels, until the next call; what it has beyond these is 0."""
        chunk = pixels
        if pixels.shape != self.room.shape or not pixels.flags.c_contiguous:
            chunk, (t, h, w) = self.room, pixels.shape
            chunk[:t, :h, :w] = pixels
            chunk[t:], chunk[:, h:], chunk[:, :, w:] = 0, 0, 0
        if self._compression is None:
            return chunk.data.cast("B")
        return compress(chunk, self._compression, self.packed)

    def decode(self, content: memoryview, out: np.ndarray) -> np.ndarray:
        """(depth, h, w) pixels of a chunk, in `out` or `room`; raises ValueError or RuntimeError if it is damaged."""
        chunk = out if out.shape == self.room.shape and out.flags.c_contiguous else self.room
        if self._compression is None:
            if len(content) != chunk.nbytes:
                raise ValueError(f"a chunk has {len(content)} bytes instead of {chunk.nbytes}")
            chunk[...] = np.frombuffer(content, chunk.dtype).reshape(chunk.shape)
            return chunk
        decompress(content, chunk)
        return chunk


class ShardWriter:
    """Writer of one shard, frame by frame; `file` appears when the last frame is added.

    Parameters
    ----------
    images, spec
        The store, and its array.
    block
        Number of the block.
    direct
        True to write past the page cache, see `AppendedFile`.
    """

    def __init__(self, images: Path, spec: ArraySpec, block: int, *, direct: bool = False) -> None:
        self.file = spec.shard_file(images, block)
        self.checksum: tuple[int, int] | None = None
        """Size and CRC-32C of the file; None before it is complete."""
        self._chunks, self._done, self._row = _Chunks(spec, block), 0, 0
        self._index = np.full((*self._chunks.shape, 2), ABSENT, _INDEX)
        self._held: np.ndarray | None = None
        """(block, H, W) frames for chunks that hold several; None before the first."""
        with _named(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._appended = AppendedFile(self.file, direct=direct)

    def add(self, frames: np.ndarray) -> None:
        """Add the next frames.

        Parameters
        ----------
        frames
            (n, H, W) of the array's pixel type.

        Raises
        ------
        StoreError
            If they are not the next frames of the block, or have another pixel type, as nothing is cast; or if they
            cannot be written.
        """
        spec, done = self._chunks.spec, self._done
        last = done + len(frames)
        if self._row or frames.shape[1:] != spec.shape[1:] or frames.dtype != spec.dtype or last > self._chunks.frames:
            raise StoreError(
                f"{self.file}: {frames.dtype} {frames.shape} do not fit as frames {done} to {last - 1} of a block of "
                f"{spec.dtype} {(self._chunks.frames, *spec.shape[1:])}"
            )
        with _named(self.file):
            if self._chunks.depth == 1:
                for k, frame in enumerate(frames):
                    self._add_chunks(done + k, frame[None])
            elif len(frames) == self._chunks.frames:
                self._add_chunks(0, frames)
            else:
                self._room()[done:last] = frames
            self._done = last
            if last == self._chunks.frames:
                self._finish()

    def add_rows(self, row: int, rows: np.ndarray) -> None:
        """Add a part of the next frame.

        Parameters
        ----------
        row
            First row, where the part before has ended: a multiple of the height of chunks.
        rows
            (h, W) of the array's pixel type; h is another multiple of it, unless they are the frame's last ones.

        Raises
        ------
        StoreError
            If they are not that, or cannot be written.
        """
        spec, chunks, stop = self._chunks.spec, self._chunks, row + len(rows)
        are_next = row == self._row and stop <= spec.shape[1] and self._done < chunks.frames
        are_whole = stop % chunks.height == 0 or stop == spec.shape[1]
        if not (are_next and are_whole) or rows.shape[1:] != spec.shape[2:] or rows.dtype != spec.dtype:
            raise StoreError(
                f"{self.file}: {rows.dtype} {rows.shape} do not fit as rows {row} to {stop - 1} of frame {self._done} "
                f"of a block of {spec.dtype} {(chunks.frames, *spec.shape[1:])} with chunks of {chunks.height} rows"
            )
        with _named(self.file):
            if chunks.depth == 1:
                self._add_chunks(self._done, rows[None], row // chunks.height)
            else:
                self._room()[self._done, row:stop] = rows
            self._row = stop % spec.shape[1]
            self._done += self._row == 0
            if self._done == chunks.frames:
                self._finish()

    def _room(self) -> np.ndarray:
        if self._held is None:
            spec = self._chunks.spec
            self._held = scratch.empty((self._chunks.frames, *spec.shape[1:]), spec.dtype)
        return self._held

    def _add_chunks(self, t: int, frames: np.ndarray, first: int = 0) -> None:
        """Append the chunks with rows of frames, which have number `t` along that axis, and from `first` on along y."""
        for y, x, rows, columns in self._chunks.places(frames.shape[1]):
            content = self._chunks.encoded(frames[:, rows, columns])
            self._index[t, first + y, x] = self._appended.size, len(content)
            self._appended.append(content)

    def _finish(self) -> None:
        if self._held is not None:
            self._add_chunks(0, self._held)
            self._held = None
        if self._chunks.spec.shards is not None:
            index = self._index.tobytes()
            self._appended.append(index + google_crc32c.value(index).to_bytes(_CRC_BYTES, "little"))
        self.checksum = self._appended.finish()

    def drop(self) -> None:
        """Remove what was written, unless the shard is complete."""
        self._appended.drop()


class ShardReader:
    """Reader of one shard.

    Parameters
    ----------
    images, spec
        The store, and its array.
    block
        Number of the block.
    direct
        True to read past the page cache, see `PagedFile`.

    Raises
    ------
    StoreError
        If the shard is damaged or missing: Zarr would return zeros for a missing one.
    """

    def __init__(self, images: Path, spec: ArraySpec, block: int, *, direct: bool = False) -> None:
        self.file, self._chunks = spec.shard_file(images, block), _Chunks(spec, block)
        with _undamaged(self.file):
            self._paged = PagedFile(self.file, direct=direct)
            try:
                self._index = self._read_index()
            except BaseException:
                self._paged.close()
                raise

    def _read_index(self) -> np.ndarray:
        shape = self._chunks.shape
        if self._chunks.spec.shards is None:
            return np.array([0, self._paged.size], _INDEX).reshape(*shape, 2)
        length = prod(shape) * 2 * _INDEX.itemsize
        start = self._paged.size - length - _CRC_BYTES
        if start < 0:
            raise ValueError(f"it has {self._paged.size} bytes")
        tail = bytes(self._paged.read(start, length + _CRC_BYTES))
        if google_crc32c.value(tail[:length]) != int.from_bytes(tail[length:], "little"):
            raise ValueError("its index has another checksum")
        return np.frombuffer(tail[:length], _INDEX).reshape(*shape, 2)

    def read(self, first: int, out: np.ndarray) -> None:
        """Read frames.

        Parameters
        ----------
        first
            First frame, counted from that of the block.
        out
            (n, H, W) array of the array's pixel type for them.

        Raises
        ------
        StoreError
            If the shard is damaged.
        """
        depth, stop = self._chunks.depth, first + len(out)
        with _undamaged(self.file):
            for t in range(first // depth, -(-stop // depth)):
                low, high = max(first, t * depth), min(stop, (t + 1) * depth)
                self._read_chunks(t, slice(low - t * depth, high - t * depth), out[low - first : high - first])

    def _read_chunks(self, t: int, frames: slice, out: np.ndarray) -> None:
        """Read some frames of the chunks that are number `t` along that axis; those of single frames in one piece."""
        start, stop = self._extent(t)
        is_deep = self._chunks.depth > 1
        whole = None if is_deep else self._paged.read(start, stop - start, then=self._extent_after(t))
        for y, x, rows, columns in self._chunks.places():
            offset, length = self._index[t, y, x].tolist()
            if whole is None:
                content = self._paged.read(offset, length)
            else:
                content = whole[offset - start : offset - start + length]
            piece = out[:, rows, columns]
            chunk = self._chunks.decode(content, piece)
            if chunk is not piece:
                piece[...] = chunk[frames, : piece.shape[1], : piece.shape[2]]

    def _extent(self, t: int) -> tuple[int, int]:
        """Place of the first byte of all chunks of number `t`, and of the one after the last."""
        places = self._index[t].reshape(-1, 2).tolist()
        start, stop = min(offset for offset, _ in places), max(offset + length for offset, length in places)
        if stop > self._paged.size:
            raise ValueError(f"its index has no frame {t}, or a wrong one")
        return start, stop

    def _extent_after(self, t: int) -> tuple[int, int] | None:
        """Place and length of the chunks of the next frame, if the shard has one."""
        if t + 1 >= self._chunks.frames or (self._index[t + 1] == ABSENT).any():
            return None
        start, stop = self._extent(t + 1)
        return start, stop - start

    def checksum(self) -> tuple[int, int]:
        """Size and CRC-32C of the file, of which only those bytes are read that were not; raises `StoreError`."""
        with _undamaged(self.file):
            return self._paged.checksum()

    def close(self) -> None:
        """Close the file."""
        self._paged.close()


def read_frames(images: Path, spec: ArraySpec, start: int, stop: int) -> np.ndarray:
    """Read frames of one block of an array.

    Parameters
    ----------
    images, spec
        The store, and its array.
    start, stop
        Frames, half-open; all in one block.

    Returns
    -------
    (stop - start, H, W) pixels.

    Raises
    ------
    StoreError
        If the block's shard is damaged or missing.
    """
    block, first = divmod(start, spec.block_frames)
    frames = np.empty((stop - start, *spec.shape[1:]), spec.dtype)
    with closing(ShardReader(images, spec, block)) as reader:
        reader.read(first, frames)
    return frames


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the shard in errors of writing it."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """Turn what a missing or damaged shard raises into `StoreError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{file}: the shard is gone. Fix: run 'pyama-dask run' again") from error
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise StoreError(f"{file}: the shard is damaged ({error}). Fix: remove it and run again") from error
