"""Stitched runs: a well is one FOV, at positions of the stage, registered ones, or those of a table."""

import io
import itertools
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from support.movies import config, differences, products
from support.plates import REAL, generator, needs_generator, needs_real, state_of, truth_of, write_image
from support.tiles import Tiles

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError, OutputError, TableError
from pyama_dask.kernels.mosaic import blend, lay_out
from pyama_dask.kernels.registration import Offset
from pyama_dask.methods import optional
from pyama_dask.readers import read_metadata
from pyama_dask.readers.views.mosaic import stitched
from pyama_dask.runs import site_offsets
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.source_check import check_movie
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.stitching import find_positions, known_positions, tiles_of
from pyama_dask.store.arrays import read_frame
from pyama_dask.store.ledger import Ledger

WELLS, TILE = ("B02", "C10"), 160
SETTINGS = {
    "params.stitch": "register",
    "params.stitch_params.max_shift": 15,
    "params.tracking_params": {"min_frames": 2, "border_margin": 0},
    "storage.block_frames": 2,
}


@pytest.fixture(scope="session")
def plate(tmp_path_factory):
    """Two wells of 2 x 2 sites, with shading, and with a stage that is some pixels off."""
    folder, module = tmp_path_factory.mktemp("stitched") / "Exp2_P3", generator()
    scene = module.Scene(
        wells=WELLS, grid=(2, 2), tile=(TILE, TILE), overlap=0.3, frames=3, stage_error_px=3, shading=0.3
    )
    module.write_imagexpress(folder, scene)
    return folder


def settings(movie, output, changes=None):
    return config(movie, output, SETTINGS | (changes or {}))


def done(movie, output, changes=None, **options):
    return pyama_dask.run(settings(movie, output, changes), **options)


def planned(movie, output, changes=None):
    return plan_run(parse_config(settings(movie, output, changes)))


@pytest.fixture(scope="session")
def processed(plate, tmp_path_factory):
    """Output of a serial run on the whole plate; to be read only."""
    output = tmp_path_factory.mktemp("processed") / "out"
    before = state_of(plate)
    report = done(plate, output)
    assert (report.exit_status, len(report.fovs)) == (0, 2)
    assert state_of(plate) == before
    return output


def traces(output):
    return pd.concat([pd.read_csv(path) for path in sorted(output.glob("fov_*/*_traces.csv"))])


def corners(table, well):
    """(N, 2) y, x of the sites of a well, from the least."""
    of = table[table["well"] == well].sort_values("site")[["y", "x"]].to_numpy()
    return of - of.min(0)


def truth(plate, table):
    frame = pd.DataFrame(truth_of(plate, table))
    return frame.apply(lambda column: column if column.name in ("well", "file") else pd.to_numeric(column))


