"""Warnings about the objects and tracks of a FOV: given where something is wrong, and only there."""

import numpy as np
import pytest
from support.movies import as_czi, config, pixels

import pyama_dask
from pyama_dask.demo.movie import DemoMovie
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.segmentation import segment
from pyama_dask.runs.status import read_status
from pyama_dask.steps.doubts import doubt_about_kept, doubts_about_counts


def said(counts, frames=None):
    return list(doubts_about_counts(counts, frames or range(len(counts))))


@pytest.mark.parametrize(
    "counts",
    [
        [0, 1, 0, 1], [1], [5, 0, 5, 0], [0, 0, 0], [], [20, 22, 27, 33, 40, 50], [100, 60, 100], [3] * 50,
        np.random.default_rng(0).poisson(2, 200).tolist(),
    ],
    ids=str,
)  # fmt: skip
def test_sparse_and_growing_movies_give_no_warning(counts):
    assert said(counts) == []


def test_the_demo_movie_gives_no_warning():
    movie = DemoMovie(fovs=1, frames=12)
    counts = [len(boxes(segment(movie[0, t, 0]))) for t in range(12)]
    assert min(counts) > 10
    assert said(counts) == []
    assert doubt_about_kept(18, 24, counts) == ""


def test_a_movie_with_hardly_any_cells():
    (one,) = said([0, 0, 1, 0])
    assert one.startswith("hardly any cells: no object in 3 of 4 frames. Fix: ")


def test_a_frame_out_of_focus():
    (one,) = said([60, 61, 22, 58, 57], [10, 12, 14, 16, 18])
    assert "jumps at frames 14, 16, such as from 61 to 22 at frame 14" in one


def test_few_of_many_tracks():
    said = doubt_about_kept(1, 80, [18, 17, 19])
    assert said.startswith("only 1 of 80 tracks was kept, but frames have about 18 objects")
    assert doubt_about_kept(2, 90, [30]).startswith("only 2 of 90 tracks were kept")
    assert doubt_about_kept(1, 6, [6, 6]) == ""
    assert doubt_about_kept(0, 80, [18]) == ""  # another warning says why
    assert doubt_about_kept(0, 0, []) == ""


def test_a_run_and_its_status_have_the_words(tmp_path):
    data = pixels(fovs=1, frames=6, shape=(400, 400), cells=12)
    data[0, 3, 0] = data[0, 3, 0, 0, 0]  # a dark frame
    output = tmp_path / "results"
    report = pyama_dask.run(config(as_czi(tmp_path / "movie.czi", data), output))
    (jump,) = [said for said in report.fovs[0].warnings if "jumps" in said]
    assert jump.startswith("FOV 0: the number of objects jumps at frames 3-4, such as from ")
    assert jump in read_status(output)["fovs"][0]["warnings"]
