"""What functions of pipelines may give, what is refused, and what a run says of it."""

import numpy as np
import pandas as pd
import pytest
import zarr
from support import steps
from support.movies import as_czi, config, pixels, put_in_wells

import pyama_dask
from pyama_dask.errors import ConfigError, WrongReturnError
from pyama_dask.steps.own_images import step_call
from pyama_dask.steps.own_tables import joinable

MINE = steps.__file__
SEVEN = {"name": "cells", "steps": "seven"}
LIGHT = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"]}
KEPT = {"params.tracking_params": {"min_frames": 2, "border_margin": 0}}
"""Settings that keep cells of a short movie."""
HEAD = "import numpy as np\nimport pandas as pd\nfrom pyama_dask.kernels.image_types import Frame, Labels, Stack\n"


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(1).integers(90, 140, (2, 6, 2, 24, 32)).astype(np.uint16)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return as_czi(tmp_path_factory.mktemp("results") / "movie.czi", data)


@pytest.fixture
def given(tmp_path, data):
    """A function of a frame that may do something else in frame 3 of FOV 1, where ``here`` is true."""

    def write(body, gives="Frame"):
        at = data[1, 3, 1, :2, :3]
        text = (
            f"{HEAD}\ndef f(frame: Frame) -> {gives}:\n    here = (frame[:2, :3] == {at.tolist()}).all()\n    {body}\n"
        )
        (tmp_path / "mine.py").write_text(text)
        return {"do": f"{tmp_path / 'mine.py'}:f", "channels": ["GFP"]}

    return write


def run(movie, tmp_path, *pipelines, **changes):
    return pyama_dask.run(config(movie, tmp_path / "out", {"pipelines": list(pipelines), **changes}))


def compiled(movie, tmp_path, *pipelines, **changes):
    orchestrator = pyama_dask.Orchestrator(None, config(movie, tmp_path / "out", {"pipelines": pipelines, **changes}))
    orchestrator.initialize()
    return orchestrator.compile()


def own(*given):
    return {"name": "own", "steps": list(given)}


def more(*given):
    return SEVEN, {"name": "more", "input": "cells", "steps": list(given)}


# ------------------------------------------------------------------------ other results than in the trial


@pytest.mark.parametrize(
    ("body", "gives", "what"),
    [
        ("if here: raise ValueError('no light')\n    return frame", "Frame", "failed: ValueError: no light"),
        ("return np.where(here, np.nan, frame)", "Frame", "NaN or infinite"),
        ("return (frame > 120) - 2 * np.int16(here)", "Labels", "labels are whole numbers"),
        ("return frame.astype('f4' if here else 'u2')", "Frame", "returned float32 .*must return uint16"),
        ("return frame[int(here):]", "Frame", r"returned uint16 \(23, 32\)"),
        ("return None if here else frame", "Frame", "returned None"),
        ("return {'a': 1} if here else frame", "Frame", "returned a table"),
        ("return pd.DataFrame({'a': [pd.Timestamp(0) if here else 1]})", "pd.DataFrame", "datetime64"),
        ("return pd.DataFrame({'a': [None if here else 'b']})", "pd.DataFrame", "column 'a' is of type object"),
        (
            "return pd.DataFrame({'b' if here else 'a': [1]})",
            "pd.DataFrame",
            "returned columns b.*must return columns a",
        ),
        ("return pd.DataFrame({'a': ['b' if here else 1]})", "pd.DataFrame", "numbers and texts in the column 'a'"),
    ],
)
def test_another_result_than_in_the_trial_fails_its_fov_and_is_named(movie, tmp_path, given, body, gives, what):
    step = given(body, gives) | ({"to": "t"} if "DataFrame" in gives else {})
    report = run(movie, tmp_path, own(step))
    assert report.exit_status == 3
    assert [fov.status for fov in report.fovs] == ["done", "failed"]
    (failed,) = report.failed
    frame = "" if "numbers and texts" in what else ", frame 3"
    assert failed.reason.startswith(
        f"FOV 1{frame}: step own.f, '{tmp_path / 'mine.py'}:f' ({tmp_path / 'mine.py'}, line 5)"
    )
    assert pd.Series([failed.reason]).str.contains(what)[0], failed.reason


def test_columns_of_tables_are_those_of_the_plan_even_without_rows(movie, tmp_path, given):
    body = "return pd.DataFrame({'file': np.full(int(here), 7), 'a;b': np.full(int(here), 'x', object)})"
    assert run(movie, tmp_path, own(given(body, "pd.DataFrame") | {"to": "t"})).exit_status == 0
    tables = [path.read_text() for path in sorted((tmp_path / "out").glob("fov_*/*_own_t.csv"))]
    assert tables == ["fov,frame,time,file,a;b\n", "fov,frame,time,file,a;b\n1,3,30,7,x\n"]


