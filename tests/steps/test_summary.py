"""The summary of a FOV has the numbers that follow from its images and traces."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.movies import INTENSITIES, change_plan, config, products, times_of_change

import pyama_dask
from pyama_dask.analysis.summaries import AREA_EDGES, QUANTILES, read_summary
from pyama_dask.files.checksums import checksum
from pyama_dask.runs.status import LEDGER, read_status
from pyama_dask.steps.summary import quantiles_by_frame
from pyama_dask.store import intermediate
from pyama_dask.store.drop_maps import TOO_LARGE, load_map
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.ledger_file import sealed
from pyama_dask.workflow.task import WORK


@pytest.fixture(scope="module")
def read(finished):
    """Output, a FOV of it, and its summary."""
    return finished, pyama_dask.open_output(finished)[1], read_summary(finished, 1)


def test_frames_and_light_are_those_of_the_movie(read, small_pixels):
    _, fov, summary = read
    assert summary.frames.tolist() == list(range(10))
    assert summary.times_min.tolist() == fov.times.tolist()
    assert summary.channels.tolist() == [0, 1]
    sample = small_pixels[1, :, :, ::4, ::4].astype(float)
    np.testing.assert_allclose(summary.level, sample.mean((2, 3)).T)
    np.testing.assert_allclose(summary.spread, sample.std((2, 3)).T)
    differences = np.diff(small_pixels[1, :, 0, ::4].astype(float), axis=-1)
    np.testing.assert_allclose(summary.sharpness, (differences**2).mean((1, 2)))


def test_objects_are_those_of_the_labels(read):
    _, fov, summary = read
    labels = np.asarray(fov.image("seg_labeled_ch_0").data)
    assert summary.found.tolist() == labels.max((1, 2)).tolist()
    np.testing.assert_allclose(summary.foreground, (labels > 0).mean((1, 2)))
    areas = np.concatenate([np.bincount(frame.ravel())[1:] for frame in labels])
    assert summary.areas.tolist() == np.histogram(areas, AREA_EDGES)[0].tolist()
    assert (summary.too_small >= 0).all()
    assert summary.too_large.tolist() == [0] * 10
    assert summary.lost.tolist() == [0.0] * 10


def test_tracks_are_those_of_the_tracked_labels(read):
    output, fov, summary = read
    tracked = np.asarray(fov.image("seg_tracked_ch_0").data)
    seen = np.array([(tracked == track).any((1, 2)).sum() for track in np.unique(tracked)[1:]])
    assert (summary.tracks, summary.cells) == (len(seen), len(fov.cells))
    assert summary.lengths.tolist() == np.bincount(seen, minlength=11).tolist()
    assert summary.kept_lengths.sum() == summary.cells
    assert summary.cells + summary.short + summary.border == summary.tracks
    notes = Ledger(output / LEDGER).task("link-fov001").notes["track"]
    assert [notes[name] for name in ("cells", "short", "border")] == [summary.cells, summary.short, summary.border]


def test_cells_and_features_are_those_of_the_traces(read):
    _, fov, summary = read
    traces = fov.traces()
    assert summary.kept.tolist() == np.bincount(traces["frame"], minlength=10).tolist()
    assert set(summary.features) == {name for name in traces if name.endswith(("_ch_0", "_ch_1"))}
    for name, found in zip(summary.features, summary.quantiles, strict=True):
        expected = traces.groupby("frame")[name].quantile(list(QUANTILES)).unstack(level=1).T
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)  # the table has six digits


def test_what_is_dropped_is_counted(small_czi, finished, tmp_path):
    labels = np.asarray(pyama_dask.open_output(finished)[0].image("seg_labeled_ch_0").data)[:5]
    areas = [np.bincount(frame.ravel())[1:] for frame in labels]
    low, high = np.quantile(np.concatenate(areas), (0.3, 0.7)).astype(int).tolist()
    changes = {
        "params.fovs": "0", "params.frames": "0-4",
        "params.segmentation_params": {"morph_iterations": 1, "min_object_size": low, "max_object_size": high},
        "params.tracking_params": {"min_frames": 5, "border_margin": 20},
    }  # fmt: skip
    assert pyama_dask.run(config(small_czi, tmp_path, changes)).exit_status == 0
    summary = read_summary(tmp_path, 0)
    assert summary.too_large.tolist() == [(of > high).sum() for of in areas]
    assert summary.lost.tolist() == [of[of > high].sum() / labels[0].size for of in areas]
    unlimited = read_summary(finished, 0).too_small[:5]
    assert (summary.too_small - unlimited).tolist() == [(of < low).sum() for of in areas]
    assert summary.too_small.min() > 0
    assert summary.found.tolist() == [((of >= low) & (of <= high)).sum() for of in areas]
    for k, (frame, of) in enumerate(zip(labels, areas, strict=True)):
        block, within = divmod(k, 4)
        large = load_map(intermediate.block_file(tmp_path / WORK / "fov_000", TOO_LARGE, block), within)
        assert (large == np.isin(frame, 1 + np.flatnonzero(of > high))).all()
    assert summary.border
    assert summary.tracks == summary.cells + summary.short + summary.border


SEGMENTER = """
from pyama_dask.kernels.segmentation import segment


def mine(frame):
    return segment(frame)
