"""A config and metadata become one config without defaults."""

import numpy as np
import pytest
from support.configs import resolved
from support.strategies import movie

from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError, UnsupportedSourceError
from pyama_dask.plan.resolve import frame_times, plugins, resolve
from pyama_dask.readers.base import Channel
from pyama_dask.readers.times import NOMINAL
from pyama_dask.runs.template import default_params


class TestResolving:
    def test_channels_by_name_become_indices(self):
        found = resolved(channels={"pc": {"channel": "C1"}, "fl": [{"channel": "C0"}]})
        assert found.channels.pc.channel == 1
        assert found.channels.fl[0].channel == 0

    @pytest.mark.parametrize(
        ("channels", "says"),
        [
            ({"pc": {"channel": "GFP"}}, r"channels\.pc\.channel: 'GFP' is not in movie\.nd2, which has 0: 'C0'"),
            ({"fl": [{"channel": 9}]}, r"channels\.fl\.0\.channel: 9 is not in movie\.nd2"),
            ({"pc": {"channel": 0}, "fl": [{"channel": "C0"}]}, "chosen more than once"),
            ({"pc": {"channel": 0, "features": ["size"]}}, r"channels\.pc\.features: 'size' is not a phase feature"),
            ({"fl": [{"channel": 1, "features": ["area"]}]}, r"channels\.fl\.0\.features: 'area' is not a fluoresc"),
        ],
    )  # fmt: skip
    def test_channels_that_do_not_fit_the_movie(self, channels, says):
        with pytest.raises(ConfigError, match=says):
            resolved(channels=channels)

    def test_a_name_that_two_channels_have_is_refused(self):
        twice = movie(channels=(Channel("A", "uint16"), Channel("A", "uint16")))
        with pytest.raises(ConfigError, match="is the name of several channels"):
            resolved(twice, channels={"pc": {"channel": "A"}})

    @pytest.mark.parametrize("dtype", ["float32", "uint32", "int16"])
    def test_pixels_that_would_lose_values_are_refused(self, dtype):
        with pytest.raises(UnsupportedSourceError, match=rf"channel 0 \('A'\) has {dtype} pixels"):
            resolved(movie(channels=(Channel("A", dtype),)), channels={"pc": {"channel": 0}})

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("params__fovs", "0, 7", r"params\.fovs: 7 is not in movie\.nd2, whose FOVs are 0-1"),
            ("params__frames", "3-10", r"params\.frames: 10 is not in movie\.nd2, whose frames are 0-9"),
            ("params__z", 1, r"params\.z: 1 is not in movie\.nd2"),
            ("params__segmentation_params", {"size": 1}, r"params\.segmentation_params\.size: is not a parameter"),
            ("params__segmentation_params", {"morph_size": 4}, r"params\.segmentation_params\.morph_size: must be odd"),
            ("params__tracking_params", {"min_iou": 2}, r"params\.tracking_params\.min_iou"),
            ("params__tracking_params", {"min_frames": "many"}, r"params\.tracking_params\.min_frames"),
            ("params__background_params", {"tile_size": 0}, r"params\.background_params\.tile_size"),
            ("params__segmentation_method", "vnet", r"params: 'vnet' is not a segmenter; known are: logstd"),
            ("params__tracking_method", "bees", "'bees' is not a tracker; known are: iou, lap, btrack"),
            ("params__preprocess", ["smooth"], "'smooth' is not a preprocessor; known are: none built in"),
        ],
    )  # fmt: skip
    def test_values_that_do_not_fit_the_movie_or_the_method(self, key, value, says):
        with pytest.raises(ConfigError, match=says):
            resolved(**{key: value})

    def test_defaults_of_the_methods_are_written_out(self):
        params = resolved().params
        assert params.segmentation_params == default_params()["segmentation_params"] | {"morph_iterations": 1}
        assert params.background_params == {"tile_size": 100, "dilation": 10, "min_fraction": 0.05}
        assert (params.fovs, params.frames, params.z) == ("0-1", "0-9", 0)

    def test_resolving_again_changes_nothing(self):
        once = resolved(params__frames=[0, 2, 1])
        assert resolve(once, movie()) == once
        assert parse_config(once.model_dump(mode="json")) == once

    def test_z_needs_a_choice(self):
        with pytest.raises(
            ConfigError, match=r"params\.z: movie\.nd2 has 3 planes\. Fix: choose one, 'z: INDEX', or 'z: max'"
        ):
            resolved(movie(z_planes=3))
        assert resolved(movie(z_planes=3), params__z=2).params.z == 2
        assert resolved(movie(z_planes=3), params__z="max").params.z == "max"


