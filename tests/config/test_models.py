"""A config refuses what it does not know, by the dotted key."""

import pytest
from support.configs import PLAIN, changed
from support.movies import config

from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("params.fovs", "5-3"),
            ("params.fovs", []),
            ("params.frames", "x"),
            ("params.z", "mean"),
            ("params.z", -1),
            ("params.copy_only", "perhaps"),
            ("params.preprocess", "smooth"),
            ("params.segmentation_method", 3),
            ("params.segmentation_params", [1]),
            ("params.background_weight", 1.5),
            ("params.background_weight", -0.1),
            ("params.background_weight", "much"),
            ("params.background_weight", float("nan")),
            ("params.frame_interval", 0),
            ("params.frame_interval", float("inf")),
            ("params.frame_interval", float("nan")),
            ("params.time_mapping", {-1: 0.0}),
            ("params.time_mapping", [0, 10]),
            ("params.crop_padding", -1),
            ("params.crop_padding", 1.5),
            ("storage.codec", "zip"),
            ("storage.level", 0),
            ("storage.level", 10),
            ("storage.level", True),
            ("storage.level", "high"),
            ("storage.shuffle", "bits"),
            ("storage.chunks", "tiles"),
            ("storage.chunks", "tiles of 31"),
            ("storage.chunks", "tiles of 16385"),
            ("storage.chunks", 256),
            ("storage.block_frames", 0),
            ("storage.block_frames", "big"),
            ("cluster.kind", "cloud"),
            ("cluster.workers", 0),
            ("cluster.memory", "2GB"),
            ("cluster.retries", -1),
            ("cluster.batch_size", 0),
            ("channels.pc", "Phase"),
            ("channels.fl", {"channel": 1}),
        ],
    )
    def test_a_wrong_value_is_refused_by_its_key(self, key, value):
        with pytest.raises(ConfigError, match=rf"(?m)^  {key}[.:0-9]") as refused:
            parse_config(config("movie.nd2", "out", {key: value}), source="run.yaml")
        assert str(refused.value).startswith("run.yaml:")

    @pytest.mark.parametrize(("key", "value"), [("level", 5), ("shuffle", "on"), ("shuffle", True)])
    def test_settings_of_a_codec_are_refused_without_one(self, key, value):
        with pytest.raises(ConfigError, match=rf"  storage: '{key}: \w+' has no meaning with 'codec: none'. Fix: "):
            parse_config(config("movie.nd2", "out", {"storage.codec": "none", f"storage.{key}": value}))

    def test_chunks_are_one_message_and_one_text(self):
        with pytest.raises(ConfigError) as refused:
            parse_config(config("movie.nd2", "out", {"storage.chunks": "tiles of x"}))
        assert str(refused.value).count("storage.chunks") == 1
        assert "must be auto, frame, block, or tiles such as 'tiles of 256', not 'tiles of x'" in str(refused.value)
        taken = parse_config(config("movie.nd2", "out", {"storage.chunks": " tiles  of 64", "storage.shuffle": False}))
        assert (taken.storage.chunks, taken.storage.shuffle) == ("tiles of 64", "off")

    @pytest.mark.parametrize("key", ["colour", "params.tile", "storage.zip", "cluster.nodes", "channels.dic"])
    def test_an_unknown_key_is_refused_by_its_name(self, key):
        with pytest.raises(ConfigError, match=rf"  {key}: is not a key here"):
            parse_config(config("movie.nd2", "out", {key: 1}))

    @pytest.mark.parametrize("key", ["input", "output", "channels"])
    def test_a_key_that_is_needed_is_named(self, key):
        with pytest.raises(ConfigError, match=rf"  {key}: is needed"):
            parse_config({name: value for name, value in PLAIN.items() if name != key})

    def test_a_list_of_movies_is_refused(self):
        with pytest.raises(ConfigError, match=r"  input: is a list, but a single run has one movie. Fix: .*\{fov\}"):
            parse_config(PLAIN | {"input": ["a.nd2", "b.nd2"]})

    def test_all_wrong_keys_are_named_at_once(self):
        wrong = changed(params__crop_padding=-1, cluster__kind="cloud", storage__zip=1)
        with pytest.raises(ConfigError) as refused:
            parse_config(wrong)
        for key in ("params.crop_padding", "cluster.kind", "storage.zip"):
            assert f"  {key}: " in str(refused.value)

    def test_the_wrong_value_is_quoted(self):
        with pytest.raises(ConfigError, match=r"params\.crop_padding: .*\(got -7\)"):
            parse_config(changed(params__crop_padding=-7))

    @pytest.mark.parametrize(
        ("channels", "says"),
        [
            ({}, "Fix: choose at least one"),
            ({"pc": None, "fl": []}, "Fix: choose at least one"),
            ({"pc": {"channel": 0}, "fl": [{"channel": 0}]}, "channel 0 is chosen more than once"),
            ({"pc": {"channel": -1}}, r"channels\.pc\.channel"),
            ({"fl": [{"channel": 1}, {"channel": 1.5}]}, r"channels\.fl\.1\.channel"),
            ({"fl": [{"channel": True}]}, r"channels\.fl\.0\.channel"),
            ({"fl": [{}]}, r"channels\.fl\.0\.channel: is needed"),
        ],
    )
    def test_channels(self, channels, says):
        with pytest.raises(ConfigError, match=says):
            parse_config(PLAIN | {"channels": channels})

    @pytest.mark.parametrize("cluster", [{"kind": "address"}, {"kind": "local", "address": "tcp://a:1"}])
    def test_an_address_goes_with_its_kind(self, cluster):
        with pytest.raises(ConfigError, match="cluster: 'address' goes with 'kind: address'"):
            parse_config(PLAIN | {"cluster": cluster})

    def test_a_config_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            parse_config(PLAIN).params.fovs = "0"
