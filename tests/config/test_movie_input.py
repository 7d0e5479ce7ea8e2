"""``input`` of the config: a path, or keys with a path and facts about the movie."""

from pathlib import Path

import pytest
from support.configs import PLAIN
from support.movies import write_config

from pyama_dask.config.load import load_config, parse_config, with_overrides
from pyama_dask.errors import ConfigError


def parsed(value, **params):
    return parse_config(PLAIN | {"input": value, "params": params})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a.nd2", "a.nd2"),
        (Path("a.nd2"), "a.nd2"),
        ({"file": "a.nd2"}, "a.nd2"),
        ({"folder": "plate"}, "plate"),
        ({"pattern": "p{fov}.tif"}, "p{fov}.tif"),
        ({"file": "a.nd2", "pixel_size": 0.65, "frame_interval": 5}, "a.nd2"),
    ],
)
def test_a_movie_may_be_written_in_several_ways(value, path):
    assert parsed(value).input.path == Path(path)


def test_paths_have_no_dots_if_they_lead_to_the_same_place_without(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere" / "movies").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "movies")
    given = {"input": f"{tmp_path}/runs/../a.nd2", "output": f"{tmp_path}/none/../out"}
    config = parse_config(PLAIN | given)
    assert (config.input.path, config.output) == (tmp_path / "a.nd2", tmp_path / "out")
    kept = tmp_path / "link" / ".." / "a.nd2"  # beside the folder that the link leads to
    assert parsed(kept).input.path == kept
    assert parsed(tmp_path / "link" / "a.nd2").input.path == tmp_path / "link" / "a.nd2"
    monkeypatch.chdir(tmp_path / "runs")
    assert parsed("../a.nd2").input.path == tmp_path / "a.nd2"
    assert parsed("a.nd2").input.path == Path("a.nd2")
    (tmp_path / "runs" / "run.yaml").write_text("input: ../a.nd2\noutput: ../out\nchannels: {pc: {channel: 0}}\n")
    assert load_config(tmp_path / "runs" / "run.yaml").output == tmp_path / "out"


def test_a_path_alone_is_written_as_in_older_versions():
    assert parsed({"file": "a.nd2"}).model_dump(mode="json")["input"] == "a.nd2"


def test_what_is_written_is_read_back():
    before = parsed({"pattern": "{well}_{frame}.tif", "plate": 96, "pixel_size": 0.5})
    assert before.model_dump(mode="json")["input"] == {"pattern": "{well}_{frame}.tif", "pixel_size": 0.5, "plate": 96}
    assert parse_config(before.model_dump(mode="json")) == before
    assert with_overrides(before, {"params.fovs": "0"}, {}).input == before.input


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, r"input: has no path. Fix: give exactly one of the keys file, folder, pattern"),
        ({"pixel_size": 0.65}, "input: has no path"),
        ({"file": "a.nd2", "folder": "b"}, "input: has the keys file and folder. Fix: give exactly one"),
        ({"pattern": "img.tif"}, r"input: is a pattern without fields. Fix: write it such as"),
        ({"file": "a.nd2", "pixelsize": 1}, r"input\.pixelsize: is not a key here; did you mean input\.pixel_size"),
        ({"file": "a.nd2", "pixel_size": 0}, r"input\.pixel_size: .*greater than 0"),
        ({"file": "a.nd2", "pixel_size": True}, r"input\.pixel_size: must be a number"),
        ({"file": "a.nd2", "frame_interval": -5}, r"input\.frame_interval: "),
        ({"folder": "plate", "plate": 100}, r"input\.plate: "),
        ("", "input: is empty"),
        (3, r"input: must be a path \(got 3\)"),
    ],
)
def test_faults_are_named(value, said):
    with pytest.raises(ConfigError, match=said):
        parsed(value)


@pytest.mark.parametrize(("key", "one", "other"), [("pixel_size", 0.65, 0.325), ("frame_interval", 5, 10)])
def test_facts_that_contradict_the_processing_are_refused(key, one, other):
    with pytest.raises(ConfigError, match=rf"'input\.{key}' is {one}, and 'params\.{key}' is {other}. Fix: leave out"):
        parsed({"file": "a.nd2", key: one}, **{key: other})
    assert getattr(parsed({"file": "a.nd2", key: one}, **{key: one}).input, key) == one


def test_paths_count_from_the_folder_of_the_file(tmp_path):
    path = write_config(tmp_path / "run.yaml", PLAIN | {"input": {"folder": "plate", "plate": 96}})
    assert load_config(path).input.path == tmp_path / "plate"


def test_a_fact_may_be_added_on_the_command_line(tmp_path):
    found = load_config(write_config(tmp_path / "run.yaml", PLAIN | {"input": "a.nd2"}), {"input.pixel_size": 0.65})
    assert (found.input.path, found.input.pixel_size) == (tmp_path / "a.nd2", 0.65)
