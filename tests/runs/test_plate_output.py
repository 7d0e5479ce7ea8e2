"""`storage.layout: plate`: the images of all wells as one OME-NGFF plate."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from support.movies import as_czi, config, file_bytes, listing, pixels, put_in_wells
from support.processes import end_of
from support.strategies import movie as metadata_of
from support.strategies import plan_of

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.demo.plate import make_plate
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.execute.pool import SerialPool
from pyama_dask.launch import start
from pyama_dask.readers import FovInfo
from pyama_dask.readers.czi.reader import CziReader
from pyama_dask.runs import ownership, plate_output
from pyama_dask.runs.documents import fov_documents, write_documents
from pyama_dask.runs.output_dir import write_records
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.plate_output import PlateOutput
from pyama_dask.runs.status import LEDGER
from pyama_dask.runs.verify import verify_output
from pyama_dask.steps import plate as steps_of_plates
from pyama_dask.steps import run_task
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.plate import images_in_plate, plate_documents, plate_size
from pyama_dask.workflow.task import WORK, Receipt

WELLS = ("B02", "B02", "C10", "C10")
IMAGES = ("B/02/0", "B/02/1", "C/10/0", "C/10/1")
CHANGES = {
    "storage.layout": "plate",
    "storage.block_frames": 4,
    "params.tracking_params.min_frames": 2,
    "params.tracking_params.border_margin": 0,
}


@pytest.fixture(scope="module")
def data():
    """(FOV, T, C, H, W); sizes that neither 2 nor a block divides."""
    return pixels(fovs=4, frames=6, shape=(141, 160), cells=2)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return put_in_wells(as_czi(tmp_path_factory.mktemp("wells") / "screen.czi", data), WELLS)


def run(movie, output, changes=None, **options):
    return pyama_dask.run(config(movie, output, CHANGES | (changes or {})), **options)


@pytest.fixture(scope="module")
def output(tmp_path_factory, movie):
    """To be read only."""
    output = tmp_path_factory.mktemp("plates") / "out"
    report = run(movie, output)
    assert report.exit_status == 0
    assert not report.warnings
    return output


@pytest.fixture
def copied(output, tmp_path):
    """Copy in which files of one content are no longer the same file."""
    return shutil.copytree(output, tmp_path / "out")


def listed(output):
    """Paths of the images in a plate that is valid."""
    plate = output / "plate.zarr"
    if not (plate / "zarr.json").exists():
        return ()
    yaozarrs.validate_zarr_store(str(plate))
    described = attributes(plate)["plate"]
    for well in described["wells"]:  # of these, yaozarrs refuses what is outside of the plate only
        at = described["rows"][well["rowIndex"]]["name"], described["columns"][well["columnIndex"]]["name"]
        if well["path"] != "/".join(at):
            raise ValueError(f"1 validation error: {well['path']} is said to be at {at}")
    wells = [well["path"] for well in described["wells"]]
    return tuple(f"{w}/{of['path']}" for w in wells for of in attributes(plate / w)["well"]["images"])


def attributes(group):
    return json.loads((group / "zarr.json").read_text())["attributes"]["ome"]


def image_of(output, fov, group):
    return zarr.open_array(output / f"fov_{fov:03}/images.zarr/{group}/0", mode="r")[:]


class TestContent:
    def test_the_plate_is_valid_and_lists_all_images(self, output):
        assert listed(output) == IMAGES
        plate = attributes(output / "plate.zarr")["plate"]
        assert [row["name"] for row in plate["rows"]] == list("ABCDEFGH")
        assert [column["name"] for column in plate["columns"]] == [f"{k:02}" for k in range(1, 13)]
        assert plate["wells"][1] == {"path": "C/10", "rowIndex": 2, "columnIndex": 9}
        assert (plate["name"], plate["field_count"]) == ("screen", 2)

    def test_pixels_are_those_of_the_movie_and_halves_their_rounded_means(self, output, data):
        for image, frames in zip(IMAGES, data, strict=True):
            full, half = (zarr.open_array(output / "plate.zarr" / image / str(k), mode="r") for k in (0, 1))
            assert (full.shards, full.chunks) == ((4, 1, 141, 160), (1, 1, 141, 160))
            assert full.metadata.dimension_names == ("t", "c", "y", "x")
            np.testing.assert_array_equal(full[:], frames)
            squares = frames[..., :140, :].reshape(6, 2, 70, 2, 80, 2).sum(axis=(3, 5), dtype=np.int64)
            np.testing.assert_array_equal(half[:], (squares + 2) // 4)

    def test_labels_are_where_viewers_look(self, output):
        for fov, image in enumerate(IMAGES):
            labels = output / "plate.zarr" / image / "labels"
            assert attributes(labels)["labels"] == ["segmentation", "tracks"]
            for name, group in (("segmentation", "seg_labeled_ch_0"), ("tracks", "seg_tracked_ch_0")):
                full, half = (zarr.open_array(labels / name / str(k), mode="r")[:] for k in (0, 1))
                np.testing.assert_array_equal(full, image_of(output, fov, group))
                assert full.any()
                np.testing.assert_array_equal(half, full[:, :140:2, ::2])
                assert attributes(labels / name)["image-label"]["source"] == {"image": "../../"}

    def test_channels_have_names_colours_and_limits_and_axes_have_units(self, output):
        ome = attributes(output / "plate.zarr/B/02/0")
        shown = [(of["label"], of["color"]) for of in ome["omero"]["channels"]]
        assert shown == [("Phase", "FFFFFF"), ("GFP", "00FF00")]
        assert all(of["window"]["start"] < of["window"]["end"] for of in ome["omero"]["channels"])
        (image,) = ome["multiscales"]
        scales = [of["coordinateTransformations"][0]["scale"] for of in image["datasets"]]
        assert scales == [[10, 1, 0.65, 0.65], [10, 1, 1.3, 1.3]]
        assert [axis.get("unit") for axis in image["axes"]] == ["minute", None, "micrometer", "micrometer"]

    def test_pixels_are_stored_once(self, output):
        shards = sorted((output / "plate.zarr").rglob("c.*"))
        second = [file for file in shards if file.parent.name == "0"]
        assert len(second) == 4 * 2 * (2 + 2)  # FOVs, blocks, channels and labels
        assert all(file.stat().st_nlink == 2 for file in second)
        first = {file.stat().st_ino for file in output.glob("fov_*/images.zarr/*/0/c.*")}
        assert {file.stat().st_ino for file in second} <= first

    def test_folders_of_fovs_are_as_without_a_plate(self, output, movie, tmp_path):
        run(movie, tmp_path / "out", {"storage.layout": "fovs"})
        assert "plate.zarr" not in listing(tmp_path / "out")
        assert file_bytes(tmp_path / "out") == {
            name: content for name, content in file_bytes(output).items() if not name.startswith("plate.zarr")
        }

    def test_programs_that_read_outputs_see_the_same(self, output, data):
        opened = pyama_dask.open_output(output)
        np.testing.assert_array_equal(opened[2].image("pc_ch_0").data.compute(), data[2, :, 0])
        assert set(opened.traces()["well"]) == {"B02", "C10"}
        assert verify_output(output, deep=True).is_good

    def test_one_frame_has_no_axis_of_time(self, movie, tmp_path, data):
        run(movie, tmp_path / "out", {"params.frames": "3", "params.fovs": "2", "params.tracking_params.min_frames": 1})
        assert listed(tmp_path / "out") == ("C/10/0",)
        image = tmp_path / "out/plate.zarr/C/10/0"
        array = zarr.open_array(image / "0", mode="r")
        assert array.metadata.dimension_names == ("c", "y", "x")
        np.testing.assert_array_equal(array[:], data[2, 3])
        labels = zarr.open_array(image / "labels/tracks/0", mode="r")[:]
        np.testing.assert_array_equal(labels, image_of(tmp_path / "out", 2, "seg_tracked_ch_0")[0])

    def test_images_without_any_cell_are_valid(self, movie, tmp_path):
        run(movie, tmp_path / "out", {"params.segmentation_params": {"min_object_size": 9000}, "params.fovs": "1"})
        assert listed(tmp_path / "out") == ("B/02/1",)
        assert not zarr.open_array(tmp_path / "out/plate.zarr/B/02/1/labels/tracks/0", mode="r")[:].any()

    def test_channels_without_cells(self, movie, tmp_path, data):
        changes = {"params.copy_only": True, "storage.display": "off", "params.wells": "C10"}
        run(movie, tmp_path / "out", changes)
        assert listed(tmp_path / "out") == ("C/10/0", "C/10/1")
        image = tmp_path / "out/plate.zarr/C/10/1"
        assert not (image / "labels").exists()
        np.testing.assert_array_equal(zarr.open_array(image / "0", mode="r")[:], data[3])
        (phase, _) = attributes(image)["omero"]["channels"]
        assert (phase["label"], phase["window"]["end"]) == ("Phase", 65535)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    return make_plate(tmp_path_factory.mktemp("demo"), wells=("B02", "C11"), grid=(1, 2), size=160, frames=2)


class TestOtherPrograms:
    """Programs that labs use, where they are installed: ngio 1.1 needs a pandas before 3, and iohub a pre-release."""

    def test_ngio_opens_images_and_labels(self, output, data):
        ngio = pytest.importorskip("ngio")
        plate = ngio.open_ome_zarr_plate(output / "plate.zarr", mode="r")
        assert [*plate.get_images(max_workers=1)] == list(IMAGES)
        assert (plate.rows, plate.columns) == (list("ABCDEFGH"), [f"{k:02}" for k in range(1, 13)])
        for path, frames in zip(IMAGES, data, strict=True):
            row, column, number = path.split("/")
            container = plate.get_image(row, column, number)
            assert (container.levels, container.channel_labels) == (2, ["Phase", "GFP"])
            np.testing.assert_array_equal(container.get_image().get_as_numpy(), frames)
            assert sorted(container.list_labels()) == ["segmentation", "tracks"]
            labels = container.get_label("tracks").get_as_numpy()
            np.testing.assert_array_equal(labels, image_of(output, IMAGES.index(path), "seg_tracked_ch_0"))
            assert labels.any()

    def test_iohub_opens_images(self, output, data):
        iohub = pytest.importorskip("iohub")
        with iohub.open_ome_zarr(output / "plate.zarr", mode="r") as plate:
            positions = dict(plate.positions())
            assert [*positions] == list(IMAGES)
            for path, frames in zip(IMAGES, data, strict=True):
                assert positions[path].channel_names == ["Phase", "GFP"]
                np.testing.assert_array_equal(np.asarray(positions[path]["0"][:]), frames)


class TestVendorPlate:
    """A plate of ImageXpress, whose files state where the sites are."""

    def test_sites_are_placed_by_the_stage(self, plate, tmp_path):
        run(plate, tmp_path / "out")
        assert listed(tmp_path / "out") == ("B/02/0", "B/02/1", "C/11/0", "C/11/1")
        assert attributes(tmp_path / "out/plate.zarr")["plate"]["name"] == "DemoPlate"
        with pyama_dask.open_reader(plate) as reader:
            sites = reader.metadata.fovs[:2]
        for info, image in zip(sites, ("B/02/0", "B/02/1"), strict=True):
            datasets = attributes(tmp_path / "out/plate.zarr" / image)["multiscales"][0]["datasets"]
            for dataset, edge in zip(datasets, (79.5, 79.0), strict=True):  # from the centre to a pixel's centre
                *_, y, x = dataset["coordinateTransformations"][1]["translation"]
                np.testing.assert_allclose([x, y], np.array(info.position_um) - edge * 0.65)

    def test_the_plate_is_an_input_again(self, plate, tmp_path):
        run(plate, tmp_path / "out", {"params.wells": "C11"})
        with pyama_dask.open_reader(plate) as first, pyama_dask.open_reader(tmp_path / "out/plate.zarr") as again:
            before, now = first.metadata, again.metadata
            assert [fov.name for fov in now.fovs] == ["C11 s1", "C11 s2"]
            for k, (old, new) in enumerate(zip(before.fovs[2:], now.fovs, strict=True)):
                np.testing.assert_allclose(new.position_um, old.position_um)
                np.testing.assert_array_equal(again.read_frame(k, 1), first.read_frame(k + 2, 1))

    def test_a_stitched_well_is_one_image(self, plate, tmp_path):
        run(plate, tmp_path / "out", {"params.stitch": "stage"})
        assert listed(tmp_path / "out") == ("B/02/0", "C/11/0")
        image = zarr.open_array(tmp_path / "out/plate.zarr/C/11/0/0", mode="r")
        np.testing.assert_array_equal(image[:, 0], image_of(tmp_path / "out", 1, "pc_ch_0"))
        assert image.shape[3] > 250


def test_a_plate_that_gains_frames_and_wells_is_extended(tmp_path):
    """The new well comes before the old one, whose FOVs keep their numbers, and its sites their places."""
    movie, late = make_plate(tmp_path, wells=("B02", "C11"), grid=(1, 2), size=160, frames=5), tmp_path / "late"
    (movie / "DemoPlate.HTD").unlink()  # it would announce them
    (late / "B02").mkdir(parents=True)
    for folder in movie.glob("TimePoint_5"):
        folder.rename(late / folder.name)
    for file in movie.glob("TimePoint_*/*_B02_*"):
        file.rename(late / "B02" / f"{file.parent.name} {file.name}")
    run(movie, tmp_path / "out", {"storage.block_frames": 2})
    assert listed(tmp_path / "out") == ("C/11/0", "C/11/1")
    before, moments = file_bytes(tmp_path / "out/plate.zarr"), times(tmp_path / "out", "plate.zarr/*/*/*/[01]/c.*")
    (late / "TimePoint_5").rename(movie / "TimePoint_5")
    for file in (late / "B02").iterdir():
        file.rename(movie.joinpath(*file.name.split(" ")))
    report = run(movie, tmp_path / "out", {"storage.block_frames": 2}, extend=True)
    assert (report.exit_status, len(report.fovs)) == (0, 4)
    assert listed(tmp_path / "out") == ("B/02/0", "B/02/1", "C/11/0", "C/11/1")
    assert verify_output(tmp_path / "out", deep=True).is_good
    now, after = times(tmp_path / "out", "plate.zarr/*/*/*/[01]/c.*"), file_bytes(tmp_path / "out/plate.zarr")
    assert len(moments) == 2 * 2 * 2 * 2  # FOVs, levels, channels and blocks
    assert {file: now[file] for file in moments} == moments
    shards = {name: content for name, content in before.items() if "/c." in name and "/tracks/" not in name}
    assert len(shards) == 16 + 2 * 2 * 2  # and segmentation
    assert {name: after[name] for name in shards} == shards
    (shown,) = shown_by_napari(tmp_path / "out/plate.zarr")
    assert shown[0].shape[0] == 5
    with pyama_dask.open_reader(movie) as reader:
        for k, name in enumerate(("B/02/0", "B/02/1", "C/11/0", "C/11/1")):
            image = tmp_path / "out/plate.zarr" / name
            full, half = (zarr.open_array(image / level, mode="r")[:] for level in ("0", "1"))
            np.testing.assert_array_equal(full, [reader.read_frame(k, frame) for frame in range(5)])
            assert half.shape == (5, 2, 80, 80)
            fov = json.loads((image / "zarr.json").read_text())["attributes"]["fov"]
            assert fov == (k + 2) % 4
            tracks = zarr.open_array(image / "labels/tracks/0", mode="r")[:]
            np.testing.assert_array_equal(tracks, image_of(tmp_path / "out", fov, "seg_tracked_ch_0"))
            assert tracks.shape[0] == 5


@pytest.mark.parametrize(
    "mistake",
    [
        lambda plate: plate.update(rows=plate["columns"], columns=plate["rows"]),
        lambda plate: plate["wells"][0].update(columnIndex=2),
        lambda plate: plate["wells"].append({"path": "D/04", "rowIndex": 3, "columnIndex": 3}),
    ],
    ids=["rows and columns switched", "wrong column", "well that is not there"],
)
def test_mistakes_in_a_plate_would_be_found(copied, mistake):
    _change(copied / "plate.zarr/zarr.json", lambda ome: mistake(ome["plate"]))
    with pytest.raises(ValueError, match="validation error"):
        listed(copied)


def test_an_image_that_is_not_there_would_be_found(copied):
    more = {"path": "2", "acquisition": 0}
    _change(copied / "plate.zarr/B/02/zarr.json", lambda ome: ome["well"]["images"].append(more))
    with pytest.raises(ValueError, match="validation error"):
        listed(copied)


def _change(file, change):
    document = json.loads(file.read_text())
    change(document["attributes"]["ome"])
    file.write_text(json.dumps(document))


def test_the_plate_has_the_rows_and_columns_that_the_movie_states():
    document = json.loads(plate_documents({"B/02": {0}}, plate_size(["B/02/0"], (16, 24)), "plate")["zarr.json"])
    plate = document["attributes"]["ome"]["plate"]
    assert (len(plate["rows"]), len(plate["columns"])) == (16, 24)


@pytest.mark.parametrize("size", [(2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48)])
def test_indices_fit_rows_and_columns_in_every_format(size):
    last = f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[size[0] - 1]}" if size[0] <= 26 else "AF"
    names = ["B02", f"{last}{size[1]}", "b3", None, "well 7"]
    images = images_in_plate([FovInfo("", (8, 8), well=name) for name in names])
    assert images == {0: "B/02/0", 1: f"{last}/{size[1]:02}/0", 2: "B/03/0"} or size == (2, 3)
    documents = plate_documents({image[:-2]: {0} for image in images.values()}, plate_size(images.values()), "plate")
    assert list(documents)[-1] == "zarr.json"
    plate = json.loads(documents["zarr.json"])["attributes"]["ome"]["plate"]
    assert (len(plate["rows"]), len(plate["columns"])) == size
    for well in plate["wells"]:
        row, column = plate["rows"][well["rowIndex"]], plate["columns"][well["columnIndex"]]
        assert well["path"] == f"{row['name']}/{column['name']}"
        assert f"{well['path']}/zarr.json" in documents


class TestRuns:
    def test_a_movie_without_wells_is_refused(self, small_nd2, tmp_path):
        with pytest.raises(ConfigError, match=r"storage.layout: movie\.nd2 has no wells.*Fix: set storage.layout"):
            plan_run(parse_config(config(small_nd2, tmp_path / "out", CHANGES)))

    def test_a_plate_that_no_run_has_written_is_refused(self, movie, tmp_path):
        (tmp_path / "out/plate.zarr").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"plate\.zarr: was not written by a run"):
            run(movie, tmp_path / "out", into=True)
        assert listing(tmp_path / "out/plate.zarr") == set()

    def test_a_plate_is_added_to_an_output_and_taken_out_again(self, output, movie, tmp_path):
        steps = []

        def seen(plan, _):
            steps.append({step for task in plan.tasks for step in task.digests})

        run(movie, tmp_path / "out", {"storage.layout": "fovs"})
        before = file_bytes(tmp_path / "out")
        run(movie, tmp_path / "out", on_start=seen)
        assert file_bytes(tmp_path / "out") == file_bytes(output)
        (tmp_path / "out/plate.zarr/notes.txt").write_text("mine")
        run(movie, tmp_path / "out", {"storage.layout": "fovs"})
        assert file_bytes(tmp_path / "out") == before | {"plate.zarr/notes.txt": b"mine"}
        assert verify_output(tmp_path / "out", deep=True).is_good
        assert steps == [{"plate"}]

    def test_fovs_of_an_earlier_run_stay_listed(self, output, movie, tmp_path):
        run(movie, tmp_path / "out", {"params.fovs": "3", "params.frames": "0-3"})
        assert listed(tmp_path / "out") == IMAGES[3:]
        run(movie, tmp_path / "out", {"params.wells": "B02"})
        assert listed(tmp_path / "out") == (*IMAGES[:2], IMAGES[3])
        assert len(shown_by_napari(tmp_path / "out/plate.zarr")) == 1
        run(movie, tmp_path / "out")
        assert file_bytes(tmp_path / "out") == file_bytes(output)

    def test_a_changed_setting_renews_labels_only(self, copied, movie):
        frames = times(copied, "plate.zarr/*/*/*/[01]/c.*")
        report = run(movie, copied, {"params.segmentation_params": {"min_object_size": 60}})
        assert report.exit_status == 0
        assert times(copied, "plate.zarr/*/*/*/[01]/c.*") == frames
        assert listed(copied) == IMAGES
        shards = [*copied.glob("plate.zarr/*/*/*/labels/*/0/c.*")]
        assert {file.stat().st_nlink for file in shards} == {2}

    def test_other_chunks_are_in_the_plate_too_and_regenerate_nothing_else(self, copied, movie, output):
        steps = set()
        form = {"storage.chunks": "block", "storage.level": 9, "storage.codec": "lz4"}
        run(movie, copied, form, on_start=lambda todo, _: steps.update(s for task in todo.tasks for s in task.digests))
        assert steps == {"copy", "segment", "background", "track", "plate"}
        assert listed(copied) == IMAGES
        for fov, image in enumerate(IMAGES):
            mine, before = (zarr.open_array(of / "plate.zarr" / image / "0", mode="r") for of in (copied, output))
            assert (mine.chunks, before.chunks) == ((4, 1, 141, 160), (1, 1, 141, 160))
            np.testing.assert_array_equal(mine[:], before[:])
            name = f"{image}/labels/tracks/0"
            tracks = zarr.open_array(copied / "plate.zarr" / name, mode="r")[:]
            np.testing.assert_array_equal(tracks, image_of(output, fov, "seg_tracked_ch_0"))
            first = copied / "plate.zarr" / image / "0" / "c.0.0.0.0"
            assert first.samefile(copied / f"fov_{fov:03}/images.zarr/pc_ch_0/0/c.0.0.0")

    def test_what_is_damaged_in_the_plate_is_made_again(self, copied, movie, output):
        (half,) = copied.glob("plate.zarr/C/10/1/1/c.1.0.0.0")
        half.write_bytes(b"wrong")
        shutil.rmtree(copied / "plate.zarr/B/02/1")
        found = verify_output(copied, deep=True)
        assert "plate.zarr/C/10/1/1/c.1.0.0.0" in [fault.path for fault in found.faults]
        report = run(movie, copied)
        assert report.exit_status == 0
        assert file_bytes(copied) == file_bytes(output)

    def test_a_plate_that_was_moved_away_is_made_again_without_other_steps(self, copied, movie, output):
        steps = set()
        shutil.move(copied / "plate.zarr", copied.parent / "elsewhere.zarr")
        run(movie, copied, on_start=lambda plan, _: steps.update(*(task.digests for task in plan.tasks)))
        assert steps == {"plate"}
        assert file_bytes(copied) == file_bytes(output)

    def test_batches_of_frames_make_the_same(self, output, movie, tmp_path, monkeypatch):
        pool = SerialPool(lambda task, job: run_task(replace(task, at_once=3), job))
        monkeypatch.setattr(start, "SerialPool", lambda: pool)
        run(movie, tmp_path / "out")
        assert file_bytes(tmp_path / "out") == file_bytes(output)

    def test_a_fov_that_fails_is_not_listed_and_breaks_nothing(self, movie, tmp_path, monkeypatch):
        fill = CziReader._fill

        def failing(self, file, out, fov, *others):
            if fov == 2:
                raise OSError("unreadable")
            fill(self, file, out, fov, *others)

        with monkeypatch.context() as patch:
            patch.setattr(CziReader, "_fill", failing)
            assert run(movie, tmp_path / "out", {"cluster.retries": 0}).exit_status == 3
        assert listed(tmp_path / "out") == (IMAGES[0], IMAGES[1], IMAGES[3])
        (shown,) = shown_by_napari(tmp_path / "out/plate.zarr")
        assert shown[0].shape == (6, 2, 8 * 141, 12 * 160)
        assert shown[0][0, 0, 141:282, 160:320].compute().any()
        run(movie, tmp_path / "out")
        assert listed(tmp_path / "out") == IMAGES

    def test_without_hard_links_the_plate_is_a_copy(self, output, movie, tmp_path, monkeypatch):
        def refused(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
        report = run(movie, tmp_path / "out")
        assert any("stored twice" in warning for warning in report.warnings)
        assert file_bytes(tmp_path / "out") == file_bytes(output)


class TestListing:
    """Images are listed one by one; a list of all gives the same documents."""

    @pytest.fixture
    def plan_and_movie(self, tmp_path):
        (tmp_path / "out" / WORK).mkdir(parents=True)
        screen = metadata_of(fovs=6, frames=6)
        wells = ("B02", "A01", "B02", "C10", "A01", "B03")
        screen = replace(screen, fovs=tuple(replace(f, well=w) for f, w in zip(screen.fovs, wells, strict=True)))
        storage = {"layout": "plate", "block_frames": 4}
        return plan_of(screen, output=str(tmp_path / "out"), storage=storage), screen

    @pytest.mark.parametrize("order", [(0, 5, 0, 5), (0, 2, 4, 1, 3, 5, 5, 3, 1, 4, 2, 0), (3, 1, 4, 3, 1, 3)])
    def test_images_come_and_go_in_any_order(self, plan_and_movie, order):
        plan, screen = plan_and_movie
        output = plan.job.output
        with Ledger(output / LEDGER) as ledger:
            plate = PlateOutput(plan, screen, ledger)
            write_records(plan, screen, ledger, plate)
            there = set()
            for fov in order:
                there ^= {fov}
                if fov in there:
                    record_image(plan, screen, ledger, fov)
                else:
                    ledger.void({task.key: {plate_output.STEP} for task in plan.fov(fov).tasks})
                assert plate.list_image(fov) == []
                assert plate.list_image(fov) == []  # nothing has changed
                images = images_in_plate(screen.fovs)
                assert sorted(listed(output)) == sorted(images[k] for k in there)
                before = file_bytes(output / "plate.zarr", set())
                assert PlateOutput(plan, screen, ledger).list_images() == []
                assert file_bytes(output / "plate.zarr", set()) == before

    def test_the_records_of_other_fovs_are_not_read(self, plan_and_movie, monkeypatch):
        plan, screen = plan_and_movie
        with Ledger(plan.job.output / LEDGER) as ledger:
            plate = PlateOutput(plan, screen, ledger)
            write_records(plan, screen, ledger, plate)
            of_fov, read = ledger.of_fov, set()
            monkeypatch.setattr(ledger, "of_fov", lambda fov: read.add(fov) or of_fov(fov))
            for fov in (0, 1, 2):
                record_image(plan, screen, ledger, fov)
                read.clear()
                plate.list_image(fov)
                assert read == {fov}


def record_image(plan, screen, ledger, fov):
    """Record all tasks of a FOV, and write its documents."""
    tasks, notes = plan.fov(fov).tasks, {"track": {"tracks": 3}}
    ledger.record(*(Receipt(task.key, task.digests, {}, 0.0, 0, 0, 0, notes=notes) for task in tasks))
    write_documents(plan.job.output, ledger, fov_documents(plan, screen, ledger, plan.fov(fov)))


def test_whenever_a_run_ends_its_plate_is_valid(movie, tmp_path, monkeypatch):
    """As the driver writes and removes one document after the other, there is no moment with a broken list."""
    moments = []

    def watched(module, name):
        do = getattr(module, name)

        def doing(*of):
            do(*of)
            if any("plate.zarr" in str(part) for part in of):
                moments.append(listed(tmp_path / "out"))

        monkeypatch.setattr(module, name, doing)

    watched(Path, "replace")
    watched(plate_output, "remove_below")
    watched(ownership, "remove_below")
    run(movie, tmp_path / "out")
    run(movie, tmp_path / "out", {"params.segmentation_params": {"min_object_size": 60}})
    assert set(map(len, moments)) == {0, 1, 2, 3, 4}
    assert moments[-1] == IMAGES


def times(output, pattern):
    return {file: file.stat().st_mtime_ns for file in output.glob(pattern)}


def shown_by_napari(path):
    """Levels of the images that napari-ome-zarr shows."""
    return [node.data for node in Reader(parse_url(path))() if node.data]


def killed(document, links):
    """Run, and die when a number of shards have their second name, but the task is not recorded."""
    left = [links]

    def link(*paths):
        give_second_name(*paths)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    give_second_name = steps_of_plates.give_second_name
    steps_of_plates.give_second_name = link
    pyama_dask.run(document)


def test_a_killed_run_leaves_a_plate_that_opens_and_is_completed(output, movie, tmp_path):
    document = config(movie, tmp_path / "out", CHANGES | {"cluster.batch_size": 1})
    process = get_context("spawn").Process(target=killed, args=(document, 20))
    process.start()
    assert end_of(process, 60) == -signal.SIGKILL
    assert listed(tmp_path / "out") == IMAGES[:2]
    assert len(shown_by_napari(tmp_path / "out/plate.zarr")) == 1
    run(movie, tmp_path / "out")
    assert file_bytes(tmp_path / "out") == file_bytes(output)
