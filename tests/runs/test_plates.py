"""Runs on plates: every site is a FOV, and the source stays as it is."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.movies import config, differences, products, write_config
from support.plates import generator, needs_generator, state_of, truth_of

import pyama_dask
from pyama_dask.analysis.pyama_files import config_of_output
from pyama_dask.cli.movie_text import describe_movie
from pyama_dask.cli.text import describe_status
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.readers import read_metadata
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import read_status
from pyama_dask.store.arrays import read_frame

pytestmark = needs_generator
SCENE = {"tile": (128, 128), "grid": (1, 2), "frames": 3, "cells": 3, "cell_px": 8}
KEPT = {"params.tracking_params": {"min_frames": 2, "border_margin": 0}}


def scene(**options):
    module = generator()
    known = {name: value for name, value in SCENE.items() if name in module.Scene.__dataclass_fields__}
    return module.Scene(**known | options)


@pytest.fixture(scope="session")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates") / "Exp2_P3"
    generator().write_imagexpress(folder, scene(wells=("B02", "C10")))
    return folder


@pytest.fixture(scope="session")
def opera(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates") / "screen__2026-01-01T10_00_00-Measurement_1"
    generator().write_opera(folder, scene(wells=("B02", "C10")))
    return folder


def done(movie, output, changes=None, **options):
    return pyama_dask.run(config(movie, output, KEPT | (changes or {})), **options)


@pytest.fixture(scope="session")
def processed(plate, tmp_path_factory):
    """Output of a run on the whole plate; to be read only."""
    output = tmp_path_factory.mktemp("processed") / "out"
    before = state_of(plate)
    assert done(plate, output).exit_status == 0
    assert state_of(plate) == before
    return output


def traces(output):
    return pd.concat([pd.read_csv(path) for path in sorted(output.glob("fov_*/*_traces.csv"))])


def test_sites_are_fovs_and_traces_name_them(processed, plate):
    table = traces(processed)
    assert list(table.columns[-2:]) == ["well", "site"]
    of = table.groupby("fov")[["well", "site"]].first()
    assert of.to_numpy().tolist() == [["B02", 1], ["B02", 2], ["C10", 1], ["C10", 2]]
    assert min(path.name for path in processed.glob("fov_*/*.csv")) == "Exp2_P3_fov_000_traces.csv"
    planes = {(row["well"], row["site"], row["t"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
    for (well, site), fov in zip([("B02", "1"), ("C10", "2")], (0, 3), strict=True):
        image = tifffile.imread(plate / planes[well, site, "2", "1"])
        np.testing.assert_array_equal(read_frame(processed / f"fov_{fov:03}/images.zarr", "fl_ch_1/0", 2), image)


@pytest.mark.slow
def test_workers_make_the_same_of_a_folder_without_write_permission(processed, plate, tmp_path):
    copy = tmp_path / "Exp2_P3"
    shutil.copytree(plate, copy, copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state_of(copy)
    cluster = {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0"}
    assert done(copy, tmp_path / "out", {"cluster": cluster}).exit_status == 0
    assert state_of(copy) == before
    assert differences(products(processed), products(tmp_path / "out")) == []
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)


def test_an_opera_plate(opera, plate, processed, tmp_path):
    """The same scene, written by the other vendor."""
    before = state_of(opera)
    assert done(opera / "Images", tmp_path / "out").exit_status == 0
    assert state_of(opera) == before
    table, other = traces(tmp_path / "out"), traces(processed)
    pd.testing.assert_frame_equal(table.drop(columns="time"), other.drop(columns="time"))
    np.testing.assert_allclose(table["time"], other["time"], atol=0.02)
    assert min(path.name for path in (tmp_path / "out").glob("fov_*/*.csv")).startswith("screen__2026")


@pytest.mark.parametrize(
    ("changes", "fovs"),
    [
        ({"params.wells": "c10"}, [2, 3]),
        ({"params.exclude_wells": "row:B"}, [2, 3]),
        ({"params.wells": "B02", "params.sites": "2"}, [1]),
        ({"params.fovs": "C10 s1, 0"}, [0, 2]),
        ({"params.fovs": "0-2", "params.wells": "C10"}, [2]),
    ],
)
def test_wells_and_sites_are_chosen(plate, tmp_path, changes, fovs):
    plan, _ = plan_run(parse_config(config(plate, tmp_path / "out", KEPT | changes)))
    assert [fov.fov for fov in plan.fovs] == fovs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"params.wells": "C11"}, r"params.wells: .*C11.*C10"),
        ({"params.exclude_wells": "all"}, "no FOV is left"),
        ({"params.sites": "3"}, "params.sites: 3 is not a site in Exp2_P3, whose sites are 1-2"),
        ({"params.fovs": "C10 s3"}, r"params.fovs: 'C10 s3' is not in Exp2_P3"),
        ({"params.fovs": "0", "params.wells": "C10"}, "no FOV is left"),
    ],
)
def test_wells_that_are_not_there_are_refused(plate, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        plan_run(parse_config(config(plate, tmp_path / "out", KEPT | changes)))


def test_wells_of_a_movie_without_wells_are_refused(small_nd2, tmp_path):
    with pytest.raises(ConfigError, match=r"movie\.nd2 has no wells"):
        plan_run(parse_config(config(small_nd2, tmp_path / "out", {"params.wells": "B02"})))


def test_a_damaged_file_fails_its_site_only(plate, processed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without those of the tests, as on the command line
    copy = shutil.copytree(plate, tmp_path / "Exp2_P3")
    name = next(row["file"] for row in truth_of(plate, "planes") if (row["well"], row["site"]) == ("B02", "2"))
    (copy / name).write_bytes((copy / name).read_bytes()[:200])
    said = []
    report = done(copy, tmp_path / "out", progress=said.append)
    assert "TiffTag" not in capsys.readouterr().err
    assert "FOV 0 (B02 s1) is complete" in {event["message"] for event in said}
    assert report.exit_status == 3
    assert [fov.status for fov in report.fovs] == ["done", "failed", "done", "done"]
    assert str(report.fovs[1].reason).startswith("FOV 1 (B02 s2), frames 0-")
    assert (copy / name).name in str(report.fovs[1].reason)
    found = products(tmp_path / "out")
    assert differences({name: of for name, of in products(processed).items() if "fov_001" not in name}, {
        name: of for name, of in found.items() if "fov_001" not in name
    }) == []  # fmt: skip


class TestGrowth:
    """A plate is filled while it is processed."""

    def test_what_arrives_later_is_added_and_keeps_numbers(self, plate, processed, tmp_path):
        copy, late = tmp_path / "Exp2_P3", tmp_path / "late"
        shutil.copytree(plate, copy)
        late.mkdir()
        planes = truth_of(plate, "planes")
        rows = [row for row in planes if row["well"] == "B02" and row["site"] == "1"]
        rows += [row for row in planes if row["well"] == "C10" and row["site"] == "2" and row["t"] == "2"]
        for row in rows:
            (late / row["file"]).parent.mkdir(parents=True, exist_ok=True)
            (copy / row["file"]).rename(late / row["file"])
        first = done(copy, tmp_path / "out")
        assert [fov.status for fov in first.fovs] == [
            "done",
            "done",
            "failed",
        ]  # B02 s2, C10 s1, C10 s2 without a frame
        kept = products(tmp_path / "out")
        for row in rows:
            (late / row["file"]).rename(copy / row["file"])
        with pytest.raises(OutputError, match="--extend"):
            done(copy, tmp_path / "out")
        report = done(copy, tmp_path / "out", extend=True)
        assert report.exit_status == 0
        of = traces(tmp_path / "out").groupby("fov")[["well", "site"]].first().to_numpy().tolist()
        assert of == [["B02", 2], ["C10", 1], ["C10", 2], ["B02", 1]]
        now = products(tmp_path / "out")
        assert differences(kept, {name: now[name] for name in kept}) == []
        assert report.tasks == first.tasks  # of two FOVs each
        again = done(copy, tmp_path / "out")
        assert (again.exit_status, again.tasks) == (0, 0)


class TestMaps:
    def test_inspect_draws_the_plate(self, plate):
        text = describe_movie(read_metadata(plate))
        assert "wells: 2, 2 sites each\n" in text
        assert " B   .  o  .  .  .  .  .  .  .  .  .  .\n C   .  .  .  .  .  .  .  .  .  o  .  ." in text
        assert "   o all planes   . no images\n" in text
        assert "  1: B02 s2, 128 x 128 px" in text

    def test_a_plate_with_many_fovs_lists_the_incomplete_ones(self, plate):
        found = read_metadata(plate)
        fovs = tuple(replace(found.fovs[0], name=f"B02 s{k}", site=k, missing=(2,) * (k == 30)) for k in range(1, 40))
        text = describe_movie(replace(found, fovs=fovs))
        assert " B   .  !  ." in text
        assert "\nFOVs: 0 (B02 s1) to 38 (B02 s39), by well and site\n  29: B02 s30," in text
        assert text.endswith("1 frame missing: 2")

    def test_the_plate_has_the_rows_and_columns_that_the_movie_states(self, plate, processed):
        assert read_metadata(plate).plate_shape == read_metadata(processed).plate_shape == (8, 12)
        found = read_status(processed)
        assert found["plate_shape"] == [8, 12]
        assert describe_status(found | {"plate_shape": [16, 24]}).count("\n P   .") == 1
        assert describe_movie(replace(read_metadata(plate), plate_shape=(16, 24))).count("\n P   .") == 1

    def test_status_draws_the_states_of_wells(self, processed):
        found = read_status(processed)
        assert [(fov["well"], fov["site"], fov["name"]) for fov in found["fovs"][1:3]] == [
            ("B02", 2, "B02 s2"), ("C10", 1, "C10 s1"),
        ]  # fmt: skip
        assert " B   .  o  ." in describe_status(found)
        for fov, status in zip(found["fovs"], ["done", "failed", "done", "pending"], strict=True):
            fov |= {"status": status, "cause": "error", "reason": "", "left": []}
        lines = describe_status(found).splitlines()
        assert lines[3] == " B   .  x  .  .  .  .  .  .  .  .  .  ."
        assert lines[4] == " C   .  .  .  .  .  .  .  .  .  ~  .  ."
        assert lines[10] == "   ~ partial   x failed   . not chosen"

    def test_there_is_no_map_without_wells(self, small_nd2):
        assert "wells" not in describe_movie(read_metadata(small_nd2))


def test_the_instruments_projection(tmp_path):
    plate = tmp_path / "plate"
    generator().write_imagexpress(plate, scene(wells=("B02",), planes=3), projection="parent")
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"'z: max', or 'z: projection'"):
        done(plate, output)
    assert done(plate, output, {"params.z": "projection"}).exit_status == 0
    images = sorted((plate / "TimePoint_2").glob("*_s2_w2.TIF"))
    assert len(images) == 1
    np.testing.assert_array_equal(
        read_frame(output / "fov_001/images.zarr", "fl_ch_1/0", 1), tifffile.imread(images[0])
    )


def test_projections_that_are_not_there_are_refused(plate, tmp_path):
    with pytest.raises(ConfigError, match=r"params.z: Exp2_P3 has no projections of channel 0 \('Phase'\)"):
        done(plate, tmp_path / "out", {"params.z": "projection"})


class TestNames:
    def test_commands_take_them(self, call, plate, processed, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run = write_config(tmp_path / "run.yaml", config(plate, tmp_path / "out", KEPT))
        status, out, error = call("preview", run, "--fov", "C10 s1", "--frames", 1)
        assert (status, error) == (0, "")
        assert "FOV 2 (C10 s1), frame 1" in out
        assert call("report", processed, "--fov", "C10 s2", "-o", tmp_path / "fov.html")[0] == 0
        assert "<h1>FOV 3 (C10 s2)</h1>" in (tmp_path / "fov.html").read_text()
        status, _, error = call("report", processed, "--fov", "C10", "-o", tmp_path / "fov.html")
        assert (status, "'C10' means 2 FOVs" in error) == (2, True)
        status, _, error = call("annotate", plate, "--fovs", "B02 s2", "--channel", "nothing")
        assert (status, "--channel: 'nothing' is not in Exp2_P3" in error) == (2, True)
        assert call("annotate", plate, "--fovs", "B02 s2", "--channel", "Phase")[0] == 0


@pytest.mark.slow
def test_cells_inside_a_site_are_found_in_every_frame_with_their_light(tmp_path):
    """At least 99 % of the cells that stay inside a site, and their totals within 5 % of the truth."""
    plate, inside = tmp_path / "plate", 26
    generator().write_imagexpress(plate, generator().Scene(frames=12))
    assert done(plate, tmp_path / "out", {"params.segmentation_params": {}}).exit_status == 0
    found = traces(tmp_path / "out")
    cells, sites = (pd.read_csv(plate.with_name("plate_truth") / f"{name}.csv") for name in ("cells", "tiles"))
    true = cells.merge(sites, on="well", suffixes=("", "_site"))
    true["y"], true["x"] = true["y"] - true["y_site"], true["x"] - true["x_site"]
    true["inside"] = true["y"].between(inside, 256 - inside) & true["x"].between(inside, 256 - inside)
    key = ["well", "site", "cell"]
    true = true[true.groupby(key)["inside"].transform("all")]
    pairs = true.merge(found, on=["well", "site", "frame"], suffixes=("", "_found"))
    near = np.hypot(pairs["position_y"] - pairs["y"], pairs["position_x"] - pairs["x"]) < 8
    each = pairs[near].groupby(key).agg(frames=("frame", "nunique"), tracks=("cell_found", "nunique"))
    expected = len(true.groupby(key))
    assert expected > 20
    assert ((each["frames"] == 12) & (each["tracks"] == 1)).sum() >= 0.99 * expected
    sums = pairs[near].groupby(key)[["intensity_total_ch_1", "total_ch_1"]].sum()
    np.testing.assert_allclose(sums["intensity_total_ch_1"], sums["total_ch_1"], rtol=0.05)


def test_the_config_may_state_the_pixel_size(processed, plate, tmp_path):
    """It is that of lengths and of the images; results in pixels stay as they are. The plate's format is recorded."""
    changes = {"params.pixel_size": 1.3, "params.segmentation_method": "bright"}
    length = {"params.segmentation_params": {"diameter": "26 um"}}
    made, _ = plan_run(parse_config(config(plate, tmp_path / "out", KEPT | changes | length)))
    assert made.job.config.params.segmentation_params["diameter"] == 20
    copy = shutil.copytree(processed, tmp_path / "copy")
    facts = {"pixel_size": 1.3, "plate": 384}
    report = done(plate, copy, {"input": {"folder": plate} | facts})
    assert (report.exit_status, report.tasks) == (0, 0)
    said = [warning.split(";")[0] for warning in report.warnings]
    assert said == ["input.pixel_size is 1.3 um", "input.plate is 384"]
    assert pyama_dask.open_output(copy)[0].attributes["pixel_size_um"] == 1.3
    assert read_status(copy)["plate_shape"] == [16, 24]
    assert config_of_output(copy).input == parse_config(config(plate, copy, {"input": {"folder": plate} | facts})).input
