"""Files between tasks: every damage is one error, never a crash, a hang or other values."""

import os

import numpy as np
import pytest

from pyama_dask.errors import StoreError
from pyama_dask.store import intermediate
from pyama_dask.store.crop_parts import PartReader


@pytest.fixture
def table(tmp_path):
    return intermediate.save(tmp_path / "tracks.npz", ids=np.arange(3), boxes=np.ones((3, 4)))


def test_no_flipped_bit_changes_an_array(table):
    content = table.read_bytes()
    whole = intermediate.load(table)
    for bit in range(0, 8 * len(content), 7):
        torn = bytearray(content)
        torn[bit // 8] ^= 1 << bit % 8
        table.write_bytes(torn)
        try:
            found = intermediate.load(table)
        except StoreError:
            continue
        for name in found.keys() & whole.keys():  # a name may be another one
            np.testing.assert_array_equal(found[name], whole[name])


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_file_is_damaged(tmp_path, make):
    path = tmp_path / "tracks.npz"
    make(path)
    with pytest.raises(StoreError, match=r"missing or damaged\. Fix: run 'pyama-dask verify --deep'"):
        intermediate.load(path)
    with pytest.raises(StoreError, match="missing or damaged"):
        PartReader(path).read(0, 1)