"""


def test_what_a_segmenter_of_a_user_drops_is_unknown(small_czi, tmp_path):
    (file := tmp_path / "mine.py").write_text(SEGMENTER)
    changes = {"params.segmentation_method": f"{file}:mine", "params.segmentation_params": {}, "params.fovs": "0"}
    pyama_dask.run(config(small_czi, tmp_path / "out", changes))
    summary = read_summary(tmp_path / "out", 0)
    assert {*summary.too_small, *summary.too_large} == {-1}
    assert np.isnan(summary.lost).all()
    assert summary.found.min() > 0


@pytest.mark.parametrize(
    ("changes", "channels", "is_sharp"),
    [
        ({"params.copy_only": True}, [0, 1], True),
        ({"channels": {"fl": [{"channel": 1, "features": INTENSITIES}]}}, [1], False),
    ],
    ids=["copy only", "without phase"],
)
def test_a_run_that_finds_no_cells_has_light_only(small_czi, finished, tmp_path, changes, channels, is_sharp):
    assert pyama_dask.run(config(small_czi, tmp_path, changes)).exit_status == 0
    summary, with_cells = read_summary(tmp_path, 1), read_summary(finished, 1)
    assert summary.channels.tolist() == channels
    assert summary.level[-1].tolist() == with_cells.level[1].tolist()
    assert np.array_equal(summary.sharpness, with_cells.sharpness) == is_sharp
    assert np.isnan(summary.sharpness).all() != is_sharp
    assert {*summary.found, *summary.kept, *summary.too_small, *summary.too_large} == {-1}
    assert (summary.tracks, summary.features, summary.lengths.sum()) == (0, (), 0)


def as_older_version(output):
    """Make an output what a version without summaries would have left."""
    entries = [json.loads(line) for line in (output / LEDGER).read_bytes().splitlines()]
    for receipt in (entry["done"] for entry in entries if "done" in entry):
        for name in ("begun", "worker"):
            del receipt[name]
        for written in [*receipt["files"].values()]:
            for path in [*written]:
                if "light_b" in path or "summary" in path:
                    (output / path).unlink()
                    del written[path]
                elif "objects_b" in path:
                    held = intermediate.load(output / path)
                    intermediate.save(output / path, lengths=held["lengths"], boxes=held["boxes"])
                    written[path] = checksum(output / path)
        for of in receipt.values():
            if isinstance(of, dict):
                of.pop("summary", None)
    lines = [{name: of for name, of in entry.items() if name != "crc"} for entry in entries]
    (output / LEDGER).write_bytes(b"".join(map(sealed, lines)))
    change_plan(output, lambda plan: [fov["kinds"]["gather"]["steps"].pop("summary") for fov in plan["fovs"]])


def test_an_output_of_an_older_version_stays_complete_and_gets_what_is_known(small_czi, copied, finished, tmp_path):
    as_older_version(copied)
    assert [fov["status"] for fov in read_status(copied)["fovs"]] == ["done", "done"]
    assert read_summary(copied, 0) is None
    before, whole = times_of_change(copied), read_summary(finished, 0)
    report = pyama_dask.run(config(small_czi, copied))
    assert (report.tasks, {step.step for step in report.steps}) == (2, {"summary"})
    assert times_of_change(copied) == before  # nothing else is made again
    summary = read_summary(copied, 0)
    for name in ("sharpness", "level", "spread", "lost", "foreground"):
        assert np.isnan(getattr(summary, name)).all(), name
    assert {*summary.too_small, *summary.too_large} == {-1}
    for name in ("found", "kept", "lengths", "quantiles"):
        np.testing.assert_array_equal(getattr(summary, name), getattr(whole, name))
    assert (summary.tracks, summary.short, summary.border) == (whole.tracks, whole.short, whole.border)
    pyama_dask.run(config(small_czi, copied), force=["copy"])
    assert products(copied).keys() == products(finished).keys()
    folder = ".pyama_dask/fov_000/summary.npz"
    assert (copied / folder).read_bytes() == (finished / folder).read_bytes()


def test_a_stale_summary_is_removed_with_its_record(small_czi, copied):
    pyama_dask.run(config(small_czi, copied, {"params.background_weight": 0.5}), steps=["crop"])
    assert read_summary(copied, 0) is None
    shutil.rmtree(copied / "fov_000")
    assert pyama_dask.run(config(small_czi, copied)).exit_status == 0
    assert read_summary(copied, 0).cells


numbers = st.sampled_from([-1.0, 0.0, 0.5, 3.0, 1e9, np.inf, np.nan])


@given(st.lists(st.tuples(st.integers(0, 3), numbers), max_size=30))
def test_quantiles_are_those_of_numpy(rows):
    frame, values = np.array([t for t, _ in rows], int), np.array([value for _, value in rows])
    found = quantiles_by_frame(values, frame, 5)
    for t in range(5):
        known = values[(frame == t) & ~np.isnan(values)] if rows else np.zeros(0)
        if np.isfinite(known).all():
            expected = np.quantile(known, QUANTILES) if known.size else np.full(5, np.nan)
            np.testing.assert_allclose(found[:, t], expected, rtol=1e-12)
        else:
            assert found[-1, t] == np.inf or known.size > 1


def test_whole_numbers_and_truth_values_are_measured_too():
    assert quantiles_by_frame(np.array([True, False, True]), np.zeros(3, int), 1)[2, 0] == 1
    assert quantiles_by_frame(np.array([3, 5], np.uint16), np.zeros(2, int), 1)[2, 0] == 4
