"""Pipelines on the command line: the three phases of plan and run, some steps only, and steps done again."""

from pathlib import Path

import pytest
from support import steps
from support.movies import as_czi, config, file_bytes, listing, pixels, write_config

MINE = Path(steps.__file__).as_posix()
PIPELINES = [
    {
        "name": "prepare",
        "steps": [
            {"do": "gaussian", "sigma": 1, "channels": ["GFP"], "checkpoint": True},
            {"do": f"{MINE}:brighter", "by": 7, "channels": ["GFP"]},
            {"do": f"{MINE}:mean_of_three", "halo": 1, "channels": ["GFP"]},
        ],
    },
    {
        "name": "more",
        "input": "prepare",
        "steps": [
            {"do": f"{MINE}:bright_pixels", "above": 300, "channels": ["GFP"], "to": "mask"},
            {"do": "scipy.ndimage:median_filter", "size": 3, "channels": ["GFP"]},
        ],
    },
]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    data = pixels(fovs=1, frames=3, shape=(60, 70), cells=2)
    return as_czi(tmp_path_factory.mktemp("pipelines") / "movie.czi", data)


@pytest.fixture
def run_yaml(movie, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / "run.yaml", config(movie, tmp_path / "out", {"pipelines": PIPELINES}))


def test_the_plan_shows_pipelines_and_writes_nothing(call, run_yaml, tmp_path):
    status, out, error = call("plan", run_yaml)
    assert (status, error) == (0, "")
    for line in (
        "pipeline prepare, on the images of the movie:",
        "  gaussian       GFP -> GFP, uint16 60 x 70, stored in prepare.zarr/gaussian_1\n                 sigma: 1",
        "  brighter       GFP -> GFP, uint16 60 x 70, in memory\n                 steps.py:brighter(by: 7)\n",
        "  mean_of_three  stacks of GFP -> GFP, float32 60 x 70, in memory\n",
        "                 steps.py:mean_of_three; halo 1",
        "pipeline more, on the images of pipeline prepare:",
        "stored in more.zarr/bright_pixels_mask",
        "stored in more.zarr/median_filter_1",
        "arrays:  prepare.zarr uint16 3 x 60 x 70: gaussian_1; ",
        "steps:   prepare.gaussian, more.bright_pixels, more.median_filter",
    ):
        assert line in out, out
    assert "warning" not in out  # no cells are looked for
    assert listing(tmp_path) == {"run.yaml"}


def test_some_steps_and_steps_again(call, run_yaml, tmp_path):
    status, out, error = call("run", run_yaml, "--steps", "prepare.gaussian")
    assert (status, "1 FOV partial" in out) == (0, True)
    assert "pipeline prepare" not in error
    assert {path.parts[-4] for path in (tmp_path / "out/fov_000").rglob("c.*")} == {"prepare.zarr"}
    assert call("run", run_yaml)[0] == 0
    before = file_bytes(tmp_path / "out" / "fov_000")
    assert {"more.zarr", "prepare.zarr"} <= {name.split("/")[0] for name in before}
    _, out, _ = call("plan", run_yaml)
    assert "0 left to do" in out
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/fov_000").rglob("c.*")}
    assert call("run", run_yaml, "--force", "more.bright_pixels")[0] == 0
    again = {path.parts[-4:-2] for path in times if path.stat().st_mtime_ns != times[path]}
    assert again == {("more.zarr", "bright_pixels_mask")}
    assert file_bytes(tmp_path / "out" / "fov_000") == before


@pytest.mark.parametrize("option", ["--steps", "--force"])
def test_a_step_that_does_not_exist_is_refused(call, run_yaml, option):
    status, _, error = call("run", run_yaml, option, "prepare.gausian")
    assert status == 2
    assert "prepare.gausian" in error
    assert "did you mean prepare.gaussian" in error


def test_a_function_that_does_not_fit_is_one_message(call, run_yaml, tmp_path):
    status, out, error = call("plan", run_yaml, "--set", "pipelines=[{name: a, steps: [{do: gaussian, sgma: 2}]}]")
    assert (status, out) == (2, "")
    assert error.startswith("pyama-dask: ")
    assert "pipelines.a.gaussian" in error
    assert "did you mean sigma" in error
