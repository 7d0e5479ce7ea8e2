"""Looks at single frames before a run, where steps come before the segmentation: they see what the run will see."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from support import steps
from support.movies import as_nd2, config, pixels

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError
from pyama_dask.plan.resolve import resolve
from pyama_dask.previews import preview as previews
from pyama_dask.readers import read_metadata
from pyama_dask.runs.annotate import annotate
from pyama_dask.runs.frame_check import check_frame
from pyama_dask.runs.method_trial import try_methods

MINE = Path(steps.__file__).as_posix()
PREPARE = {
    "name": "prepare",
    "steps": [
        {"do": f"{MINE}:deepest", "over": "z"},
        {"do": f"{MINE}:mean_of_three", "halo": 1},
        {"do": "crop", "top": 10, "height": 130, "width": 150},
    ],
}
CELLS = {"name": "cells", "input": "prepare", "steps": "seven"}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A movie of two planes, of which the second is brighter and upside down."""
    folder = tmp_path_factory.mktemp("deep")
    data = pixels(fovs=1, frames=5, shape=(150, 170), cells=4)
    both = np.stack([data, data[..., ::-1, :] + np.uint16(20000)], axis=3)
    document = config(as_nd2(folder / "movie.nd2", both), folder / "out", {"pipelines": [PREPARE, CELLS]})
    report = pyama_dask.run(document)
    assert not report.exit_status
    stored = {
        path.parent.name: zarr.open_array(path, mode="r")[:] for path in folder.glob("out/fov_000/images.zarr/*/0")
    }
    mean = steps.mean_of_three(data[0, :, 0])[:, 10:140, :150]
    assert np.array_equal(stored["pc_ch_0"], np.rint(mean))
    return document, stored


def test_a_preview(deep, monkeypatch):
    document, stored = deep
    types = []
    monkeypatch.setattr(previews, "compile_kernels", lambda given, *_: types.append(given))
    found = previews.preview(document, frames=[0, 2])
    assert [labels.max() for labels in found.labels] != [0, 0]
    for frame, labels in zip((0, 2), found.labels, strict=True):
        assert np.array_equal(labels, stored["seg_labeled_ch_0"][frame])
    assert types == [["uint16"]]
    with pytest.raises(ConfigError, match="has 130 rows and 150 columns"):
        previews.preview(document, crop=(0, 0, 140))


def test_windows_to_annotate(deep, tmp_path):
    document, stored = deep
    chosen = parse_config(document | {"params": document["params"] | {"frames": "3"}})
    metadata = read_metadata(Path(document["input"]))
    annotate(chosen, metadata, tmp_path / "one", windows=1, size=130)
    annotate(parse_config(document), metadata, tmp_path / "all", windows=1, size=130)
    (name,) = (path.name for path in (tmp_path / "one").glob("*_y????_x????.tif"))
    x = int(name[-8:-4])
    window = np.s_[:, x : x + 130]
    image = tifffile.imread(tmp_path / "all" / name)
    assert np.array_equal(image, stored["pc_ch_0"][3][window])
    alone = tifffile.imread(tmp_path / "one" / name)  # without neighbours, the frame counts three times
    assert not np.array_equal(alone, image)


def test_what_a_plan_looks_at(deep):
    document, stored = deep
    metadata = read_metadata(Path(document["input"]))
    resolved = resolve(parse_config(document), metadata)
    said, objects, _ = check_frame(resolved, metadata)
    assert (said, objects) == ([], stored["seg_labeled_ch_0"][2].max())
    segmenter = {"params.segmentation_method": f"{MINE}:of_shape", "params.segmentation_params": {"shape": [130, 150]}}
    mine = config(metadata.path, Path("out"), {"pipelines": [PREPARE, CELLS]} | segmenter)
    assert try_methods(resolve(parse_config(mine), metadata), metadata, {}) == []


def test_pipelines_that_find_no_cells(deep):
    document, _ = deep
    without = document | {"pipelines": [PREPARE]}
    with pytest.raises(ConfigError, match="none has the seven steps"):
        previews.preview(without)
    metadata = read_metadata(Path(document["input"]))
    assert check_frame(resolve(parse_config(without), metadata), metadata) == ([], 0, 0)
