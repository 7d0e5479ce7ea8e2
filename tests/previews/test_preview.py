"""Previews of movies: the same labels and tracks as a run, and what they show of them."""

import threading
from pathlib import Path

import numpy as np
import pytest
from support.movies import as_czi, as_nd2, config

import pyama_dask
from pyama_dask.analysis.label_sets import open_labels
from pyama_dask.errors import CancelledError, ConfigError, ImageError, MissingFrameError, OutputError
from pyama_dask.files.images import read_image, write_tiff
from pyama_dask.files.palette import KEPT, TOO_LARGE, rgb
from pyama_dask.kernels.tracking import relabel
from pyama_dask.previews.objects import Fate

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def document(small_czi, tmp_path):
    """Config of `finished`."""
    return config(small_czi, tmp_path / "out")


def coloured(picture, colour, opacity=1.0):
    """Share of the pixels of a picture that have a colour; below full opacity, its tint over grey."""
    ink = np.array(rgb(colour)) * opacity
    grey = picture - ink
    flat = (np.abs(grey - grey.mean(-1, keepdims=True)) < 2).all(-1) if opacity < 1 else (picture == ink).all(-1)
    return flat.mean()


def test_labels_are_those_of_a_run(document, finished, compiled):
    made = pyama_dask.preview(document, fov=1, frames="0,4,9")
    run = pyama_dask.open_output(finished)[1].image("seg_labeled_ch_0")
    assert len(made.labels) == 3
    for labels, frame in zip(made.labels, (0, 4, 9), strict=True):
        assert labels.max() > 0
        assert (labels == np.asarray(run.data[frame])).all()
    assert compiled == [["uint16"]]
    assert made.table["frame"].tolist() == [0, 4, 9]
    assert made.head == "movie.czi, FOV 1, frames 0, 4, 9"
    assert not Path(document["output"]).exists()
    of_output = pyama_dask.preview(finished, fov=1, frames=4)
    assert (of_output.labels[0] == made.labels[1]).all()


def test_tracks_are_those_of_a_run(document, finished):
    made = pyama_dask.preview(document, fov=0, frames="0-9", tracks=True)
    (panel,) = made.panels
    ids = np.concatenate([[0], panel.tracks.ids[-1]]).astype(np.uint32)
    tracked = np.empty_like(panel.labels, dtype=np.uint32)
    relabel(panel.labels, ids, tracked)
    run = open_labels(finished)["0"]
    assert run.is_tracked
    assert (tracked == run.frames[9]()).all()
    assert any(
        words == f"{len(panel.tracks)} tracks in 10 frames, {panel.tracks.through_all} of them in every one"
        for words in panel.words()
    )


def test_a_table_of_counts_and_a_picture(document):
    made = pyama_dask.preview(document, grid={"max_object_size": [300, 10000], "morph_iterations": [1]})
    few, all_ = (row for _, row in made.table.iterrows())
    assert few["segmentation_params.max_object_size"] == 300
    assert (few["too_large"], all_["too_large"]) == (6, 0)
    assert few["too_large_share"] == pytest.approx(all_["kept_share"] + all_["border_share"])
    assert (few["current"], all_["current"]) == (False, True)
    assert made.best is made.panels[1].setting
    assert coloured(made.panels[0].picture, TOO_LARGE) > 0.005
    assert coloured(made.panels[0].picture, KEPT) == 0
    assert coloured(made.panels[1].picture, KEPT) > 0.005
    assert made.picture.ndim == 3
    assert "<script" not in made.page()
    assert made._repr_html_().strip().startswith('<div class="preview">')
    assert repr(made).startswith("<Preview of ")


def test_a_part_is_shown_and_the_whole_frame_is_segmented(document):
    whole, part = (pyama_dask.preview(document, crop=crop) for crop in (None, (50, 60, 100)))
    assert (whole.labels[0] == part.labels[0]).all()
    assert part.panels[0].picture.shape == (400, 400, 3)
    assert part.head.endswith("frame 4, 100 x 100 px from row 50, column 60")


def test_a_method_that_fails_has_its_reason_in_its_panel(document, tmp_path):
    (tmp_path / "own.py").write_text(
        "import warnings\n\n"
        "def cut(frame, *, level: int = 0):\n"
        "    if level == 1:\n        raise ValueError('too dark')\n"
        "    warnings.warn('a remark', stacklevel=1)\n"
        "    return (frame > level).astype('uint16')\n"
    )
    document["params"]["segmentation_params"] = {}
    document["params"]["segmentation_method"] = f"{tmp_path / 'own.py'}:cut"
    made = pyama_dask.preview(document, grid={"level": [0, 1]})
    good, bad = made.panels
    assert good.warnings == ("a remark",)
    assert "too dark" in bad.failure
    assert made.labels[1] is None
    assert list(bad.words()) == []
    assert bad.picture.any()
    assert bad.row()["failure"] == bad.failure


