"""Times of frames: from which stamps, at which index, from when on, and what one bad stamp does."""

import re
import struct
from itertools import combinations

import numpy as np
import pytest
from pylibCZIrw import czi
from support.czi_stamps import attach_stamps, put_plane_times
from support.movies import as_czi, as_nd2, config
from support.write_nd2 import write_nd2

from pyama_dask.config.load import parse_config
from pyama_dask.readers import open_reader, read_metadata
from pyama_dask.readers.czi.stamps import read_plane_times, stamps_of_frames
from pyama_dask.readers.times import NOMINAL, Stamps, choose_times, usable
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.template import config_template

NAN = float("nan")


def noise(*shape):
    return np.random.default_rng(0).integers(100, 250, shape).astype(np.uint16)


class TestUsable:
    def test_as_many_as_possible_that_increase(self):
        random = np.random.default_rng(0)
        for _ in range(300):
            stamps = random.integers(0, 9, random.integers(2, 9)).astype(float)
            found = usable(stamps)
            series = (of for k in range(len(stamps), 0, -1) for of in combinations(stamps, k))
            longest = next(len(of) for of in series if (np.diff(of) > 0).all())
            assert found.sum() == (longest if longest >= max(2, len(stamps) / 2) else 0)
            assert (np.diff(stamps[found]) > 0).all()

    def test_only_the_bad_stamp_is_left_out(self):
        even = 600.0 * np.arange(12)
        for bad in range(12):
            for value in (NAN, np.inf, -1e9, even[bad - 4] if bad > 4 else 6e5, 6e9):
                if (bad, value < 0) == (0, True) or (bad, value > 6600) == (11, True):
                    continue  # a pause before or after it is as likely
                stamps = even.copy()
                stamps[bad] = value
                assert np.flatnonzero(~usable(stamps)).tolist() == [bad]

    def test_a_large_movie_takes_no_time(self):
        stamps = np.arange(50_000.0)
        stamps[7] = 1e9
        assert usable(stamps).sum() == 49_999


class TestChoice:
    held = np.ones((2, 4), bool)

    def test_the_first_source_with_half_of_the_stamps_and_another_for_another_fov(self):
        planes = Stamps("planes", np.array([[100, 160, NAN, 280], [NAN, NAN, NAN, 7]]))
        listed = Stamps("list", np.array([[0, 60, 120, 180.0]] * 2))
        found = choose_times([planes, listed], self.held, 1.0)
        assert found["time_source"] == ("planes", "list")
        assert np.array_equal(found["times_min"], [[0, 1, NAN, 3], [0, 1, 2, 3]], equal_nan=True)

    def test_without_stamps_the_nominal_interval(self):
        none = Stamps("planes", np.array([[0, 30.0, 60, 90], [NAN] * 4]))
        found = choose_times([none], self.held, 2.0)
        assert found["time_source"] == ("planes", NOMINAL)
        assert found["times_min"].tolist() == [[0, 0.5, 1, 1.5], [0, 2, 4, 6]]
        assert choose_times([], self.held, None) == {"times_min": None, "time_source": None}

    def test_the_movie_starts_with_its_first_frame(self):
        """A FOV recorded after another one; one whose first frame is missing; a first frame with a bad stamp."""
        for seconds, minutes in [
            ([[60, 120, 180, 240], [300, 360, 420, 480]], [[0, 1, 2, 3], [4, 5, 6, 7]]),
            ([[NAN, 120, 180, 240], [300, 360, 420, 480]], [[NAN, 1, 2, 3], [4, 5, 6, 7]]),
            ([[60, 120, 180, 240], [NAN, 119, 181, 240]], [[0, 1, 2, 3], [NAN, 59 / 60, 121 / 60, 3]]),
            ([[9e9, 120, 180, 240]] * 2, [[(9e9 - 60) / 60, 1, 2, 3]] * 2),
        ]:
            times = choose_times([Stamps("s", np.array(seconds))], self.held, None)["times_min"]
            assert np.allclose(times, minutes, equal_nan=True)


