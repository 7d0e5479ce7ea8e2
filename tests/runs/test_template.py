"""The config that `init` writes."""

import inspect
import re

import pytest
import yaml
from support.strategies import movie

from pyama_dask.config.cluster import QUEUES, Cluster
from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config, Params, Storage
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.background import background
from pyama_dask.kernels.filling import plan_fills
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import keep_cells, link, within_size
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers.base import Channel
from pyama_dask.runs.template import config_template, descriptions


class TestTemplate:
    MOVIE = movie(channels=3, frames=40, shape=(1000, 1200))

    @pytest.fixture
    def text(self, tmp_path):
        return config_template(self.MOVIE, tmp_path / "movie.nd2", tmp_path / "out")

    def test_it_resolves_to_the_defaults(self, text, tmp_path):
        bare = {
            "input": tmp_path / "movie.nd2",
            "output": tmp_path / "out",
            "channels": yaml.safe_load(text)["channels"],
        }
        assert resolve(parse_config(yaml.safe_load(text)), self.MOVIE) == resolve(parse_config(bare), self.MOVIE)

    @pytest.mark.parametrize(
        ("shape", "margin"), [((256, 256), 12), ((512, 2048), 25), ((999, 1500), 49), ((1000, 1000), 50), ((9, 9), 0)]
    )
    def test_a_small_frame_has_a_narrow_border(self, tmp_path, shape, margin):
        document = yaml.safe_load(config_template(movie(shape=shape), tmp_path / "a.nd2", tmp_path / "out"))
        assert document["params"]["tracking_params"]["border_margin"] == margin

    def test_it_has_every_key(self, text):
        document = yaml.safe_load(text)
        assert document.keys() == Config.model_fields.keys()
        for name, model in (("params", Params), ("storage", Storage)):
            assert document[name].keys() == model.model_fields.keys()

    def test_it_has_the_keys_that_the_kind_of_cluster_uses(self, text, tmp_path):
        assert yaml.safe_load(text)["cluster"] == {
            "kind": "local", "workers": "auto", "memory": "auto", "dashboard": "127.0.0.1:8787", "batch_size": "auto",
            "retries": 1, "lost_workers": 3, "gpu": None, "alarm": 10.0,
        }  # fmt: skip
        seen = set()
        for kind in ("serial", "local", "address", "runner", *QUEUES):
            document = yaml.safe_load(config_template(movie(), tmp_path / "a.nd2", tmp_path / "out", kind))
            assert parse_config(document).cluster.kind == kind
            seen |= document["cluster"].keys()
        assert seen == Cluster.model_fields.keys()
        with pytest.raises(ConfigError, match=r"cluster\.kind: .*got 'cloud'"):
            config_template(movie(), tmp_path / "a.nd2", tmp_path / "out", "cloud")

    @pytest.mark.parametrize(
        ("key", "functions"),
        [
            ("segmentation_params", (segment,)),
            ("tracking_params", (link, keep_cells, within_size, plan_fills)),
            ("background_params", (background,)),
        ],
    )
    def test_it_has_every_parameter_of_the_methods_with_its_default(self, text, key, functions):
        wanted = {
            p.name: p.default
            for function in functions
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        assert yaml.safe_load(text)["params"][key] == wanted

    @pytest.mark.parametrize("kind", ["serial", "local", "address", "runner", *QUEUES])
    def test_every_key_has_a_description(self, tmp_path, kind):
        text = config_template(movie(), tmp_path / "a.nd2", tmp_path / "out", kind)
        for line in text.splitlines():
            assert re.search(r": .* # \S", line) or line.lstrip().startswith("- "), line

    def test_descriptions_fit_on_one_line(self):
        assert {key for key, text in descriptions().items() if "\n" in text or not 0 < len(text) <= 110} == set()

    def test_a_file_with_z_asks_for_the_maximum(self, tmp_path):
        text = config_template(movie(z_planes=3), tmp_path / "a.nd2", tmp_path / "out")
        assert yaml.safe_load(text)["params"]["z"] == "max"

    @pytest.mark.parametrize(
        ("kinds", "pc", "fl"),
        [
            (["fluorescence", "phase"], 1, [0]),
            (["other", "fluorescence"], 0, [1]),
            (["fluorescence", "fluorescence"], None, [0, 1]),
            (["phase", "phase", "other"], 0, []),
        ],
    )
    def test_channels_are_guessed_by_what_the_file_says(self, tmp_path, kinds, pc, fl):
        metadata = movie(channels=tuple(Channel(f"C{k}", "uint16", kind) for k, kind in enumerate(kinds)))
        channels = yaml.safe_load(config_template(metadata, tmp_path / "a.nd2", tmp_path / "out"))["channels"]
        assert (channels["pc"] and channels["pc"]["channel"]) == pc
        assert [choice["channel"] for choice in channels["fl"]] == fl

    def test_a_path_with_a_colon_and_a_hash_stays_whole(self, tmp_path):
        odd = tmp_path / "a: b #1.nd2"
        assert yaml.safe_load(config_template(movie(), odd, tmp_path))["input"] == str(odd)
