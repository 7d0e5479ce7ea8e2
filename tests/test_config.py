"""The config refuses what it does not know, by the dotted key, and says where it is."""

import inspect
import itertools
import re
import sys

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.movies import config, write_config
from support.strategies import movie, selections

from pyama_dask.config.cluster import QUEUES, Cluster
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.config.method_parameters import method_parameters, parameter_model
from pyama_dask.config.models import Config, Params, Storage
from pyama_dask.config.units import as_ranges, memory_bytes, parse_selection
from pyama_dask.config.yaml_text import dump_yaml, load_yaml, parse_yaml
from pyama_dask.errors import ConfigError, UnsupportedSourceError
from pyama_dask.kernels.background import background
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import keep_cells, link
from pyama_dask.methods.entry_points import installed
from pyama_dask.methods.registry import find_method, is_plugin, known_methods, method_identity
from pyama_dask.plan.resolve import frame_times, plugins, resolve, shared_parameters
from pyama_dask.readers.base import Channel
from pyama_dask.readers.times import NOMINAL
from pyama_dask.runs.template import config_template, default_params, descriptions

PLAIN = config("movie.nd2", "out")


def changed(**changes):
    return config("movie.nd2", "out", {key.replace("__", "."): value for key, value in changes.items()})


def resolved(metadata=None, **changes):
    return resolve(parse_config(changed(**changes)), metadata or movie())


class TestSelection:
    @given(selections)
    def test_ranges_read_back_as_the_same_numbers(self, numbers):
        text = as_ranges(sorted(numbers))
        assert parse_selection(text) == sorted(numbers)
        assert as_ranges(parse_selection(text)) == text

    @given(st.lists(st.integers(0, 99), min_size=1))
    def test_a_list_in_any_order_and_with_repeats_selects_its_numbers(self, numbers):
        assert parse_selection(numbers) == sorted(set(numbers))

    @given(selections)
    def test_neighbours_are_written_as_one_range(self, numbers):
        parts = [[int(end) for end in part.split("-")] for part in as_ranges(sorted(numbers)).split(", ")]
        assert all(before[-1] + 1 < after[0] for before, after in itertools.pairwise(parts))

    @pytest.mark.parametrize(
        ("text", "numbers"), [("0-5, 7", [0, 1, 2, 3, 4, 5, 7]), (" 3 ", [3]), ("7,0-1", [0, 1, 7]), (3, [3])]
    )
    def test_text(self, text, numbers):
        assert parse_selection(text) == numbers

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("5-3", "runs backwards"),
            ("a", "must be 'all'"),
            ("", "must be 'all'"),
            ("1,,2", "must be 'all'"),
            ("-1", "must be 'all'"),
            ("1.5", "must be 'all'"),
            (1.5, "must be 'all'"),
            (True, "must be 'all'"),
            (-1, "must be 'all'"),
            ([0, -1], "must be 'all'"),
            ([], "must select at least one"),
            (None, "must be 'all'"),
        ],
    )
    def test_what_is_none_is_refused(self, value, says):
        with pytest.raises(ValueError, match=says):
            parse_selection(value)


class TestMemory:
    @pytest.mark.parametrize(("text", "size"), [("512MiB", 2**29), ("2 GiB", 2**31), ("1.5GiB", 3 * 2**29)])
    def test_amounts(self, text, size):
        assert memory_bytes(text) == size

    @pytest.mark.parametrize("text", ["2", "2GB", "2G", "-1GiB", "GiB", "2 gib", "", "1e3MiB"])
    def test_bare_and_ambiguous_amounts_are_refused(self, text):
        with pytest.raises(ValueError, match="MiB or GiB"):
            memory_bytes(text)


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

    @pytest.mark.parametrize("key", ["colour", "params.tile", "storage.zip", "cluster.nodes", "channels.dic"])
    def test_an_unknown_key_is_refused_by_its_name(self, key):
        with pytest.raises(ConfigError, match=rf"  {key}: is not a key here"):
            parse_config(config("movie.nd2", "out", {key: 1}))

    @pytest.mark.parametrize("key", ["input", "output", "channels"])
    def test_a_key_that_is_needed_is_named(self, key):
        with pytest.raises(ConfigError, match=rf"  {key}: is needed"):
            parse_config({name: value for name, value in PLAIN.items() if name != key})

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
            ({}, "choose at least one channel"),
            ({"pc": None, "fl": []}, "choose at least one channel"),
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


