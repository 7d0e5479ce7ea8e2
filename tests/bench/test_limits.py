"""Rows on whole runs: arithmetic, a second checkout, and two workers against two independent processes."""

import sys

import pytest
import yaml

from bench import limits, two_workers
from bench.commands import interpreters, run_command
from bench.movies import write_nd2
from bench.spent import Spent
from pyama_dask.config.load import parse_config
from pyama_dask.demo.movie import DemoMovie

MIB = 2**20


@pytest.fixture
def costs():
    """Costs of all cases, as two repeats of which the second is the better one."""
    least = {
        "serial": Spent(12, 2, 63 * 700 + 9000, 14.0),
        "serial one": Spent(3, 1, 9000, 4.0),
        "whole 1": Spent(12.5, 1.0, 0, 12.5),
        "whole 2": Spent(13.0, 1.5, 0, 8.0),
        "one 1": Spent(4.0, 0.68, 0, 3.0),
        "one 2": Spent(3.5, 0.92, 0, 3.25),
    }
    for name, seconds in {"logstd": 6.0, "bright": 9.0, "unet": 7.5}.items():
        least |= {f"{name} fov": Spent(seconds, 1.5), f"{name} one": Spent(3.0, 1.5)}
    return {name: [Spent(99, 99, 99**4, 99.0), cost] for name, cost in least.items()}


def test_start_up_is_taken_from_the_cost_of_a_frame(costs):
    rows = {figure: (found, target) for figure, found, target in limits.of_runs([costs], [600 * MIB], 64, "32x32")}
    assert rows["64 frames of 32x32, 2 workers: CPU, wall"] == ("14.5 s, 8.0 s", "13 s, 7.5 s")
    assert rows["CPU of a frame, start-up apart, 1 / 2 workers"] == ("140 / 160 ms", "140 / 150 ms")
    assert rows["minor faults per frame, start-up apart, serial"][0] == "700"
    assert rows["one frame, warm: CPU, wall"][0] == "4.4 s, 3.2 s"
    assert rows["peak memory of a worker"] == ("600 MiB", "600 MiB")


def test_figures_of_another_checkout_stand_behind(costs):
    slower = {name: [Spent(2 * cost.user, 2 * cost.system)] for name, (_, cost) in costs.items()}
    found = [found for _, found, _ in limits.of_segmenters([costs, slower], frames=16)]
    assert found == ["200 ms; 400 ms", "400 ms; 800 ms", "300 ms; 600 ms"]
    peaks = limits.of_runs([costs, slower], [600 * MIB, 999 * MIB], 64, "32x32")[-1]
    assert peaks[1] == "600 MiB; 999 MiB"


def test_the_other_checkout_is_named_by_its_interpreter(monkeypatch):
    monkeypatch.delenv("BENCH_AGAINST", raising=False)
    assert interpreters() == [sys.executable]
    monkeypatch.setenv("BENCH_AGAINST", "/other/.venv/bin/python")
    assert interpreters() == [sys.executable, "/other/.venv/bin/python"]


@pytest.mark.parametrize("case", limits.cases())
def test_each_case_is_a_valid_config(case, tmp_path):
    command = run_command(tmp_path / "movie.nd2", tmp_path / "out", python="python", **limits.cases()[case])
    assert command[:-1] == ["python", "-P", "-m", "pyama_dask.cli", "run"]
    config = parse_config(yaml.safe_load(command[-1].read_text()))
    assert config.output == tmp_path / "out"
    assert config.cluster.kind == ("serial" if case.startswith("serial") else "local")


@pytest.mark.slow
def test_two_workers_stand_beside_two_independent_processes(tmp_path):
    movie = write_nd2(tmp_path / "movie.nd2", DemoMovie(fovs=2, frames=4, shape=(260, 260), cells=4))
    halves = ({"fovs": "0"}, {"fovs": "1"})
    against_one, share = two_workers.compare(tmp_path / "out", movie, "2 FOVs", halves, "97 %", repeats=1)
    assert against_one[0].startswith("2 FOVs, wall time: 1 worker (")
    assert float(share[1].rstrip("%")) > 0
    assert share[2] == "97 %"
    done = {path.parent.name: path.name for path in (tmp_path / "out").glob("alone0_[01]/fov_*")}
    assert done == {"alone0_0": "fov_000", "alone0_1": "fov_001"}
