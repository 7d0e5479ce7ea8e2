"""Three phases in Python: initialize, compile, execute."""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import yaml
from support import steps
from support.movies import as_czi, config, listing, pixels, put_in_wells, write_config

import pyama_dask
from pyama_dask import Pipeline, Step
from pyama_dask.config.load import load_config, parse_config
from pyama_dask.errors import ConfigError, PlanError, SourceError
from pyama_dask.readers import read_metadata
from pyama_dask.runs.orchestrator import WellResult, compiled, results_by_well
from pyama_dask.runs.planning import plan_run, what_is_left
from pyama_dask.runs.status import FovReport, RunReport
from pyama_dask.runs.timings import CALIBRATION, Calibration, settings_digest, write_calibration
from pyama_dask.store.arrays import read_frame

MINE = Path(steps.__file__).as_posix()
FRAMES = 4
SERIAL = {"params.tracking_params": {"min_frames": 2, "border_margin": 5}}
CELLS = Pipeline("cells", "seven", input="prepare")

OWN = """
from pyama_dask.kernels.image_types import Frame


def twice(frame: Frame, *, times: int = 2) -> Frame:
    return frame * times
"""

EXAMPLE = """
- name: prepare
  steps:
    - {do: flat_field, channels: all, profile: estimate}
    - {do: "scipy.ndimage:gaussian_filter", sigma: 1.5, channels: [GFP]}
    - {do: "MINE:brighter", by: 7, channels: [GFP], source: start}
- {name: cells, input: prepare, steps: seven}
- name: more
  input: cells
  steps:
    - {do: "MINE:light_in_cells", of: [GFP, tracked], to: light}
"""


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=2, frames=FRAMES, shape=(110, 120), cells=3)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return as_czi(tmp_path_factory.mktemp("phases") / "movie.czi", data)


@pytest.fixture(scope="module")
def wells(tmp_path_factory, data):
    """The same frames, in two wells, the second of which lacks frames."""
    skip = {(1, t, c, 0) for t in (2, 3) for c in range(2)}
    return put_in_wells(as_czi(tmp_path_factory.mktemp("phases") / "wells.czi", data, skip=skip), ["A1", "B2"])


def opened(movie, output, changes=None):
    found = pyama_dask.Orchestrator(movie, config(movie, output, SERIAL | (changes or {})))
    found.initialize()
    return found


def only(*own, **keys):
    """Pipeline of steps before the seven, and these."""
    return [Pipeline("prepare", [Step(*own, **keys)]), CELLS]


# ---------------------------------------------------------------------------------------------- phases


def test_phases_come_in_order_and_only_the_last_one_writes(movie, tmp_path):
    orchestrator = pyama_dask.Orchestrator(movie, config(movie, tmp_path / "out", SERIAL))
    with pytest.raises(PlanError, match=r"not been looked at\. Fix: call initialize\(\)"):
        orchestrator.compile()
    assert orchestrator.initialize().n_frames == FRAMES
    plan = orchestrator.compile(only(steps.brighter, channels=["GFP"]))
    print(plan)
    assert listing(tmp_path) == set()
    assert {of.status for of in orchestrator.execute(plan).values()} == {"done"}
    assert orchestrator.left(plan).tasks == ()


@pytest.mark.parametrize(
    ("changes", "phase", "error", "message"),
    [
        ({"input": "none.czi"}, "initialize", SourceError, "no such file"),
        ({"params.stitch": "stage"}, "initialize", ConfigError, "has no wells"),
        ({"channels.pc.channel": "Phse"}, "compile", ConfigError, "Phse"),
        ({"params.fovs": "9"}, "compile", ConfigError, "params.fovs: 9 is not in"),
        ({"pipelines": [{"name": "a", "steps": [{"do": f"{MINE}:brihgter"}]}]}, "compile", ConfigError, "did you mean"),
    ],
)
def test_what_cannot_be_done_is_refused_in_the_first_phase_that_knows(
    movie, tmp_path, changes, phase, error, message
):  # fmt: skip
    document = config(movie, tmp_path / "out", SERIAL | changes)
    orchestrator = pyama_dask.Orchestrator(None, document)
    if phase == "compile":
        orchestrator.initialize()
    with pytest.raises(error, match=message):
        getattr(orchestrator, phase)()
    assert listing(tmp_path) == set()


def test_an_output_within_the_movie_is_refused_at_once(tmp_path, data):
    (tmp_path / "plate").mkdir()
    document = config(tmp_path / "plate", tmp_path / "plate" / "out", SERIAL)
    with pytest.raises((ConfigError, SourceError)):
        pyama_dask.Orchestrator(None, document).initialize()


