"""Runs that remove the shading of the optics: estimated once and kept in the output, or from a file."""

import re
import shutil

import numpy as np
import pytest
import tifffile
import yaml
from support.movies import config, write_config
from support.plates import REAL, generator, needs_generator, needs_real, truth_of

import pyama_dask
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.errors import ConfigError, ImageError
from pyama_dask.kernels.flat_field import correct
from pyama_dask.runs.movie import seen_movie
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.source_check import check_movie
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.arrays import read_frame
from pyama_dask.store.ledger import Ledger

pytestmark = needs_generator
WELLS = tuple(f"B{column:02}" for column in range(1, 21))
TILE = 96
SETTINGS = {
    "channels": {"pc": {"channel": 0, "flat_field": "estimate"}, "fl": [{"channel": "GFP", "flat_field": "estimate"}]},
    "params.wells": "B01",
    "params.copy_only": True,
}


@pytest.fixture(scope="session")
def plate(tmp_path_factory):
    """Twenty wells with one site and one cell each, and with shading."""
    folder, module = tmp_path_factory.mktemp("shaded") / "Exp2_P3", generator()
    module.write_imagexpress(folder, module.Scene(wells=WELLS, grid=(1, 1), tile=(TILE, TILE), cells=1, shading=0.3))
    return folder


@pytest.fixture(scope="session")
def processed(plate, tmp_path_factory):
    """Output of a run on one well; to be read only."""
    output = tmp_path_factory.mktemp("processed") / "out"
    report = pyama_dask.run(config(plate, output, SETTINGS))
    assert (report.exit_status, report.warnings) == (0, ())
    return output


@pytest.fixture
def output(processed, tmp_path):
    return shutil.copytree(processed, tmp_path / "out")


def true_shading():
    along = np.linspace(-1, 1, TILE)
    light = 1 - 0.3 * (along[:, None] ** 2 + along**2) / 2
    return light / light.mean()


@pytest.mark.parametrize("channel", [0, 1])
def test_shading_is_flat_to_three_percent_after_its_removal(processed, channel):
    profile = tifffile.imread(processed / f"flat_field_ch_{channel}.tif")
    assert np.abs(true_shading() / profile - 1).max() < 0.03


