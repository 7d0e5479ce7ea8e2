"""Pipelines on the command line: the three phases of plan and run, some steps only, and steps done again."""

from pathlib import Path

import pytest
from support import steps
from support.movies import as_czi, config, file_bytes, listing, pixels, write_config

from pyama_dask.cli.phases import describe_results
from pyama_dask.cli.text import describe_report
from pyama_dask.runs.orchestrator import WellResult
from pyama_dask.runs.status import RunReport, StepCost

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
    assert "FOVs:" not in out  # not all that the FOV needs was to be done
    assert {path.parts[-4] for path in (tmp_path / "out/fov_000").rglob("c.*")} == {"prepare.zarr"}
    status, out, error = call("run", run_yaml)
    assert status == 0
    assert error.splitlines()[:4] == [
        "initialize: movie.czi: CZI, 1 FOV, 3 frames, 2 channels",
        "compile:    pipeline prepare, on the images of the movie: gaussian, brighter, mean_of_three",
        "            pipeline more, on the images of pipeline prepare: bright_pixels, median_filter",
        "execute:    1 FOV, 3 frames, 1 task",
    ]
    assert "\nFOVs: 1 done\n  FOV 0: done\n" in out
    before = file_bytes(tmp_path / "out" / "fov_000")
    assert {"more.zarr", "prepare.zarr"} <= {name.split("/")[0] for name in before}
    _, out, _ = call("plan", run_yaml)
    assert "tasks:   0 left of " in out
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/fov_000").rglob("c.*")}
    assert call("run", run_yaml, "--force", "more.bright_pixels")[0] == 0
    again = {path.parts[-4:-2] for path in times if path.stat().st_mtime_ns != times[path]}
    assert again == {("more.zarr", "bright_pixels_mask")}
    assert file_bytes(tmp_path / "out" / "fov_000") == before


def test_a_well_that_fails_is_named_with_its_reason(call, movie, run_yaml):
    """The function of the step fails where a frame has this sum."""
    refused = int(pixels(fovs=1, frames=3, shape=(60, 70), cells=2)[0, 1, 1].sum(dtype="int64"))
    step = f"{{do: '{MINE}:picky', channels: [GFP], refused: {refused}}}"
    status, out, _ = call("run", run_yaml, "--set", f"pipelines=[{{name: a, steps: [{step}]}}]")
    assert status == 3
    assert "\nFOVs: 1 failed\n  FOV 0: failed: (algorithm) FOV 0, frame 1: step a.picky, " in out
    assert out.count("not this one") == 1


def test_of_many_wells_only_those_that_are_not_done_are_listed():
    wells = {f"A{k:02}": WellResult("done", "", (k,)) for k in range(1, 13)}
    assert len(describe_results(wells)) == 13
    wells |= {"B01": WellResult("failed", "too bright", (13,), "algorithm"), "B02": WellResult("cancelled", "disk")}
    assert describe_results(wells) == [
        "Wells: 12 done, 1 failed, 1 cancelled",
        "  B01: failed: (algorithm) too bright",
        "  B02: cancelled: disk",
    ]


@pytest.mark.parametrize("option", ["--steps", "--force"])
def test_a_step_that_does_not_exist_is_refused(call, run_yaml, option):
    status, _, error = call("run", run_yaml, option, "prepare.gausian")
    assert status == 2
    assert "prepare.gausian" in error
    assert "did you mean prepare.gaussian" in error


@pytest.mark.parametrize("option", ["--steps", "--force"])
def test_a_step_in_memory_is_refused_with_the_reason(call, run_yaml, option):
    status, _, error = call("run", run_yaml, option, "prepare.brighter")
    assert status == 2
    assert "step 'prepare.brighter' stores nothing: its images stay in memory" in error
    assert "Fix: name one of those, or store its images with 'checkpoint: true'" in error


def test_several_movies_have_a_result_per_well(call, movie, run_yaml, tmp_path):
    other = as_czi(tmp_path / "other.czi", pixels(fovs=2, frames=3, shape=(60, 70), cells=2))
    options = ["--set", f"input=[{movie}, {other}]"]
    status, out, _ = call("run", run_yaml, "--steps", "prepare.gaussian", *options)
    assert (status, "FOVs:" in out) == (0, False)
    status, out, _ = call("run", run_yaml, *options)
    assert status == 0
    assert "\nFOVs: 1 done\n  FOV 0: done\n" in out
    assert "\nFOVs: 2 done\n  FOV 0: done\n  FOV 1: done\n" in out


def test_a_function_that_does_not_fit_is_one_message(call, run_yaml, tmp_path):
    status, out, error = call("plan", run_yaml, "--set", "pipelines=[{name: a, steps: [{do: gaussian, sgma: 2}]}]")
    assert (status, out) == (2, "")
    assert error.startswith("pyama-dask: ")
    assert "pipelines.a.gaussian" in error
    assert "did you mean sigma" in error


def test_long_names_of_steps_leave_the_costs_in_columns():
    costs = (StepCost("copy", 3.0, 2**20), StepCost("light.bright_pixels", 1.0, 2**21))
    lines = describe_report(RunReport(Path("out"), (), (), 1, 1, 1.0, steps=costs)).splitlines()
    table = lines[next(k for k, line in enumerate(lines) if line.startswith("Step")) :][:3]
    assert len({len(line) for line in table}) == 1
    assert table[2].split() == ["light.bright_pixels", "1.0", "s", "25%", "2", "MiB"]


def test_the_plan_names_channels_and_a_single_plane(call, movie, tmp_path):
    steps = [
        {"do": f"{MINE}:mean_of_three", "halo": 1, "channels": ["GFP"]},
        {"do": "max_projection", "over": "z"},
        {"do": "drift", "channels": ["Phase", "GFP"], "by": "Phase"},
    ]
    made = config(movie, tmp_path / "out", {"pipelines": [{"name": "prepare", "steps": steps}]})
    status, out, error = call("plan", write_config(tmp_path / "run.yaml", made))
    assert (status, error) == (0, "")
    assert 'by: "Phase", interpolation: "linear"' in out
    assert "GFP -> GFP, float32 1 plane of 60 x 70, in memory" in out
