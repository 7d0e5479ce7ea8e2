"""Documents of arrays, against those that zarr-python writes."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from pyama_dask.store.array_documents import array_document
from pyama_dask.store.crops import _document
from pyama_dask.store.layout import AXES, USUAL_LEVEL, ArraySpec, Tiles

RAW = ArraySpec("pc_ch_0", "raw", 0, (7, 2100, 80), "uint16", 4, "lz4")
SPECS = {
    "raw": RAW,
    "zstd": replace(RAW, codec="zstd"),
    "level": replace(RAW, codec="zstd", codec_level=7),
    "none": replace(RAW, codec="none"),
    "not shuffled": replace(RAW, shuffled=False),
    "deep": replace(RAW, chunking="block"),
    "labels": replace(RAW, group="seg_labeled_ch_0", role="labels"),
    "many tracks": replace(RAW, group="seg_tracked_ch_0", role="tracks").for_tracks(70_000),
    "background": replace(RAW, group="fl_background_ch_1", role="background", dtype="float32"),
    "tiles": ArraySpec(
        "fl_background_ch_1", "background", "tiles", (7, 5, 3), "float64", 4, "lz4", Tiles(100, (300, 200))
    ),
    "display": replace(RAW, role="display", level=1, dtype="uint8"),
    "channel of a plate": replace(RAW, group="", role="half_raw", stack=(1, 3)),
    "image of a plate": replace(RAW, shape=(1, 2100, 80), still=True, stack=(0, 2)),
    "planes": replace(RAW, stack=(2, 5), stack_axis="z"),
    "no frames": replace(RAW, shape=(0, 64, 64)),
    "no pixels": replace(RAW, shape=(7, 0, 0)),
    **{dtype: replace(RAW, dtype=dtype) for dtype in ("bool", "int8", "int16", "int32", "uint32", "float16")},
}


def by_zarr(held, **options):
    zarr.create_array(
        MemoryStore(held), fill_value=0, chunk_key_encoding={"name": "default", "separator": "."}, **options
    )
    return held["zarr.json"].to_bytes()


def blosc(dtype, codec, level, shuffle):
    return BloscCodec(cname=codec, clevel=level, shuffle=shuffle, typesize=np.dtype(dtype).itemsize)


@pytest.mark.parametrize("name", SPECS)
def test_arrays_have_the_document_of_zarr(name):
    spec = SPECS[name]
    noisy = spec.dtype == "uint16" and not spec.is_labels
    fits = "bitshuffle" if noisy else "shuffle" if np.dtype(spec.dtype).itemsize > 1 else "noshuffle"
    level = USUAL_LEVEL.get(spec.codec) if spec.codec_level is None else spec.codec_level
    by = () if spec.codec == "none" else (blosc(spec.dtype, spec.codec, level, fits if spec.shuffled else "noshuffle"),)
    assert array_document(spec) == by_zarr(
        {}, shape=spec.stored(spec.shape, spec.stack and spec.stack[1]), chunks=spec.stored(spec.chunks, 1),
        shards=spec.shards and spec.stored(spec.shards, 1), dtype=spec.dtype, compressors=by,
        dimension_names=spec.axes,
        attributes={} if spec.tiles is None else {"tile_size": spec.tiles.size, "shape": spec.tiles.shape},
    )  # fmt: skip


@pytest.mark.parametrize("axes", [None, AXES])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 0, 2)])
def test_crops_have_that_of_zarr_in_the_order_of_all_outputs(shape, dtype, axes):
    shuffle = "shuffle" if np.dtype(dtype).itemsize > 1 else "noshuffle"
    chunks = tuple(max(n, 1) for n in shape)
    zarrs = by_zarr(
        {}, shape=shape, chunks=chunks, dtype=dtype, compressors=(blosc(dtype, "lz4", 5, shuffle),),
        dimension_names=axes,
    )  # fmt: skip
    ours = json.loads(_document(shape, dtype, axes))
    assert ours == json.loads(zarrs)
    first = ["zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value"]
    last = ["codecs", "attributes", "storage_transformers", *(["dimension_names"] if axes else [])]
    assert list(ours) == [*first, *last]
    assert list(ours["codecs"][1]["configuration"]) == ["typesize", "cname", "clevel", "blocksize", "shuffle"]


def test_zarr_is_not_imported_for_them():
    code = "import sys, pyama_dask.store.crops, pyama_dask.store.ngff; print('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
