"""Zarr on disk: creating the arrays of a FOV, and reading and writing whole blocks.

A shard holds one block of one array, so that every shard has exactly one writer. The driver creates the arrays, except
for tracked labels, whose dtype is unknown before the tracks are. Tasks write each shard in one assignment,
or, where memory is short, some frames after the other. They take an array's shape and type from its `ArraySpec`, so
that a damaged document changes no pixel. Pixels go through tensorstore, which takes half the time of zarr-python (see
docs/performance.md).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyama_dask.errors import StoreError
from pyama_dask.files.atomic import read_file, write_bytes
from pyama_dask.store.array_documents import array_document
from pyama_dask.store.layout import DOCUMENT, ArraySpec

if TYPE_CHECKING:
    import tensorstore

STRIPS = 4
"""Parts in which frames are added to chunks that hold all frames of a block; each rewrites the shard."""

# --------------------------------------------------------------------------------------------- creation


def create_array(images: Path, spec: ArraySpec) -> None:
    """Write the ``zarr.json`` of an array unless it exists with the same content; data stay unchanged."""
    path, wanted = images / spec.path / DOCUMENT, array_document(spec)
    if not path.exists() or path.read_bytes() != wanted:
        write_bytes(path, wanted)


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a group or array."""
    attributes: dict[str, Any] = json.loads(read_file(path / DOCUMENT))["attributes"]
    return attributes


# ------------------------------------------------------------------------------------- reading, writing


@lru_cache(maxsize=1)
def _context() -> tensorstore.Context:
    """One thread for each kind of work, as the scheduler has one task per core; no locks, as a shard has one writer.

    Without locks, every write goes into a new file. A lock is a file of the shard's name that tensorstore writes into
    as it finds it: what a killed process has left there would become the end of the next shard.
    """
    import tensorstore  # noqa: PLC0415  (the driver and some tasks never need what takes long to import)

    one = {"limit": 1}
    return tensorstore.Context(
        {"data_copy_concurrency": one, "file_io_concurrency": one, "file_io_locking": {"mode": "none"}}
    )


def _opened(path: Path, mode: Literal["r", "w"], spec: ArraySpec | None = None) -> tensorstore.TensorStore:
    """Open an array that exists, to read or to write; as its document says where there is no spec.

    Of an array with several channels, it gives the one of the spec: (T, H, W) in any case.
    """
    import tensorstore  # noqa: PLC0415  (see above)

    # an all-zero shard must be a file too: a missing one means not done
    source = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "store_data_equal_to_fill_value": True,
    }
    if spec is not None:
        source["metadata"] = json.loads(array_document(spec))
    try:
        array = tensorstore.open(
            source, context=_context(), open=True, read=mode == "r", write=mode == "w", assume_metadata=spec is not None
        ).result()
    except (ValueError, RuntimeError, OSError) as error:
        state = f"is damaged ({error})" if path.exists() else "is missing"
        raise StoreError(f"{path}: the array {state}. Fix: run again") from error
    if spec is not None and spec.still:
        array = array[tensorstore.newaxis]
    return array if spec is None or spec.stack is None else array[:, spec.stack[0]]


