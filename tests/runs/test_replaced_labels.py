"""Steps between `segment` and `track` that replace the labels: all that follows has theirs."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from support import steps
from support.movies import as_czi, config, differences, file_bytes, pixels, products, put_in_wells
from support.strategies import movie as synthetic
from support.strategies import plan_of

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError
from pyama_dask.plan.resolve import resolve
from pyama_dask.previews.preview import preview
from pyama_dask.readers import read_metadata
from pyama_dask.runs.annotate import annotate
from pyama_dask.runs.frame_check import check_frame

MINE = Path(steps.__file__).as_posix()
LARGE = {"do": f"{MINE}:large_ones", "channels": ["labels"], "above": 1200}
UPPER = {"do": f"{MINE}:upper", "channels": ["labels"], "to": "upper"}
HALVED = {"do": f"{MINE}:halved", "of": ["labels", "upper"], "to": "labels"}
REST = ["track", "background", "crop", "extract", "cache"]


def document(movie, output, *between, after=(), segmenter=None):
    cells = {"name": "cells", "steps": ["copy", "segment", *between, *REST]}
    changes = {"pipelines": [cells, *after], "params.tracking_params": {"min_frames": 2, "border_margin": 0}}
    if segmenter:
        changes |= {"params.segmentation_method": f"{MINE}:{segmenter[0]}", "params.segmentation_params": segmenter[1]}
    return config(movie, output, changes)


def run(*of, **more):
    report = pyama_dask.run(document(*of, **more))
    assert not report.exit_status, (report.stopped, report.failed)
    return report


def image(output, path):
    return zarr.open_array(output / "fov_000/images.zarr" / path, mode="r")[:]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    return as_czi(tmp_path_factory.mktemp("labels") / "movie.czi", pixels(fovs=1, frames=5, shape=(150, 170), cells=4))


@pytest.fixture(scope="module")
def replaced(tmp_path_factory, movie):
    """Output whose labels are halves of large objects."""
    output = tmp_path_factory.mktemp("replaced") / "out"
    run(movie, output, LARGE, UPPER, HALVED)
    return output


def test_all_that_follows_is_as_with_a_segmenter_that_finds_these_labels(movie, replaced, tmp_path):
    run(movie, tmp_path / "out", segmenter=("found_large_halves", {"above": 1200}))
    labels = image(replaced, "seg_labeled_ch_0/0")
    assert labels.max() >= 4
    for frame in labels:
        assert np.array_equal(np.unique(frame), np.arange(frame.max() + 1))
    assert differences(products(replaced), products(tmp_path / "out")) == []


def test_labels_that_are_found_in_several_frames_at_once_are_replaced(movie, replaced, tmp_path):
    run(movie, tmp_path / "out", LARGE, UPPER, HALVED, segmenter=("several", {}))
    assert differences(products(replaced), products(tmp_path / "out")) == []


def test_looks_at_frames_show_the_new_labels(movie, replaced, tmp_path):
    wanted = document(movie, replaced, LARGE, UPPER, HALVED)
    stored = image(replaced, "seg_labeled_ch_0/0")
    found = preview(wanted, frames=[0, 2])
    for frame, labels in zip((0, 2), found.labels, strict=True):
        assert np.array_equal(labels, stored[frame])
    metadata = read_metadata(movie)
    assert check_frame(resolve(parse_config(wanted), metadata), metadata)[:2] == ([], stored[2].max())
    one = parse_config(wanted | {"params": wanted["params"] | {"frames": "2"}})
    annotate(one, metadata, tmp_path, windows=1, size=150)
    (file,) = tmp_path.glob("*_labels.tif")
    left = int(file.name.partition("_x")[2][:4])
    window = stored[2][:, left : left + 150]
    assert np.array_equal(tifffile.imread(file), np.unique(window, return_inverse=True)[1].reshape(window.shape))


def test_a_changed_step_redoes_all_but_copying(movie, tmp_path):
    out = tmp_path / "out"
    run(movie, out, LARGE)
    before = file_bytes(out)
    assert run(movie, out, LARGE).tasks == 0
    more = {"name": "more", "input": "cells", "steps": [{"do": f"{MINE}:bright_pixels", "channels": ["GFP"]}]}
    assert {step.step for step in run(movie, out, LARGE, after=[more]).steps if step.seconds} == {"more.bright_pixels"}
    done = run(movie, out, LARGE | {"above": 1600}, after=[more])
    assert {step.step for step in done.steps if step.seconds} == {
        "segment", "track", "background", "crop", "extract", "cache", "summary"
    }  # fmt: skip
    changed = {path for path, content in file_bytes(out).items() if before.get(path) != content}
    assert not any("/pc_ch_0/0/" in path or "/fl_ch_1/0/" in path for path in changed)
    whole = tmp_path / "whole"
    run(movie, whole, LARGE | {"above": 1600}, after=[more])
    assert differences(products(out), products(whole)) == []


def test_wells_in_which_labels_stay(tmp_path):
    data = pixels(fovs=2, frames=2, shape=(150, 170), cells=4)
    movie = put_in_wells(as_czi(tmp_path / "wells.czi", data), ["A1", "A2"])
    swapped = HALVED | {"of": ["upper", "labels"], "wells": "A2"}
    run(movie, tmp_path / "some", UPPER, swapped)
    run(movie, tmp_path / "none")
    some, none = (image(tmp_path / out, "seg_labeled_ch_0/0") for out in ("some", "none"))
    assert np.array_equal(some, none)
    (other,) = (zarr.open_array(tmp_path / "some/fov_001/images.zarr/seg_labeled_ch_0/0", mode="r")[:].max(),)
    assert other > none.max()


def test_a_step_that_gives_no_labels_fails_its_fov(movie, tmp_path):
    report = pyama_dask.run(document(movie, tmp_path / "out", {"do": f"{MINE}:negative", "channels": ["labels"]}))
    (fov,) = report.failed
    assert "FOV 0, frame 0: step cells.negative" in fov.reason
    assert "labels are whole numbers from 0" in fov.reason


@pytest.mark.parametrize(
    ("between", "after", "message"),
    [
        ([], [LARGE], "replace 'labels', which only steps between segment and track can"),
        ([], [LARGE | {"channels": ["tracked"]}], "replace 'tracked', whose numbers are those of the cells"),
        ([UPPER | {"to": "labels"}], [], r"gives grey levels .float32. instead of labels"),
        (
            [{"do": f"{MINE}:coarse", "channels": ["labels"]}],
            [],
            "labels of 75 x 85 pixels for frames of 150 x 170",
        ),
        ([LARGE | {"checkpoint": True}], [], "gets the labels before 'cells.large_ones' replaces them"),
        (
            [UPPER, LARGE],
            [UPPER | {"do": f"{MINE}:brighter", "channels": ["upper"], "to": "next"}],
            "the labels before",
        ),
        ([{"do": f"{MINE}:kept_stack", "channels": ["labels"]}], [], "takes stacks, but labels are replaced frame by"),
    ],
)
def test_what_cannot_replace_labels_is_refused(movie, tmp_path, between, after, message):
    further = [{"name": "more", "input": "cells", "steps": after}] if after else []
    with pytest.raises(ConfigError, match=message):
        pyama_dask.run(document(movie, tmp_path / "out", *between, after=further))
    assert not (tmp_path / "out").exists()


def test_an_image_beside_changes_nothing_of_the_seven():
    """Only what a step gets counts for it, not what else there is at its place in the pipeline."""

    def digests(above):
        mask = {"do": f"{MINE}:bright_pixels", "channels": ["C1"], "above": above, "to": "mask"}
        cells = {"name": "cells", "steps": ["copy", mask, "segment", *REST]}
        plan = plan_of(synthetic(fovs=1, frames=3, shape=(60, 64)), pipelines=[cells])
        return {(task.key, step): of for task in plan.tasks for step, of in task.digests.items()}

    few, many = digests(200), digests(100)
    assert few == many
