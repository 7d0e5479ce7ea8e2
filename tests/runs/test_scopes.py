"""A step of every scope is an entry of the table and its code: plan, loop, ledger and pools need no change."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from support.graphs import graph_of
from support.ledgers import costs_of
from support.movies import as_czi, config, file_bytes, pixels, put_in_wells

import pyama_dask
from pyama_dask.errors import AlgorithmError
from pyama_dask.runs.status import LEDGER, read_status
from pyama_dask.runs.verify import verify_output
from pyama_dask.steps.part import BlockPart
from pyama_dask.steps.standard import GRAPH, PARTS
from pyama_dask.store import intermediate
from pyama_dask.store.layout import raw_name
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.trace_csv import traces_file
from pyama_dask.workflow.graph import Graph, Part
from pyama_dask.workflow.task import parse_key

WELLS = ["A1", "A1", "A2", "A1"]
FAILING = set[int]()
"""FOVs whose total cannot be written."""


class Running(BlockPart):
    """Sum of all pixels from the first frame on: a chain, as each block goes on from the one before."""

    def __init__(self, context, step):
        super().__init__(context, step)
        self._sums = [0.0]
        if context.block:
            before = intermediate.block_file(context.work, "running", context.block - 1)
            self._sums = [intermediate.load(context.verified(before))["sums"][-1]]

    def frame(self, k):
        frame = self._context.get(raw_name("pc", self._context.phase))[k]
        self._sums.append(self._sums[-1] + float(frame.sum()))

    def end(self):
        context = self._context
        file = intermediate.block_file(context.work, "running", context.block)
        context.wrote(intermediate.save(file, sums=self._sums[1:]))


def write_total(context):
    """Write the sum over a FOV, which is the last value of its chain."""
    if context.task.fov in FAILING:
        raise AlgorithmError(f"FOV {context.task.fov}: no total today")
    total = intermediate.load(context.block_files("running")[-1])["sums"][-1]
    path = context.job.fov_dir(context.task.fov) / "total.csv"
    pd.DataFrame({"total": [total]}).to_csv(path, index=False)
    context.wrote(path)


class Pieces(BlockPart):
    """One value per frame, in files that are removed when they are joined."""

    def end(self):
        context = self._context
        file = intermediate.block_file(context.work, "piece", context.block)
        context.wrote(intermediate.save(file, frames=np.arange(context.task.start, context.task.stop)))


def join_pieces(context):
    """Join the pieces of all blocks."""
    pieces = [intermediate.load(file)["frames"] for file in context.block_files("piece")]
    context.wrote(intermediate.save(context.work / "joined.npz", frames=np.concatenate(pieces)))


def cells_of_well(context):
    """Write the number of cells in each FOV of a well."""
    tables = {k: traces_file(context.job.fov_dir(k), context.job.source, k) for k in context.task.group}
    cells = {k: pd.read_csv(context.verified(path))["cell"].nunique() for k, path in tables.items()}
    path = context.job.output / "wells" / f"well_of_fov_{context.task.group[0]}.csv"
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame({"fov": [*cells], "cells": [*cells.values()]}).to_csv(path, index=False)
    context.wrote(path)
    context.note(fovs=len(cells))


def fovs_of_plate(context):
    """Write the FOVs of a plate."""
    path = context.job.output / "plate.csv"
    pd.DataFrame({"fov": context.task.group}).to_csv(path, index=False)
    context.wrote(path)


MINE = (
    Part("sums.running", "sums", "chain", f"{__name__}:Running",
         needs=("copy.frames",), reads=("raw",)),
    Part("sums.total", "sums", "fov", f"{__name__}:write_total",
         needs=("sums.running",)),
    Part("pieces.cut", "pieces", "block", f"{__name__}:Pieces", needs=("copy.frames",), temporary=True),
    Part("pieces.joined", "pieces", "fov", f"{__name__}:join_pieces", needs=("pieces.cut",), from_blocks=True),
    Part("wells.cells", "wells", "well", f"{__name__}:cells_of_well",
         needs=("extract.table",)),
    Part("plates.fovs", "plates", "plate", f"{__name__}:fovs_of_plate",
         needs=("wells.cells",)),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def own_steps():
    """Steps of all scopes beside the seven."""
    with graph_of(*PARTS, *MINE):
        yield


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=4, frames=10, shape=(150, 170), cells=4)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return put_in_wells(as_czi(tmp_path_factory.mktemp("wells") / "movie.czi", data), WELLS)


@pytest.fixture(scope="module")
def whole(movie, own_steps, tmp_path_factory):
    """Output of a run, to be read only."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert pyama_dask.run(config(movie, output)).exit_status == 0
    return output


