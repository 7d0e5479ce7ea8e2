"""Results from Python: what a run wrote, opened lazily, and in agreement with itself by other programs' measures."""

import dask.array as da
import numpy as np
import pytest
import zarr
from dask_image import ndmeasure
from support.movies import as_nd2, config, data_files

import pyama_dask
from pyama_dask.errors import OutputError, ResultsWarning

GROUPS = ("fl_background_ch_1", "fl_ch_1", "pc_ch_0", "seg_labeled_ch_0", "seg_tracked_ch_0")


@pytest.fixture(scope="module")
def output(finished):
    return pyama_dask.open_output(finished)


@pytest.fixture(scope="module")
def fov(output):
    return output[0]


class TestOutput:
    def test_fovs_config_and_metadata(self, output):
        assert output.fovs == (0, 1)
        assert output.config["params"]["tracking_params"]["min_frames"] == 5
        assert output.metadata["file"] == "movie.czi"
        assert "2 FOVs" in repr(output)

    def test_a_path_may_be_text(self, finished):
        assert pyama_dask.open_output(str(finished)).fovs == (0, 1)

    def test_status(self, output):
        assert [fov["status"] for fov in output.status()["fovs"]] == ["done", "done"]

    def test_traces_of_all_fovs_are_one_table(self, output):
        table = output.traces()
        assert len(table) == sum(len(output[fov].traces()) for fov in output.fovs)
        assert sorted(set(table["fov"])) == [0, 1]
        assert table.index.is_unique

    @pytest.mark.parametrize("fov", [2, -1])
    def test_a_fov_that_is_not_there(self, output, fov):
        with pytest.raises(OutputError, match=f"has no FOV {fov}"):
            output[fov]

    def test_a_directory_without_results(self, tmp_path):
        with pytest.raises(OutputError, match=r"holds no results.*processing_config\.yaml"):
            pyama_dask.open_output(tmp_path)


