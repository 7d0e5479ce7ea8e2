"""The demo movie holds what its truth says, and the comparison tells good traces from bad ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pylibCZIrw import czi

from pyama_dask.demo import Comparison, DemoMovie, make_movie
from pyama_dask.demo.compare import compare
from pyama_dask.demo.write_czi import write_czi

SMALL = {"fovs": 2, "frames": 4, "shape": (260, 300), "border_margin": 20, "fluorescence_channels": 2}
WHERE = {"n_frames": 4, "shape": (260, 300), "border_margin": 20}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(movie as read back from its file, description of the image in the file, truth)."""
    path = make_movie(tmp_path_factory.mktemp("demo"), seed=3, interval_min=40.0, **SMALL)
    return (*read(path), pd.read_csv(path.with_name("truth.csv")))


@pytest.fixture
def traces(written):
    """What a perfect run would find, under other ids than those of the truth."""
    truth = written[2]
    table = truth[["fov", "cell", "frame", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]].copy()
    table["cell"] += 100
    for channel in (1, 2):
        column = f"intensity_total_ch_{channel}"
        table[column] = 1.02 * truth[column]
    return table


def read(path):
    with czi.open_czi(str(path)) as document:
        information = document.metadata["ImageDocument"]["Metadata"]["Information"]["Image"]
        sizes = {axis: stop for axis, (_, stop) in document.total_bounding_box.items()}
        planes = [
            document.read(plane={"T": t, "C": c, "Z": 0}, scene=s)[..., 0]
            for s in sorted(document.scenes_bounding_rectangle)
            for t in range(sizes["T"])
            for c in range(sizes["C"])
        ]
    return np.reshape(planes, (-1, sizes["T"], sizes["C"], *planes[0].shape)), information


class TestFile:
    def test_holds_the_planes_of_the_movie(self, written):
        pixels, _, _ = written
        movie = DemoMovie(seed=3, interval_min=40.0, **SMALL)
        assert pixels.dtype == np.uint16
        assert pixels.shape == movie.shape == (2, 4, 3, 260, 300)
        for index in np.ndindex(2, 4, 3):
            assert np.array_equal(pixels[index], movie[index])

    def test_names_scenes_channels_and_times(self, written):
        _, image, _ = written
        scenes = image["Dimensions"]["S"]["Scenes"]["Scene"]
        assert [s["@Name"] for s in scenes] == ["Pos0", "Pos1"]
        assert scenes[0]["CenterPosition"] != scenes[1]["CenterPosition"]
        assert [c["@Name"] for c in image["Dimensions"]["Channels"]["Channel"]] == ["Phase", "GFP", "mCherry"]
        assert image["Dimensions"]["T"]["Positions"]["Interval"]["Increment"] == "2400"


class TestTruth:
    def test_has_every_cell_in_every_frame(self, written):
        _, _, truth = written
        assert not truth.duplicated(["fov", "cell", "frame"]).any()
        assert (truth.groupby(["fov", "cell"]).size() == 4).all()
        assert truth.time.tolist() == (40.0 * truth.frame).tolist()

    def test_box_and_area_lie_within_the_frame(self, written):
        _, _, truth = written
        width, height = truth.bbox_x1 - truth.bbox_x0, truth.bbox_y1 - truth.bbox_y0
        assert (truth[["bbox_x0", "bbox_y0"]] >= 0).all(axis=None)
        assert (truth.bbox_x1 <= 300).all()
        assert (truth.bbox_y1 <= 260).all()
        assert (truth.area < width * height).all()
        assert (truth.area > 0.5 * width * height).all()

    @pytest.mark.parametrize("channel", [1, 2])
    def test_total_is_the_light_of_the_cell(self, written, channel):
        """Light in the true box above the mean of a rim around it, in the last and brightest frame."""
        pixels, _, truth = written
        whole = truth[(truth.frame == 3) & (truth.bbox_x0 >= 12) & (truth.bbox_x1 <= 288)]
        whole = whole[(whole.bbox_y0 >= 12) & (whole.bbox_y1 <= 248)]
        assert len(whole) >= 4
        for row in whole.itertuples():
            frame = pixels[row.fov, 3, channel].astype(float)
            around = frame[row.bbox_y0 - 12 : row.bbox_y1 + 12, row.bbox_x0 - 12 : row.bbox_x1 + 12]
            rim = np.pad(np.zeros(np.subtract(around.shape, 12), bool), 6, constant_values=True)
            light = around[~rim] - around[rim].mean()
            true = getattr(row, f"intensity_total_ch_{channel}")
            assert light.sum() == pytest.approx(true, rel=0.05, abs=5000)

    def test_cells_never_touch(self):
        truth = DemoMovie(seed=1, frames=30, fovs=1).truth()
        for _, frame in truth.groupby("frame"):
            centres = frame[["y", "x"]].to_numpy()
            distance = np.hypot(*(centres[:, None] - centres).transpose(2, 0, 1)) + 1e6 * np.eye(len(centres))
            assert distance.min() > 70

    def test_most_cells_stay_off_the_margin_and_some_reach_into_it(self):
        truth = DemoMovie(seed=1, frames=30, fovs=1).truth()
        table = compare(truth, truth, n_frames=30, shape=(512, 512), border_margin=50)
        assert 0.6 <= table.cells_expected / truth.cell.nunique() <= 0.9

    def test_cells_move_a_little(self):
        truth = DemoMovie(seed=1, frames=30, fovs=1).truth()
        steps = np.hypot(*truth.groupby("cell")[["x", "y"]].diff().dropna().to_numpy().T)
        assert 0.5 < np.median(steps) < 4


