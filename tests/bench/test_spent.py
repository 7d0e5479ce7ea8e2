"""Costs of commands: processes that outlive them, memory, failures; and whether the machine is quiet."""

import sys

import pytest

from bench.spent import CommandError, Spent, busy, least, of_command, spent

PYTHON = (sys.executable, "-I", "-S", "-c")


def test_a_process_that_outlives_its_command_is_counted():
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-I', '-S', '-c', {burn!r}])"
    alone, with_orphan = of_command([*PYTHON, "pass"]), of_command([*PYTHON, script])
    assert alone.cpu < 0.2 <= with_orphan.cpu
    assert with_orphan.faults > alone.faults > 0


def test_the_memory_of_all_processes_is_summed():
    hold = "held = bytearray(60 << 20)\nimport time; time.sleep(0.5)"
    script = f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-I', '-S', '-c', {hold!r}])\n{hold}"
    found = of_command([*PYTHON, script + "\nchild.wait()"])
    assert 120 << 20 <= found.memory < 200 << 20
    assert found.wall >= 0.5


@pytest.mark.parametrize(
    ("command", "said"),
    [((*PYTHON, "raise SystemExit('no cells')"), "no cells"), (("/nowhere/program",), "No such file or directory")],
)
def test_a_command_that_fails_is_an_error_with_its_output(command, said):
    with pytest.raises(CommandError, match=said):
        of_command(command)


def test_threads_are_pinned_and_paths_of_this_checkout_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    check = (
        "import os; assert os.environ['OMP_NUM_THREADS'] == '1' and 'PYTHONPATH' not in os.environ and os.environ['X']"
    )
    of_command([*PYTHON, check], environment={"X": "y"})


def test_a_block_is_measured_with_the_processes_that_it_waits_for():
    with spent() as found:
        of_command([*PYTHON, "import time\nwhile time.process_time() < 0.1: pass"])
    assert found.cpu >= 0.1
    assert found.wall >= 0.1


def test_the_least_of_each_figure_counts():
    best = least([Spent(3, 1, 10, 5.0, 7), Spent(1, 2, 20, 6.0, 6)])
    assert (best.user, best.system, best.faults, best.wall, best.memory) == (1, 2, 10, 5.0, 6)


@pytest.mark.parametrize(("load", "said"), [(0.5, ""), (1.26, "Load average before the start: 1.3")])
def test_a_busy_machine_is_warned_of(monkeypatch, load, said):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0))
    assert busy().startswith(said)
    assert bool(busy()) == bool(said)
