"""Windows for annotation: what is in them, and what is refused."""

import numpy as np
import pytest
import tifffile
from support.movies import as_nd2, write_config
from support.write_nd2 import Nd2Channel

from pyama_dask.files.images import read_labels
from pyama_dask.kernels.segmentation import segment


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def annotated(call, movie, *arguments):
    status, said, error = call("annotate", movie, "--size", 96, "-o", "training", *arguments)
    assert (status, error) == (0, "")
    return said


def pairs(folder):
    """Image and labels of each window, by name."""
    return {
        path.name.removesuffix("_labels.tif"): (tifffile.imread(str(path).replace("_labels", "")), read_labels(path))
        for path in sorted(folder.glob("*_labels.tif"))
    }


def test_windows_are_parts_of_the_frames_with_a_first_guess(here, call, small_nd2, small_pixels):
    said = annotated(call, small_nd2, "--fovs", "0-1", "--frames", "2,7", "--windows", 3)
    assert said.startswith("training: 12 windows of 96 x 96 px, with ")
    found = pairs(here / "training")
    assert len(found) == 12
    assert sum(labels.max() for _, labels in found.values()) > 4
    for name, (image, labels) in found.items():
        _, fov, frame, y, x = (int(part.strip("fovtyx")) if part[-1].isdigit() else 0 for part in name.split("_"))
        whole = small_pixels[fov, frame, 0]
        np.testing.assert_array_equal(image, whole[y : y + 96, x : x + 96])
        assert labels.dtype == image.dtype == np.uint16
        np.testing.assert_array_equal(labels > 0, segment(whole)[y : y + 96, x : x + 96] > 0)
        assert np.unique(labels[labels > 0]).tolist() == list(range(1, labels.max() + 1))


def test_a_window_has_axes_and_pixel_size(here, call, small_nd2):
    annotated(call, small_nd2, "--windows", 1)
    (path, labels) = sorted((here / "training").iterdir())
    for file in (path, labels):
        with tifffile.TiffFile(file) as tiff:
            assert tiff.series[0].axes == "YX"
            assert tiff.imagej_metadata["unit"] == "um"


def test_corrected_files_stay(here, call, small_nd2):
    annotated(call, small_nd2, "--windows", 2)
    corrected = min((here / "training").glob("*_labels.tif"))
    tifffile.imwrite(corrected, np.full((96, 96), 7, np.uint16))
    before = corrected.read_bytes()
    status, _, error = call("annotate", small_nd2, "--size", 96, "--windows", 2)
    assert status == 2
    assert error == (
        "pyama-dask: training: holds 2 label files, which may have been corrected. Fix: use --add to add windows and "
        "keep these files, or choose another folder\n"
    )
    said = annotated(call, small_nd2, "--windows", 2, "--frames", "0,5", "--add")
    assert "2 windows" in said
    assert "2 that were there are kept" in said
    assert corrected.read_bytes() == before
    assert len(pairs(here / "training")) == 4


def test_the_method_of_a_config_or_of_the_command_line(here, call, small_nd2):
    document = {
        "input": str(small_nd2), "output": "out", "channels": {"pc": {"channel": 0}},
        "params": {"segmentation_params": {"min_object_size": 100000, "max_object_size": None}},
    }  # fmt: skip
    write_config(here / "run.yaml", document)
    annotated(call, small_nd2, "-c", "run.yaml")
    assert not any(labels.any() for _, labels in pairs(here / "training").values())
    (here / "mine.py").write_text("def whole(frame):\n    return (frame > 0).astype('uint16')\n")
    annotated(call, small_nd2, "-c", "run.yaml", "--method", "mine.py:whole", "--frames", "1", "--add")
    labels = [labels for name, (_, labels) in pairs(here / "training").items() if "_t0001_" in name]
    assert all((one == 1).all() for one in labels)


def test_windows_fit_into_small_frames(here, call, small_nd2):
    status, said, _ = call("annotate", small_nd2)
    assert status == 0
    assert said.startswith("training: 1 window of 200 x 200 px")


@pytest.mark.slow
def test_frames_of_8_bits_are_written_with_16(here, call, small_pixels):
    movie = as_nd2(here / "movie.nd2", (small_pixels[:1, :1] >> 8).astype(np.uint8))
    annotated(call, movie, "--windows", 1)
    ((image, _),) = pairs(here / "training").values()
    assert image.dtype == np.uint16
    assert 0 < image.max() < 256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fovs", "2"], "--fovs: 2 is not in movie.nd2, whose FOVs are 0-1"),
        (["--frames", "5-10"], "--frames: 10 is not in movie.nd2, whose frames are 0-9"),
        (["--size", "201"], "--size 201: is larger than a frame, which has 240 x 200 px. Fix: use --size 200"),
        (["--size", "100", "--windows", "5"], "--windows 5: a frame holds 4 windows of 100 px"),
        (["--channel", "3"], "--channel: 3 is not in movie.nd2"),
        (["--method", "nothing"], "'nothing' is not a segmenter"),
        (["--params", "[1]"], "--params: '[1]' is not a set of keys"),
        (["--params", "{morph_size: 4}"], "--params.morph_size: must be odd"),
        (["-c", "none.yaml"], "none.yaml: cannot be read"),
        (["-o", "file.txt"], "file.txt: is a file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_one_message(here, call, small_nd2, arguments, said):
    (here / "file.txt").touch()
    status, _, error = call("annotate", small_nd2, *arguments)
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (here / "training").exists()


def test_a_movie_without_phase_contrast(here, call, small_pixels):
    movie = as_nd2(here / "movie.nd2", small_pixels[:1, :1, 1:], channels=[Nd2Channel("GFP")])
    status, _, error = call("annotate", movie)
    assert status == 2
    assert "no channel looks like phase contrast. Fix: name the channel of the cells with --channel" in error
    annotated(call, movie, "--channel", 0)
