"""Documents of Zarr arrays, and single frames of arrays whose form is read from them.

The driver creates the arrays of a FOV, except for tracked labels, whose dtype is unknown before the tracks are. Tasks
write and read pixels with `store.shards`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyama_dask.errors import StoreError
from pyama_dask.files.atomic import read_file, write_bytes
from pyama_dask.store.array_documents import array_document
from pyama_dask.store.layout import DOCUMENT, ArraySpec

if TYPE_CHECKING:
    import tensorstore

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


# ---------------------------------------------------------------------------------------------- reading


@lru_cache(maxsize=1)
def _context() -> tensorstore.Context:
    """One thread for each kind of work, as the scheduler has one task per core."""
    import tensorstore  # noqa: PLC0415  (no worker needs it, and it takes long to import)

    one = {"limit": 1}
    return tensorstore.Context({"data_copy_concurrency": one, "file_io_concurrency": one})


def _opened(path: Path) -> tensorstore.TensorStore:
    """Open an array that exists, to read it as its document says."""
    import tensorstore  # noqa: PLC0415  (see above)

    source = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    try:
        return tensorstore.open(source, context=_context(), open=True, read=True, write=False).result()
    except (ValueError, RuntimeError, OSError) as error:
        state = f"is damaged ({error})" if path.exists() else "is missing"
        raise StoreError(f"{path}: the array {state}. Fix: run again") from error


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
    array = _opened(images / path)
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