class TestTimes:
    def times(self, metadata=None, frames=(0, 1, 2, 3), **changes):
        metadata = metadata or movie(frames=4)
        return frame_times(resolved(metadata, **changes), metadata, 0, frames)

    def test_stamps_of_the_file_come_first(self):
        found = self.times(movie(frames=4, times_min=np.array([[0.1, 5, 9, 20]] * 2)))
        assert found.minutes.tolist() == [0.1, 5, 9, 20]
        assert (found.source, found.warning) == ("stamps", None)

    @pytest.mark.parametrize(
        ("stamps", "fault"),
        [
            (None, "no time stamps"),
            ([30, 20, 10, 0], "do not increase"),
            ([float("nan")] * 3 + [0], "3 time stamps are"),
        ],
    )
    def test_else_the_interval_with_a_warning(self, stamps, fault):
        metadata = movie(frames=4, times_min=None if stamps is None else np.array([stamps] * 2))
        found = self.times(metadata, params__frame_interval=5.0)
        assert found.minutes.tolist() == [0, 5, 10, 15]
        assert found.source == "frame_interval"
        assert found.warning.startswith("FOV 0: ")
        assert fault in found.warning

    @pytest.mark.parametrize(
        ("stamps", "minutes", "frame"),
        [
            ([0, 12, float("nan"), 30], [0, 12, 21, 30], 2),
            ([0, 10, 10, 30], [0, 10, 20, 30], 2),
            ([float("nan"), 12, 22, 32], [2, 12, 22, 32], 0),
            ([0, 12, 24, 6], [0, 12, 24, 36], 3),
        ],
    )
    def test_a_bad_stamp_affects_its_own_frame_only(self, stamps, minutes, frame):
        found = self.times(movie(frames=4, times_min=np.array([stamps] * 2)), params__frame_interval=5.0)
        assert found.minutes.tolist() == minutes
        assert found.source == f"stamps; estimated for frame {frame}"
        fault = "the time stamps do not increase" if np.isfinite(stamps[frame]) else "1 time stamps are missing"
        assert found.warning.startswith(f"FOV 0: {fault} (frame {frame}); the times of these frames are estimated")
        others = [k for k in range(4) if k != frame]
        chosen = self.times(movie(frames=4, times_min=np.array([stamps] * 2)), frames=tuple(others))
        assert (chosen.minutes.tolist(), chosen.warning) == ([minutes[k] for k in others], None)

    def test_the_nominal_interval_is_used_without_a_warning_if_no_stamps_contradict_it(self):
        metadata = movie(frames=4, times_min=None, interval_min=7.0)
        found = self.times(metadata)
        assert (found.minutes.tolist(), found.source, found.warning) == ([0, 7, 14, 21], NOMINAL, None)
        assert "nominal interval is 7 min" in self.times(metadata, params__frame_interval=5.0).warning
        assert "frame_interval (default), 10 min" in self.times(movie(frames=4, times_min=None)).warning

    def test_chosen_frames_keep_their_own_times(self):
        assert self.times(frames=(1, 3)).minutes.tolist() == [10, 30]
        assert self.times(movie(frames=4, times_min=None), frames=(1, 3)).minutes.tolist() == [10, 30]

    def test_given_times_come_before_both(self):
        found = self.times(params__time_mapping={0: 0, 1: 3, 2: 4, 3: 8})
        assert (found.minutes.tolist(), found.source) == ([0, 3, 4, 8], "time_mapping")

    def test_given_times_of_some_frames(self):
        found = self.times(params__time_mapping={3: 31.5})
        assert (found.minutes.tolist(), found.source) == ([0, 10, 20, 31.5], "time_mapping, else stamps")

    @pytest.mark.parametrize(
        ("given", "says"), [({9: 1.0}, "frame 9 is not among"), ({1: 20.0}, "not increase"), ({1: float("nan")}, "")]
    )
    def test_given_times_that_cannot_be(self, given, says):
        with pytest.raises(ConfigError, match=rf"params\.time_mapping.*{says}"):
            self.times(params__time_mapping=given)


class TestSaid:
    def test_a_plugin_is_said_once_with_its_file(self, tmp_path):
        (tmp_path / "plug.py").write_text("def good(frame):\n    return frame\n")
        name = f"{tmp_path}/plug.py:good"
        named = resolved(params__preprocess=[name, name], params__segmentation_params={})
        assert plugins(named) == [f"preprocessor {name} is run from {tmp_path}/plug.py"]
        assert plugins(resolved()) == []

    @pytest.mark.parametrize("stamps", [[0, 10, float("inf"), 30], [0, 20, 10, 30]])
    def test_stamps_that_cannot_be_are_warned_of(self, stamps):
        metadata = movie(frames=4, times_min=np.array([stamps] * 2))
        warning = frame_times(resolved(metadata), metadata, 0, (0, 1, 2, 3)).warning
        assert ("1 time stamps are missing" if float("inf") in stamps else "do not increase") in warning
