"""A run may be killed at any moment, and its disk may be full: nothing is lost, nothing is wrong, nothing is left.

The short form of ``make chaos``, with the same functions.
"""

import sys

import pytest
from chaos import disk, flips, kills
from chaos.cases import CASES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc"),
]
CASE = {
    "czi": CASES[1],
    "serial": CASES[2],
    "changed": CASES[11],
    "filled": CASES[13],
    "pipelines": CASES[16],
    "drift": CASES[17],
    "cached": CASES[18],
}


def under(case, folder, of):
    """Run a case under kills; nothing may be wrong, and all of the kills must have come."""
    chain = kills.Chain(CASE[case], folder / "chain", of, seed=1)
    chain.run()
    assert chain.problems == []
    assert chain.done.total() == len(of)
    assert chain.compared["arrays"] > 0
    assert chain.compared["records"] > 0


def test_two_workers_killed_at_random_moments(tmp_path):
    under("czi", tmp_path, [kills.Kill("driver", at_once=True), kills.Kill("starting worker"), kills.Kill("worker")])


def test_a_serial_run_killed_while_it_ends_itself(tmp_path):
    under("serial", tmp_path, [kills.Kill("interrupt then kill")])


def test_chosen_moments_of_a_serial_run(tmp_path):
    moments = [("create", 3), ("torn", 2), ("record", 1), ("ledger", 2), ("cancel", 1), ("cells", 1), ("parts", 2)]
    under("serial", tmp_path, [kills.aimed(*moment) for moment in moments])


def test_shards_through_the_page_cache(tmp_path):
    under("cached", tmp_path, [kills.aimed("shard", 3), kills.aimed("torn", 3, "group"), kills.Kill("worker")])


def test_between_taking_back_and_removing(tmp_path):
    under("changed", tmp_path, [kills.aimed("void"), kills.aimed("discard", 2)])


def test_runs_that_fill_gaps(tmp_path):
    under("filled", tmp_path, [kills.Kill("driver"), kills.Kill("group")])


def test_pipelines_on_a_plate(tmp_path):
    under("pipelines", tmp_path, [kills.aimed("own table", 2), kills.aimed("well table")])


def test_drift_of_the_stage(tmp_path):
    under("drift", tmp_path, [kills.aimed("own table", 3)])


@pytest.mark.parametrize("case", ["serial", "czi"])
def test_flipped_bits(tmp_path, case):
    found = flips.Flips(CASE[case], tmp_path / "flips", seed=7).run(between=4, during=2)
    assert found.problems == []
    assert sum(counts["flips"] for counts in found.found.values()) >= 5


def test_a_full_disk(tmp_path):
    if why := disk.unavailable():
        pytest.skip(why)
    table = disk.measure(tmp_path, "short")
    assert table.problems == []
    assert len(table.rows) == len(disk.SHORT)