class TestSeed:
    def test_makes_the_same_frames_in_any_order(self):
        one, other = DemoMovie(**SMALL), DemoMovie(**SMALL)
        there = [one[1, t, c] for t in range(4) for c in range(3)]
        back = [other[1, t, c] for t in reversed(range(4)) for c in reversed(range(3))]
        assert np.array_equal(there, back[::-1])

    def test_makes_a_longer_movie_begin_alike(self):
        short, long = DemoMovie(**SMALL), DemoMovie(**SMALL | {"frames": 6})
        assert np.array_equal(short[1, 3, 1], long[1, 3, 1])
        first = long.truth().query("frame < 4").reset_index(drop=True)
        pd.testing.assert_frame_equal(short.truth(), first)

    def test_makes_other_frames_from_another_seed_fov_or_frame(self):
        movie, other = DemoMovie(seed=0, **SMALL), DemoMovie(seed=1, **SMALL)
        for channel in range(3):
            planes = [movie[0, 0, channel], movie[0, 1, channel], movie[1, 0, channel], other[0, 0, channel]]
            assert len({plane.tobytes() for plane in planes}) == 4


def test_phase_contrast_alone():
    movie = DemoMovie(**SMALL | {"fluorescence_channels": 0})
    assert movie.shape == (2, 4, 1, 260, 300)
    assert movie[0, 0, 0].std() > 500
    assert not [column for column in movie.truth() if column.startswith("intensity")]


class TestMovieRefuses:
    @pytest.mark.parametrize("bad", [{"fovs": 0}, {"frames": 0}, {"cells": 0}, {"fluorescence_channels": 5}])
    def test_numbers_out_of_range(self, bad):
        with pytest.raises(ValueError, match=r"nothing to draw|fluorescence_channels"):
            DemoMovie(**SMALL | bad)

    def test_more_cells_than_fit(self):
        with pytest.raises(ValueError, match="40 cells do not fit"):
            DemoMovie(**SMALL | {"cells": 40})


