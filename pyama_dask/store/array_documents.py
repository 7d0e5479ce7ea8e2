"""Documents of Zarr arrays, with the bytes that zarr-python writes, whose import takes longer than a small task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pyama_dask.store.compression import Compression
from pyama_dask.store.layout import ArraySpec

FILLS: dict[str, bool | int | float] = {"b": False, "u": 0, "i": 0, "f": 0.0}
"""Values of pixels that are not stored, by kind of pixel type."""
Document = dict[str, Any]


@lru_cache(maxsize=256)
def array_document(spec: ArraySpec) -> bytes:
    """``zarr.json`` of an array, as zarr writes it; FOVs have equal ones."""
    tiles = {} if spec.tiles is None else {"tile_size": spec.tiles.size, "shape": spec.tiles.shape}
    shape = spec.stored(spec.shape, spec.stack and spec.stack[1])
    chunks, inner = spec.stored(spec.chunks, 1), codecs(spec.dtype, _blosc(spec))
    document = {
        **_description(shape, spec.dtype, chunks if spec.shards is None else spec.stored(spec.shards, 1)),
        "codecs": inner if spec.shards is None else [_sharded(chunks, inner)],
        "attributes": tiles,
        "dimension_names": spec.axes,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    return json.dumps(document, indent=2).encode()


def chunk_document(shape: Sequence[int], dtype: str, axes: Sequence[str] | None, blosc: Document) -> bytes:
    """``zarr.json`` of an array of one chunk; its keys are in the order of all outputs so far.

    Parameters
    ----------
    shape, dtype
        Of the array.
    axes
        Names of its axes; None if they have none.
    blosc
        Settings of its compression, as from `blosc_settings`.
    """
    document = {
        "zarr_format": 3,
        "node_type": "array",
        **_description(shape, dtype, [max(n, 1) for n in shape]),
        "codecs": codecs(dtype, blosc),
        "attributes": {},
        "storage_transformers": [],
    }
    return json.dumps(document if axes is None else document | {"dimension_names": axes}).encode()


def blosc_settings(dtype: str, of: Compression) -> Document:
    """Settings of Blosc for pixels of a type."""
    size = np.dtype(dtype).itemsize
    return {"typesize": size, "cname": of.codec, "clevel": of.level, "shuffle": of.shuffle, "blocksize": 0}


def codecs(dtype: str, blosc: Document | None) -> list[Document]:
    """Codecs of a chunk: little-endian bytes, and Blosc if it is compressed."""
    plain: Document = {"name": "bytes"}
    if np.dtype(dtype).itemsize > 1:
        plain["configuration"] = {"endian": "little"}
    return [plain] if blosc is None else [plain, {"name": "blosc", "configuration": blosc}]


def _blosc(spec: ArraySpec) -> Document | None:
    return None if spec.compression is None else blosc_settings(spec.dtype, spec.compression)


def _description(shape: Sequence[int], dtype: str, chunks: Sequence[int]) -> Document:
    """Keys of a document that say which pixels there are, and in which files."""
    return {
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": FILLS[np.dtype(dtype).kind],
    }


def _sharded(chunks: Sequence[int], inner: Sequence[Document]) -> Document:
    """Codec of shards that hold compressed chunks, and their index at the end."""
    index = [*codecs("uint64", None), {"name": "crc32c"}]
    places = {"index_codecs": index, "index_location": "end"}
    return {"name": "sharding_indexed", "configuration": {"chunk_shape": chunks, "codecs": inner, **places}}