@pytest.fixture
def output(whole, tmp_path):
    """A copy of it to go on with."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def keys_done(output, entries_before):
    return [cost.key for cost in costs_of(Ledger(output / LEDGER), entries_before)]


def test_a_chain_goes_from_block_to_block(output, data):
    assert GRAPH.kind_of["sums.running"] == "chain1"
    totals = [pd.read_csv(output / f"fov_{k:03d}" / "total.csv")["total"][0] for k in range(4)]
    assert totals == [float(data[k, :, 0].sum()) for k in range(4)]
    chained = [parse_key(key).block for key in keys_done(output, 0) if key.startswith("chain1-fov002")]
    assert chained == [0, 1, 2]


def test_added_frames_leave_whole_blocks_of_a_chain(movie, output, tmp_path):
    shorter = tmp_path / "shorter"
    pyama_dask.run(config(movie, shorter, {"params.frames": "0-7"}))
    before = Ledger(shorter / LEDGER).receipts
    pyama_dask.run(config(movie, shorter))
    assert [parse_key(key).block for key in keys_done(shorter, before) if key.startswith("chain1")] == [2] * 4
    assert file_bytes(shorter) == file_bytes(output)


def test_damage_in_a_chain_reaches_the_blocks_after_it(movie, output, tmp_path):
    undisturbed = file_bytes(output)
    damaged = output / ".pyama_dask" / "fov_001" / "running_b001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    before = Ledger(output / LEDGER).receipts
    assert pyama_dask.run(config(movie, output)).exit_status == 0
    assert keys_done(output, before) == [
        "chain1-fov001-b001",
        "chain1-fov001-b002",
        GRAPH.kind_of["sums.total"] + "-fov001",
    ]
    assert file_bytes(output) == undisturbed


def test_a_table_of_a_well_has_all_of_its_fovs(output):
    for fovs in ([0, 1, 3], [2]):
        table = pd.read_csv(output / "wells" / f"well_of_fov_{fovs[0]}.csv")
        assert table["fov"].tolist() == fovs
        expected = [pyama_dask.open_output(output)[k].traces()["cell"].nunique() for k in fovs]
        assert table["cells"].tolist() == expected
    assert pd.read_csv(output / "plate.csv")["fov"].tolist() == [0, 1, 2, 3]
    assert verify_output(output, deep=True).is_good
    assert {fov["status"] for fov in read_status(output)["fovs"]} == {"done"}


def test_temporary_files_are_removed_and_made_again_when_what_is_made_from_them_is_lost(movie, output):
    work = output / ".pyama_dask" / "fov_002"
    assert not list(work.glob("piece_*"))
    assert pyama_dask.run(config(movie, output)).tasks == 0
    joined = (work / "joined.npz").read_bytes()
    (work / "joined.npz").unlink()
    assert pyama_dask.run(config(movie, output)).exit_status == 0
    assert (work / "joined.npz").read_bytes() == joined
    assert not list(work.glob("piece_*"))
    assert verify_output(output, deep=True).is_good


def test_nothing_is_left_and_a_forced_step_does_what_is_made_from_it(movie, output):
    assert pyama_dask.run(config(movie, output)).tasks == 0
    before = Ledger(output / LEDGER).receipts
    pyama_dask.run(config(movie, output), force=["wells"])
    kinds = [parse_key(key).kind for key in keys_done(output, before)]
    assert sorted(kinds) == sorted([GRAPH.kind_of["wells.cells"]] * 2 + [GRAPH.kind_of["plates.fovs"]])


def test_a_change_in_one_fov_redoes_its_well_alone(movie, output):
    table = traces_file(output / "fov_001", movie, 1)
    table.write_bytes(table.read_bytes()[:-1])
    before = Ledger(output / LEDGER).receipts
    assert pyama_dask.run(config(movie, output)).exit_status == 0
    done = {parse_key(key)[:2] for key in keys_done(output, before)}
    wide = {(GRAPH.kind_of[part], 3) for part in ("wells.cells", "plates.fovs")}
    assert done == {("finish", 1), ("gather", 1)} | wide  # parts of crops are regenerated for the crops


def test_a_well_of_more_fovs_replaces_its_table(movie, output, tmp_path):
    part = tmp_path / "part"
    pyama_dask.run(config(movie, part, {"params.fovs": "0,1"}))
    assert pd.read_csv(part / "wells" / "well_of_fov_0.csv")["fov"].tolist() == [0, 1]
    assert pyama_dask.run(config(movie, part)).exit_status == 0
    assert file_bytes(part) == file_bytes(output)
    assert verify_output(part, deep=True).is_good
    assert pyama_dask.run(config(movie, part)).tasks == 0


def test_a_well_with_a_failed_fov_waits_until_that_is_done(movie, output, tmp_path):
    part = tmp_path / "part"
    FAILING.add(1)
    try:
        report = pyama_dask.run(config(movie, part))
    finally:
        FAILING.clear()
    assert report.exit_status == 3
    assert [fov.status for fov in report.fovs] == ["done", "failed", "done", "partial"]
    assert report.fovs[3].left == ("wells", "plates")
    assert any("FOV 3 (P4): wells, plates need FOV 1, which is not done" in warning for warning in report.warnings)
    assert pd.read_csv(part / "wells" / "well_of_fov_2.csv")["fov"].tolist() == [2]
    assert not (part / "wells" / "well_of_fov_0.csv").exists()
    assert pyama_dask.run(config(movie, part)).exit_status == 0
    assert file_bytes(part) == file_bytes(output)


def test_a_retry_of_failed_fovs_makes_the_results_of_their_wells(movie, output, tmp_path):
    part = tmp_path / "part"
    FAILING.add(1)
    try:
        pyama_dask.run(config(movie, part))
    finally:
        FAILING.clear()
    assert pyama_dask.run(config(movie, part), retry_failed=True).exit_status == 0
    assert {fov["status"] for fov in read_status(part)["fovs"]} == {"done"}
    assert file_bytes(part) == file_bytes(output)


def test_a_fov_that_cannot_be_processed_is_left_out_of_its_well_and_that_is_said(data, tmp_path):
    movie = put_in_wells(as_czi(tmp_path / "movie.czi", data, skip={(1, 5, 0, 0)}), WELLS)
    report = pyama_dask.run(config(movie, tmp_path / "out"))
    assert any("FOV 1: is left out of the results of its well" in warning for warning in report.warnings)
    assert pd.read_csv(tmp_path / "out" / "wells" / "well_of_fov_0.csv")["fov"].tolist() == [0, 3]


def test_a_file_of_a_step_that_is_stale_is_removed_before_the_step_is_done_again(movie, output):
    FAILING.add(1)
    try:
        assert pyama_dask.run(config(movie, output, {"params.frames": "0-5"})).exit_status == 3
    finally:
        FAILING.clear()
    assert not (output / "fov_001" / "total.csv").exists()
    assert (output / "fov_000" / "total.csv").exists()


def test_without_a_digest_a_part_depends_on_its_needs(movie, output, data):
    pyama_dask.run(config(movie, output, {"params.frames": "0-2"}))
    assert pd.read_csv(output / "fov_000" / "total.csv")["total"][0] == float(data[0, :3, 0].sum())


def test_on_workers_wells_wait_for_their_fovs(movie, output, tmp_path):
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        report = pyama_dask.run(config(movie, tmp_path / "dask"), client=client)
    assert report.exit_status == 0
    assert file_bytes(tmp_path / "dask") == file_bytes(output)
    keys, of_well = keys_done(tmp_path / "dask", 0), GRAPH.kind_of["wells.cells"]
    for last, fovs in {2: [2], 3: [0, 1, 3]}.items():
        assert all(keys.index(f"gather-fov00{k}") < keys.index(f"{of_well}-fov00{last}") for k in fovs)
    assert keys[-1] == GRAPH.kind_of["plates.fovs"] + "-fov003"


@pytest.fixture
def with_resources():
    """The chain needs a resource of workers."""
    with graph_of(*PARTS, *(replace(part, resources={"SUMS": 1}) for part in MINE[:2])):
        yield


def test_parts_that_need_resources_run_where_these_are(with_resources, movie, tmp_path):
    changes = {"params.fovs": "0"}
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
        cancel = threading.Event()
        threading.Timer(3, cancel.set).start()
        assert pyama_dask.run(config(movie, tmp_path / "out", changes), client=client, cancel=cancel).cancelled
    assert not [key for key in keys_done(tmp_path / "out", 0) if "sums" in key]
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0", resources={"SUMS": 1}
    ) as client:
        assert pyama_dask.run(config(movie, tmp_path / "out", changes), client=client).exit_status == 0
    assert {parse_key(key).block for key in keys_done(tmp_path / "out", 0) if key.startswith("chain1_sums")} == {
        0,
        1,
        2,
    }


def test_parts_that_cannot_be_ordered_are_refused():
    wide = Part("a.x", "a", "well", "nowhere:nothing", lambda of: "")
    with pytest.raises(ValueError, match=r"b\.y: needs a\.x, which is made after it, as it is of a whole well"):
        Graph([wide, Part("b.y", "b", "fov", "nowhere:nothing", lambda of: "", needs=("a.x",))])
    fov = Part("a.x", "a", "fov", "nowhere:nothing", lambda of: "")
    with pytest.raises(ValueError, match=r"b\.y: reads from a\.x, which is not a wider part that it needs"):
        Graph([fov, Part("b.y", "b", "block", "nowhere:nothing", lambda of: "", reads_from={"a.x": "nowhere:nothing"})])
    with pytest.raises(ValueError, match=r"b\.y: is on a block; only parts on FOVs are made from blocks"):
        Graph([Part("b.y", "b", "block", "nowhere:nothing", lambda of: "", from_blocks=True)])