def test_the_movie_may_come_from_either_place(movie, tmp_path):
    document = config(movie, tmp_path / "out", SERIAL)
    facts = document | {"input": {"file": "another.czi", "pixel_size": 0.5}}
    assert pyama_dask.Orchestrator(movie, facts).initialize().pixel_size_um == 0.5
    without = {key: value for key, value in document.items() if key != "input"}
    path = write_config(tmp_path / "run.yaml", without | {"output": "out"})
    for given in (without | {"output": tmp_path / "out"}, path, parse_config(document)):
        orchestrator = pyama_dask.Orchestrator(movie, given)
        assert (orchestrator.config.input.path, orchestrator.config.output) == (movie, tmp_path / "out")


# -------------------------------------------------------------------------------------- both notations


def test_python_and_yaml_give_the_same_plan(movie, tmp_path):
    document = config(movie, tmp_path / "out", SERIAL)
    listed = yaml.safe_load(EXAMPLE.replace("MINE", MINE))
    path = write_config(tmp_path / "run.yaml", document | {"pipelines": listed})
    text, metadata = plan_run(load_config(path))
    brighter = pyama_dask.Step(f"{MINE}:brighter", by=7, channels=["GFP"], source="start")
    prepare = Pipeline(
        "prepare",
        [
            Step("flat_field", channels="all", profile="estimate"),
            Step(scipy.ndimage.gaussian_filter, sigma=1.5, channels=["GFP"]),
            brighter,
        ],
    )
    more = Pipeline("more", [Step(f"{MINE}:light_in_cells", of=["GFP", "tracked"], to="light")], input="cells")
    plan = opened(movie, tmp_path / "out").compile([prepare, CELLS, more])
    assert plan.digests == {task.key: dict(task.digests) for task in text.tasks}
    assert plan.plan.document() == text.document()
    assert plan.metadata.channels == metadata.channels
    assert {"copy", "more.light_in_cells"} <= {*plan.plan.steps}


def test_a_function_of_a_module_and_of_a_script(movie, tmp_path, monkeypatch):
    """What `Step` names is what workers find."""
    by_module = opened(movie, tmp_path / "out").compile(only(steps.brighter, channels=["GFP"]))
    by_name = opened(movie, tmp_path / "out").compile(only("support.steps:brighter", channels=["GFP"]))
    by_file = opened(movie, tmp_path / "out").compile(only(f"{MINE}:brighter", channels=["GFP"]))
    assert by_module.differences(by_name) == {}
    assert "copy" in by_module.differences(by_file)  # another name is another function
    script = tmp_path / "script.py"
    script.write_text(OWN + "\nif __name__ == '__main__':\n    print(twice)\n")
    running = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", running)
    exec(compile(script.read_text().replace("print", "str"), str(script), "exec"), running.__dict__)
    of_script = opened(movie, tmp_path / "out").compile(only(running.twice, channels=["GFP"]))
    named = opened(movie, tmp_path / "out").compile(only(f"{script}:twice", channels=["GFP"]))
    assert of_script.differences(named) == {}


def test_shading_belongs_to_the_pipelines_that_name_it(movie, tmp_path):
    """Compiling others afterwards begins again from the config."""
    shaded = only("flat_field")
    orchestrator = opened(movie, tmp_path / "out")
    plain = orchestrator.compile([Pipeline("cells", "seven")])
    with_shading = orchestrator.compile(shaded)
    again = orchestrator.compile([Pipeline("cells", "seven")])
    assert "copy" in plain.differences(with_shading)
    assert plain.differences(again) == {}
    whole = parse_config(config(movie, tmp_path / "out", SERIAL | {"pipelines": shaded}))
    of_config = pyama_dask.Orchestrator(None, whole)
    of_config.initialize()
    assert of_config.compile().differences(with_shading) == {}
    assert of_config.compile([Pipeline("cells", "seven")]).differences(plain) == {}


# ----------------------------------------------------------------------------------------------- plans


