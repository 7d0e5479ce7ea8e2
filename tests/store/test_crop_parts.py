"""Parts of crops are read as they were written, and with the checksum of their file."""

import numpy as np
import pytest

from pyama_dask.errors import StoreError
from pyama_dask.files import paged
from pyama_dask.files.checksums import checksum
from pyama_dask.store import crop_parts
from pyama_dask.store.crop_parts import PartReader, save_part


@pytest.fixture(params=[False, True], ids=["cache", "direct"])
def direct(request):
    return request.param


@pytest.fixture(params=[None, 4096], ids=["usual buffer", "a page"])
def _buffer(request, monkeypatch):
    if request.param:
        for module in (paged, crop_parts):
            monkeypatch.setattr(module, "BUFFER", request.param)


@pytest.mark.usefixtures("_buffer")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("size", [0, 1, 1000, 30_000])
def test_parts_read_back(tmp_path, size, dtype, direct):
    part, path = np.random.default_rng(0).integers(0, 200, size).astype(dtype), tmp_path / "fov" / "p.npy"
    assert save_part(path, part, direct=direct) == checksum(path)
    assert np.array_equal(np.load(path), part)
    pieces = ((0, size // 3), (size // 3, size - size // 3)), ((0, size),), ((size // 2, size // 4), (size, 0))
    for ranges in pieces:
        reader = PartReader(path, direct=direct)
        for first, count in ranges:
            found = reader.read(first, count)
            assert found.dtype == part.dtype
            assert np.array_equal(found, part[first : first + count])
        assert reader.checksum() == checksum(path)
    assert [path.name for path in path.parent.iterdir()] == ["p.npy"]


def test_what_was_read_in_order_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "p.npy"
    save_part(path, np.arange(30_000, dtype="float32"))
    reader = PartReader(path)
    for first in range(0, 30_000, 10_000):
        reader.read(first, 10_000)
    monkeypatch.setattr(PartReader, "_read", None)
    assert reader.checksum() == checksum(path)


def test_the_checksum_is_of_what_was_read(tmp_path):
    path = tmp_path / "p.npy"
    recorded = save_part(path, np.arange(9, dtype="float32"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    reader = PartReader(path)
    reader.read(0, 9)
    path.write_bytes(whole)  # the fault was on the way
    assert reader.checksum() != recorded


def test_a_part_that_ends_too_early_is_named(tmp_path):
    path = tmp_path / "p.npy"
    save_part(path, np.arange(9, dtype="float32"))
    with pytest.raises(StoreError, match=r"p\.npy: is missing or damaged"):
        PartReader(path).read(5, 5)
    for content in (b"torn", b"", path.read_bytes()[:90]):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"p\.npy: is missing or damaged"):
            PartReader(path).read(0, 1)
    path.unlink()
    for call in (lambda: PartReader(path).read(0, 1), lambda: PartReader(path).checksum()):
        with pytest.raises(StoreError, match=r"p\.npy: is missing or damaged"):
            call()


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paged.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        save_part(tmp_path / "p.npy", np.arange(9, dtype="float32"))
    assert not [*tmp_path.iterdir()]