def test_frames_are_stored_without_shading(plate, processed):
    planes = {(row["well"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
    for channel, name in ((0, "pc_ch_0"), (1, "fl_ch_1")):
        profile = tifffile.imread(processed / f"flat_field_ch_{channel}.tif")
        profile = (profile / profile.mean(dtype=np.float64)).astype(np.float32)
        image = correct(tifffile.imread(plate / planes["B01", str(channel)]), profile)
        np.testing.assert_array_equal(read_frame(processed / "fov_000/images.zarr", f"{name}/0", 0), image)


def test_what_was_estimated_is_used_again(plate, output):
    before = (output / "flat_field_ch_1.tif").read_bytes()
    assert pyama_dask.run(config(plate, output, SETTINGS)).tasks == 0
    assert pyama_dask.run(config(plate, output, SETTINGS | {"params.wells": "B02"})).exit_status == 0
    assert (output / "flat_field_ch_1.tif").read_bytes() == before
    assert check_movie(output, Ledger(output / LEDGER)).is_good


def test_another_profile_or_dark_level_regenerates_frames(plate, output):
    def tasks(changes):
        plan, _ = plan_run(parse_config(config(plate, output, SETTINGS | changes)))
        return [task.digests["copy"] for task in plan.tasks if "copy" in task.digests]

    first = tasks({})
    assert tasks({"params.dark_level": 100}) != first
    tifffile.imwrite(output / "flat_field_ch_1.tif", np.ones((TILE, TILE), np.uint16))
    assert tasks({}) != first
    report = pyama_dask.run(config(plate, output, SETTINGS))
    assert report.tasks > 0
    planes = {(row["well"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
    raw = tifffile.imread(plate / planes["B01", "1"])
    np.testing.assert_array_equal(read_frame(output / "fov_000/images.zarr", "fl_ch_1/0", 0), raw)


def test_a_profile_may_be_a_file_beside_the_config(plate, tmp_path):
    tifffile.imwrite(tmp_path / "gfp.tif", (1000 * true_shading()).astype(np.uint16))
    channels = {"pc": {"channel": 0}, "fl": [{"channel": 1, "flat_field": "gfp.tif"}]}
    file = write_config(tmp_path / "run.yaml", config(plate, tmp_path / "out", SETTINGS | {"channels": channels}))
    found = seen_movie(load_config(file), lambda _: [0])[0].flat_field
    assert [*found.profiles] == [1]
    np.testing.assert_allclose(found.profiles[1], true_shading(), atol=1e-3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.ones((4, 4), np.float32), r"gfp\.tif: has shape \(4, 4\), but B01.* has \(96, 96\)"),
        (np.zeros((TILE, TILE), np.float32), "pixels that are not above 0"),
        (None, "does not exist"),
    ],
)
def test_a_wrong_profile_is_refused(plate, tmp_path, image, said):
    if image is not None:
        tifffile.imwrite(tmp_path / "gfp.tif", image)
    channels = {"fl": [{"channel": 1, "flat_field": str(tmp_path / "gfp.tif")}]}
    with pytest.raises(ImageError, match=said):
        plan_run(parse_config(config(plate, tmp_path / "out", SETTINGS | {"channels": channels})))


def test_few_sites_and_no_light_are_said(plate, tmp_path):
    few, planes = tmp_path / "Exp2_P3", truth_of(plate, "planes")
    few.mkdir()
    for row in planes:
        if row["well"] in ("B01", "B02"):
            shutil.copy(plate / row["file"], few)
    plan, _ = plan_run(parse_config(config(few, tmp_path / "out", SETTINGS)))
    assert sum("is estimated from 2 sites" in warning for warning in plan.warnings) == 2
    assert [*plan.files] == ["flat_field_ch_0.tif", "flat_field_ch_1.tif"]
    with pytest.raises(ConfigError, match=r"flat_field of channel 0: .*brighter than 9000.*dark_level"):
        plan_run(parse_config(config(few, tmp_path / "out", SETTINGS | {"params.dark_level": 9000})))


def test_off_is_the_default_in_yaml_too():
    document = yaml.safe_load("{input: a.nd2, output: b, channels: {fl: [{channel: 1, flat_field: off}]}}")
    assert parse_config(document).channels.fl[0].flat_field == "off"


OF_INSTRUMENT = {"channels": {"fl": [{"channel": 0, "flat_field": "instrument"}]}, "params.copy_only": True}


class TestInstrument:
    """Profiles of Harmony in the index of a measurement."""

    @pytest.fixture
    def measurement(self, tmp_path):
        """Real measurement of which one field is here, as links."""
        images, source = tmp_path / "plate" / "Images", REAL / "opera/operetta_plate/Images"
        images.mkdir(parents=True)
        for path in source.iterdir():
            (images / path.name).symlink_to(path)
        return tmp_path / "plate"

    def index(self, measurement, change):
        path = measurement / "Images/Index.idx.xml"
        text = path.read_text("utf-8-sig")
        path.unlink()
        path.write_text(change(text))

    @needs_real
    def test_a_run_removes_it(self, measurement, tmp_path):
        settings = config(measurement, tmp_path / "out", OF_INSTRUMENT | {"params.fovs": "0"})
        report = pyama_dask.run(settings)
        assert (report.exit_status, [text for text in report.warnings if "shading" in text]) == (0, [])
        raw = tifffile.imread(measurement / "Images/r03c03f01p01-ch1sk1fk1fl1.tiff").astype(float)
        shading = seen_movie(parse_config(settings), lambda _: [0])[0].flat_field
        profile, levels = (of[0].astype(float) for of in (shading.profiles, shading.backgrounds))
        expected = np.rint(((raw - levels) / profile + levels.mean()).clip(0, 65535))
        stored = read_frame(tmp_path / "out/fov_000/images.zarr", "fl_ch_0/0", 0)
        assert np.abs(stored - expected).max() <= 1
        corners = [of[rows, columns].mean() for of in (raw, stored) for rows in (slice(90), slice(-90, None))
                   for columns in (slice(90), slice(-90, None))]  # fmt: skip
        assert (np.array(corners[4:]) > np.array(corners[:4])).all()
        assert check_movie(tmp_path / "out", Ledger(tmp_path / "out" / LEDGER)).is_good
        assert pyama_dask.run(settings).tasks == 0

    @needs_real
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda text: re.sub("<FlatfieldProfile>.*</FlatfieldProfile>", "", text),
                "the index has no profile of it",
            ),
            (lambda text: text.replace("Dims: [1080, 1080]", "Dims: [1024, 1024]"), "it is for 1024 x 1024 pixels"),
        ],
    )
    def test_what_it_lacks_is_refused(self, measurement, tmp_path, change, said):
        self.index(measurement, change)
        with pytest.raises(ConfigError, match=rf"^flat_field: instrument: plate: channel 0 \(.*\): .*{said}.* Fix: "):
            plan_run(parse_config(config(measurement, tmp_path / "out", OF_INSTRUMENT)))

    @needs_real
    def test_the_background_alone_is_removed_with_a_warning(self, measurement, tmp_path):
        self.index(measurement, lambda text: re.sub(r", Foreground: .*(?=, Version)", "", text))
        plan, metadata = plan_run(parse_config(config(measurement, tmp_path / "out", OF_INSTRUMENT)))
        assert any("has measured the shading of the background only" in warning for warning in plan.warnings)
        assert np.ptp(metadata.flat_field.profiles[0]) == 0
        assert np.ptp(metadata.flat_field.backgrounds[0]) > 100

    @needs_real
    def test_what_is_flat_stays(self, measurement, tmp_path):
        flat = "{Background: {Character: Flat, Mean: 300}, Foreground: {Character: Flat}}"
        self.index(measurement, lambda text: re.sub(r"(?<=<FlatfieldProfile>).*(?=</)", flat, text))
        plan, metadata = plan_run(parse_config(config(measurement, tmp_path / "out", OF_INSTRUMENT)))
        assert metadata.flat_field is None
        assert not any("shading" in warning for warning in plan.warnings)

    def test_other_formats_have_none(self, small_nd2, tmp_path):
        channels = {"channels": {"fl": [{"channel": 1, "flat_field": "instrument"}]}}
        with pytest.raises(ConfigError, match=r"channel 1 \(.*\): ND2 has no shading of the instrument\. Fix: set it"):
            plan_run(parse_config(config(small_nd2, tmp_path / "out", channels)))
