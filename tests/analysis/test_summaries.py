"""Summaries are found in an output by FOV."""

import pytest
from support.summaries import made_summary

from pyama_dask.analysis.summaries import read_summary
from pyama_dask.errors import OutputError
from pyama_dask.store.summary import save_summary


def test_a_summary_is_that_of_its_fov(tmp_path):
    for fov in (1, 3):
        folder = tmp_path / ".pyama_dask" / f"fov_{fov:03d}"
        folder.mkdir(parents=True)
        save_summary(folder, made_summary(cells=fov))
    assert [found and found.cells for found in (read_summary(tmp_path, fov) for fov in range(4))] == [None, 1, None, 3]
    (folder / "summary.npz").write_bytes(b"PK")
    with pytest.raises(OutputError, match=r"summary\.npz: is missing or damaged\. Fix"):
        read_summary(str(tmp_path), 3)
