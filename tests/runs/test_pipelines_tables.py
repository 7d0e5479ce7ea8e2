"""Functions of tables: they get the tables of earlier steps, and traces with the columns of earlier steps."""

import numpy as np
import pandas as pd
import pytest
from support.movies import as_czi, config, pixels, put_in_wells

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.steps.own_tables import read_written

LATER = ("size", "density")
"""Columns that later steps give to the traces."""
SEVEN = {"name": "cells", "steps": "seven"}
MINE = '''
import numpy as np
import pandas as pd
from pyama_dask import Frame, Labels


def light(frame: Frame, cells: Labels, *, factor: int = 1) -> pd.DataFrame:
    """Two rows for each cell."""
    ids = np.repeat(np.unique(cells[cells > 0]), 2).astype("int64")
    highest = [int(frame[cells == k].max()) * factor for k in ids]
    return pd.DataFrame({"cell": ids, "light": np.array(highest, "int64"), "code": np.full(len(ids), "01", object)})


def size(frame: Frame, cells: Labels) -> pd.DataFrame:
    ids, counts = np.unique(cells[cells > 0], return_counts=True)
    return pd.DataFrame({"cell": ids.astype("int64"), "size": counts})


def density(traces: pd.DataFrame, light: pd.DataFrame) -> pd.DataFrame:
    """Needs a column of an earlier step, and its table."""
    one = light.drop_duplicates(["cell", "frame"])[["cell", "frame", "light"]]
    found = traces[["cell", "frame", "size"]].merge(one, on=["cell", "frame"], how="left")
    return pd.DataFrame({"density": found["light"] / found["size"]})


def columns(traces: pd.DataFrame) -> pd.DataFrame:
    """Columns that it gets; the trial needs those of the well and the drift, too."""
    assert traces["well"].nunique() == 1
    return pd.DataFrame({"columns": [" ".join(traces)], "drift": [traces["shift_y"].abs().max()]})


def ends(traces: pd.DataFrame) -> pd.DataFrame:
    return traces.groupby("cell", as_index=False)["frame"].max()


def codes(ends: pd.DataFrame, light: pd.DataFrame) -> pd.DataFrame:
    """Without the traces."""
    assert set(light["code"]) <= {"a", "b"} or set(light["code"]) == {"01"}
    return ends.merge(light, on=["cell", "frame"])[["cell", "frame", "light", "code"]]


def wells(traces: dict[str, pd.DataFrame], light: dict[str, pd.DataFrame]) -> pd.DataFrame:
    assert list(traces) == list(light)
    rows = [(int(fov), len(traces[fov]), int(light[fov]["light"].sum())) for fov in traces]
    return pd.DataFrame(rows, columns=["fov", "rows", "sum"])


def grouped(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.DataFrame({"n": [len(tables)]})


def count(traces: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"ends": len(ends)}, index=traces.index)


def cells_again(traces: pd.DataFrame) -> pd.DataFrame:
    return traces.assign(size=1, other=2)
'''


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "mine.py").write_text(MINE)
    data = pixels(fovs=2, frames=3, shape=(110, 130), cells=2, border_margin=10)
    return put_in_wells(as_czi(folder / "plate.czi", data), ["A1", "B1"])


def pipelines(plate, *more, **keys):
    def step(name, of=(), to=None, **others):
        return {"do": f"{plate.parent / 'mine.py'}:{name}", "of": [*of], "to": to or name} | others

    measured = [
        step("light", ["GFP", "tracked"], **keys.get("light", {})),
        step("size", ["GFP", "tracked"], "traces", **keys.get("size", {})),
        step("density", ["traces", "light"], "traces", **keys.get("others", {})),
    ]
    others = [step("codes", ["ends", "light"], **keys.get("others", {})), step("wells", ["traces", "light"])]
    of_tables = [step("ends"), *others]
    measured.insert(1, step("columns"))
    further = [step(*one[:-1], **one[-1]) if isinstance(one[-1], dict) else step(*one) for one in more]
    return [
        SEVEN, {"name": "measured", "input": "cells", "steps": measured},
        {"name": "more", "input": "measured", "steps": [*of_tables, *further]},
    ]  # fmt: skip


def document(plate, output, *more, **keys):
    limits = {
        "params.tracking_params": {"min_frames": 2, "border_margin": 0}, "storage.block_frames": 2,
        "params.register": "drift",
    }  # fmt: skip
    return config(plate, output, {"pipelines": pipelines(plate, *more, **keys), **limits})


def tables(output, fov):
    """Tables of a FOV by their last word, with those of its well."""
    files = [*(output / f"fov_00{fov}").glob("*.csv"), *(output / "wells").glob(f"*_{'AB'[fov]}1_*.csv")]
    return {file.stem.rpartition("_")[2]: pd.read_csv(file, dtype={"code": "str"}) for file in files}