def test_rows_of_stacks_see_across_blocks(movie, data, tmp_path):
    (tmp_path / "mine.py").write_text(
        HEAD + "def f(s: Stack) -> pd.DataFrame:\n"
        "    change = np.abs(np.diff(s.astype(float), axis=0, prepend=s[:1])).sum((1, 2))\n"
        "    return pd.DataFrame({'frame': range(len(s)), 'change': change})\n"
    )
    step = {"do": f"{tmp_path / 'mine.py'}:f", "channels": ["GFP"], "halo": 1, "to": "t"}
    assert run(movie, tmp_path, own(step), **{"storage.block_frames": 2}).exit_status == 0
    found = pd.read_csv(next((tmp_path / "out").glob("fov_001/*_own_t.csv")))
    light = data[1, :, 1].astype(float)
    assert found["frame"].tolist() == list(range(6))
    assert found["change"].tolist() == np.abs(np.diff(light, axis=0, prepend=light[:1])).sum((1, 2)).tolist()


def test_functions_of_traces_may_pass_on_their_columns(movie, tmp_path):
    plate = put_in_wells(as_czi(tmp_path / "wells.czi", pixels(fovs=1, frames=4, shape=(90, 110), cells=2)), ["A1"])
    (tmp_path / "mine.py").write_text(
        HEAD + "def first(t: pd.DataFrame) -> pd.DataFrame:\n    return t[t['frame'] == 0]\n"
        "def joined(t: dict[str, pd.DataFrame]) -> pd.DataFrame:\n    return pd.concat(t.values())\n"
        "def area(t: pd.DataFrame) -> pd.DataFrame:\n    return t.assign(square=t['area_ch_0'] ** 2)\n"
        "def wrong(t: pd.DataFrame) -> pd.DataFrame:\n"
        "    return t.assign(q=1, area_ch_0=t['area_ch_0'] * (len(t) == 14))\n"
    )
    mine = [
        {"do": f"{tmp_path / 'mine.py'}:{name}", "to": to}
        for name, to in [("first", "first"), ("joined", "all"), ("area", "traces")]
    ]
    assert run(plate, tmp_path, *more(*mine, {"do": f"{MINE}:age", "to": "traces"}), **KEPT).exit_status == 0
    traces, first, well = (
        pd.read_csv(next((tmp_path / "out").glob(name)))
        for name in ("fov_000/*traces.csv", "fov_000/*first.csv", "wells/wells_A1_more_all.csv")
    )
    assert {"square", "age", "well"} <= {*traces.columns}
    of_later = ["square", "age", "state"]
    before = traces.drop(columns=of_later)
    pd.testing.assert_frame_equal(well, before)
    pd.testing.assert_frame_equal(first, before[traces["frame"] == 0].reset_index(drop=True))
    report = run(plate, tmp_path, *more(mine[2] | {"do": f"{tmp_path / 'mine.py'}:wrong"}), **KEPT)
    assert "another column 'area_ch_0' than the traces have" in report.failed[0].reason


CELLS = (
    "def cells(f: Frame, l: Labels, *, least: int = 1) -> pd.DataFrame:\n"
    "    ids = np.unique(l[l >= least]).astype('int64')\n"
    "    return pd.DataFrame({'cell': ids, f'mean{least}': [float(f[l == k].mean()) for k in ids]})\n"
)


def test_rows_that_the_traces_have_no_row_for_are_a_warning(movie, tmp_path):
    """But not those of cells that the limits of tracking drop, which the image 'tracked' has."""
    few = as_czi(tmp_path / "few.czi", pixels(fovs=1, frames=4, shape=(150, 170), cells=6, border_margin=0))
    (tmp_path / "mine.py").write_text(HEAD + CELLS)
    steps_of = [
        {"do": f"{tmp_path / 'mine.py'}:cells", "of": ["GFP", "tracked"], "to": "traces", "least": least, "name": name}
        for name, least in (("right", 1), ("wrong", 0))
    ]
    limits = {"params.tracking_params": {"min_frames": 3, "border_margin": 8}}
    report = run(few, tmp_path, *more(*steps_of), **limits)
    assert report.exit_status == 0, report.failed
    (traces,) = (tmp_path / "out").glob("fov_000/*traces.csv")
    found = pd.read_csv(traces)
    tracked = zarr.open_array(tmp_path / "out/fov_000/images.zarr/seg_tracked_ch_0/0", mode="r")[:]
    assert 0 < found["cell"].nunique() < len(np.unique(tracked)) - 1
    assert found["mean1"].equals(found["mean0"])
    assert found["mean1"].notna().all()
    said = [warning for warning in report.fovs[0].warnings if "the traces have no row for" in warning]
    assert len(said) == 1
    assert said[0].startswith(
        "FOV 0: step more.wrong gives 4 rows that the traces have no row for, such as cell 0 in frame 0; they are left "
        "out. Fix: number cells as in the image 'tracked' of the same frame, where 0 is the background"
    )


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([2, 1.5], "returned a table with a cell 1.5"),
        ([2, np.nan], "returned a table with a cell nan"),
        ([2, np.inf], "returned a table with a cell inf"),
        ([2.0, 2.0], "returned several rows of cell 2"),
    ],
)
def test_rows_that_belong_to_no_cell_or_to_one_twice_are_refused(cells, what):
    rows = pd.DataFrame({"frame": [0, 3, 3], "cell": [2, *cells], "a": 1})
    method = step_call(pyama_dask.Step(f"{MINE}:brighter"), "more.f")
    with pytest.raises(WrongReturnError, match=f"^FOV 7, frame 3: step more.f.*brighter.* {what}. Fix: with 'to: tr"):
        joinable(rows, method, "FOV 7")


