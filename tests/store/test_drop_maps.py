"""Maps of dropped objects come back as they were written, and are absent where nothing was dropped."""

import numpy as np

from pyama_dask.store.drop_maps import load_map, save_maps


def test_maps_are_those_that_were_written(tmp_path):
    maps = [np.random.default_rng(k).random((7, 11)) > 0.5 for k in range(2)]
    path = save_maps(tmp_path / "too_large_b000.npz", [None, maps[0], None, maps[1]])
    assert (load_map(path, 1) == maps[0]).all()
    assert (load_map(path, 3) == maps[1]).all()
    assert load_map(path, 0) is load_map(path, 2) is None


def test_without_a_readable_file_there_is_no_map(tmp_path):
    path = tmp_path / "too_large_b000.npz"
    assert load_map(path, 0) is None
    save_maps(path, [np.ones((3, 3), bool)])
    assert load_map(path, 1) is None
    path.write_bytes(path.read_bytes()[:50])
    assert load_map(path, 0) is None