def _strips(spec: ArraySpec, start: int, stop: int) -> list[slice]:
    """Rows of some frames to read or write together, in whole chunks.

    These are all rows, unless chunks hold more frames than these: such chunks are decoded as a whole, and all at the
    same time, which may take more memory than the block.
    """
    height, rows = spec.shape[1], spec.chunks[1]
    first = start - start % spec.block_frames
    if not spec.is_deep or not height or stop - start == min(spec.block_frames, spec.shape[0] - first):
        return [slice(0, height)]
    step = rows * -(-height // rows // STRIPS)
    return [slice(y, min(y + step, height)) for y in range(0, height, step)]


def write_block(images: Path, spec: ArraySpec, start: int, data: np.ndarray, stop: int | None = None) -> Path:
    """Write frames of one block of an array and give the block's shard file.

    The file is written beside its place, flushed to the disk, and put there in one step; a worker that was taken for
    dead and does a block once more, late, changes nothing. Before frames are written that are not a whole shard, what
    an earlier attempt has left of it is removed: tensorstore would read that. Frames after them are added to the file,
    which holds the same bytes in the end however many they were at once; while that is done, all of the file is in
    memory, as it is compressed. Chunks with all frames of the block are compressed again with each addition.

    Parameters
    ----------
    images, spec
        The store, and its array.
    start, stop
        Frames, half-open; to the end of the block if `stop` is None.
    data
        (stop - start, H, W) of the array's pixel type.

    Raises
    ------
    StoreError
        If the data is not exactly these frames of one block, or has another pixel type: a shard has one writer, and
        nothing is cast. If the file is gone to which frames are to be added.
    """
    block, before = divmod(start, spec.block_frames)
    end = min(start - before + spec.block_frames, spec.shape[0])
    stop = end if stop is None else stop
    array = _opened(images / spec.path, "w", spec)
    if stop > end or data.shape != (stop - start, *spec.shape[1:]) or data.dtype != array.dtype.numpy_dtype:
        raise StoreError(
            f"{images / spec.path}: {data.dtype} {data.shape} at frame {start} is not one block of "
            f"{array.dtype.numpy_dtype} {spec.block_frames} x {spec.shape[1:]}, nor frames {start} to {stop - 1} of it"
        )
    file = spec.shard_file(images, block)
    if not before and data.shape != (spec.shards or spec.chunks):
        file.unlink(missing_ok=True)
    elif before and not file.exists():
        raise StoreError(f"{file}: the shard is gone, with its frames before {start}. Fix: run again")
    try:
        for rows in _strips(spec, start, stop):
            array[start:stop, rows].write(data[:, rows], can_reference_source_data_indefinitely=True).result()
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{file}: cannot be written: {error}") from error
    return file


def read_frame(images: Path, path: str, frame: int, step: int = 1) -> np.ndarray:
    """Read one frame of an array whose spec is unknown; its shard must exist.

    Parameters
    ----------
    images
        Path of the FOV's store.
    path
        Path of the array in it, such as ``pc_ch_0/0``.
    frame
        Number from 0.
    step
        Distance of the rows and columns to read; 1 for all.

    Returns
    -------
    (H, W) pixels, or fewer with a `step`.

    Raises
    ------
    StoreError
        If the frame is damaged.
    """
    array = _opened(images / path, "r")
    try:
        return np.asarray(array[frame, ::step, ::step].read().result())
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{images / path}: frame {frame} cannot be read: {error}") from error


def missing_frames(path: Path) -> list[int]:
    """Frames of an array whose shards are missing; Zarr would return zeros for them."""
    import zarr  # noqa: PLC0415  (a run does not need what takes long to import)

    from pyama_dask.files import zarr_thread  # noqa: F401, PLC0415  (it ends with the process)

    array = zarr.open_array(path, mode="r")
    frames, block = array.shape[0], (array.shards or array.chunks)[0]
    planes = array.shape[1] if array.ndim == 4 else 0
    places = [f"{z}.0.0" for z in range(planes)] if planes else ["0.0"]
    blocks = range(-(-frames // block)) if array.size else ()
    gone = [k for k in blocks if not all((path / f"c.{k}.{place}").exists() for place in places)]
    return [frame for k in gone for frame in range(k * block, min((k + 1) * block, frames))]


def read_block(images: Path, spec: ArraySpec, start: int, stop: int) -> np.ndarray:
    """Read frames of one block.

    Parameters
    ----------
    images
        Path of the FOV's store.
    spec
        The array.
    start, stop
        First frame, and the one after the last; all in one block.

    Returns
    -------
    (stop - start, H, W) pixels.

    Raises
    ------
    StoreError
        If the block's shard is damaged or missing: Zarr would return zeros for a missing one.
    """
    file = spec.shard_file(images, start // spec.block_frames)
    if not file.exists():
        raise StoreError(f"{file}: the shard is gone. Fix: run 'pyama-dask run' again")
    array = _opened(images / spec.path, "r", spec)
    try:
        found = [np.asarray(array[start:stop, rows].read().result()) for rows in _strips(spec, start, stop)]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{file}: the shard is damaged ({error}). Fix: remove it and run again") from error