class TestYaml:
    """The one reader of YAML, and the one writer."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("5e8", 5e8), ("-1E-3", -1e-3), ("1.5e3", 1.5e3), ("-.5", -0.5), (".5e1", 5.0), ("+2.e+1", 20.0),
            ("5", 5), ("1.5", 1.5), ("08", "08"), ("1e", "1e"), ("e8", "e8"), ("1e8x", "1e8x"), ("'5e8'", "5e8"),
            ("-", [None]), ("5e8-6", "5e8-6"), (".inf", float("inf")),
        ],
    )  # fmt: skip
    def test_numbers_are_those_of_yaml_1_2(self, text, value):
        for found in (parse_yaml(text, "here"), load_yaml(text)):
            assert (found, type(found)) == (value, type(value))
            assert parse_yaml(dump_yaml({"a": found}), "here") == load_yaml(dump_yaml({"a": found})) == {"a": value}

    def test_a_number_that_no_float_holds_is_refused_by_line(self):
        with pytest.raises(ConfigError, match=r"here: 1e999 is beyond the largest number(.|\n)*line 2, column 4"):
            parse_yaml("a: 5\nb: 1e999", "here")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: &x [1]\nb: *x\n", r"the alias '\*x' instead of a value in line 2, column 4"),
            ("a: {b: 1, b: 2}\n", "the key 'b' stands there twice in line 1, column 11; keep one"),
            ("a:\n  - ? [b]\n    : 1\n", "a key that is not text in line 2, column 7"),
            (f"a: [{'9' * 101}]\n", "a number of 101 characters in line 1, column 5"),
            ("a: " + "[" * 51 + "]" * 51, "more than 50 levels of keys or lists in line 1, column 53"),
            ("<<: {a: 1}\n", "line 1, column 1"),
        ],
    )
    def test_what_no_config_has_is_refused_by_its_place(self, text, said):
        with pytest.raises(ConfigError, match=said):
            parse_yaml(text, "here")

    def test_a_list_that_stands_at_two_places_is_written_twice(self):
        shared = [1, 2]
        assert parse_yaml(dump_yaml({"a": shared, "b": shared}), "here") == {"a": shared, "b": shared}

    def test_switches_may_be_those_of_yaml(self, tmp_path):
        text = "input: a.nd2\noutput: o\nchannels: {pc: {channel: 0}}\nparams: {frame_interval: 5e-1}\n"
        text += "storage: {cells: off, display: no}\ncluster: {tls: false}\n"
        (tmp_path / "run.yaml").write_text(text)
        found = load_config(tmp_path / "run.yaml")
        assert (found.storage.cells, found.storage.display, found.cluster.tls) == ("off", "off", "off")
        assert found.params.frame_interval == 0.5


class TestFiles:
    def test_paths_count_from_the_folder_of_the_file(self, tmp_path):
        found = load_config(write_config(tmp_path / "run.yaml", config("data/a.nd2", "../out")))
        assert found.input == tmp_path / "data" / "a.nd2"
        assert found.output == tmp_path / ".." / "out"

    def test_absolute_paths_stay(self, tmp_path):
        found = load_config(write_config(tmp_path / "run.yaml", config("/data/a.nd2", "/out")))
        assert (str(found.input), str(found.output)) == ("/data/a.nd2", "/out")

    def test_overrides_take_the_place_of_values_and_of_missing_parts(self, tmp_path):
        path = write_config(tmp_path / "run.yaml", {k: PLAIN[k] for k in ("input", "output", "channels")})
        found = load_config(path, {"params.fovs": "0-2", "params.tracking_params.min_frames": 3, "output": "here"})
        assert found.params.fovs == "0-2"
        assert found.params.tracking_params == {"min_frames": 3}
        assert str(found.output) == "here"  # from the command line: relative to where one stands

    def test_an_override_that_names_another_method_drops_the_parameters_of_the_former_one(self, tmp_path):
        params = {"segmentation_params": {"min_object_size": 9}, "tracking_params": {"min_frames": 3, "min_iou": 0.2}}
        path = write_config(tmp_path / "run.yaml", PLAIN | {"params": params})

        def found(**overrides):
            changed = {f"params.{name}": value for name, value in overrides.items()}
            loaded = load_config(path, changed, shared_parameters()).params
            return loaded.segmentation_params, loaded.tracking_params

        same = (params["segmentation_params"], params["tracking_params"])
        assert found() == found(segmentation_method="logstd", tracking_method="iou") == same
        assert found(segmentation_method="own.py:cut") == ({}, params["tracking_params"])
        assert found(tracking_method="own.py:follow") == (params["segmentation_params"], {"min_frames": 3})
        given = {"segmentation_params.level": 5, "segmentation_method": "own.py:cut"}
        assert found(**given)[0] == {"level": 5}

    def test_an_override_below_a_value_is_refused(self, tmp_path):
        path = write_config(tmp_path / "run.yaml", PLAIN)
        with pytest.raises(ConfigError, match=r"output\.path: 'output' holds a value, not keys"):
            load_config(path, {"output.path": 1})

    def test_an_override_below_a_key_without_value_makes_it(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("input: a.nd2\noutput: o\nchannels: {pc: {channel: 0}}\nparams:\n")
        assert load_config(path, {"params.fovs": "0"}).params.fovs == "0"

    @pytest.mark.parametrize("part", ["params", "storage", "cluster"])
    def test_a_part_without_values_has_its_defaults(self, tmp_path, part):
        path = tmp_path / "run.yaml"
        path.write_text(f"input: a.nd2\noutput: o\nchannels: {{pc: {{channel: 0}}}}\n{part}:\n")
        try:
            found = load_config(path)
        except ConfigError as refused:  # or it is said which key is empty
            assert f"  {part}: " in str(refused)  # noqa: PT017
        else:
            assert getattr(found, part) == {"params": Params(), "storage": Storage(), "cluster": Cluster()}[part]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"- a\n- b\n", "must hold keys"),
            (b"", "must hold keys"),
            (b"a: [", "is not a YAML config"),
            (b"a: \xff\xfe", "is not a YAML config"),
            (b"params: {fovs: 5-3}\n", "run.yaml:\n"),
        ],
    )
    def test_a_file_that_is_no_config_is_named(self, tmp_path, content, says):
        (tmp_path / "run.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=says) as refused:
            load_config(tmp_path / "run.yaml")
        assert str(tmp_path / "run.yaml") in str(refused.value)

    @pytest.mark.parametrize("name", ["none.yaml", "."])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, name):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path / name)

    def test_python_objects_in_yaml_are_not_made(self, tmp_path):
        (tmp_path / "run.yaml").write_text("input: !!python/object/apply:os.getcwd []\n")
        with pytest.raises(ConfigError, match="is not a YAML config"):
            load_config(tmp_path / "run.yaml")


class TestTemplate:
    @pytest.fixture
    def text(self, tmp_path):
        return config_template(movie(channels=3, frames=40), tmp_path / "movie.nd2", tmp_path / "out")

    def test_it_resolves_to_the_defaults(self, text, tmp_path):
        bare = {
            "input": tmp_path / "movie.nd2",
            "output": tmp_path / "out",
            "channels": yaml.safe_load(text)["channels"],
        }
        metadata = movie(channels=3, frames=40)
        assert resolve(parse_config(yaml.safe_load(text)), metadata) == resolve(parse_config(bare), metadata)

    def test_it_has_every_key(self, text):
        document = yaml.safe_load(text)
        assert document.keys() == Config.model_fields.keys()
        for name, model in (("params", Params), ("storage", Storage)):
            assert document[name].keys() == model.model_fields.keys()

    def test_it_has_the_keys_that_the_kind_of_cluster_uses(self, text, tmp_path):
        assert yaml.safe_load(text)["cluster"] == {
            "kind": "local", "workers": "auto", "memory": "auto", "dashboard": "127.0.0.1:8787", "batch_size": "auto",
            "retries": 1, "lost_workers": 3, "alarm": 10.0,
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
            ("tracking_params", (link, keep_cells)),
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
            ("params__segmentation_method", "unet", r"params: 'unet' is not a segmenter; known are: logstd"),
            ("params__tracking_method", "bees", "'bees' is not a tracker; known are: iou, btrack"),
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
            ConfigError, match=r"params\.z: movie\.nd2 has 3 planes; choose one, 'z: INDEX', or 'z: max'"
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


def of_queue(**keys):
    """Cluster of a config that has all that a queue needs, but for what is changed; None takes a key away."""
    document = {"kind": "slurm", "jobs": 2, "memory": "4GiB", "walltime": "04:00:00"} | keys
    given = {key: value for key, value in document.items() if value is not None}
    return parse_config(PLAIN | {"cluster": given}).cluster


class TestQueues:
    @pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf", "sge", "oar"])
    def test_what_a_queue_needs(self, kind):
        found = of_queue(kind=kind)
        assert found.of_queue
        assert (found.most_jobs, found.worker_processes, found.worker_bytes) == (2, 1, 4 * 2**30 - 200 * 2**20)

    def test_a_local_cluster_needs_none_of_it(self):
        assert not parse_config(PLAIN | {"cluster": {"kind": "local"}}).cluster.of_queue

    @pytest.mark.parametrize("keys", [{"jobs": None}, {"adaptive": {"maximum": 3}}])
    def test_either_a_number_of_jobs_or_limits(self, keys):
        with pytest.raises(ConfigError, match=r"cluster: 'kind: slurm' needs either 'jobs', .* or 'adaptive'"):
            of_queue(**keys)

    def test_limits_of_jobs(self):
        found = of_queue(jobs=None, adaptive={"maximum": 3})
        assert (found.adaptive.minimum, found.most_jobs) == (0, 3)
        with pytest.raises(ConfigError, match=r"cluster\.adaptive: 'minimum' is larger than 'maximum'"):
            of_queue(jobs=None, adaptive={"minimum": 4, "maximum": 3})
        with pytest.raises(ConfigError, match=r"cluster\.adaptive\.maximum: "):
            of_queue(jobs=None, adaptive={"maximum": 0})

    @pytest.mark.parametrize("memory", [None, "auto"])
    def test_a_job_needs_its_memory(self, memory):
        with pytest.raises(ConfigError, match="cluster: 'kind: slurm' needs 'memory', of a job, such as 4GiB"):
            of_queue(memory=memory)

    def test_memory_must_be_enough_for_the_process_that_looks_after_the_workers(self):
        with pytest.raises(ConfigError, match="'memory', 200MiB, is less than a job of 1 processes needs"):
            of_queue(memory="200MiB")

    @pytest.mark.parametrize(
        ("written", "time"),
        [
            ("'4:00:00'", "04:00:00"),
            ('"04:00:00"', "04:00:00"),
            ("04:00:00", "04:00:00"),  # text to YAML, as the first number has a zero in front
            ("2-00:00:01", "48:00:01"),
            ("'0:00:30'", "00:00:30"),
            ("'1000:00:00'", "1000:00:00"),
        ],
    )
    def test_walltimes(self, written, time, tmp_path):
        assert self.read(written, tmp_path).cluster.walltime == time

    @pytest.mark.parametrize("written", ["4:00:00", "4:00", "90", "14400"])
    def test_a_walltime_that_yaml_reads_as_a_number_must_be_quoted(self, written, tmp_path):
        with pytest.raises(ConfigError, match=r"cluster\.walltime: must be quoted, as 'HH:MM:SS'"):
            self.read(written, tmp_path)

    @pytest.mark.parametrize("written", ["'4:00'", "4h", "'00:00:00'", "'04:60:00'", "'-1:00:00'", "'1:2:3'"])
    def test_what_is_no_walltime(self, written, tmp_path):
        with pytest.raises(ConfigError, match=r"cluster\.walltime: must be a time such as '04:00:00'"):
            self.read(written, tmp_path)

    def read(self, walltime, folder):
        document = write_config(folder / "run.yaml", PLAIN | {"cluster": {"kind": "slurm", "jobs": 1}})
        text = document.read_text().rstrip() + f"\n  memory: 4GiB\n  walltime: {walltime}\n"
        document.write_text(text)
        return load_config(document)

    def test_every_queue_but_htcondor_needs_a_walltime(self):
        with pytest.raises(ConfigError, match="cluster: 'walltime', such as '04:00:00', is needed"):
            of_queue(walltime=None)
        with pytest.raises(ConfigError, match="with every queue but htcondor, which has none"):
            of_queue(kind="htcondor")
        assert of_queue(kind="htcondor", walltime=None).walltime is None

    @pytest.mark.parametrize("keys", [{"queue": "long"}, {"account": "lab"}])
    def test_htcondor_has_no_queues_and_accounts(self, keys):
        with pytest.raises(ConfigError, match="cluster: htcondor has no 'queue' and no 'account'"):
            of_queue(kind="htcondor", walltime=None, **keys)

    def test_directives_of_htcondor_are_names_and_values(self):
        lines = ("accounting_group=lab", '+Site = "A"', 'requirements = Arch == "X86_64"')
        assert of_queue(kind="htcondor", walltime=None, directives=lines).directives == lines
        for line in ("nice", "= 5", "two words = 1", "empty ="):
            with pytest.raises(ConfigError, match="'directives' of htcondor are lines such as"):
                of_queue(kind="htcondor", walltime=None, directives=[line])

    @pytest.mark.parametrize(("cores", "processes", "count"), [(4, "auto", 4), (4, 2, 2), (4, 1, 1)])
    def test_processes_of_a_job(self, cores, processes, count):
        found = of_queue(cores=cores, processes=processes)
        assert (found.worker_processes, found.worker_bytes) == (count, (4 * 2**30 - 200 * 2**20) // count)

    @pytest.mark.parametrize(("cores", "processes"), [(4, 3), (2, 4)])
    def test_processes_share_the_cores_evenly(self, cores, processes):
        with pytest.raises(ConfigError, match=f"'cores', {cores}, must be a multiple of 'processes', {processes}"):
            of_queue(cores=cores, processes=processes)

    @pytest.mark.parametrize(("given", "found"), [("on", "on"), ("off", "off"), (True, "on"), (False, "off")])
    def test_the_switch_of_tls(self, given, found):
        assert of_queue(tls=given).tls == found

    def test_what_is_no_switch(self):
        with pytest.raises(ConfigError, match=r"cluster\.tls: "):
            of_queue(tls="maybe")


PLUGIN = """
from typing import Annotated, Literal
from pydantic import Field