@needs_generator
class TestRegistered:
    @pytest.mark.parametrize("well", WELLS)
    def test_positions_are_the_true_ones(self, plate, processed, well):
        table, true = pd.read_csv(processed / "positions.csv"), truth(plate, "tiles")
        found, expected = corners(table, well), corners(true, well)
        error = found - found.mean(0) - (expected - expected.mean(0))
        stage = true[true["well"] == well][["stage_y_um", "stage_x_um"]].to_numpy() / 0.65
        assert np.abs(stage - stage.mean(0) - (expected - expected.mean(0))).max() > 3
        assert np.hypot(*error.T).max() < 0.5
        assert set(table["source"]) == {"register"}
        assert table["ncc"].min() > 0.9

    def test_each_cell_comes_once_in_each_frame(self, plate, processed):
        found, cells, tiles = traces(processed), truth(plate, "cells"), truth(plate, "tiles")
        for (well, frame), rows in found.groupby(["well", "frame"]):
            origin = tiles[tiles["well"] == well][["y", "x"]].min().to_numpy()
            true = cells[(cells["well"] == well) & (cells["frame"] == frame)][["y", "x"]].to_numpy() - origin
            at = rows[["position_y", "position_x"]].to_numpy()
            near = np.hypot(*(true[:, None] - at).transpose(2, 0, 1)) < 8
            shape = read_frame(processed / f"fov_{WELLS.index(well):03}/images.zarr", "fl_ch_1/0", 0).shape
            whole, found_inside = (((of > 20) & (of < np.array(shape) - 20)).all(1) for of in (true, at))
            assert whole.sum() >= 4
            assert (near[whole].sum(1) == 1).all()
            assert (near[:, found_inside].sum(0) == 1).all()

    def test_traces_have_the_well_and_the_site_that_shows_the_cell(self, plate, processed):
        table, positions = traces(processed), pd.read_csv(processed / "positions.csv")
        assert list(table.columns[-2:]) == ["well", "tile"]
        assert table.groupby("fov")["well"].first().tolist() == list(WELLS)
        for row in table.itertuples():
            at = corners(positions, row.well)
            away = np.abs(at + (TILE - 1) / 2 - (row.position_y, row.position_x))
            assert row.tile == np.argmax((TILE / 2 - away).clip(0).prod(1)) + 1
        assert table["tile"].nunique() == 4

    def test_frames_are_blended_from_the_files(self, plate, processed):
        planes, table = truth(plate, "planes"), pd.read_csv(processed / "positions.csv")
        of = planes[(planes["well"] == "C10") & (planes["channel"] == 1) & (planes["t"] == 2)].sort_values("site")
        images = [tifffile.imread(plate / file) for file in of["file"]]
        blended = blend(images, lay_out(corners(table, "C10"), (TILE, TILE)))
        np.testing.assert_array_equal(read_frame(processed / "fov_001/images.zarr", "fl_ch_1/0", 2), blended)

    def test_the_source_agrees_with_what_was_read(self, processed):
        found = check_movie(processed, Ledger(processed / LEDGER))
        assert (found.is_good, found.frames) == (True, 6)

    def test_a_resumed_run_makes_the_same(self, plate, processed, tmp_path):
        done(plate, tmp_path / "out", {"params.fovs": "C10"}, steps=["copy", "segment"])
        assert set(pd.read_csv(tmp_path / "out/positions.csv")["well"]) == {"C10"}
        assert done(plate, tmp_path / "out").exit_status == 0
        assert differences(products(processed), products(tmp_path / "out")) == []
        same = [(output / "positions.csv").read_text() for output in (processed, tmp_path / "out")]
        assert same[0] == same[1]

    def test_two_workers_make_the_same(self, plate, processed, tmp_path):
        cluster = {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0"}
        assert done(plate, tmp_path / "out", {"cluster": cluster}).exit_status == 0
        assert differences(products(processed), products(tmp_path / "out")) == []


@needs_generator
def test_a_damaged_file_fails_its_well_only_and_its_sites_are_registered_when_it_is_whole(plate, processed, tmp_path):
    copy, output = shutil.copytree(plate, tmp_path / "Exp2_P3"), tmp_path / "out"
    name = next(row["file"] for row in truth_of(plate, "planes") if (row["well"], row["site"]) == ("B02", "2"))
    whole, times = (copy / name).read_bytes(), (copy / name).stat()
    (copy / name).write_bytes(whole[:5000])
    report = done(copy, output)
    assert (report.exit_status, [fov.status for fov in report.fovs]) == (3, ["failed", "done"])
    assert any(warning.startswith("B02: was not registered") for warning in report.warnings)
    assert set(pd.read_csv(output / "positions.csv")["well"]) == {"C10"}
    (copy / name).write_bytes(whole)
    os.utime(copy / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert done(copy, output, extend=True).exit_status == 0
    assert (output / "positions.csv").read_text() == (processed / "positions.csv").read_text()
    assert differences(products(processed), products(output)) == []


@needs_generator
def test_sites_that_are_registered_apart_from_the_others_are_named(plate, tmp_path, monkeypatch):
    def two_groups(images, stage, max_shift):
        steps = {(0, 1): (0.9, False), (2, 3): (0.8, False), (0, 2): (0.3, False), (1, 3): (0.9, True)}
        return {(i, j): Offset(*(stage[j] - stage[i]), *known) for (i, j), known in steps.items()}

    monkeypatch.setattr(site_offsets, "pair_offsets", two_groups)
    plan, _ = planned(plate, tmp_path / "out", {"params.fovs": "C10"})
    rows = [line.split(",")[4:] for line in plan.files["positions.csv"].decode().splitlines()[1:]]
    assert rows == [["register", "0.90"], ["register", "0.90"], ["stage", "0.80"], ["stage", "0.90"]]
    said = [warning for warning in plan.warnings if warning.startswith("C10")]
    assert "2 pairs of sites did not count (1 and 3 weak; 2 and 4 at the limit)" in said[0]
    assert "2 sites (3, 4) could not be registered with the others" in said[1]


@needs_generator
def test_sites_of_an_opera_plate_are_registered_too(tmp_path):
    module, folder = generator(), tmp_path / "screen__2026-01-01T10_00_00-Measurement_1"
    scene = module.Scene(
        wells=("B02",), grid=(2, 2), tile=(TILE, TILE), overlap=0.3, stage_error_px=3, order="centre", seed=2
    )
    module.write_opera(folder, scene)
    plan, _ = planned(folder, tmp_path / "out", {"params.tracking_params.min_frames": 1})
    table = pd.read_csv(io.BytesIO(plan.files["positions.csv"]))
    error = corners(table, "B02") - corners(truth(folder, "tiles"), "B02")
    assert np.abs(error - error.mean(0)).max() < 0.5
    assert not [warning for warning in plan.warnings if "B02" in warning]


def test_sites_at_fractions_of_pixels_are_placed_and_their_cells_come_once(tmp_path):
    """3 x 3 sites with 10 % overlap; cells lie on the seams and between them."""
    cells = np.stack(np.meshgrid(np.arange(57.3, 650, 58), np.arange(63.8, 650, 58), indexing="ij"), -1).reshape(-1, 2)
    tiles = Tiles((3, 3), (256, 256), 0.1, stage_error=7, cells=cells)
    for site, (phase, light, at) in enumerate(zip(tiles.images, tiles.spots(), tiles.stage * 0.65, strict=True), 1):
        where = {"stage_position_y": at[0], "stage_position_x": at[1]}
        write_image(tmp_path / f"P/P_B02_s{site}_w1.tif", image=phase, image_name="Phase", **where)
        write_image(tmp_path / f"P/P_B02_s{site}_w2.tif", image=light, **where)
    changes = {
        "channels": {"pc": {"channel": 1, "features": ["area"]}},
        "params.segmentation_method": "bright",
        "params.segmentation_params": {},
        "params.stitch_params.channel": 0,
        "params.tracking_params": {"min_frames": 1, "border_margin": 0},
    }
    assert done(tmp_path / "P", tmp_path / "out", changes).exit_status == 0
    table, origin = pd.read_csv(tmp_path / "out/positions.csv"), tiles.truth.min(0)
    error = corners(table, "B02") - (tiles.truth - origin)
    assert np.hypot(*(error - error.mean(0)).T).max() < 0.5
    off = tiles.stage - tiles.truth
    assert np.hypot(*(off - off.mean(0)).T).max() > 3
    found = traces(tmp_path / "out")[["position_y", "position_x"]].to_numpy()
    expected = cells - origin
    inside = ((expected > 25) & (expected < tiles.truth.max(0) - origin + 256 - 25)).all(1)
    away = np.hypot(*(expected[inside, None] - found).transpose(2, 0, 1))
    assert inside.sum() == len(found) == 121
    assert ((away < 2).sum(1) == 1).all()


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ({"shape": (8, 8)}, "B03 s2 has another size than B03 s1. Fix: .* leave out B03 with 'exclude_wells'"),
        ({"description": "no position"}, "no stage position of a site of B03. Fix: .* leave out B03"),
        ({"stage_position_x": 1e9}, "image of B03 would have .* pixels, most of them empty. Fix: check its positions"),
    ],
)
def test_a_well_that_cannot_be_stitched_stops_a_run_only_if_all_are_such(tmp_path, site, said):
    for well, number, wave in itertools.product(("B02", "B03"), (1, 2), (1, 2)):
        odd = site if (well, number) == ("B03", 2) else {}
        write_image(tmp_path / f"P/P_{well}_s{number}_w{wave}.tif", time=wave, **{"stage_position_x": 4} | odd)
    metadata = read_metadata(tmp_path / "P")
    changes = {"params.stitch": "stage", "params.wells": "B03"}
    with pytest.raises(ConfigError, match=said):
        known_positions(parse_config(settings(tmp_path / "P", tmp_path / "out", changes)), metadata)
    changes["params.wells"] = "all"
    found = find_positions(parse_config(settings(tmp_path / "P", tmp_path / "out", changes)), metadata)
    assert (list(found.kept), list(found.problems)) == (["B02"], ["B03"])
    assert re.search(said, found.problems["B03"])
    assert len(stitched(metadata, tiles_of(metadata, found.all, ())).fovs) == 2