class TestCompare:
    def test_perfect_traces(self, written, traces):
        found = compare(written[2], traces, **WHERE)
        assert found.cells_found == found.cells_expected > 3
        assert found.fraction == 1
        assert found.missed == ()
        assert found.correlation == pytest.approx(1)
        assert found.relative_error == pytest.approx(0.02)
        assert f"{found.cells_found} of {found.cells_found} true cells found (100.0%)" in str(found)

    def test_split_track_is_missed(self, written, traces):
        truth, name = written[2], self.expected(written[2], traces)
        late = (traces.fov == name[0]) & (traces.cell == name[1] + 100) & (traces.frame >= 2)
        traces.loc[late, "cell"] = 999
        assert compare(truth, traces, **WHERE).missed == (name,)

    def test_absent_cell_is_missed(self, written, traces):
        truth, name = written[2], self.expected(written[2], traces)
        absent = (traces.fov == name[0]) & (traces.cell == name[1] + 100)
        assert compare(truth, traces[~absent], **WHERE).missed == (name,)

    def test_absent_frame_is_missed(self, written, traces):
        truth, name = written[2], self.expected(written[2], traces)
        absent = (traces.fov == name[0]) & (traces.cell == name[1] + 100) & (traces.frame == 1)
        assert compare(truth, traces[~absent], **WHERE).missed == (name,)

    def test_speck_within_a_cell_does_not_matter(self, written, traces):
        speck = traces.assign(cell=traces.cell + 1000)
        for axis in "xy":
            speck[f"bbox_{axis}0"] += 3
            speck[f"bbox_{axis}1"] = speck[f"bbox_{axis}0"] + 4
        assert compare(written[2], pd.concat([speck, traces]), **WHERE).fraction == 1

    def test_fewer_frames_than_the_movie_has(self, written, traces):
        found = compare(written[2], traces[traces.frame < 2], **WHERE | {"n_frames": 2})
        assert found.fraction == 1

    @pytest.mark.parametrize("columns", [True, False])
    def test_no_traces(self, written, traces, columns):
        found = compare(written[2], traces.iloc[:0] if columns else pd.DataFrame(), **WHERE)
        assert found.cells_found == found.fraction == 0
        assert len(found.missed) == found.cells_expected > 0
        assert np.isnan(found.correlation)
        assert np.isnan(found.relative_error)
        assert str(found).startswith("0 of")

    def test_nothing_expected(self, written, traces):
        found = compare(written[2], traces, **WHERE | {"border_margin": 130})
        assert found == Comparison(0, 0, (), 4, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True))
        assert np.isnan(found.fraction)
        assert str(found).startswith("0 of 0 true cells found,")

    def test_constant_trace_has_no_correlation(self, written, traces):
        traces["intensity_total_ch_1"] = traces["intensity_total_ch_2"] = 7.0
        assert np.isnan(compare(written[2], traces, **WHERE).correlation)

    @staticmethod
    def expected(truth, traces):
        """(FOV, cell) of a true cell that ought to be found."""
        return compare(truth, traces.iloc[:0], **WHERE).missed[0]


class TestWriteCzi:
    data = np.random.default_rng(0).integers(0, 60000, (2, 3, 2, 2, 40, 50)).astype("u2")

    def test_mosaic_reads_as_whole_planes(self, tmp_path):
        write_czi(tmp_path / "m.czi", self.data[:, :, :, 0], tile_shape=(16, 32))
        pixels, _ = read(tmp_path / "m.czi")
        assert np.array_equal(pixels, self.data[:, :, :, 0])

    def test_bytes_and_planes_in_depth(self, tmp_path):
        data = (self.data >> 8).astype("u1")
        write_czi(tmp_path / "z.czi", data, z_step_um=1.5, compression="zstd1:ExplicitLevel=2")
        with czi.open_czi(str(tmp_path / "z.czi")) as document:
            plane = document.read(plane={"T": 2, "C": 1, "Z": 1}, scene=1)[..., 0]
            scales = document.metadata["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
        assert [scale["@Id"] for scale in scales] == ["X", "Y", "Z"]
        assert plane.dtype == np.uint8
        assert np.array_equal(plane, data[1, 2, 1, 1])

    def test_left_out_planes_are_announced_but_absent(self, tmp_path):
        skip = {(s, 2, c, 0) for s in (0, 1) for c in (0, 1)}
        write_czi(tmp_path / "s.czi", self.data[:, :, :, 0], skip=skip)
        with czi.open_czi(str(tmp_path / "s.czi")) as document:
            assert document.total_bounding_box["T"] == (0, 2)
            assert document.metadata["ImageDocument"]["Metadata"]["Information"]["Image"]["SizeT"] == "3"

    def test_replaces_a_file(self, tmp_path):
        for data in (self.data, self.data[:1, :1, :1, :1]):
            write_czi(tmp_path / "r.czi", data, time_offsets_s=np.arange(data.shape[1]))
        assert read(tmp_path / "r.czi")[0].shape == (1, 1, 1, 40, 50)

    @pytest.mark.parametrize(
        ("bad", "what"),
        [
            ({"data": np.zeros((1, 1, 8, 8), "u2")}, "axes"),
            ({"data": np.zeros((1, 1, 1, 8, 8), "f4")}, "uint8 or uint16"),
            ({"channel_names": ["a"]}, "channel names"),
            ({"scene_names": ["a"]}, "scene names"),
            ({"stage_positions_um": [(0, 0)]}, "stage positions"),
            ({"time_offsets_s": [0.0]}, "time offsets"),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, bad, what):
        with pytest.raises(ValueError, match=what):
            write_czi(tmp_path / "b.czi", **{"data": self.data} | bad)
        assert not (tmp_path / "b.czi").exists()


def test_importing_the_package_is_cheap():
    heavy = {"numpy", "pandas", "scipy", "pylibCZIrw"}
    code = f"import sys, pyama_dask.demo; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "[]"