def test_rows_of_labels_do_not_become_columns_of_the_traces(movie, tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + CELLS)
    step = {"do": f"{tmp_path / 'mine.py'}:cells", "of": ["GFP", "labels"], "to": "traces"}
    with pytest.raises(ConfigError, match="gets 'labels', whose numbers begin with 1 in each frame"):
        compiled(movie, tmp_path, *more(step))


def test_parameters_may_have_any_name(movie, tmp_path):
    (tmp_path / "mine.py").write_text(
        HEAD + "def f(x: Frame, *, name: int = 0, kind: int = 0) -> Frame:\n    return x + np.uint16(name * kind)\n"
    )
    step = {"do": f"{tmp_path / 'mine.py'}:f", "channels": ["GFP"], "params": {"name": 2, "kind": 3}}
    assert run(movie, tmp_path, own(step)).exit_status == 0


# ------------------------------------------------------------------------------------------ names and places


@pytest.mark.parametrize("name", ["copy", "segment", "plate", "images"])
def test_pipelines_and_steps_may_be_named_like_others(movie, tmp_path, name):
    steps_of = [
        {"do": f"{MINE}:brighter", "channels": ["GFP"], "checkpoint": True, "name": step}
        for step in ("frames", "labels", "link", "copy")
    ]
    plan = compiled(movie, tmp_path, {"name": name, "steps": steps_of}, {"name": "q", "input": name, "steps": "seven"})
    assert {f"{name}.frames", f"{name}.copy", "copy"} <= {*plan.plan.steps}


def test_steps_are_numbered_around_given_names(movie, tmp_path):
    step = {"do": f"{MINE}:brighter", "channels": ["GFP"], "checkpoint": True}
    plan = compiled(movie, tmp_path, own(step, step | {"name": "brighter2"}, step))
    assert plan.plan.steps == ("own.brighter", "own.brighter2", "own.brighter3")


def table(name, to):
    return {"do": f"{MINE}:{name}", "to": to}


@pytest.mark.parametrize(
    ("pipelines", "message"),
    [
        (more(table("last_frames", "x"), table("age", "X")), "would both write .*_more_X.csv"),
        ([*more(table("age", "b_c")), {"name": "more_b", "steps": [table("age", "c")]}], "both write .*more_b_c.csv"),
        ([own({"do": f"{MINE}:brighter", "channels": ["GFP"], "to": "GFP"})], "names an image 'GFP', as a channel"),
        ([own({"do": f"{MINE}:brighter", "channels": ["GFP"], "to": "tracked"})], "would replace .tracked."),
        (more(LIGHT | {"to": "traces"}, LIGHT | {"to": "traces", "name": "b"}), "column 'largest', which the traces"),
        ([own(table("last_frames", "x"))], "takes traces, but this run makes none"),
        (more(table("cells_of_well", "x")), "has no wells"),
        ([own(*[{"do": f"{MINE}:brighter", "name": "b"}] * 2)], "two steps named 'b'"),
        (
            more({"do": f"{MINE}:mean_of_three", "channels": ["GFP"], "halo": 1, "to": "m"}, LIGHT | {"to": "x"},
                 {"do": f"{MINE}:stack_light", "of": ["GFP", "tracked"], "halo": 1, "to": "y"}),
            "'tracked' of neighbouring frames",
        ),
    ],
)  # fmt: skip
def test_what_would_clash_or_lacks_its_input_is_refused(movie, tmp_path, pipelines, message):
    with pytest.raises(ConfigError, match=message):
        compiled(movie, tmp_path, *pipelines)


@pytest.mark.parametrize("column", ["fov", "time", "well", "channel"])
def test_columns_that_a_run_adds_are_refused(movie, tmp_path, given, column):
    step = given(f"return pd.DataFrame({{'{column}': [1]}})", "pd.DataFrame") | {"to": "t"}
    with pytest.raises(ConfigError, match=f"column '{column}'.*the run adds"):
        compiled(movie, tmp_path, own(step))


def test_tables_need_columns(movie, tmp_path, given):
    with pytest.raises(ConfigError, match="a table without columns"):
        compiled(movie, tmp_path, own(given("return pd.DataFrame()", "pd.DataFrame") | {"to": "t"}))