def test_scores_with_truth(document, tmp_path, finished):
    truth = pyama_dask.open_output(finished)[0].image("seg_labeled_ch_0")
    one = tmp_path / "masks.tif"
    write_tiff(one, np.asarray(truth.data[4]))
    made = pyama_dask.preview(document, truth=one, grid={"morph_iterations": [1, 5]})
    assert made.table["seg"][0] == made.table["f1"][0] == 1
    assert made.table["seg"][1] < 1
    assert made.notes[-1] == "The current setting is best (SEG 1.00)"
    assert pyama_dask.preview(document, truth=finished, frames=[0, 3]).table["seg"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("truth", "options", "said"),
    [
        (np.zeros((100, 240), np.uint16), {}, "have 240 x 100 px, but the movie has 240 x 200 px"),
        (np.zeros((200, 240), np.uint16), {"frames": "0,7"}, "has no labels of frame 7, but of 0"),
        (np.zeros((3, 2, 200, 240), np.uint16), {"fov": 1, "frames": "4"}, "has no labels of frame 4, but of 0-1"),
        (np.zeros((1, 2, 200, 240), np.uint16)[[0, 0]][:0], {}, "which holds no pixel"),
    ],
)
def test_truth_that_does_not_fit(document, tmp_path, truth, options, said):
    file = tmp_path / "masks.npy"
    np.save(file, truth)
    with pytest.raises(ImageError, match=said):
        pyama_dask.preview(document, truth=file, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fov": 2}, "fov: 2 is not in movie.czi, whose FOVs are 0-1"),
        ({"fov": -1}, "fov: must be 'all', or numbers"),
        ({"fov": "all"}, "fov: 'all' means 2 FOVs of movie.czi"),
        ({"frames": "0,10"}, "frames: 10 is not in movie.czi, whose frames are 0-9"),
        ({"frames": "x"}, "frames: must be"),
        ({"frames": "0,2", "tracks": True}, "frames: 0, 2 are not consecutive"),
        ({"frames": "3", "tracks": True}, "frames: has 1 frame. Fix: give 2 to 100"),
        ({"frames": "0-9", "grid": {"min_object_size": [1, 2, 3, 4, 5, 6]}}, "are 60 panels, and at most 50"),
        ({"crop": (0, 0, 8)}, "crop: must be row, column and size"),
        ({"crop": (0, 0)}, "crop: must be"),
        ({"crop": (150, 0, 100)}, "crop: 100 px from row 150, column 0 reach out of a frame"),
        ({"grid": {"morf": [1]}}, "grid: params.segmentation_params.morf: is not a parameter"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_segmented(document, options, said, compiled):
    with pytest.raises(ConfigError, match=said):
        pyama_dask.preview(document, **options)
    assert not compiled


def test_a_config_without_phase_contrast(document):
    document["channels"] = {"fl": [{"channel": 1}]}
    with pytest.raises(ConfigError, match="no channel is phase contrast"):
        pyama_dask.preview(document)


def test_a_frame_that_the_file_lacks(tmp_path, small_pixels):
    gone = {(0, 1, channel, 0) for channel in range(2)}
    movie = config(as_czi(tmp_path / "movie.czi", small_pixels[:1, :3], skip=gone), tmp_path / "out")
    with pytest.raises(MissingFrameError, match="has no frame 1"):
        pyama_dask.preview(movie, frames="1-2")
    assert pyama_dask.preview(movie).frames == (0,)


def test_a_preview_can_be_cancelled(document):
    cancel = threading.Event()
    with pytest.raises(CancelledError):
        pyama_dask.preview(document, grid={"morph_iterations": [0, 1]}, progress=lambda _: cancel.set(), cancel=cancel)


def test_files(document, tmp_path):
    made = pyama_dask.preview(document)
    place = made.save(tmp_path / "preview.png")
    assert made.save(place).read_bytes().startswith(b"\x89PNG")
    place.write_text("mine")
    with pytest.raises(OutputError, match=r"was not written by pyama_dask.*--force"):
        made.save(place)
    made.save(place, force=True)
    assert made.save(tmp_path / "preview.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ConfigError, match=r"\.png or \.html"):
        made.save(tmp_path / "preview.jpg")


# ----------------------------------------------------------------------------------------- real cells

with_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not at hand")


@with_data
def test_most_of_dense_cells_is_shown_as_dropped(tmp_path):
    frame = read_image(DATA / "phase_masks" / "set8" / "raw.tif")
    movie = as_nd2(tmp_path / "set8.nd2", frame[None, None, None])
    document = {"input": movie, "output": tmp_path / "out", "channels": {"pc": {"channel": 0}}}
    made = pyama_dask.preview(
        document | {"params": {"segmentation_method": "logstd"}}, grid={"morph_iterations": [0, 3]}
    )
    thin, default = made.panels
    assert default.extents[Fate.TOO_LARGE].share >= 0.5
    assert coloured(default.picture, TOO_LARGE, 0.45) >= 0.5
    assert coloured(thin.picture, TOO_LARGE, 0.45) < 0.4
    assert made.notes[-1].startswith("No setting here separates the cells: objects cover ")
    assert "segmentation_method=logstd,bright,unet" in made.notes[-1]


@with_data
def test_the_network_separates_them(tmp_path):
    composite = DATA / "composite"
    document = {"input": composite / "t98g.nd2", "output": tmp_path / "out", "channels": {"pc": {"channel": 0}}}
    grid = {"segmentation_method": ["logstd", "bright", "unet"]}
    made = pyama_dask.preview(document | {"params": {}}, grid=grid, frames=0)
    assert made.table["too_large_share"][0] >= 0.5
    assert made.notes[-1].endswith("--set params.segmentation_method=unet")
