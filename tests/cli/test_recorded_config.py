"""An output stands for the config of its last run, where that is clear."""

import shutil

import pytest

from pyama_dask.config.load import load_config
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import ConfigError


@pytest.mark.parametrize("name", ["", "processing_config.yaml"])
def test_the_last_run_is_repeated(call, copied, name):
    before = load_yaml((copied / "processing_config.yaml").read_text())
    shutil.rmtree(copied / "fov_001")
    status, said, _ = call("run", copied / name)
    assert (status, "7 of 7 tasks: 2 FOVs done" in said) == (0, True), said
    assert load_yaml((copied / "processing_config.yaml").read_text()) == before | {"output": str(copied)}


def test_the_command_line_changes_it(call, copied):
    status, said, _ = call("plan", copied, "--fovs", "0", "--set", "params.segmentation_params.morph_iterations=2")
    assert (status, "replaces: results of segment, " in said) == (0, True), said


def test_new_frames_need_the_config_of_the_user(call, copied):
    status, _, error = call("run", copied, "--extend")
    assert (status, "has the frames and FOVs of the last run" in error, "such as run.yaml" in error) == (2, True, True)


def test_a_copy_elsewhere_is_refused_with_what_to_do(call, finished, tmp_path):
    for name in ("processing_config.yaml", "mine.yaml"):
        shutil.copy(finished / "processing_config.yaml", tmp_path / name)
    status, _, error = call("plan", tmp_path / "processing_config.yaml")
    assert (status, "is not the output that its processing_config.yaml belongs to. Fix: " in error) == (2, True)
    with pytest.raises(ConfigError, match=r"has a key 'metadata', .* Fix: .* delete that key"):
        load_config(tmp_path / "mine.yaml")


def test_a_folder_without_a_run_is_refused(call, tmp_path):
    status, _, error = call("run", tmp_path)
    assert (status, "is neither a config nor the output of a run. Fix: " in error) == (2, True)
    assert "for a folder with a movie, 'pyama-dask init " in error
