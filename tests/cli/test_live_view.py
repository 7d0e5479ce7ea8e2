"""A run in text, at several widths."""

import os
import socket
from dataclasses import replace

import pytest
from rich.console import Console
from support.graphs import USUAL
from support.live_outputs import NOW, MadeRun

from pyama_dask.cli.live_view import View
from pyama_dask.runs.live import LiveRun


@pytest.fixture
def made(tmp_path):
    """A run of 120 FOVs, 60 of which are done; one is in work, and one has failed."""
    made = MadeRun(tmp_path / "out", fovs=120)
    for k in range(6):
        tasks = [task for fov in range(k, 60, 6) for task in made.tasks(fov)]
        made.done(*tasks, begun=NOW - 400, worker=f"node{k % 3}/{k}")
    made.done(*made.tasks(60, "ingest", "link"))
    made.failed(made.tasks(61)[0], "frame \x1b[2J3 is dark. Fix: leave it out")
    made.lock()
    made.record(jobs="jobs: 3 running", alarms=["no task has ended for 10.0 min: tasks are still running"])
    return made


def described(made, width=80, rows=20, **options):
    text = View(width, rows, **options).describe(LiveRun(made.output, lambda: NOW).snapshot())
    return [line.rstrip() for line in text.plain.splitlines()]


def test_workers_with_a_gpu_are_counted(made):
    snapshot = LiveRun(made.output, lambda: NOW).snapshot()
    first, *others = snapshot.workers
    text = View(80, 20).describe(replace(snapshot, workers=[replace(first, has_gpu=True), *others])).plain
    assert "node0: 2 workers (1 with a GPU), 160 tasks" in text
    assert "node2: 2 workers, 160 tasks" in text


@pytest.mark.parametrize(("width", "across"), [(80, 50), (130, 100), (200, 100), (40, 30)])
def test_the_grid_has_a_character_per_fov_and_fits(made, width, across):
    lines = described(made, width)
    grid = lines.index("FOVs: 60 done, 1 in work, 1 failed, 58 to do")
    characters = "".join("".join(line.split()[1:]) for line in lines[grid + 1 : grid + 1 + -(-120 // across)])
    assert characters == "█" * 60 + "▄x" + "·" * 58
    assert max(map(len, lines[grid + 1 : grid + 3])) <= width


def test_characters_stand_for_several_fovs_where_rows_are_few(made):
    lines = described(made, rows=1)
    grid = lines.index("FOVs: 60 done, 1 in work, 1 failed, 58 to do; each character is 5 FOVs")
    assert lines[grid + 1] == "   0 ██████████ ██x······· ····"
    assert lines[grid + 1].count("x") == 1


@pytest.mark.parametrize("width", [80, 200])
def test_bars_end_at_the_right_and_say_how_far_the_run_is(made, width):
    lines = described(made, width)
    assert lines[1].startswith("whole run     ██")
    assert lines[1].endswith("  484 of 960 tasks, 50 %")
    assert len(lines[1]) == width
    steps = [line for line in lines if " frames " in line and "MiB" in line]
    assert len(steps) == len(USUAL)
    assert {len(line) for line in steps} == {width}
    assert "610 of 1200 frames" in steps[0]


def test_speed_workers_jobs_alarms_and_failures_are_told(made):
    lines = described(made)
    assert lines[0].endswith(f": running for 1 min 40 s on {socket.gethostname()}, process {os.getpid()}")
    assert "frames/s in the last minute, " in lines[2]
    assert lines[2].endswith(" left")
    assert "jobs: 3 running" in lines
    assert "node0: 2 workers, 160 tasks, 100 % busy, last task 0 s ago" in lines
    assert "ALARM: no task has ended for 10.0 min: tasks are still running" in lines
    (failed,) = [line for line in lines if line.startswith("failed")]
    assert failed == "failed, or tried again (algorithm): FOV 61: frame \\x1b[2J3 is dark. Fix: leave it out"


def test_after_a_kill_it_says_how_to_resume(made):
    made.lock(started=5.0)
    lines = described(made)
    assert lines[0].endswith(": no run is active; the last one was killed")
    assert lines[-1] == (
        "unfinished: FOV 60, 62-119; resume with the command that started the run: pyama-dask run RUN.YAML"
    )
    assert not [line for line in lines if "ago" in line or "or tried again" in line]


def test_long_lists_are_cut(made):
    for fov in range(62, 65):
        made.failed(made.tasks(fov)[0])
    lines = described(made, rows=2)
    assert len([line for line in lines if "failed, or" in line]) == 2
    assert "... and 2 more" in lines


def test_an_output_that_takes_ascii_only_gets_ascii(made):
    lines = described(made, ascii_only=True)
    assert all(line.isascii() for line in lines)
    assert any("#####x....." in line.replace(" ", "").replace("5x", "#x") for line in lines)


def test_colours_go_to_terminals_only(made):
    snapshot = LiveRun(made.output, lambda: NOW).snapshot()
    for terminal in (False, True):
        console = Console(force_terminal=terminal, color_system="truecolor" if terminal else None, width=80)
        with console.capture() as shown:
            console.print(View(80, 20).describe(snapshot))
        assert ("\x1b[" in shown.get()) == terminal