def test_functions_get_tables_and_columns_of_earlier_steps(plate, tmp_path):
    out = tmp_path / "out"
    report = pyama_dask.run(document(plate, out))
    assert not report.exit_status, (report.stopped, report.failed)
    for fov in (0, 1):
        found = tables(out, fov)
        traces, light, codes = found["traces"], found["light"], found["codes"]
        assert len(traces) >= 3
        assert found["columns"]["columns"].tolist() == [" ".join(name for name in traces if name not in LATER)]
        one = light.drop_duplicates(["cell", "frame"]).set_index(["cell", "frame"])["light"]
        expected = one.loc[[*zip(traces["cell"], traces["frame"], strict=True)]].to_numpy() / traces["size"]
        assert np.allclose(traces["density"], expected, rtol=1e-9)
        last = traces.groupby("cell")["frame"].max()
        assert {*zip(codes["cell"], codes["frame"], strict=True)} == {*last.items()}
        assert (codes["light"].to_numpy() == one.loc[[*zip(codes["cell"], codes["frame"], strict=True)]]).all()
        assert {*codes["code"]} == {"01"}  # and not 1
        assert found["wells"].to_numpy().tolist() == [[fov, len(traces), light["light"].sum()]]
    first = tables(out, 0)
    again = pyama_dask.run(document(plate, out, light={"factor": 2}))
    assert not again.exit_status
    done = {step.step for step in again.steps if step.seconds}
    assert {"measured.light", "extract", "more.codes", "more.wells"} <= done
    assert not {"copy", "segment", "track", "measured.size"} & done
    assert pyama_dask.run(document(plate, out, light={"factor": 2})).tasks == 0
    second = tables(out, 0)
    assert np.allclose(second["traces"]["density"], 2 * first["traces"]["density"], rtol=1e-9)
    assert second["codes"]["light"].tolist() == (2 * first["codes"]["light"]).tolist()
    assert second["wells"]["sum"].tolist() == (2 * first["wells"]["sum"]).tolist()


def test_tables_of_some_wells(plate, tmp_path):
    """All that gets a table is done where the table is; other FOVs have neither."""
    only = {"wells": "B1"}
    steps_of = pipelines(plate, light=only, others=only)
    steps_of[2]["steps"][2] |= only
    report = pyama_dask.run(document(plate, tmp_path / "out") | {"pipelines": steps_of})
    assert not report.exit_status, (report.stopped, report.failed)
    found = [tables(tmp_path / "out", fov) for fov in (0, 1)]
    assert [{"light", "codes", "wells"} & {*of} for of in found] == [set(), {"light", "codes", "wells"}]
    assert ["density" in of["traces"] for of in found] == [False, True]
    assert found[1]["wells"]["sum"].tolist() == [found[1]["light"]["light"].sum()]


@pytest.mark.parametrize(
    ("more", "keys", "message"),
    [
        ([("ends", ["lihgt"], "x")], {}, "gives a table of FOVs 'lihgt'. Fix: choose .*did you mean light"),
        ([("ends", ["wells"], "x")], {}, "no step before gives a table of FOVs 'wells'"),
        ([("codes", ["ends"], "x")], {}, "needs a value for 'light'|takes 2 tables"),
        ([("codes", ["ends", "light", "ends"], "x")], {}, "takes 2 tables by position .ends, light., but 'of' names 3"),
        ([("count", ["traces", "ends"], "traces")], {}, "gets the table 'ends', which is made from the traces"),
        ([("ends", ["light"], "traces")], {}, "gets no traces, whose columns its own could become. Fix: name  traces"),
        ([("cells_again", [], "traces")], {}, "another column 'size' than the traces have already"),
        ([("grouped", ["traces", "light"], "x")], {}, "takes 1 table by position .tables., but 'of' names 2"),
        ([], {"light": {"wells": "A1"}}, "done for FOVs all, but its table 'light' is made for 0 only"),
        ([], {"size": {"wells": "A1"}}, "failed: KeyError: .*size"),
    ],
)  # fmt: skip
def test_what_cannot_be_given_is_refused(plate, tmp_path, more, keys, message):
    orchestrator = pyama_dask.Orchestrator(None, document(plate, tmp_path / "out", *more, **keys))
    orchestrator.initialize()
    with pytest.raises(ConfigError, match=message):
        orchestrator.compile()


def test_the_plan_says_which_tables_a_step_gets(plate, tmp_path):
    orchestrator = pyama_dask.Orchestrator(None, document(plate, tmp_path / "out"))
    orchestrator.initialize()
    said = str(orchestrator.compile())
    for line in (
        "density  traces + light -> columns of the traces (density)",
        "ends   traces -> table more_ends (cell, frame)",
        "codes  ends + light -> table more_codes (cell, frame, light, code)",
        "wells  all traces + light -> table more_wells (fov, rows, sum)",
    ):
        assert line in said, said


def test_texts_of_tables_stay_as_they_were_written(tmp_path):
    table = pd.DataFrame({"name": ["01", "NA", ""], "value": [1.5, np.nan, 2.0], "good": [True, False, True]})
    table.to_csv(tmp_path / "table.csv", index=False)
    found = read_written(tmp_path / "table.csv", {"name", "well"})
    assert found["name"].tolist()[:2] == ["01", "NA"]
    assert found["name"].isna().tolist() == [False, False, True]
    assert found["value"].equals(table["value"])
    assert found["good"].equals(table["good"])
