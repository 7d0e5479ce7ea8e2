"""Kinds of tasks, passes and dependencies follow from the table of parts."""

from pathlib import Path

import pandas as pd
import pytest
from support.graphs import graph_of
from support.ledgers import recorded
from support.movies import config, write_config

import pyama_dask
from pyama_dask.cli import text
from pyama_dask.errors import PlanError
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import GRAPH, PARTS
from pyama_dask.store import intermediate
from pyama_dask.store.layout import labels_name
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Graph, Part

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def part(name, scope="block", needs=(), **more):
    return Part(name, name.partition(".")[0], scope, "nowhere:nothing", lambda of: "", needs, **more)


def test_the_standard_parts_give_four_kinds_of_tasks():
    assert {kind: [of.name for of in parts] for kind, parts in GRAPH.kinds.items()} == {
        "ingest": ["copy.frames", "segment.labels", "drift.pairs", "background.tiles", "crop.counts", "plate.frames"],
        "link": ["drift.shifts", "track.link", "crop.levels", "display.levels"],
        "finish": ["track.relabel", "crop.cut", "extract.rows", "display.images", "plate.labels"],
        "gather": ["crop.store", "extract.table", "summary.numbers"],
    }
    assert GRAPH.steps == (
        "copy", "segment", "drift", "track", "background", "crop", "extract", "cache", "summary", "plate",
    )  # fmt: skip
    assert GRAPH.completes == {
        "copy": "ingest", "segment": "ingest", "drift": "link", "background": "ingest", "track": "finish",
        "crop": "gather", "extract": "gather", "cache": "finish", "summary": "gather", "plate": "finish",
    }  # fmt: skip
    assert [GRAPH.priority(kind) for kind in GRAPH.kinds] == [0, 2, 1, 3]


def test_parts_that_see_the_same_frames_share_a_pass():
    names = [[part.name for part in parts] for parts in GRAPH.rounds("finish", GRAPH.steps)]
    assert names == [["track.relabel", "plate.labels"], ["crop.cut", "extract.rows", "display.images"]]
    assert [len(parts) for parts in GRAPH.rounds("ingest", GRAPH.steps)] == [2, 2, 2]
    assert [part.name for (part,) in GRAPH.rounds("ingest", ["background"])] == ["background.tiles"]


def test_a_change_of_scope_or_resources_starts_another_task():
    graph = Graph([
        part("a.first"),
        part("b.network", needs=("a.first",), resources={"GPU": 1}),
        part("c.sum", scope="fov", needs=("b.network",)),
        part("d.own", scope="fov"),
    ])  # fmt: skip
    assert {kind: [of.name for of in parts] for kind, parts in graph.kinds.items()} == {
        "ingest": ["a.first"], "fov0": ["d.own"], "block1_gpu": ["b.network"], "fov2": ["c.sum"],
    }  # fmt: skip


def test_what_depends_on_what():
    assert GRAPH.upstream(["extract.table"]) == {
        "extract.rows", "background.tiles", "track.link", "segment.labels", "copy.frames",
        "drift.shifts", "drift.pairs",
    }  # fmt: skip
    assert GRAPH.downstream(["crop.cut"]) == {"crop.cut", "crop.store"}
    assert GRAPH.downstream(["copy.frames"]) == set(GRAPH.parts)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([part("a.x"), part("a.x")], "a.x: is declared twice"),
        ([part("a.x", needs=("b.y",))], "a.x: needs b.y, which is not declared"),
        ([part("a.x", needs=("b.y",)), part("b.y", needs=("a.x",))], "cycle"),
        ([part("a.x"), part("a.y")], "step 'a' has two parts in 'ingest' tasks"),
    ],
)
def test_a_wrong_table_is_refused(parts, problem):
    with pytest.raises(ValueError, match=problem):
        Graph(parts)


def test_the_architecture_shows_the_table():
    rows = [
        f"| `{of.name}` | {of.step} | {kind} | {', '.join(of.needs)} | {', '.join(of.writes)} | "
        f"`{of.do.removeprefix('pyama_dask.')}` |"
        for kind, parts in GRAPH.kinds.items()
        for of in parts
    ]
    assert "\n".join(rows) in ARCHITECTURE.read_text(), "\n".join(rows)


# ------------------------------------------------------------------------------------------ a step of one's own


class Counting(BlockPart):
    """Number of objects in each frame."""

    def __init__(self, context, step):
        super().__init__(context, step)
        self._counts = []

    def frame(self, k):
        labels = self._context.get(labels_name(self._context.phase))
        self._counts.append(int(labels[k].max()))

    def end(self):
        context = self._context
        file = intermediate.block_file(context.work, "counts", context.block)
        context.wrote(intermediate.save(file, counts=self._counts))


def write_counts(context):
    """Write the number of objects in each frame of a FOV."""
    files = context.block_files("counts")
    counts = [count for file in files for count in intermediate.load(file)["counts"].tolist()]
    path = context.job.fov_dir(context.task.fov) / "counts.csv"
    pd.DataFrame({"count": counts}).to_csv(path, index=False)
    context.wrote(path)
    context.note(frames=len(counts))


COUNTS = (
    Part("count.objects", "count", "block", f"{__name__}:Counting", lambda of: of.digest("segment.labels"),
         needs=("segment.labels",), reads=("labels",)),
    Part("count.table", "count", "fov", f"{__name__}:write_counts", lambda of: of.digest("count.objects"),
         needs=("count.objects",)),
)  # fmt: skip


@pytest.fixture
def counting():
    """Graph with a step more, of a part on blocks and one on FOVs."""
    with graph_of(*PARTS, *COUNTS):
        yield


def test_a_step_more_is_an_entry_and_its_code(counting, small_czi, tmp_path, call, monkeypatch):
    monkeypatch.setattr(text, "WORTH_SHOWING", 0)
    assert [of.name for of in GRAPH.kinds["ingest"]][-1] == "count.objects"
    status, *said = call("run", write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out")))
    assert status == 0
    assert {line.split()[0] for line in "".join(said).splitlines() if line} >= {"segmentation", "count"}
    counts = pd.read_csv(tmp_path / "out" / "fov_000" / "counts.csv")["count"]
    labels = pyama_dask.open_output(tmp_path / "out")[0].image("seg_labeled_ch_0").data.compute()
    assert counts.tolist() == [int(frame.max()) for frame in labels]

    assert pyama_dask.run(config(small_czi, tmp_path / "out")).tasks == 0
    again = pyama_dask.run(config(small_czi, tmp_path / "out"), force=["count"])
    done = recorded(Ledger(tmp_path / "out" / LEDGER))
    kinds = {GRAPH.kind_of[name] for name in ("count.objects", "count.table")}
    assert again.tasks == sum(key.partition("-")[0] in kinds for key in done)
    other = config(small_czi, tmp_path / "out", {"params.segmentation_params": {"min_object_size": 300}})
    with pytest.raises(PlanError, match="step 'count' of FOV 0 needs 'segment'"):
        pyama_dask.run(other, steps=["count"])
