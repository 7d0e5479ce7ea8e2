"""Figures of runs on Slurm: arithmetic, and a short run of tasks that sleep."""

import pytest

from bench.slurm import NODES, Found, measure, on, run_asleep
from pyama_dask.store.ledger import Cost


def cost(worker, begun, end):
    return Cost("ingest-fov000-b000", end - begun, 0, {}, begun, worker)


@pytest.fixture
def found():
    """Two workers, of which one starts 10 s later, has a pause of 1 s, and ends 1 s earlier."""
    costs = [cost("a", 1000, 1015), cost("a", 1015, 1030), cost("b", 1010, 1020), cost("b", 1021, 1029)]
    return Found(costs, 0.04, started=998.0, ended=1032.0)


def test_workers_are_busy_from_when_the_last_one_has_a_task(found):
    assert (found.workers, found.first, found.complete, found.last) == (2, 1000, 1010, 1030)
    assert found.busy(found.complete) == pytest.approx((20 + 18) / 40)
    assert found.busy(found.first) == pytest.approx((30 + 18) / 60)


def test_the_rows_have_what_jobs_wait_for_at_both_ends(found):
    rows = found.rows("2 workers", "at least 95 %")
    assert [row[1] for row in rows] == ["95.0%", "80.0%", "2 s", "2 s"]
    assert [row[2] for row in rows] == ["at least 95 %", "", "", "at most 5 s"]
    assert found.cpu_of_task == pytest.approx(0.01)


def test_without_slurm_a_row_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("support.slurm.unavailable", lambda: "Slurm is not installed (sbatch)")
    assert measure(tmp_path) == [("workers on a real Slurm", "not measured: Slurm is not installed (sbatch)", "")]


@pytest.mark.slow
def test_tasks_that_sleep_keep_the_workers_of_all_jobs_busy(slurm, tmp_path):
    found = on(slurm, run_asleep, tmp_path, 8, 16, 1)
    assert len(found.costs) == 8 * (2 + 1 + 2 + 1)
    assert found.workers == NODES
    assert found.busy(found.complete) > 0.5
    assert found.started <= found.first < found.last < found.ended + 2
    assert slurm.jobs() == []