# scenes, first index, frames, nominal interval, list -> (S, T) seconds, or None
LISTS = [
    (1, 0, 3, None, [0, 5, 9], [[0, 5, 9]]),
    (1, 0, 3, None, [0, 5], [[0, 5, NAN]]),
    (1, 0, 2, None, [0, 5, 9], [[0, 5]]),
    (1, 2, 2, None, [0, 5, 9, 20, 30], [[9, 20]]),
    (1, 2, 2, None, [9, 20], [[9, 20]]),
    (1, 2, 2, None, [0, 5, 9], [[9, NAN]]),
    (1, 5, 2, None, [0, 5, 9], [[NAN, NAN]]),
    (2, 0, 3, None, [0, 10, 20], [[0, 10, 20]] * 2),
    (2, 0, 3, None, [0, 3, 60, 63, 120, 123], [[0, 60, 120], [3, 63, 123]]),
    (2, 0, 3, None, [0, 60, 120, 500, 560, 620], None),
    (2, 0, 3, None, [0, 60, 120, 180, 240, 300], None),
    (2, 0, 3, 120, [0, 60, 120, 180, 240, 300], [[0, 120, 240], [60, 180, 300]]),
    (2, 1, 3, 60, [0, 3, 60, 63, 120, 123, 180, 183], [[60, 120, 180], [63, 123, 183]]),
    (2, 1, 2, 60, [0, 60, 120, 180, 240], [[60, 120]] * 2),
    (3, 0, 2, None, [0, 1, 2, 60, 61, 62], None),
    (3, 0, 2, 60, [0, 1, 2, 60, 61, 62], [[0, 60], [1, 61], [2, 62]]),
]


@pytest.mark.parametrize("case", LISTS, ids=str)
def test_lists_of_any_length(case):
    scenes, start, frames, interval, listed, expected = case
    found = stamps_of_frames(listed, scenes, start, frames, interval)
    if expected is None:
        assert found is None
    else:
        assert np.array_equal(found, expected, equal_nan=True)


class TestCzi:
    def test_times_of_planes_come_before_lists_and_the_interval(self, tmp_path):
        """Two scenes, one recorded after the other, with a pause; the attachment and the XML say something else."""
        path = as_czi(tmp_path / "a.czi", noise(2, 4, 2, 20, 24), period_s=600)
        put_plane_times(path, lambda at: 7 + 10_000 * at["S"] + 600 * at["T"] + 3600 * (at["T"] > 1) + 2 * at["C"])
        attach_stamps(path, [0, 1, 2, 3])
        info = read_metadata(path)
        first = np.array([0, 10, 80, 90])
        assert np.allclose(info.times_min, [first, first + 10_000 / 60])
        assert info.time_source == "czi AcquisitionTime of planes"
        assert info.interval_min == 10

    def test_a_plane_with_a_bad_time_affects_its_frame_only(self, tmp_path):
        bad = {2: None, 3: "yesterday", 4: "2001-01-01T00:00:00", 5: ""}
        path = as_czi(tmp_path / "a.czi", noise(1, 12, 2, 40, 48), period_s=600)
        put_plane_times(path, lambda at: bad.get(at["T"], 60.0 * at["T"]))
        plan, _ = plan_run(parse_config(config(path, tmp_path / "out")))
        assert np.allclose(plan.fovs[0].times.minutes, np.arange(12))
        assert plan.fovs[0].times.source == "czi AcquisitionTime of planes; estimated for frames 2-5"
        faults = "3 time stamps are missing (frames 2-3, 5) and the time stamps do not increase (frame 4)"
        assert any(f"FOV 0: {faults}; the times" in warning for warning in plan.warnings)

    def test_the_first_plane_that_is_there(self, tmp_path):
        """In a stack without some planes, with times in another zone and long metadata."""
        skip = {(0, 1, 0, 0), (0, 2, 0, 0), (0, 2, 1, 0)}
        data = noise(1, 3, 2, 3, 20, 24)
        path = as_czi(tmp_path / "a.czi", data, skip=skip)
        more = "</AcquisitionTime>" + "<x/>" * 2000 + "<AcquisitionTime>"
        put_plane_times(path, lambda at: f"2024-01-01T0{2 + at['T']}:0{at['Z']}:0{at['C']}+02:00{more}")
        assert read_metadata(path).times_min[0].tolist() == pytest.approx([0, 60 + 1 / 60, 121])

    def test_a_damaged_plane_affects_its_frame_only(self, tmp_path):
        """Absurd numbers in the heads of three planes; the XML that follows the second one is still found."""
        path = as_czi(tmp_path / "a.czi", noise(1, 5, 1, 20, 24))
        put_plane_times(path, lambda at: 60.0 * at["T"])
        content = bytearray(path.read_bytes())
        heads = [found.end() + 16 + 2 for found in re.finditer(b"ZISRAWSUBBLOCK", content)]
        struct.pack_into("<i", content, heads[1], -5)
        struct.pack_into("<i", content, heads[2], 2**31 - 1)
        struct.pack_into("<i", content, heads[3] + 16 + 28, 2**24)
        path.write_bytes(content)
        seconds = read_plane_times(path, np.arange(5))
        assert np.isnan(seconds).tolist() == [False, True, False, True, False]
        assert (seconds - seconds[0])[[2, 4]].tolist() == [120, 240]

    def test_no_more_is_read_than_is_needed(self, tmp_path, monkeypatch):
        path = as_czi(tmp_path / "a.czi", noise(2, 40, 2, 20, 24))
        blocks = np.arange(160).reshape(2, 40, 2)[..., 0]
        reads = []
        monkeypatch.setattr("pyama_dask.readers.czi.stamps._recorded_at", lambda *place: reads.append(place) or NAN)
        assert read_plane_times(path, blocks) is None
        assert len(reads) <= 32
        put_plane_times(path, lambda at: 60.0 * at["T"])
        monkeypatch.undo()
        with pytest.raises(TimeoutError):
            read_plane_times(path, blocks, longest_s=-1)
        monkeypatch.setattr(
            "pyama_dask.readers.czi.reader.read_plane_times", lambda *_: read_plane_times(path, blocks, -1)
        )
        with open_reader(path) as reader:
            assert reader.metadata.time_source == NOMINAL
            assert "took too long" in reader.metadata.notes[0]

    def test_an_order_that_is_not_certain_is_a_warning_with_both_numbers(self, tmp_path):
        path = as_czi(tmp_path / "a.czi", noise(2, 3, 2, 40, 48), period_s=None)
        attach_stamps(path, [0, 60, 120, 180, 240, 300])
        plan, metadata = plan_run(parse_config(config(path, tmp_path / "out")))
        assert metadata.times_min is None
        assert (
            "TimeStamps has 6 time stamps for 2 FOVs of 3 frames, in an order that is not certain" in plan.warnings[0]
        )

    def test_a_part_of_a_longer_movie(self, tmp_path):
        path = tmp_path / "a.czi"
        with czi.create_czi(str(path)) as document:
            for t in range(10, 14):
                document.write(noise(20, 24, 1), plane={"T": t}, scene=0)
        attach_stamps(path, [5657.0 + 60 * t * t for t in range(15)])
        assert read_metadata(path).times_min.tolist() == [[0, 21, 44, 69]]


