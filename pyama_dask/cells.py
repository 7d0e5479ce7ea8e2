"""``cells.zarr``: the crops of single cells over time, one array a cell, product and level.

With hundreds of cells these are thousands of small arrays of one chunk. Their metadata and chunks are written
directly, in the form that the Zarr v3 specification gives them; creating each through zarr-python takes far longer
than writing its pixels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numcodecs.blosc import Blosc

from pyama_dask.files import beside
from pyama_dask.kernels.crops import Scale
from pyama_dask.store import write_group

CELLS = "cells.zarr"
PLAIN_GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'


class CellsWriter:
    """Writes ``cells.zarr`` beside its place and puts it there when all of it is written.

    Parameters
    ----------
    path
        Where the store is to be; one that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._building = beside(path)

    def __enter__(self) -> Self:
        self._building.mkdir(parents=True)
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._building.rename(self.path)
        else:
            shutil.rmtree(self._building, ignore_errors=True)

    def metadata(self, ids: np.ndarray, boxes: np.ndarray, valid: np.ndarray, attributes: Mapping[str, Any]) -> None:
        """Write the root group and ``metadata``: (N,) ids, (N, T, 4) boxes y0, x0, y1, x1, (N, T) frames seen."""
        write_group(self._building, attributes)
        write_group(self._building / "metadata", {"box": ["y0", "x0", "y1", "x1"], "half_open": True})
        arrays = {"cell_ids": ids.astype("int32"), "bboxes": boxes.astype("int32"), "valid_frames": valid}
        for name, array in arrays.items():
            write_array(self._building / "metadata" / name, array)

    def product(self, name: str, scale: Scale | None) -> None:
        """Create the group of a channel or of the mask."""
        written = {} if scale is None else {"offset": scale.offset, "scale": scale.scale}
        write_group(self._building / name, written)

    def crop(self, product: str, cell: int, levels: Iterable[np.ndarray]) -> None:
        """Write the levels of one cell, each (T, h, w)."""
        group = self._building / product / str(cell)
        group.mkdir()
        (group / "zarr.json").write_bytes(PLAIN_GROUP)
        for level, array in enumerate(levels):
            write_array(group / str(level), array, ("t", "y", "x"))


def write_array(path: Path, array: np.ndarray, axes: tuple[str, ...] | None = None) -> None:
    """Write a new array of a single chunk, compressed with Blosc-LZ4.

    Parameters
    ----------
    path
        Directory of the array; must not exist.
    array
        Any shape; bool, uint8, int32 or float32.
    axes
        Names of its dimensions.
    """
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    size = data.dtype.itemsize
    shuffle = Blosc.SHUFFLE if size > 1 else Blosc.NOSHUFFLE
    chunk = tuple(max(n, 1) for n in data.shape)
    configuration = {
        "typesize": size, "cname": "lz4", "clevel": 5, "blocksize": 0,
        "shuffle": "shuffle" if size > 1 else "noshuffle",
    }  # fmt: skip
    order: dict[str, Any] = {"name": "bytes"} | ({"configuration": {"endian": "little"}} if size > 1 else {})
    document = {
        "zarr_format": 3, "node_type": "array", "shape": data.shape, "data_type": data.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": False if data.dtype == bool else 0 if data.dtype.kind in "iu" else 0.0,
        "codecs": [order, {"name": "blosc", "configuration": configuration}],
        "attributes": {}, "storage_transformers": [],
    }  # fmt: skip
    if axes:
        document["dimension_names"] = axes
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps(document))
    if data.size:
        file = path / ".".join(["c", *("0" for _ in data.shape)])
        file.write_bytes(Blosc("lz4", 5, shuffle, typesize=size).encode(data))