def test_a_plan_is_printed_saved_and_compared(movie, tmp_path):
    orchestrator = opened(movie, tmp_path / "out")
    mask = Step(steps.bright_pixels, channels=["GFP"], to="mask", above=120)
    light = Step(steps.light_in_cells, of=["GFP", "tracked"], to="light")
    pipelines = [Pipeline("cells", "seven"), Pipeline("more", [light, mask], input="cells")]
    plan = orchestrator.compile(pipelines)
    changed = Step(steps.bright_pixels, channels=["GFP"], to="mask", above=130)
    other = orchestrator.compile([pipelines[0], Pipeline("more", [light, changed], input="cells")])
    assert plan.differences(other) == {"more.bright_pixels": ("ingest-fov000-b000", "ingest-fov001-b000")}
    assert plan.differences(plan) == {}
    text = str(plan)
    for line in (
        "pipeline more, on the images of pipeline cells:",
        "tasks:   8 (",
        "arrays:  images.zarr uint16 4 x 110 x 120: pc_ch_0, fl_ch_1, seg_labeled_ch_0, seg_tracked_ch_0; ",
        "more.zarr uint16 4 x 110 x 120: bright_pixels_mask",
        "MiB per worker, of",
    ):
        assert line in text, text
    assert repr(plan) == "<CompiledPlan: 2 FOVs, 8 tasks>"
    plan.save(tmp_path / "plan.json")
    saved = json.loads((tmp_path / "plan.json").read_text())
    assert saved["arrays"]["more.zarr/bright_pixels_mask/0"]["shape"] == [FRAMES, 110, 120]
    assert (saved["tasks"], saved["left"], saved["predicted"]) == (8, 8, None)
    assert saved["fovs"][0]["kinds"]["ingest"]["steps"]["more.bright_pixels"]
    with pytest.raises(PlanError, match="choose another file"):
        plan.save(tmp_path)


def test_seconds_are_told_where_a_block_was_measured(movie, tmp_path):
    orchestrator = opened(movie, tmp_path / "out")
    pipelines = only(steps.brighter, channels=["GFP"])
    plan = orchestrator.compile(pipelines)
    found = Calibration(settings_digest(plan.plan.job.config), {"ingest": 1.0}, 0.0, 2.0, 2**20, 9.0, 1.0)
    write_calibration(tmp_path / "out", found)
    assert (tmp_path / "out" / CALIBRATION).exists()
    again = orchestrator.compile(pipelines)
    assert again.predicted.seconds == pytest.approx(2 + 2 * FRAMES)
    assert "time:    10 s" in str(again)
    other = orchestrator.compile(only(steps.brighter, channels=["GFP"], by=3))  # another step may take longer
    assert other.predicted is None


@pytest.mark.parametrize("with_seven", [True, False])
def test_files_and_bytes_are_as_planned(movie, tmp_path, with_seven):
    own = [Step(steps.mean_of_three, halo=1, channels=["GFP"], checkpoint=True), Step(steps.brighter, channels=["GFP"])]
    pipelines = [Pipeline("prepare", own)]
    if with_seven:
        light = Step(steps.light_in_cells, of=["GFP", "tracked"], to="light")
        pipelines += [CELLS, Pipeline("more", [light], input="cells")]
    orchestrator = opened(movie, tmp_path / "out", {"storage.block_frames": 3, "storage.cells": "off"})
    plan = orchestrator.compile(pipelines)
    orchestrator.execute(plan)
    files = [path for path in (tmp_path / "out" / "fov_000").rglob("*") if path.is_file()]
    assert len(files) == plan.plan.files_per_fov
    read = sum(task.bytes_read for task in plan.plan.tasks if task.kind == "ingest")
    assert read == 2 * FRAMES * 110 * 120 * (2 if with_seven else 1) * 2
    assert plan.plan.traffic == tuple(
        sum(getattr(task, name) for task in plan.plan.tasks) for name in ("bytes_read", "bytes_written")
    )
    document = orchestrator.compile(pipelines).document()
    assert (document["left"], document["bytes_read_left"], document["bytes_written_left"]) == (0, 0, 0)


def test_bytes_that_are_left_are_those_of_the_steps_that_are_left(small_czi, copied):
    """With another padding, crops are cut from raw frames, and nothing else is written."""
    made, _ = plan_run(parse_config(config(small_czi, copied, {"params.crop_padding": 7})))
    read, written = what_is_left(made).traffic
    assert 0 < read < made.traffic[0]
    assert written == 0 < made.traffic[1]
    said = str(compiled(made.job.config, made, read_metadata(small_czi)))
    assert "tasks:   8 left of 16 (6 finish, 2 gather)" in said
    assert "in the whole run, plus the crops of the cells" in said


# ------------------------------------------------------------------------------------------------ execute


def test_a_well_that_fails_harms_no_other(wells, tmp_path, data):
    orchestrator = opened(wells, tmp_path / "out")
    results = orchestrator.execute(orchestrator.compile(only(steps.brighter, channels=["GFP"])))
    assert [*results] == ["A1", "B2"]
    assert (results["A1"].status, results["A1"].reason, results["A1"].fovs) == ("done", "", (0,))
    assert results["B2"].status == "failed"
    assert "2 of its frames are missing" in results["B2"].reason