@needs_generator
def test_stitched_wells_are_images_of_the_plate(plate, processed, tmp_path):
    assert done(plate, tmp_path / "out", {"storage.layout": "plate"}).exit_status == 0
    one_fov = read_frame(processed / "fov_001/images.zarr", "fl_ch_1/0", 1)
    image = zarr.open(tmp_path / "out/plate.zarr/C/10/0/0", mode="r")
    np.testing.assert_array_equal(image[1, 1], one_fov)
    assert not (tmp_path / "out/plate.zarr/C/10/1").exists()


@needs_generator
class TestTable:
    """Positions are written once, and then those of the table count."""

    @pytest.fixture
    def output(self, processed, tmp_path):
        return shutil.copytree(processed, tmp_path / "out")

    def change(self, output, change):
        table = pd.read_csv(output / "positions.csv")
        change(table).to_csv(output / "positions.csv", index=False)

    def test_an_edited_well_is_regenerated_alone(self, plate, processed, output):
        def move(table):
            moved = (table["well"] == "C10") & (table["site"] == 4)
            return table.assign(x=table["x"] + 6 * moved)

        self.change(output, move)
        edited = (output / "positions.csv").read_text()
        report = done(plate, output)
        assert report.exit_status == 0
        assert (output / "positions.csv").read_text() == edited
        assert {fov.fov for fov in planned(plate, output)[0].fovs} == {0, 1}
        assert report.tasks == len(planned(plate, output)[0].fovs[1].tasks)
        other = {name.split("/")[0] for name in differences(products(processed), products(output))}
        assert other == {"fov_001"}
        assert done(plate, output).tasks == 0
        assert check_movie(output, Ledger(output / LEDGER)).is_good

    def test_a_site_without_a_row_is_left_out_with_a_warning(self, plate, output):
        self.change(output, lambda table: table.iloc[:7])
        plan, metadata = planned(plate, output)
        assert [len(fov.tiles) for fov in metadata.fovs] == [4, 3]
        assert any("C10: left out site 4" in warning for warning in plan.warnings)

    def test_a_method_without_its_package_is_refused_unless_all_positions_are_known(self, plate, output, monkeypatch):
        monkeypatch.setattr(optional, "installed_version", lambda _: "")
        other = {"params.stitch_params.method": "multiview-stitcher"}
        assert planned(plate, output, other)[0].tasks
        (output / "positions.csv").unlink()
        with pytest.raises(ConfigError, match=r"pip install 'pyama-dask\[multiview-stitcher\]'"):
            planned(plate, output, other)

    def test_a_wrong_table_stops_the_run(self, plate, output):
        (output / "positions.csv").write_text("well,site,y,x\nB02,9,0,0\n")
        with pytest.raises(TableError, match=r"positions\.csv: line 2.*not a site"):
            done(plate, output)

    def test_positions_of_the_stage_stay(self, plate, tmp_path):
        output = tmp_path / "out"
        report = done(plate, output, {"params.stitch": "stage", "params.fovs": "0"})
        table = pd.read_csv(output / "positions.csv")
        assert (set(table["source"]), table["ncc"].isna().all()) == ({"stage"}, True)
        true = truth(plate, "tiles").set_index("well").loc["B02", ["stage_y_um", "stage_x_um"]].to_numpy() / 0.65
        np.testing.assert_allclose(table[["y", "x"]], true - true.min(0), atol=0.02)
        assert not report.warnings
        plan, _ = planned(plate, output, {"params.fovs": "0"})
        assert any("positions of the stage. Fix: delete it" in warning for warning in plan.warnings)

    @pytest.mark.parametrize(
        ("changes", "error", "said"),
        [
            ({"params.stitch": "off"}, OutputError, "was made with 'stitch: register'"),
            ({"params.sites": "1-2"}, ConfigError, "params.sites: cannot choose sites"),
            ({"params.stitch_params.channel": "Red"}, ConfigError, "params.stitch_params.channel: 'Red' is not in"),
            ({"params.stitch_params.method": "ashlar"}, ConfigError, r"params\.stitch_params\.method: "),
        ],
    )
    def test_what_does_not_fit_is_refused(self, plate, output, changes, error, said):
        with pytest.raises(error, match=said):
            planned(plate, output, changes)


