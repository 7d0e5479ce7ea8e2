"""YAML that means one thing only."""

from pathlib import Path

import pytest

from pyama_dask.config.load import load_config
from pyama_dask.config.yaml_text import dump_yaml, load_yaml, parse_yaml
from pyama_dask.errors import ConfigError


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
            ("input: *.czi\n", r"scanning an alias(.|\n)*Fix: put text that begins with '\*' in quotes$"),
            ("a: &x [1]\nb: *x\n", r"the alias '\*x' instead of a value in line 2, column 4"),
            ("a: {b: 1, b: 2}\n", "the key 'b' stands there twice in line 1, column 11. Fix: keep one"),
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

    def test_paths_are_written_as_text(self):
        assert load_yaml(dump_yaml({"model": Path("models/mine.onnx")})) == {"model": "models/mine.onnx"}

    def test_switches_may_be_those_of_yaml(self, tmp_path):
        text = "input: a.nd2\noutput: o\nchannels: {pc: {channel: 0}}\nparams: {frame_interval: 5e-1}\n"
        text += "storage: {cells: off, display: no}\ncluster: {tls: false}\n"
        (tmp_path / "run.yaml").write_text(text)
        found = load_config(tmp_path / "run.yaml")
        assert (found.storage.cells, found.storage.display, found.cluster.tls) == ("off", "off", "off")
        assert found.params.frame_interval == 0.5