class TestFov:
    def test_channels_and_times(self, fov):
        assert fov.channels == GROUPS
        assert fov.times.tolist() == pytest.approx([10.0 * frame for frame in range(10)])
        assert fov.attributes["fov"] == fov.index == 0
        assert "pc_ch_0" in repr(fov)

    @pytest.mark.parametrize("level", [0, 1])
    @pytest.mark.parametrize("group", GROUPS)
    def test_images_are_lazy_with_a_chunk_a_frame(self, fov, group, level):
        data = fov.image(group, level).data
        stored = zarr.open_array(fov.directory / "images.zarr" / group / str(level), mode="r")
        assert isinstance(data, da.Array)
        assert (data.shape, data.dtype) == (stored.shape, stored.dtype)
        assert data.chunksize == (1, *stored.shape[1:])
        assert np.array_equal(data.compute(), stored[:], equal_nan=True)

    def test_nothing_is_read_before_it_is_computed(self, copied):
        mean = pyama_dask.open_output(copied)[0].image("pc_ch_0").data.mean()
        for shard in data_files(copied / "fov_000" / "images.zarr" / "pc_ch_0" / "0"):
            shard.unlink()
        assert mean.compute() == 0  # as Zarr gives zeros for what is not there

    def test_axes_units_and_scale(self, fov):
        image = fov.image("fl_ch_1")
        assert image.name == "fl_ch_1"
        assert image.axes == ("t", "y", "x")
        assert image.units == {"t": "minute", "y": "micrometer", "x": "micrometer"}
        assert image.scale == pytest.approx({"t": 10.0, "y": 0.65, "x": 0.65})
        assert fov.image("fl_ch_1", 1).scale == pytest.approx({"t": 10.0, "y": 1.3, "x": 1.3})

    def test_fluorescence_without_background_is_what_the_traces_are_measured_on(self, fov):
        corrected, tracked = fov.corrected("fl_ch_1"), fov.image("seg_tracked_ch_0").data
        raw = fov.image("fl_ch_1")
        assert (corrected.name, corrected.scale, corrected.units) == ("corrected_ch_1", raw.scale, raw.units)
        assert (corrected.data.dtype, corrected.data.chunks) == ("float64", raw.data.chunks)
        traces = fov.traces()
        for frame, rows in traces.groupby("frame"):
            grey, ids = np.asarray(corrected.data[frame]), np.asarray(tracked[frame])
            for row in rows.itertuples():
                inside = grey[ids == row.cell]
                assert inside.sum() == pytest.approx(row.intensity_total_ch_1, rel=1e-8)
                assert inside.max() == pytest.approx(row.intensity_max_ch_1, rel=1e-8)
        assert len(traces)

    def test_each_fov_has_the_weight_that_it_was_processed_with(self, small_czi, copied):
        document = config(small_czi, copied, {"params.background_weight": 0.5, "params.fovs": "1"})
        assert pyama_dask.run(document).exit_status == 0
        output = pyama_dask.open_output(copied)
        for fov, weight in ((0, 1.0), (1, 0.5)):
            raw, background = (output[fov].image(name).data[0] for name in ("fl_ch_1", "fl_background_ch_1"))
            found = np.asarray(output[fov].corrected("fl_ch_1").data[0])
            assert np.array_equal(found, np.asarray(raw) - weight * np.asarray(background, np.float64))

    @pytest.mark.parametrize("channel", ["pc_ch_0", "seg_tracked_ch_0", "fl_ch_2"])
    def test_a_channel_without_background(self, fov, channel):
        with pytest.raises(OutputError, match=r"Fix: choose"):
            fov.corrected(channel)

    @pytest.mark.parametrize(("channel", "level"), [("fl_ch_7", 0), ("pc_ch_0", 2), ("..", 0), ("", 0)])
    def test_an_image_that_is_not_there(self, fov, channel, level):
        with pytest.raises(OutputError, match=r"does not exist. Fix: choose one of .*pc_ch_0"):
            fov.image(channel, level)

    def test_cells(self, fov):
        assert fov.cells == tuple(sorted(set(fov.traces()["cell"])))
        assert fov.cells
        for number in fov.cells:
            cell = fov.cell(number)
            assert cell.id == number
            assert (cell.boxes.shape, cell.valid.shape) == ((10, 4), (10,))
            assert cell.crops.keys() == {"pc_ch_0", "fl_ch_1", "mask"}
            height, width = (cell.boxes[:, 2:] - cell.boxes[:, :2]).max(0)
            for crop in cell.crops.values():
                assert isinstance(crop, da.Array)
                assert crop.shape == (10, height, width)
            assert cell.crops["mask"].sum().compute() == fov.traces().query("cell == @number")["area_ch_0"].sum()

    def test_a_cell_that_was_not_kept(self, fov):
        with pytest.raises(OutputError, match=r"fov_000: has no cell 999"):
            fov.cell(999)

    def test_products_that_are_not_made_yet(self, small_czi, tmp_path):
        pyama_dask.run(config(small_czi, tmp_path / "out"), steps=["copy"])
        output = pyama_dask.open_output(tmp_path / "out")
        for read in (output[0].traces, lambda: output[0].cells):
            with pytest.raises(OutputError, match="'pyama-dask status' shows its progress"):
                read()
        with pytest.raises(OutputError, match="has no traces yet"):
            output.traces()

    def test_traces_that_have_changed_since_they_were_recorded(self, copied):
        path = copied / "fov_001" / "movie_fov_001_traces.csv"
        content = path.read_bytes()
        (copied / "fov_001" / "a_traces.csv").write_bytes(content)  # not the run's
        path.write_bytes(content.replace(b"\n", b"\n\n", 1))
        output = pyama_dask.open_output(copied)
        for read in (output.traces, output[1].traces):
            with pytest.warns(ResultsWarning, match=r"movie_fov_001_traces.csv: has \d+ bytes instead of"):
                read()
        path.unlink()
        for read in (output.traces, output[1].traces):
            with pytest.raises(OutputError, match=r"movie_fov_001_traces.csv: is missing"):
                read()


class TestByDaskImage:
    """dask-image, which knows nothing of the tables, measures the same."""

    @pytest.mark.parametrize("number", [0, 1])
    def test_areas_sums_and_centres(self, output, number):
        fov = output[number]
        table = fov.traces()
        tracked = fov.image("seg_tracked_ch_0").data
        corrected = fov.image("fl_ch_1").data.astype(float) - fov.image("fl_background_ch_1").data
        for frame in range(0, 10, 3):
            rows = table[table["frame"] == frame]
            ids = rows["cell"].to_numpy()
            areas = ndmeasure.area(corrected[frame], tracked[frame], ids).compute()
            sums = ndmeasure.sum_labels(corrected[frame], tracked[frame], ids).compute()
            centres = ndmeasure.center_of_mass(corrected[frame], tracked[frame], ids).compute()
            assert len(rows)
            assert areas.tolist() == rows["area_ch_0"].tolist()
            assert np.allclose(sums, rows["intensity_total_ch_1"], rtol=1e-6)
            assert (centres[:, 0] >= rows["bbox_y0"]).all()
            assert (centres[:, 0] <= rows["bbox_y1"] - 1).all()
            assert (centres[:, 1] >= rows["bbox_x0"]).all()
            assert (centres[:, 1] <= rows["bbox_x1"] - 1).all()


def test_a_movie_that_is_not_calibrated_has_no_micrometres(small_pixels, tmp_path):
    movie = as_nd2(tmp_path / "movie.nd2", small_pixels[:1, :2], pixel_size_um=None)
    pyama_dask.run(config(movie, tmp_path / "out", {"params.copy_only": True}))
    image = pyama_dask.open_output(tmp_path / "out")[0].image("pc_ch_0")
    assert image.units == {"t": "minute"}
    assert image.scale["y"] == 1.0
