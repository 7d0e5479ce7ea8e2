"""The command ``preview``: what it prints and writes, and which input it refuses."""

import os
import subprocess
import sys

import pytest
from support.movies import config, write_config

from pyama_dask.previews import preview


@pytest.fixture
def run_yaml(tmp_path, monkeypatch, small_czi):
    """Config in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out"))


@pytest.fixture
def look(call, run_yaml, monkeypatch):
    monkeypatch.setattr(preview, "compile_kernels", lambda *_: None)
    return lambda *arguments: call("preview", run_yaml.name, *arguments)


def test_a_grid_in_words_and_as_a_picture(look, tmp_path):
    grid = ("--grid", "morph_iterations=1,3", "--grid", "segmentation_params.max_object_size=300,null")
    status, said, _ = look("--frames", "4", *grid, "--set", "params.segmentation_params.morph_size=5")
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == "movie.czi, FOV 0, frame 4"
    assert lines[1].startswith("morph_iterations 1, max_object_size 300: 0 kept on 0%; 6 too large on ")
    assert any(line.startswith("warning in 2 of 4 panels: ") for line in lines)
    assert lines[-2].startswith("Best (plausibility ")
    assert "--set params.segmentation_params.morph_size=5 --set params.segmentation_params.morph_iter" in lines[-2]
    assert lines[-2].endswith("--set params.segmentation_params.max_object_size=null")
    assert lines[-1] == "preview.png: written"
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out").exists()


def test_an_output_has_the_settings_of_its_run(call, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "compile_kernels", lambda *_: None)
    given = ("--frames", "4", "--set", "params.segmentation_params.max_object_size=300")
    for path in (finished, finished / "processing_config.yaml"):
        status, said, _ = call("preview", str(path), *given)
        assert status == 0
        assert said.splitlines()[1].startswith("frame 4: 0 kept on 0%; 6 too large on ")
    status, _, error = call("preview", str(tmp_path))
    assert (status, "holds no results of pyama_dask (no processing_config.yaml)" in error) == (2, True)


def test_a_page_replaces_what_preview_wrote_and_nothing_else(look, tmp_path):
    assert look("-o", "p.html", "--crop", "10,20,64")[0] == look("-o", "p.html")[0] == 0
    (tmp_path / "p.html").write_text("mine")
    status, _, error = look("-o", "p.html")
    assert (status, "was not written by pyama_dask" in error) == (2, True)
    assert look("-o", "p.html", "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grid", "morf=1"], "--grid: params.segmentation_params.morf: is not a parameter here"),
        (["--grid", "morph_size"], "--grid: 'morph_size' must be KEY=VALUES, such as morph_iterations=0,1,3"),
        (["--grid", "morph_size="], "--grid: params.segmentation_params.morph_size has no values"),
        (["--grid", "morph_size=[3"], "--grid: '[3' is not a list of values in YAML"),
        (["--grid", "morph_size=3", "--grid", "morph_size=5"], "--grid: 'morph_size' is given twice"),
        (["--grid", f"min_object_size={','.join(map(str, range(26)))}"], "--grid: has 26 settings"),
        (["--frames", "10"], "--frames: 10 is not in movie.czi, whose frames are 0-9"),
        (["--fov", "7"], "--fov: 7 is not in movie.czi, whose FOVs are 0-1"),
        (["--crop", "a,b"], "--crop: must be ROW,COLUMN,SIZE"),
        (["--truth", "gone.tif"], "gone.tif: does not exist"),
        (["--truth", "run.yaml"], "run.yaml: is not an image that can be read"),
        (["--set", "params.morph=3"], "--set params.morph: is not a key here"),
        (["-o", "p.jpg"], "p.jpg: a preview is written as .png or .html"),
        (["-o", "run.yaml/p.png"], "run.yaml/p.png: cannot be written: run.yaml is no folder to write to"),
        (["--set", "channels={fl: [{channel: 1}]}"], "channels.pc: no channel is phase contrast"),
    ],
)
def test_wrong_input_is_one_message(look, tmp_path, arguments, said):
    status, printed, error = look(*arguments)
    assert (status, printed) == (2, "")
    assert said in error
    assert "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {"run.yaml"}


def test_ctrl_c_ends_it_without_a_file(run_yaml, tmp_path):
    lines = ["import os, signal", "def cut(frame, *, level: int = 0):", "    os.kill(os.getpid(), signal.SIGINT)",
             "    return (frame > level).astype('uint16')"]  # fmt: skip
    (tmp_path / "own.py").write_text("\n".join(lines))
    given = ["--set", "params.segmentation_method=own.py:cut", "--grid", "level=1,2,3"]
    command = [sys.executable, "-m", "pyama_dask.cli", "preview", run_yaml.name, *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == 130
    assert "Stopping; nothing is written" in ended.stderr
    assert "cancelled; no preview was written" in ended.stderr
    assert not (tmp_path / "preview.png").exists()