def test_a_step_that_fails_on_one_fov(movie, tmp_path, data):
    """What its function raises is the reason."""
    orchestrator = opened(movie, tmp_path / "out")
    picky = Step(steps.picky, channels=["GFP"], refused=int(data[1, 2, 1].sum(dtype="int64")))
    results = orchestrator.execute(orchestrator.compile([Pipeline("prepare", [picky]), CELLS]))
    assert {name: of.status for name, of in results.items()} == {"FOV 0": "done", "FOV 1": "failed"}
    assert "not this one" in results["FOV 1"].reason


def test_what_is_cancelled_says_so(movie, tmp_path):
    orchestrator = opened(movie, tmp_path / "out", {"cluster.batch_size": 1})
    plan, cancel = orchestrator.compile(), threading.Event()
    results = orchestrator.execute(plan, cancel=cancel, progress=lambda of: of["step"] == "done" and cancel.set())
    assert [of.status for of in results.values()] == ["done", "cancelled"]
    assert results["FOV 1"].reason == "the run was cancelled"
    assert [of.status for of in orchestrator.execute(plan).values()] == ["done", "done"]


def test_wells_of_several_plates_and_states_of_their_fovs(wells, movie):
    """Equally named wells of two plates are two wells."""
    states = ["done", "failed", "failed", "partial", "done", "done"]
    info = read_metadata(movie).fovs[0]
    places = [("P1", "A1"), ("P1", "A1"), ("P1", "A1"), ("P1", "B2"), ("P2", "A1"), (None, None)]
    metadata = replace(read_metadata(wells), fovs=tuple(replace(info, plate=p, well=w) for p, w in places))
    plan = SimpleNamespace(fovs=[SimpleNamespace(fov=fov) for fov in range(6)])
    fovs = [FovReport(k, of, cause="data", reason=f"no {k}") for k, of in enumerate(states)]
    report = RunReport(Path("out"), tuple(fovs), (), 6, 6, 1.0)
    assert results_by_well(report, plan, metadata) == {
        "P1 A1": WellResult("failed", "no 1; 1 FOV more failed", (0, 1, 2), "data"),
        "P1 B2": WellResult("cancelled", "the run was not to do all of its steps", (3,)),
        "P2 A1": WellResult("done", "", (4,)),
        "FOV 5": WellResult("done", "", (5,)),
    }
    stopped = replace(report, stopped="the disk is full")
    plan.fovs = plan.fovs[:4]  # of one plate
    assert results_by_well(stopped, plan, metadata)["B2"] == WellResult("cancelled", "the disk is full", (3,))


def test_what_changed_after_compiling_is_refused(movie, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(OWN)
    orchestrator = opened(movie, tmp_path / "out")
    pipelines = [Pipeline("cells", "seven"), Pipeline("more", [Step(f"{mine}:twice", channels=["GFP"])], input="cells")]
    plan = orchestrator.compile(pipelines)
    mine.write_text(OWN.replace("= 2", "= 3"))
    with pytest.raises(PlanError, match=r"so that more\.twice would give other results\. Fix: compile again"):
        orchestrator.execute(plan)
    assert not (tmp_path / "out").exists()
    again = orchestrator.compile(pipelines)
    assert {of.status for of in orchestrator.execute(again).values()} == {"done"}


def test_a_plan_stays_what_it_was_when_another_is_compiled(movie, tmp_path, data):
    """Each plan has its own pipelines."""
    orchestrator = opened(movie, tmp_path / "out")
    first = orchestrator.compile(only(steps.brighter, channels=["GFP"], by=5))
    orchestrator.compile(only(steps.brighter, channels=["GFP"], by=9))
    orchestrator.execute(first)
    copied = read_frame(tmp_path / "out/fov_001/images.zarr", "fl_ch_1/0", 2)
    assert np.array_equal(copied, data[1, 2, 1] + np.uint16(5))


def test_blocks_of_steps_whose_frames_come_one_by_one(movie, tmp_path):
    """Their memory does not grow with the frames."""
    orchestrator = opened(movie, tmp_path / "out", {"storage.block_frames": "auto"})
    plan = orchestrator.compile([Pipeline("prepare", [Step("gaussian", channels=["GFP"])])])
    assert plan.plan.job.block_frames == FRAMES


def test_workers_with_other_memory_keep_the_blocks(movie, tmp_path):
    """Blocks were chosen when the plan was compiled."""
    orchestrator = opened(movie, tmp_path / "out", {"storage.block_frames": "auto"})
    plan = orchestrator.compile()
    shorter = replace(plan, plan=replace(plan.plan, job=replace(plan.plan.job, block_frames=2)))
    with pytest.raises(PlanError, match="compile again"):
        orchestrator.execute(shorter)  # two frames per block, as the plan says, and not as many as fit