NUMBER = 3

def good(frame, *, size: Annotated[int, Field(ge=1)] = 3, mode: Literal["a", "b"] = "a"):
    return frame

def needs(frame, *, size: int):
    return frame

def bare(frame, *, size=3):
    return frame
"""


class TestMethods:
    @pytest.fixture(params=["file", "module"])
    def plugin(self, request, tmp_path, monkeypatch):
        """Name of the plugin before the colon, in both forms."""
        name = f"plugin_{request.node.name.split('[')[0][:40]}"
        (tmp_path / f"{name}.py").write_text(PLUGIN)
        monkeypatch.syspath_prepend(tmp_path)
        return name if request.param == "module" else str(tmp_path / f"{name}.py")

    @pytest.mark.parametrize("kind", ["segmenter", "tracker", "preprocessor", "phase feature", "fluorescence feature"])
    def test_a_function_is_found(self, plugin, kind):
        assert find_method(kind, f"{plugin}:good").__name__ == "good"

    def test_its_parameters_are_checked_and_filled_in(self, plugin):
        name = f"{plugin}:good"
        found = resolved(params__segmentation_method=name, params__segmentation_params={"size": 2})
        assert found.params.segmentation_params == {"size": 2, "mode": "a"}
        with pytest.raises(ConfigError, match=r"params\.segmentation_params\.size.*greater than or equal to 1"):
            resolved(params__segmentation_method=name, params__segmentation_params={"size": 0})
        with pytest.raises(ConfigError, match=r"segmentation_params\.length: is not a parameter here; known are: size"):
            resolved(params__segmentation_method=name, params__segmentation_params={"length": 1})

    def test_a_parameter_without_default_is_needed(self, plugin):
        with pytest.raises(ConfigError, match=r"params\.segmentation_params\.size: is needed"):
            resolved(params__segmentation_method=f"{plugin}:needs", params__segmentation_params={})

    def test_a_parameter_without_annotation_takes_any_value(self, plugin):
        found = resolved(params__segmentation_method=f"{plugin}:bare", params__segmentation_params={"size": 5})
        assert found.params.segmentation_params == {"size": 5}

    def test_a_function_that_is_not_there(self, plugin):
        with pytest.raises(ConfigError, match=r"segmenter .*:bad' cannot be loaded: .*bad"):
            find_method("segmenter", f"{plugin}:bad")

    def test_what_is_no_function(self, plugin):
        with pytest.raises(ConfigError, match=r"tracker .*:NUMBER' is not a function"):
            find_method("tracker", f"{plugin}:NUMBER")

    @pytest.mark.parametrize("name", ["no_such_module_here:f", "no/such/file.py:f"])
    def test_a_module_or_file_that_is_not_there(self, name):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            find_method("segmenter", name)

    @pytest.mark.parametrize("code", ["def f(:", "import no_such_module_here", "1 / 0", "x = undefined"])
    def test_a_file_that_does_not_import(self, tmp_path, code):
        (tmp_path / "broken.py").write_text(code)
        with pytest.raises(ConfigError, match="cannot be loaded"):
            find_method("segmenter", f"{tmp_path}/broken.py:f")

    def test_two_files_of_one_name_are_kept_apart(self, tmp_path):
        for folder, value in (("a", 1), ("b", 2)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same.py").write_text(f"def f(x): return {value}")
        assert [find_method("segmenter", f"{tmp_path}/{folder}/same.py:f")(0) for folder in "aba"] == [1, 2, 1]

    def test_copies_of_a_file_are_kept_apart(self, tmp_path):
        for folder in "ab":
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same.py").write_text("def f(x): return __file__")
        assert [find_method("segmenter", f"{tmp_path}/{folder}/same.py:f")(0) for folder in "ab"] == [
            f"{tmp_path}/{folder}/same.py" for folder in "ab"
        ]

    def test_a_name_belongs_to_the_function_that_has_it(self):
        filled = method_parameters("params.tracking_params", {"min_frames": 2}, link, keep_cells)
        assert filled == {"min_iou": 0.1, "min_frames": 2, "border_margin": 50}

    def test_limits_of_the_built_in_methods_are_those_of_their_signatures(self):
        assert set(parameter_model(segment).model_fields) == set(default_params()["segmentation_params"])


class TestSaid:
    def test_a_plugin_is_said_once_with_its_file(self, tmp_path):
        (tmp_path / "plug.py").write_text(PLUGIN)
        name = f"{tmp_path}/plug.py:good"
        named = resolved(params__preprocess=[name, name], params__segmentation_params={})
        assert plugins(named) == [f"preprocessor {name} is run from {tmp_path}/plug.py"]
        assert plugins(resolved()) == []

    @pytest.mark.parametrize("stamps", [[0, 10, float("inf"), 30], [0, 20, 10, 30]])
    def test_stamps_that_cannot_be_are_warned_of(self, stamps):
        metadata = movie(frames=4, times_min=np.array([stamps] * 2))
        warning = frame_times(resolved(metadata), metadata, 0, (0, 1, 2, 3)).warning
        assert ("1 time stamps are missing" if float("inf") in stamps else "do not increase") in warning

    @pytest.mark.parametrize("code", ["def f(): ...", "def f(frame, mask): ...", "def f(*, size=3): ..."])
    def test_a_function_that_cannot_take_its_data_is_refused_with_its_line(self, tmp_path, code):
        (tmp_path / "odd.py").write_text(f"# first\n{code}\n")
        said = r"preprocessor .*odd\.py:f' \(.*odd\.py, line 2\) has the signature \(.*\), but must take one argument"
        with pytest.raises(ConfigError, match=said):
            find_method("preprocessor", f"{tmp_path}/odd.py:f")

    @pytest.mark.parametrize(
        "code", ["def f(frame): ...", "def f(frame, size=3): ...", "f = max", "def f(*a, **k): ..."]
    )
    def test_functions_that_can_are_taken(self, tmp_path, code):
        (tmp_path / "fine.py").write_text(code)
        assert callable(find_method("preprocessor", f"{tmp_path}/fine.py:f"))


class TestInstalledMethods:
    """Those that other packages declare as entry points."""

    @pytest.fixture(autouse=True)
    def package(self, tmp_path, monkeypatch):
        (tmp_path / "their_package.py").write_text("def dim(frame, *, factor: float = 0.5):\n    return frame\n")
        info = tmp_path / "their_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[pyama_dask.preprocessors]\ndim = their_package:dim\n[pyama_dask.segmenters]\nlogstd = their_package:dim\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        installed.cache_clear()
        yield
        installed.cache_clear()
        sys.modules.pop("their_package", None)

    def test_they_are_found_by_their_name(self):
        assert find_method("preprocessor", "dim").__module__ == "their_package"
        assert known_methods()["preprocessor"] == {"dim": "their_package:dim, of their-package"}
        assert is_plugin("preprocessor", "dim")
        assert resolved(params__preprocess=["dim"]).params.preprocess == ("dim",)

    def test_a_name_of_this_package_goes_before_theirs(self):
        assert find_method("segmenter", "logstd") is segment
        assert not is_plugin("segmenter", "logstd")
        assert known_methods()["segmenter"]["logstd"] == "pyama_dask"

    def test_what_is_in_their_file_is_part_of_their_identity(self, tmp_path):
        before = method_identity("preprocessor", "dim")
        assert before.startswith("dim@")
        with (tmp_path / "their_package.py").open("a") as file:
            file.write("# more\n")
        assert method_identity("preprocessor", "dim") != before

    def test_they_are_among_those_that_are_known(self):
        with pytest.raises(ConfigError, match=r"'dime' is not a preprocessor; known are: dim\. Fix: use one"):
            find_method("preprocessor", "dime")

    def test_the_log_says_that_they_are_run(self):
        (said,) = plugins(resolved(params__preprocess=["dim"]))
        assert said.startswith("preprocessor dim is run from")