@needs_generator
def test_a_well_that_arrives_later_gets_positions_and_the_others_keep_theirs(plate, processed, tmp_path):
    copy, late, output = tmp_path / "Exp2_P3", tmp_path / "late", tmp_path / "out"
    shutil.copytree(plate, copy)
    rows = [row["file"] for row in truth_of(plate, "planes") if row["well"] == "B02"]
    for name in rows:
        (late / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).rename(late / name)
    assert done(copy, output).exit_status == 0
    before, kept = (output / "positions.csv").read_text().splitlines(), products(output)
    for name in rows:
        (late / name).rename(copy / name)
    with pytest.raises(OutputError, match="--extend"):
        done(copy, output)
    plan, _ = plan_run(parse_config(settings(copy, output, {"params.fovs": "1"})), extend=True)
    assert plan.files["positions.csv"] == (processed / "positions.csv").read_bytes()
    assert done(copy, output, extend=True).exit_status == 0
    now = products(output)
    assert differences(kept, {name: now[name] for name in kept}) == []
    assert traces(output).groupby("fov")["well"].first().tolist() == ["C10", "B02"]
    after = (output / "positions.csv").read_text().splitlines()
    assert set(before) < set(after)
    assert after == (processed / "positions.csv").read_text().splitlines()


def test_a_movie_without_wells_is_refused(small_nd2, tmp_path):
    with pytest.raises(ConfigError, match=r"params\.stitch: movie\.nd2 has no wells"):
        planned(small_nd2, tmp_path / "out")


@needs_real
class TestRealPlates:
    def test_a_well_without_content_keeps_the_stage(self, tmp_path):
        changes = {"channels": {"pc": {"channel": 0}, "fl": [{"channel": 1}]}, "params.z": 0, "params.frames": "0"}
        plan, _ = planned(REAL / "imagexpress/9987_Plate_3434", tmp_path / "out", changes)
        table = pd.DataFrame([line.split(",") for line in plan.files["positions.csv"].decode().splitlines()[1:]])
        assert table[[0, 4]].value_counts().to_dict() == {("B02", "stage"): 2, ("B03", "register"): 2}
        [said] = [warning for warning in plan.warnings if "registered" in warning]
        assert said.startswith("B02: no site could be registered (largest NCC 0.")
        assert not (tmp_path / "out").exists()

    def test_sites_that_do_not_overlap_keep_the_stage(self, tmp_path):
        changes = {"channels": {"pc": {"channel": 0}, "fl": []}}
        plan, _ = planned(next(path for path in (REAL / "opera").iterdir() if path.is_dir()), tmp_path / "out", changes)
        assert any("no site could be registered (no overlap" in warning for warning in plan.warnings)