class TestNd2:
    @pytest.mark.usefixtures("isolated")
    def test_stamps_at_the_index_of_the_plane(self, tmp_path):
        """More and fewer stamps than planes; the first plane of a frame missing."""
        path = write_nd2(tmp_path / "a.nd2", noise(4, 20, 24), "TYX", frame_times_ms=[1000, 61_000, 181_000, 241_000])
        assert read_metadata(path).times_min.tolist() == [[0, 1, 3, 4]]
        content = path.read_bytes()
        entry = content.rindex(b"CustomData|AcqTimesCache!") + len(b"CustomData|AcqTimesCache!")
        place, size = struct.unpack_from("<QQ", content, entry)
        assert struct.unpack_from("<Q", content, place + 8) == (size,) == (32,)
        path.write_bytes(content[: place + 8] + struct.pack("<Q", 24) + content[place + 16 :])
        assert np.array_equal(read_metadata(path).times_min, [[0, 1, 3, NAN]], equal_nan=True)


class TestInterval:
    def test_the_interval_of_the_file_comes_before_the_default_and_after_that_of_the_config(self, tmp_path):
        movie = as_nd2(tmp_path / "a.nd2", noise(1, 3, 2, 40, 48), period_ms=300_000, frame_times_ms=[500.0] * 3)
        for given, minutes, source in (("auto", 5, NOMINAL), (5, 5, NOMINAL), (7.5, 7.5, "frame_interval")):
            changes = {"params.frame_interval": given}
            plan, _ = plan_run(parse_config(config(movie, tmp_path / "out", changes)))
            times = plan.fovs[0].times
            assert (times.minutes.tolist(), times.source) == ([0, minutes, 2 * minutes], source)
            assert "the time stamps do not increase" in times.warning
            assert ("nominal interval is 5 min" in times.warning) == (given == 7.5)

    def test_init_writes_it(self, tmp_path):
        movie = as_czi(tmp_path / "a.czi", noise(1, 3, 2, 40, 48), period_s=90)
        assert "frame_interval: 1.5 " in config_template(read_metadata(movie), movie, tmp_path / "out")
        as_czi(movie, noise(1, 3, 2, 40, 48), period_s=None)
        assert "frame_interval: auto " in config_template(read_metadata(movie), movie, tmp_path / "out")
