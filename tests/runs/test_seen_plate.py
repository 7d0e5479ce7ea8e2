"""Stitched wells without shading: what is shown or cut before a run, and what is opened after it, is what it copies."""

import numpy as np
import pytest
import tifffile
from support.movies import config, write_config
from support.plates import REAL, needs_real

import pyama_dask
from pyama_dask.demo.plate import make_plate
from pyama_dask.files.images import write_tiff
from pyama_dask.napari import corrections
from pyama_dask.napari.layers import OURS, layers_at
from pyama_dask.napari.places import Place, place_of
from pyama_dask.napari.start import layers_to_view

WELLS, SIZE = ("B02", "C11"), 160


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Two wells of two sites each, and a profile of the shading that no image has."""
    folder = tmp_path_factory.mktemp("seen")
    light = 1 + 0.3 * np.linspace(-1, 1, SIZE)[:, None] * np.ones(SIZE)
    write_tiff(folder / "light.tif", light.astype(np.float32), None)
    return make_plate(folder, wells=WELLS, grid=(1, 2), size=SIZE, frames=2)


def settings(plate, output, changes=None):
    phase = {"channel": 0, "flat_field": str(plate.parent / "light.tif")}
    document = config(plate, output, {"params.stitch": "register", "storage.layout": "plate"} | (changes or {}))
    return document | {"channels": {"pc": phase, "fl": [{"channel": 1}]}}


@pytest.fixture(scope="module")
def output(plate, tmp_path_factory):
    """To be read only."""
    output = tmp_path_factory.mktemp("seen_results") / "out"
    changes = {"params.tracking_params": {"min_frames": 1, "border_margin": 0}}
    assert pyama_dask.run(settings(plate, output, changes)).exit_status == 0
    return output


def phase_of(output, fov):
    return np.asarray(pyama_dask.open_output(output)[fov].image("pc_ch_0").data)


class TestAnnotate:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch, plate):
        monkeypatch.chdir(tmp_path)
        write_config(tmp_path / "run.yaml", settings(plate, tmp_path / "out", {"params.wells": "C11"}))
        return tmp_path

    def cut(self, call, plate, *arguments):
        status, _, error = call("annotate", plate, "--size", 96, "--frames", 1, *arguments)
        assert (status, error) == (0, "")

    @pytest.mark.parametrize(("chosen", "well"), [((), "C11"), (("--fovs", "b2"), "B02")])
    def test_windows_are_parts_of_the_frames_of_the_run(self, call, plate, output, here, chosen, well):
        self.cut(call, plate, "-c", "run.yaml", "--windows", 2, *chosen)
        frame = phase_of(output, well)[1]
        files = sorted(here.glob("training/*[0-9].tif"))
        assert len(files) == 2
        for file in files:
            start, y, x = file.stem.rsplit("_", 2)
            assert start == f"DemoPlate_fov{WELLS.index(well):03}_{well}_t0001"
            y, x = int(y[1:]), int(x[1:])
            np.testing.assert_array_equal(tifffile.imread(file), frame[y : y + 96, x : x + 96])
        assert not (here / "out").exists()

    def test_another_channel_is_placed_as_in_the_run(self, call, plate, output, here):
        self.cut(call, plate, "-c", "run.yaml", "--windows", 1, "--channel", "GFP", "--method", "bright")
        (file,) = here.glob("training/*[0-9].tif")
        y, x = (int(part[1:]) for part in file.stem.split("_")[-2:])
        gfp = np.asarray(pyama_dask.open_output(output)["C11"].image("fl_ch_1").data[1])
        np.testing.assert_array_equal(tifffile.imread(file), gfp[y : y + 96, x : x + 96])

    def test_without_a_config_sites_are_as_in_the_files(self, call, plate, here):
        self.cut(call, plate, "--windows", 1, "--fovs", "C11 s2, B02")
        starts = {file.name.split("_y")[0] for file in here.glob("training/*.tif")}
        numbered = {"000_B02-s1", "001_B02-s2", "003_C11-s2"}
        assert starts == {f"DemoPlate_fov{name}_t0001" for name in numbered}


class TestPreview:
    @pytest.fixture(autouse=True)
    def compiled(self, monkeypatch):
        from pyama_dask.previews import preview

        monkeypatch.setattr(preview, "compile_kernels", lambda *_: None)

    @pytest.mark.parametrize(("fov", "well"), [(None, "C11"), ("b2", "B02")])
    def test_labels_are_those_of_the_run(self, plate, output, tmp_path, fov, well):
        document = settings(plate, tmp_path / "out", {"params.wells": "C11"})
        made = pyama_dask.preview(document, fov=fov, frames=1)
        assert made.head == f"DemoPlate, FOV {WELLS.index(well)} ({well}), frame 1"
        run = pyama_dask.open_output(output)[well].image("seg_labeled_ch_0")
        assert made.labels[0].max() > 0
        np.testing.assert_array_equal(made.labels[0], np.asarray(run.data[1]))

    def test_a_well_that_cannot_be_registered_is_told(self, plate, tmp_path):
        changes = {"params.stitch_params.max_shift": 1}
        made = pyama_dask.preview(settings(plate, tmp_path / "out", changes), fov="B02", frames=1)
        assert [note for note in made.notes if note.startswith("warning: B02: no site could be registered")]


class TestNapari:
    @pytest.mark.parametrize(
        ("path", "fov"),
        [
            ("plate.zarr", None), ("plate.zarr/B/02", "fov_000"), ("plate.zarr/C/11/0", "fov_001"),
            ("plate.zarr/C/11/1", False), ("plate.zarr/C", False), ("plate.zarr/B/02/0/labels", False),
        ],
    )  # fmt: skip
    def test_a_plate_and_what_is_in_it_stand_for_output_and_fovs(self, output, path, fov):
        found = place_of(output / path)
        assert found == (None if fov is False else Place(output, fov and output / fov))

    def test_a_plate_elsewhere_is_left_to_others(self, output, tmp_path):
        (tmp_path / "plate.zarr").symlink_to(output / "plate.zarr")
        assert place_of(tmp_path / "plate.zarr") is None

    def test_layers_have_the_name_of_the_well(self, output):
        layers = layers_to_view(output / "plate.zarr", "c11", colormap=lambda colours: colours)
        names = [shown["name"] for _, shown, _ in layers]
        assert {"C11 pc_ch_0: Phase", "C11 seg_tracked_ch_0: cells", "C11 tracks"} <= {*names}
        assert all(name.startswith("C11 ") for name in names)
        assert {shown["metadata"][OURS]["fov"] for _, shown, _ in layers} == {str(output / "fov_001")}
        ((data, _, _),) = layers_at(Place(output, output / "fov_001", "pc_ch_0"))
        assert data.shape[2] > 1.5 * SIZE

    def test_corrected_labels_are_named_as_windows(self, output):
        fov = pyama_dask.open_output(output)["C11"]
        assert corrections.annotation_name(fov, 1) == "DemoPlate_fov001_C11_t0001_y0000_x0000"


@needs_real
def test_a_scene_of_a_czi_is_chosen_by_its_name(call, tmp_path):
    movie = REAL.parent / "real_czi/WellD6-7_S2.czi"
    document = config(movie, tmp_path / "out", {"params.copy_only": True, "storage.display": "off"})
    file = write_config(tmp_path / "run.yaml", document | {"channels": {"fl": [{"channel": "AF488"}]}})
    status, _, error = call("run", file, "--fovs", "d7")
    assert (status, "[1/1] FOV 1 (D7) is complete" in error) == (0, True)
    assert not (tmp_path / "out/fov_000").exists()
    assert call("run", file, "--fovs", "D6")[0] == 0
    output = pyama_dask.open_output(tmp_path / "out")
    with pyama_dask.open_reader(movie) as reader:
        for fov, name in enumerate(("D6", "D7")):
            assert output[name].attributes["name"] == name
            np.testing.assert_array_equal(output[name].image("fl_ch_0").data[0], reader.read_frame(fov, 0)[0])
    status, _, error = call("run", file, "--fovs", "D8")
    assert (status, "'D8' is not in WellD6-7_S2.czi. Fix: choose" in error) == (2, True)


def test_registration_is_told_well_by_well(plate, tmp_path, call):
    changes = {"params.copy_only": True, "storage.display": "off", "params.stitch_params.frames": 1}
    document, events = settings(plate, tmp_path / "out", changes), []
    assert pyama_dask.run(document, progress=events.append).exit_status == 0
    told = [(event["frame"], event["total"], event["message"]) for event in events if event["step"] == "register"]
    assert told == [(done, 2, "Registering the sites of 2 wells") for done in range(3)]
    events.clear()
    pyama_dask.run(document, progress=events.append)  # positions.csv has them
    assert not [event for event in events if event["step"] == "register"]
    file = write_config(tmp_path / "run.yaml", settings(plate, tmp_path / "again", changes))
    status, _, error = call("run", file)
    assert (status, error.count("Registering the sites of 2 wells\n")) == (0, 1)
