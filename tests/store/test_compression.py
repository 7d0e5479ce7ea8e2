"""Chunks have the bytes that zarr-python's codec gives them, whatever memory they are compressed into."""

import numpy as np
import pytest
from numcodecs import blosc

from pyama_dask.store.compression import OVERHEAD, Compression, compress, decompress, room_for


def pixels(dtype, size, *, noise):
    values = np.random.default_rng(0).integers(0, 250, size) if noise else np.arange(size) // 40 % 250
    return values.astype(dtype)


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("size", [1, 35, 10_000])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("codec", [("lz4", 5), ("zstd", 1)], ids=str)
def test_bytes_are_those_of_zarr(codec, dtype, size, noise):
    chunk = pixels(dtype, size, noise=noise)
    shuffles = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
    for name, number in shuffles.items():
        usual = blosc.compress(chunk.view("uint8") if dtype == "bool" else chunk, codec[0].encode(), codec[1], number)
        for spare in (0, 1000):
            content = compress(chunk, Compression(*codec, name), room_for(chunk.nbytes + spare))
            assert bytes(content) == usual
            assert len(content) <= chunk.nbytes + OVERHEAD
            found = np.empty_like(chunk)
            decompress(content, found)
            np.testing.assert_array_equal(found, chunk)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c[:9], lambda c: c[:16] + b"\xff" * (len(c) - 16)])
def test_damaged_chunks_are_refused(change):
    chunk = pixels("uint16", 1000, noise=False)
    content = bytes(compress(chunk, Compression("lz4", 5, "shuffle"), room_for(chunk.nbytes)))
    with pytest.raises((ValueError, RuntimeError)):
        decompress(memoryview(change(content)), np.empty_like(chunk))
    with pytest.raises(ValueError, match="the size of a chunk is wrong"):
        decompress(memoryview(content), np.empty(999, "uint16"))
