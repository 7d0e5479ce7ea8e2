"""The method that a first look chooses, on made movies of separate, compact and merging cells."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.bright_cells import bright_movie
from support.movies import as_nd2, pixels
from support.strategies import movie

import pyama_dask
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.kernels.plausibility import Seen
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import read_metadata
from pyama_dask.runs.first_look import first_look, middle_frames
from pyama_dask.runs.method_choice import Candidate, FirstLook, Tried, candidates, choose, describe


def seen(count=20.0, agreement=0.9):
    return Seen(count=count, covered=0.2, largest=0.01, unevenness=1.1, agreement=agreement)


def tried(method, plausibility, usual=False, **params):
    return Tried(Candidate(method, params, usual), seen(), plausibility)


def chosen_of(*results):
    chosen, others = choose(results)
    return str(chosen.candidate), [str(other.candidate) for other in others]


# ---------------------------------------------------------------------------------------------- the choice


def test_the_default_is_taken_if_it_comes_close():
    assert chosen_of(tried("logstd", 0.8), tried("bright", 0.9, diameter=14.0)) == ("logstd", ["bright (diameter 14)"])
    assert chosen_of(tried("logstd", 0.3), tried("bright", 0.9)) == ("bright", ["logstd"])
    assert chosen_of(tried("logstd", 0.0), tried("bright", 0.0)) == ("logstd", ["bright"])


def test_each_method_is_listed_once_at_its_best_scale():
    results = [
        tried("logstd", 0.1), tried("logstd", 0.5, morph_size=3), tried("bright", 0.7, diameter=8.0),
        tried("bright", 0.9, diameter=14.0), tried("unet", 0.6, usual=True),
    ]  # fmt: skip
    assert chosen_of(*results) == ("bright (diameter 14)", ["unet", "logstd (morph_size 3)"])


def test_the_usual_scale_is_preferred_unless_another_is_clearly_better():
    results = [tried("logstd", 0.1), tried("unet", 0.70, usual=True), tried("unet", 0.75, zoom=2.0)]
    assert chosen_of(*results)[0] == "unet"
    assert chosen_of(*results[:2], tried("unet", 0.80, zoom=2.0))[0] == "unet (zoom 2)"


def test_scales_fit_the_frames():
    names = [str(candidate) for candidate in candidates((600, 150), {"cells": 1.5})]
    assert names[:2] == ["logstd", "logstd (morph_size 3, morph_iterations 1)"]
    assert {"bright (diameter 14)", "bright (diameter 14, invert True)"} <= set(names)
    assert not any("28" in name for name in names)
    assert [name for name in names if "unet" in name] == [
        "unet (model cells)", "unet (model cells, zoom 1.05)", "unet (model cells, zoom 2.1)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "missing", "chosen"),
    [
        (10, [], [3, 4, 5]),
        (3, [], [0, 1, 2]),
        (2, [], [0, 1]),
        (1, [], [0]),
        (10, [4, 5], [1, 2, 3]),
        (5, [0, 2, 4], [1]),
        (4, [0, 1, 2, 3], []),
    ],
)
def test_consecutive_frames_in_the_middle(frames, missing, chosen):
    assert middle_frames(movie(frames=frames, missing={0: missing}), 0) == chosen


# -------------------------------------------------------------------------------------------------- movies


@pytest.fixture(scope="module")
def compact_nd2(tmp_path_factory):
    """Compact bright cells in contact, which the default method merges."""
    frames, _ = bright_movie((320, 320), frames=4, cells=100, seed=1)
    return as_nd2(tmp_path_factory.mktemp("compact") / "compact.nd2", np.stack([frames, frames], axis=1)[None])


def test_separate_cells(small_nd2):
    found = first_look(read_metadata(small_nd2), 0, None)
    assert (found.fov, found.frames) == (0, (3, 4, 5))
    assert found.is_default
    assert not found.is_dense
    first, second = describe(found)
    assert first.startswith("FOV 0, frames 3-5: logstd finds 6 objects per frame on ")
    assert second == "Chosen: logstd, the default method"


@pytest.mark.parametrize(
    ("plausible", "said"), [(0.9, ""), (0.3, ". No method looks right. Fix: correct some windows")]
)
def test_a_default_method_that_does_not_look_right_is_told(plausible, said):
    default = tried("logstd", plausible)
    _, second = describe(FirstLook(0, (0, 1, 2), 0.5, default, default, ()))
    assert second.startswith(f"Chosen: logstd, the default method{said}")
    assert second.endswith("method") == (not said)


def test_few_cells_on_an_empty_frame(tmp_path):
    data = pixels(fovs=1, frames=3, shape=(512, 512), cells=2)
    assert first_look(read_metadata(as_nd2(tmp_path / "movie.nd2", data)), 0, None).is_default


def test_compact_cells(compact_nd2):
    told = []
    found = first_look(read_metadata(compact_nd2), 0, None, told.append)
    assert found.chosen.candidate.method == "bright"
    assert found.is_dense
    assert 90 <= found.chosen.seen.count <= 110
    assert [other.candidate.method for other in found.others].count("logstd") == 1
    fault, first, second = describe(found)
    assert fault.startswith("FOV 0, frames 0-2: logstd ")
    assert first.startswith("FOV 0, frames 0-2: bright (diameter ")
    assert second.startswith("Chosen: bright (diameter ")
    assert told[0] == "FOV 0, frames 0-2: reading"
    assert "FOV 0, frames 0-2: trying logstd" in told


def test_another_fov_if_the_first_one_is_empty(tmp_path):
    data = pixels(fovs=2, frames=3, shape=(200, 240), cells=5)
    data[0, :, 0] = 500
    found = first_look(read_metadata(as_nd2(tmp_path / "movie.nd2", data)), 0, None)
    assert (found.fov, found.is_default) == (1, True)


def test_frames_without_anything(tmp_path):
    data = np.full((1, 3, 2, 64, 80), 500, np.uint16)
    assert first_look(read_metadata(as_nd2(tmp_path / "movie.nd2", data)), 0, None) is None


def test_a_movie_that_cannot_be_processed(tmp_path):
    movie = as_nd2(tmp_path / "movie.nd2", np.full((1, 3, 2, 64, 80), 500, np.float32))
    assert first_look(read_metadata(movie), 0, None) is None


# ---------------------------------------------------------------------------------------------------- init


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_compiles_the_methods_that_it_tries_and_says_so_where_they_are_not_compiled(
    here, call, compact_nd2, monkeypatch
):
    asked = []

    def compiles(types, names, say, _cancel):
        asked.append((types, set(names)))
        say("Compiling for uint16 pixels")

    monkeypatch.setattr("pyama_dask.runs.compilation.compile_kernels", compiles)
    assert "Compiling for uint16 pixels" in call("init", compact_nd2)[2].splitlines()
    tried = {candidate.method for candidate in candidates((2048, 2048), {"any": 1.0})}
    assert asked == [(["uint16"], {*tried, "scores"})]
    assert call("init", compact_nd2, "-o", "other.yaml", "--no-look")[2] == ""
    assert len(asked) == 1


def test_init_writes_the_method_and_the_others_as_comments(here, call, compact_nd2):
    status, said, progress = call("init", compact_nd2)
    assert status == 0
    assert "Chosen: bright" in said
    first, *others = progress.splitlines()
    assert first == "Trying the segmentation methods on 3 frames; --no-look skips this"
    assert not [line for line in others if "ompil" in line]  # as they are compiled
    text = (here / "run.yaml").read_text()
    params = yaml.safe_load(text)["params"]
    assert params["segmentation_method"] == "bright"
    assert (params["tracking_method"], params["tracking_params"]["border_margin"]) == ("lap", 0)
    assert "cells darker than the background" in text
    lines = text.splitlines()
    others = [k for k, line in enumerate(lines) if line.startswith("  #   segmentation_method:")]
    assert others
    above = lines.index("  # Other methods; to take one, replace the two keys above by its keys:") - 1
    keys = [line.split(":")[0] for line in lines[:above] if re.match(r"  \w", line)]
    assert keys[-2:] == ["  segmentation_method", "  segmentation_params"]
    for k in others:
        commented = yaml.safe_load("\n".join(line.replace("  #   ", "", 1) for line in lines[k : k + 2]))
        document = yaml.safe_load(text)
        document["params"] |= commented
        resolve(parse_config(document), read_metadata(compact_nd2))


def test_init_writes_the_defaults_for_separate_cells(here, call, small_nd2):
    assert call("init", small_nd2, "-o", "looked.yaml")[0] == 0
    status, said, progress = call("init", small_nd2, "-o", "plain.yaml", "--no-look")
    assert (status, progress) == (0, "")
    assert "Chosen" not in said
    looked, plain = ((here / name).read_text() for name in ("looked.yaml", "plain.yaml"))
    assert yaml.safe_load(looked) == yaml.safe_load(plain)


def test_init_is_refused_before_it_looks(here, call, small_nd2):
    (here / "run.yaml").touch()
    assert call("init", small_nd2)[2].startswith("pyama-dask: run.yaml: already exists")
    assert call("init", small_nd2, "--force", "--cluster", "cloud")[2].startswith("pyama-dask: config:")
    status, said, error = call("init", small_nd2, "-o", "gone/run.yaml")
    assert (status, said) == (2, "")
    assert error.startswith("pyama-dask: gone/run.yaml: cannot be written: ")
    assert len(error.splitlines()) == 1


def test_annotate_takes_the_method_that_suits(here, call, compact_nd2):
    status, said, _ = call("annotate", compact_nd2)
    assert status == 0
    assert "in the first guess by bright" in said


# --------------------------------------------------------------------------------------------- real movies

DATA = Path(__file__).parents[3] / "shared" / "data"
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not at hand")


@with_data
@pytest.mark.parametrize("name", ["t98g.nd2", "t98g.czi"])
def test_adherent_cells_in_contact(name):
    found = first_look(read_metadata(DATA / "composite" / name), 0, None)
    assert str(found.chosen.candidate) == "unet (model adherent-phase-10x)"
    assert 20 <= found.chosen.seen.count <= 40  # 29 are there
    assert next(describe(found)).startswith("FOV 0, frames 6-8: logstd leaves out most of the texture")


@with_data
def test_from_init_to_traces_of_real_cells(here, call):
    assert call("init", DATA / "composite/t98g.nd2")[0] == 0
    report = pyama_dask.run(load_config(here / "run.yaml", {"cluster.kind": "serial"}))
    assert report.exit_status == 0
    scored = pyama_dask.score_labels(report.output, DATA / "composite/labels_PTYX.npz").overall
    assert (scored.tracks, scored.followed >= 44) == (51, True)


@with_data
def test_a_real_movie_of_one_cell():
    assert first_look(read_metadata(DATA / "real_nd2" / "example-timelapse.nd2"), 0, None).is_default
