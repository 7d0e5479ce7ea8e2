"""The demo plate: what its files state, and where its truth counts from."""

import re

import numpy as np
import pandas as pd
import pytest

import pyama_dask
from pyama_dask.demo import demo_config, judge
from pyama_dask.demo.movie import PIXEL_SIZE_UM, DemoMovie
from pyama_dask.demo.plate import LARGEST_ERROR, OVERLAP, make_plate, place_sites
from pyama_dask.readers import open_reader

SIZE = 160


def test_stitched_wells_agree_with_the_truth(tmp_path):
    """As ``pyama-dask demo --plate``, in this process."""
    make_plate(tmp_path)
    given = demo_config(tmp_path, plate=True).model_dump(exclude_unset=True) | {"cluster": {"kind": "serial"}}
    assert pyama_dask.run(given).exit_status == 0
    said = judge(tmp_path)
    assert "30 of 30 true cells found (100.0%), each with one trace over all 12 frames" in said
    assert re.search(r"correlation with the truth 0\.999\d+, median relative error [0-3]\.\d%", said)
    placed = pd.read_csv(tmp_path / "results" / "positions.csv").groupby("well")[["y", "x"]]
    rng = np.random.default_rng(0)
    for _, found in placed:
        corners = place_sites(rng, (2, 2), 256).corners
        np.testing.assert_allclose(found, corners - corners.min(axis=0), atol=0.5)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    return make_plate(tmp_path_factory.mktemp("demo"), wells=("B02", "C11"), size=SIZE, frames=2, seed=3)


def test_a_reader_finds_wells_sites_and_times(plate):
    with open_reader(plate) as reader:
        metadata = reader.metadata
    assert metadata.format == "ImageXpress"
    names = [f"{well} s{site}" for well in ("B02", "C11") for site in (1, 2, 3, 4)]
    assert [fov.name for fov in metadata.fovs] == names
    assert all(fov.shape == (SIZE, SIZE) and fov.missing == () for fov in metadata.fovs)
    assert [(channel.name, channel.kind) for channel in metadata.channels] == [
        ("Phase", "phase"),
        ("GFP", "fluorescence"),
    ]
    np.testing.assert_array_equal(metadata.times_min, [[0, 10]] * 8)
    assert metadata.pixel_size_um == PIXEL_SIZE_UM
    assert metadata.notes == ()


def test_sites_show_the_same_cells_where_they_overlap_and_the_stage_is_off(plate):
    rng = np.random.default_rng(3)
    placed = [place_sites(rng, (2, 2), SIZE) for _ in range(2)]
    movie = DemoMovie(fovs=2, frames=2, shape=placed[0].shape, seed=3)
    with open_reader(plate) as reader:
        for fov in range(8):
            y, x = placed[fov // 4].corners[fov % 4]
            for channel, image in enumerate(reader.read_frame(fov, 1)):
                np.testing.assert_array_equal(image, movie[fov // 4, 1, channel][y : y + SIZE, x : x + SIZE])
        stage = np.array([fov.position_um[::-1] for fov in reader.metadata.fovs]) / PIXEL_SIZE_UM
    for well, sites in enumerate(placed):
        off = stage[4 * well : 4 * well + 4] + np.array(sites.shape) / 2 - SIZE / 2 - sites.corners
        assert 0 < np.abs(off).max() <= LARGEST_ERROR + 0.01
        assert np.diff(sites.stated[:, 1])[0] == round(SIZE * (1 - OVERLAP))


def test_truth_counts_from_the_corner_of_all_sites(plate):
    truth = pd.read_csv(plate.parent / "truth.csv")
    rng = np.random.default_rng(3)
    placed = [place_sites(rng, (2, 2), SIZE) for _ in range(2)]
    whole = DemoMovie(fovs=2, frames=2, shape=placed[0].shape, seed=3).truth()
    for fov, sites in enumerate(placed):
        mine, true = truth[truth["fov"] == fov], whole[whole["fov"] == fov]
        y, x = sites.corners.min(axis=0)
        np.testing.assert_allclose(true["y"] - mine["y"], y)
        np.testing.assert_array_equal(true["bbox_x1"] - mine["bbox_x1"], x)
        np.testing.assert_array_equal(true["area"], mine["area"])
