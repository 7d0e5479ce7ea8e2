"""Comparison of labels in files, folders and outputs."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from rich.console import Console
from support.movies import config

import pyama_dask
from pyama_dask.analysis.score import ScoreReport, Scores
from pyama_dask.cli.labels import _score_table
from pyama_dask.errors import ImageError

CELLS = np.kron(np.arange(6).reshape(2, 3), np.ones((20, 20), int)).astype(np.uint16)
"""Background and five square cells."""
MOVIE = np.stack([np.roll(CELLS, t, axis=1) for t in range(12)])
HALF = np.where(np.isin(MOVIE, [1, 2]), 0, MOVIE)


def saved(path, labels):
    np.save(path, labels)
    return path


def ctc(folder, frames, name, parents=None):
    """Write tracks without gaps in the form of the challenge; `name` is mask or man_track."""
    folder.mkdir(parents=True)
    for t, labels in enumerate(frames):
        tifffile.imwrite(folder / f"{name}{t:03d}.tif", labels)
    labels = np.unique(frames[frames > 0]).tolist()
    lines = [f"{label} 0 {len(frames) - 1} {(parents or {}).get(label, 0)}\n" for label in labels]
    (folder / {"mask": "res_track.txt", "man_track": "man_track.txt"}[name]).write_text("".join(lines))


def test_a_movie_is_scored_with_tracks(tmp_path):
    report = pyama_dask.score_labels(saved(tmp_path / "a.npy", HALF), saved(tmp_path / "b.npy", MOVIE))
    one = report.overall
    assert (one.frames, one.true, one.found) == (12, 60, 36)
    assert (one.seg, one.found_per_true, one.f1) == (0.6, 0.6, pytest.approx(0.75))
    assert (one.tracks, one.followed, one.whole) == (5, 3, 3)
    assert 0.5 < one.tra < 0.7
    assert report.movies == (report.movies[0],)
    assert json.loads(json.dumps(report.document()))["overall"]["whole"] == 3


def test_frames_of_one_fov_are_pooled_with_those_of_others(tmp_path):
    found, true = np.stack([MOVIE, HALF]), np.stack([MOVIE, MOVIE])
    report = pyama_dask.score_labels(saved(tmp_path / "a.npy", found), saved(tmp_path / "b.npy", true))
    assert [one.name for one in report.movies] == ["FOV 0", "FOV 1"]
    assert report.overall.seg == pytest.approx(0.8)
    assert (report.overall.tracks, report.overall.whole) == (10, 8)
    assert report.movies[0].tra == 1 > report.overall.tra > report.movies[1].tra


def test_tracks_can_be_left_out(tmp_path):
    a, b = saved(tmp_path / "a.npy", MOVIE), saved(tmp_path / "b.npy", MOVIE)
    assert pyama_dask.score_labels(a, b, tracks=False).overall.tra is None
    assert pyama_dask.score_labels(a, b, min_frames=13).overall.tracks == 0


def test_images_of_folders_are_paired_by_name(tmp_path):
    for folder in ("found", "true"):
        (tmp_path / folder).mkdir()
    for k in range(3):
        tifffile.imwrite(tmp_path / "found" / f"w{k}_cp_masks.tif", HALF[k])
        Image.fromarray(MOVIE[k]).save(tmp_path / "true" / f"w{k}_labels.png")
        tifffile.imwrite(tmp_path / "true" / f"w{k}.tif", np.ones((3, 3), np.uint16))  # the image itself
    tifffile.imwrite(tmp_path / "true" / "more_labels.tif", CELLS)
    report = pyama_dask.score_labels(tmp_path / "found", tmp_path / "true")
    assert [one.name for one in report.movies] == ["w0", "w1", "w2"]
    assert report.overall.seg == pytest.approx(0.6)
    assert report.overall.tra is None
    assert report.warnings == (f"{tmp_path / 'found'}: no counterpart of more, which is not scored",)


def test_folders_of_the_challenge(tmp_path):
    ctc(tmp_path / "data/01_RES", HALF, "mask")
    ctc(tmp_path / "data/01_GT/TRA", MOVIE, "man_track", {2: 1})
    (tmp_path / "data/01_GT/SEG").mkdir()
    tifffile.imwrite(tmp_path / "data/01_GT/SEG/man_seg003.tif", np.where(MOVIE[3] == 4, 4, 0).astype(np.uint16))
    report = pyama_dask.score_labels(tmp_path / "data", tmp_path / "data")
    assert report.overall.seg == 1  # only of the cell that is outlined
    assert report.overall.tracks == 5
    alone = pyama_dask.score_labels(tmp_path / "data/01_RES", tmp_path / "data/01_GT")
    assert alone.overall.tra == report.overall.tra < 1
    stack = saved(tmp_path / "stack.npy", MOVIE)
    assert pyama_dask.score_labels(stack, tmp_path / "data/01_GT").overall.tracks == 5


def test_an_output_is_scored_by_the_frames_of_the_movie(tmp_path, finished):
    tracked = [pyama_dask.open_output(finished)[fov].image("seg_tracked_ch_0").data.compute() for fov in (0, 1)]
    truth = saved(tmp_path / "truth.npy", np.stack(tracked))
    report = pyama_dask.score_labels(finished, truth)
    assert [one.name for one in report.movies] == ["FOV 0", "FOV 1"]
    assert report.overall.seg == report.overall.tra == 1
    part = saved(tmp_path / "part.npy", tracked[1][:4])
    with pytest.raises(ImageError, match=r"no labels of the same name .* \(0, 1; part\)"):
        pyama_dask.score_labels(finished, part)
    one = saved(tmp_path / "one.npy", np.stack([tracked[0][:7]]))
    report = pyama_dask.score_labels(finished, one)
    assert (report.overall.frames, report.overall.seg) == (7, 1)
    assert report.warnings == (f"{one}: no counterpart of 1, which is not scored",)


def test_an_output_without_traces_is_scored(tmp_path, small_czi):
    changes = {"params.fovs": "0", "params.frames": "0-3", "params.tracking_params": {"min_frames": 2}}
    pyama_dask.run(config(small_czi, tmp_path / "out", changes), steps=["copy", "segment", "track"])
    assert pyama_dask.score_labels(tmp_path / "out", tmp_path / "out").overall.tra == 1


def test_a_truth_without_objects_is_told(tmp_path):
    report = pyama_dask.score_labels(saved(tmp_path / "a.npy", MOVIE), saved(tmp_path / "b.npy", 0 * MOVIE))
    assert np.isnan([report.overall.seg, report.overall.det]).all()
    assert report.warnings == (f"{tmp_path / 'b.npy'}: has no objects, so that SEG, DET and TRA have no value",)


def test_folders_with_several_labels_of_a_name_or_none_are_refused(tmp_path):
    for end in ("_labels", "_masks"):
        tifffile.imwrite(tmp_path / f"w0{end}.tif", HALF[0])
    with pytest.raises(ImageError, match="holds several labels of 'w0'"):
        pyama_dask.score_labels(tmp_path, tmp_path)
    (tmp_path / "01_GT/TRA").mkdir(parents=True)
    (tmp_path / "01_GT/TRA/man_track.txt").write_text("1 0 4 0\n")
    with pytest.raises(ImageError, match=r"TRA: has man_track\.txt, but no label images"):
        pyama_dask.score_labels(tmp_path / "01_GT", tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (MOVIE[:, :30], r"FOV 0, frame 0: labels have shape \(30, 60\), but true labels \(40, 60\)"),
        (MOVIE.astype(float), "has float64 pixels"),
        (MOVIE[None, None], "has 5 axes"),
        (MOVIE[:, :0], r"has shape \(\d, .*0, 60\), which holds no pixel"),
        (None, "does not exist"),
    ],
)
def test_labels_that_do_not_fit_are_one_message(tmp_path, call, labels, said):
    path = tmp_path / "a.npy"
    if labels is not None:
        np.save(path, labels[None] if labels.ndim == 3 and labels.dtype == np.uint16 else labels)
    status, _, error = call("score", path, saved(tmp_path / "b.npy", MOVIE[None]))
    assert status == 2
    with pytest.raises(ImageError, match=said):
        pyama_dask.score_labels(path, tmp_path / "b.npy")
    assert len(error.splitlines()) == 1


def test_the_command_prints_a_table_or_json(tmp_path, call):
    a, b = saved(tmp_path / "a.npy", np.stack([HALF, MOVIE])), saved(tmp_path / "b.npy", np.stack([MOVIE, MOVIE]))
    status, table, _ = call("score", a, b)
    assert status == 0
    rows = [line.split() for line in table.splitlines()]
    assert ["frames", "true", "found:true", "SEG", "F1", "DET", "TRA", "traces", "followed", "whole"] in rows
    assert any(row[:1] == ["all"] and row[-3:] == ["10", "8", "8"] for row in rows)
    status, text, _ = call("score", a, b, "--json", "--no-tracks")
    assert json.loads(text)["overall"]["seg"] == pytest.approx(0.8)
    assert json.loads(text)["overall"]["tra"] is None


def test_the_table_fits_a_terminal_of_80_columns():
    one = Scores("FOV 10", 100, 200_000, 210_000, 0.75, 0.9, 1.05, 0.95, 0.9, 1000, 1000, 1000)
    empty = Scores("FOV 11", 100, 0, 0, *[float("nan")] * 4)
    report = ScoreReport(Path("a"), Path("b"), (one, empty), one, 10, 0.8, ())
    console = Console(file=io.StringIO(), width=80)
    console.print(_score_table(report))
    table = console.file.getvalue()
    assert "…" not in table
    assert table.count("FOV 10    100 200000       1.05 0.750 0.900 0.950 0.900   1000     1000  1000") == 2
    assert "FOV 11    100      0          -     -     -     -" in table
