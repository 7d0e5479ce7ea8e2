"""Pipelines on movies with planes: the example of a whole config, with steps plane by plane before the projection."""

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import yaml
import zarr
from support.movies import as_nd2, config, pixels, write_config

import pyama_dask
from pyama_dask.config.load import load_config
from pyama_dask.readers import reopen
from pyama_dask.runs.movie import seen_movie

PIPELINES = """
- name: prepare
  steps:
    - {do: flat_field, channels: all, profile: estimate}
    - {do: dask_image.ndfilters:gaussian_filter, sigma: [0, 1, 1], channels: [GFP]}
    - {do: max_projection, over: z}
- name: cells
  input: prepare
  steps: seven
- name: spots
  input: cells
  steps: [{do: mine.py:count_spots, of: [GFP, tracked], to: table}]
"""
MINE = """
import numpy as np
import pandas as pd
from pyama_dask import Frame, Labels


def count_spots(frame: Frame, cells: Labels, *, level: float = 300.0) -> pd.DataFrame:
    ids = np.unique(cells[cells > 0])
    return pd.DataFrame({"cell": ids, "spots": [int((frame[cells == k] > level).sum()) for k in ids]}, dtype="int64")
"""


@pytest.mark.parametrize("planes", [3, 1])
def test_the_example(tmp_path, planes):
    data = pixels(fovs=1, frames=5, shape=(150, 170), cells=4)
    movie = as_nd2(tmp_path / "movie.nd2", np.stack([data // (z + 1) for z in range(planes)], axis=3))
    changes = {"pipelines": yaml.safe_load(PIPELINES), "params.tracking_params": {"min_frames": 2, "border_margin": 5}}
    (tmp_path / "mine.py").write_text(MINE)
    given = load_config(write_config(tmp_path / "run.yaml", config(movie, tmp_path / "out", changes)))
    report = pyama_dask.run(given)
    assert not report.exit_status, (report.stopped, report.failed)
    seen, _ = seen_movie(given, lambda _: [0])
    assert seen.flat_field
    out = tmp_path / "out/fov_000"
    raw, tracked = (zarr.open_array(out / f"images.zarr/{of}_ch_{k}/0")[:] for of, k in (("fl", 1), ("seg_tracked", 0)))
    with reopen(seen) as reader:
        frames = [[reader.read_frame(0, t, channels=[1], z=z)[0] for z in range(planes)] for t in range(5)]
    assert np.array_equal(raw, scipy.ndimage.gaussian_filter(np.array(frames), (0, 0, 1, 1)).max(axis=1))
    table = pd.read_csv(next(out.glob("*_spots_table.csv")))
    assert [*table.columns] == ["fov", "frame", "time", "cell", "spots"]
    assert len(table) == sum(len(np.unique(frame)) - 1 for frame in tracked) > 10
    for row in table.itertuples():
        assert row.spots == (raw[row.frame][tracked[row.frame] == row.cell] > 300).sum()
