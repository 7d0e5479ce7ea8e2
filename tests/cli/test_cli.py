"""The command line: run as people run it, and refused as they are best served."""

import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from rich.console import Console
from support.movies import as_czi, as_nd2, config, differences, listing, products, write_config
from support.processes import started, wait_until
from support.write_nd2 import Nd2Channel

import pyama_dask
from pyama_dask.cli.app import ORDER, parsed
from pyama_dask.cli.progress import RunDisplay
from pyama_dask.runs.output_dir import LOG, logging_to
from pyama_dask.runs.plan_text import MANY
from pyama_dask.runs.status import LEDGER

PROGRAM = Path(sys.executable).with_name("pyama-dask")
COMMANDS = ("inspect", "init", "plan", "run", "status", "merge", "inspect-traces", "demo")


def command(*arguments, **options):
    """Run the real program."""
    line = [PROGRAM, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_yaml(here, small_czi):
    return write_config(here / "run.yaml", config(small_czi, here / "out"))


class TestProgram:
    """The installed command, in a process of its own."""

    def test_help_names_every_command_and_imports_no_large_package(self):
        line = [sys.executable, "-X", "importtime", PROGRAM, "--help"]
        told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
        assert all(name in told.stdout for name in COMMANDS)
        imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
        assert "pyama_dask.cli.app" in imported
        assert not imported & {"dask", "distributed", "numba", "numpy", "pandas", "scipy", "zarr"}

    def test_from_movie_to_status(self, here, small_czi, call):
        assert call("init", small_czi, "-o", "run.yaml")[0] == 0
        changes = ["--set", f"output={here / 'out'}", "--set", "params.tracking_params.min_frames=5"]
        changes += ["--set", "params.tracking_params.border_margin=5"]
        status, planned, _ = call("plan", "run.yaml", *changes)
        assert status == 0
        assert "FOVs:    2 (0-1)" in planned
        assert listing(here) == {"run.yaml"}
        ran = command("run", "run.yaml", "--cluster", "serial", *changes)
        assert ran.returncode == 0, ran.stderr
        assert "2 FOVs done" in ran.stdout
        assert "[2/2] FOV 1 is complete" in ran.stderr
        status, told, _ = call("status", "out")
        assert status == 0
        assert "2 FOVs done" in told

    @pytest.mark.slow
    def test_run_on_local_workers_whatever_the_environment_says(self, here, run_yaml, finished):
        (here / "dask").mkdir()
        (here / "dask" / "mine.yaml").write_text("distributed: {worker: {preload: [no_such_module]}}\n")
        foreign = {
            "HOME": "/dev/null/none", "DASK_CONFIG": str(here / "dask"), "MPLBACKEND": "no such backend",
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True", "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1",
        }  # fmt: skip
        options = ("--cluster", "local", "--workers", 1, "--set", "cluster.dashboard=127.0.0.1:0")
        ran = command("run", run_yaml, *options, env=os.environ | foreign)
        assert ran.returncode == 0, ran.stderr
        assert "dashboard at http://127.0.0.1:" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert differences(products(here / "out"), products(finished)) == []
        assert not (here / "out" / ".pyama_dask" / "dask-report.html").exists()  # it was a matter of seconds

    def test_an_error_is_one_message_without_traceback(self, here):
        told = command("inspect", "none.czi")
        assert told.returncode == 2
        assert told.stdout == ""
        assert told.stderr.startswith("pyama-dask: ")
        assert "none.czi: no such file" in told.stderr
        assert told.stderr.count("\n") == 1

    def test_broken_settings_of_dask_are_one_message(self, here, run_yaml):
        (here / "dask").mkdir()
        (here / "dask" / "mine.yaml").write_text("distributed: [1\n")
        told = command("plan", run_yaml, env=os.environ | {"DASK_CONFIG": str(here / "dask")})
        assert told.returncode == 2
        assert told.stderr.startswith("pyama-dask: Dask's own settings cannot be used: ")
        assert "mine.yaml" in told.stderr
        assert told.stderr.count("\n") == 1

    def test_a_backend_of_a_notebook_does_not_keep_plot_from_drawing(self, here):
        (here / "a_area_ch_0.csv").write_text("# Time units: min\ntime,fov,cell,value\n0,0,1,1\n10,0,1,2\n")
        plotted = command("plot", "a_area_ch_0.csv", env=os.environ | {"MPLBACKEND": "module://no_such.backend"})
        assert plotted.returncode == 0, plotted.stderr

    def test_in_the_cell_of_a_notebook_it_draws_no_bars(self, call, run_yaml, monkeypatch):
        for name, value in {"JPY_PARENT_PID": "1", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}.items():
            monkeypatch.setenv(name, value)
        status, told, progress = call("plan", run_yaml)
        assert status == 0
        assert "\x1b" not in told + progress

    def test_version(self, here):
        assert command("--version").stdout == f"pyama-dask {pyama_dask.__version__}\n"

    def test_it_may_be_called_as_a_module(self, here):
        told = subprocess.run(
            [sys.executable, "-m", "pyama_dask.cli", "--help"], capture_output=True, text=True, check=True, timeout=60
        )
        listed = [line.split()[1] for line in told.stdout.splitlines() if re.match(r"[│|] [a-z]", line)]
        assert listed == list(ORDER)


# ------------------------------------------------------------------------------------------------- signals

SLOW = """
import time
from pathlib import Path

from pyama_dask.kernels.segmentation import segment


def slow(frame):
    if Path({flag!r}).exists():
        time.sleep(0.15)
    return segment(frame, morph_iterations=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number", "to"),
    [
        ("serial", signal.SIGTERM, "process"),
        ("local", signal.SIGINT, "group"),
    ],
)
def test_a_signal_ends_a_run_in_order_and_the_next_goes_on(here, small_czi, finished, kind, number, to):
    """To the process as `kill` sends it, to its group as a terminal does."""
    flag = here / "flag"
    flag.touch()
    (here / "slowly.py").write_text(SLOW.format(flag=str(flag)))
    changes = {
        "params.segmentation_method": f"{here}/slowly.py:slow",
        "params.segmentation_params": {},
        "storage.block_frames": 1,
        "cluster": {"kind": kind, "dashboard": "127.0.0.1:0"} | ({"workers": 2} if kind == "local" else {}),
    }
    path = write_config(here / "run.yaml", config(small_czi, here / "out", changes))
    ledger = here / "out" / LEDGER
    with started(PROGRAM, "run", path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        wait_until(lambda: program.poll() is not None or (ledger.exists() and b'"done":' in ledger.read_bytes()), 60)
        assert program.poll() is None, program.communicate(timeout=10)
        family = psutil.Process(program.pid).children(recursive=True)
        assert bool(family) == (kind == "local")
        send = os.killpg if to == "group" else os.kill
        send(program.pid, number)
        out, error = program.communicate(timeout=10)
        _, alive = psutil.wait_procs(family, timeout=3)
        assert alive == []
    assert program.returncode == 130, error
    assert "Cancelled" in out
    assert "run the same command again" in out
    assert "Traceback" not in error
    assert not (here / "out" / ".pyama_dask" / "lock").exists()
    done = ledger.read_text().count('"done":')
    flag.unlink()
    again = pyama_dask.run(yaml.safe_load(path.read_text()) | {"cluster": {"kind": "serial"}})
    assert (again.exit_status, again.tasks) == (0, 44 - done)
    assert differences(products(here / "out"), products(finished)) == []


# ---------------------------------------------------------------------------------------------- inspecting


class TestInspect:
    def test_in_words(self, call, small_nd2):
        status, out, error = call("inspect", small_nd2)
        assert (status, error) == (0, "")
        for part in ("movie.nd2: ND2", "2 FOVs, 10 frames, 2 channels", "0.65 um", "0: Phase (phase", "240 x 200 px"):
            assert part in out

    def test_as_json(self, call, small_czi):
        status, out, _ = call("inspect", small_czi, "--json")
        document = json.loads(out)
        assert status == 0
        assert (document["n_frames"], len(document["fovs"])) == (10, 2)
        assert [channel["kind"] for channel in document["channels"]] == ["phase", "fluorescence"]
        assert document["times_min"][0][:3] == [0, 10, 20]

    def test_what_is_missing_is_named(self, call, tmp_path, small_pixels):
        skip = {(1, t, c, 0) for t in (6, 7, 9) for c in range(2)}
        movie = as_czi(tmp_path / "a.czi", small_pixels, skip=skip, period_s=None)
        _, out, _ = call("inspect", movie)
        assert "3 frames missing: 6-7, 9" in out
        assert "none in the file" in out

    def test_inspect_tells_incomplete_frames_from_missing_ones(self, call, here, small_pixels):
        skip = {(0, t, c, 0) for t, c in [(3, 0), (3, 1), (5, 1), (8, 1)]}
        _, out, _ = call("inspect", as_czi(here / "a.czi", small_pixels, skip=skip))
        assert "1 frame missing: 3, 2 frames without some channels or planes: 5, 8" in out

    def test_json_has_null_for_what_is_not_a_number(self, call, tmp_path, small_pixels):
        skip = {(1, t, c, 0) for t in (6, 7, 9) for c in range(2)}
        movie = as_czi(tmp_path / "a.czi", small_pixels, skip=skip)
        _, out, _ = call("inspect", movie, "--json")
        document = json.loads(out, parse_constant=pytest.fail)
        assert document["fovs"][1]["missing"] == [6, 7, 9]

    def test_short_intervals_are_in_seconds(self, call, here, small_pixels):
        _, out, _ = call("inspect", as_czi(here / "a.czi", small_pixels[:1, :3, :, :32, :32], period_s=30.0))
        assert "30 s between frames\n" in out

    def test_many_fovs_are_cut_short(self, call, tmp_path, small_pixels):
        movie = as_nd2(tmp_path / "many.nd2", small_pixels[:1, :1, :, :32, :32].repeat(MANY + 3, axis=0))
        _, out, _ = call("inspect", movie)
        assert "... and 3 more" in out


class TestInit:
    def test_channels_are_guessed_from_the_file(self, call, here, small_pixels):
        channels = [Nd2Channel("GFP"), Nd2Channel("Ph", "phase")]
        movie = as_nd2(here / "a.nd2", small_pixels[:, :2, ::-1], channels=channels)
        status, out, _ = call("init", movie)
        assert status == 0
        assert "run.yaml: written" in out
        document = yaml.safe_load((here / "run.yaml").read_text())
        assert document["channels"]["pc"]["channel"] == 1
        assert [choice["channel"] for choice in document["channels"]["fl"]] == [0]
        assert (document["input"], document["output"]) == ("a.nd2", "a_results")
        assert f"The output will be {here / 'a_results'}" in out
        (here / "configs").mkdir()
        assert call("init", movie, "-o", "configs/run.yaml")[0] == 0
        document = yaml.safe_load((here / "configs" / "run.yaml").read_text())
        assert (document["input"], document["output"]) == ("../a.nd2", "a_results")
        assert call("plan", "configs/run.yaml")[0] == 0
        assert call("plan", "run.yaml")[0] == 0
        (here / "a" / "b" / "c").mkdir(parents=True)
        assert call("init", movie, "--no-look", "-o", "a/b/c/run.yaml")[0] == 0
        assert yaml.safe_load((here / "a" / "b" / "c" / "run.yaml").read_text())["input"] == str(movie.resolve())
        assert call("init", movie, "-o", "slurm.yaml", "--cluster", "slurm")[0] == 0
        assert "walltime" in yaml.safe_load((here / "slurm.yaml").read_text())["cluster"]
        assert "walltime" not in document["cluster"]

    def test_a_config_that_is_there_is_kept(self, call, here, small_czi):
        (here / "run.yaml").write_text("mine")
        status, _, error = call("init", small_czi)
        assert status == 2
        assert error.startswith("pyama-dask: run.yaml: already exists. Fix: use --force to overwrite it, or ")
        assert (here / "run.yaml").read_text() == "mine"
        assert call("init", small_czi, "--force")[0] == 0
        assert "segmentation_params" in (here / "run.yaml").read_text()

    def test_where_it_cannot_be_written_it_says_so(self, call, here, small_czi):
        (here / "file").touch()
        status, _, error = call("init", small_czi, "-o", here / "file" / "run.yaml")
        assert status == 2
        assert "run.yaml" in error


class TestPlan:
    def test_in_words(self, call, run_yaml, here):
        status, out, error = call("plan", run_yaml)
        assert (status, error) == (0, "")
        for part in (
            "tasks:   16 (6 ingest, 2 link, 6 finish, 2 gather)",
            "in 3 blocks of up to 4",
            "MiB per worker",
            "per FOV, plus",
        ):
            assert part in out
        assert listing(here) == {"run.yaml"}

    def test_as_json(self, call, run_yaml):
        _, out, _ = call("plan", run_yaml, "--json")
        document = json.loads(out)
        assert (document["tasks"], document["blocks"], document["block_frames"]) == (16, 3, 4)
        assert document["fovs"][0]["kinds"]["ingest"]["tasks"] == 3

    @pytest.mark.parametrize(
        ("arguments", "tasks"),
        [(["--fovs", "1"], 8), (["--frames", "0-3"], 8), (["--set", "storage.block_frames=10"], 8), ([], 16)],
    )
    def test_the_command_line_comes_before_the_file(self, call, run_yaml, arguments, tasks):
        _, out, _ = call("plan", run_yaml, "--json", *arguments)
        assert json.loads(out)["tasks"] == tasks

    def test_what_cannot_be_done_is_said(self, call, here, small_pixels):
        skip = {(1, t, c, 0) for t in range(6, 10) for c in range(2)}
        movie = as_czi(here / "a.czi", small_pixels, skip=skip, period_s=None)
        path = write_config(here / "run.yaml", config(movie, here / "out"))
        _, out, _ = call("plan", path)
        assert "cannot be done: FOV 1: 4 of its frames are missing" in out
        assert "warning: FOVs 0-1: the file has no time stamps" in out


class TestRun:
    def test_to_the_end(self, call, run_yaml, here, finished):
        status, out, error = call("run", run_yaml)
        assert status == 0
        assert "Finished after" in out
        assert f"Results: {here / 'out'}" in out
        assert "2 FOVs, 10 frames, 16 tasks" in error
        assert differences(products(here / "out"), products(finished)) == []

    def test_some_fovs_steps_and_frames(self, call, run_yaml, here):
        status, out, _ = call("run", run_yaml, "--fovs", "1", "--frames", "0-4", "--steps", "copy,segment")
        assert status == 0
        assert "1 FOV partial" in out
        assert sorted(p.name for p in (here / "out").glob("fov_*")) == ["fov_001"]

    def test_status_3_when_a_fov_failed(self, call, here, small_pixels):
        skip = {(1, t, c, 0) for t in range(6, 10) for c in range(2)}
        movie = as_czi(here / "a.czi", small_pixels, skip=skip)
        path = write_config(here / "run.yaml", config(movie, here / "out"))
        status, out, _ = call("run", path)
        assert status == 3
        assert "failed: (input) FOV 1: 4 of its frames" in out
        status, out, _ = call("status", here / "out")
        assert status == 0
        assert "1 FOV done, 1 FOV failed" in out

    def test_warnings_are_said(self, call, here, small_czi):
        changes = {"params.tracking_params": {"min_frames": 5, "border_margin": 99}}
        path = write_config(here / "run.yaml", config(small_czi, here / "out", changes))
        status, out, _ = call("run", path)
        assert status == 0
        assert "warning: FOV 0: none of" in out

    def test_swapped_channels_are_a_warning_of_plan_run_and_status(self, call, here, small_czi):
        changes = {"channels": {"pc": {"channel": 1}, "fl": [{"channel": 0}]}, "params.frames": "0"}
        path = write_config(here / "run.yaml", config(small_czi, here / "out", changes))
        for command, place in (("plan", path), ("run", path), ("status", here / "out")):
            _, out, progress = call(command, place)
            assert ("warning: channels.pc: channel 1" in progress) == (command == "run")  # before any work
            assert re.search(
                r"warning: channels.pc: channel 1 \('GFP'\) is used as phase .* as fluorescence\. Fix:", out
            )
            assert re.search(
                r"warning: channels.fl.0: channel 0 \('Phase'\) is used as .* as phase contrast\. Fix:", out
            )

    def test_a_signal_in_this_process_is_left_to_its_own_handler_afterwards(self, call, run_yaml):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        call("run", run_yaml)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class TestMerge:
    def test_in_words(self, call, here, copied):
        (here / "samples.yaml").write_text("samples:\n- {name: control, fovs: 0}\n- {name: treated, fovs: [1]}\n")
        status, out, error = call("merge", copied, here / "samples.yaml", "-o", here / "tables")
        assert (status, error) == (0, "")
        assert re.search(r"^control: \d cells with \d+ rows, FOV 0$", out, re.MULTILINE)
        assert "Tables: 16 CSVs and all_samples.parquet in " in out
        assert (here / "tables" / "treated_intensity_total_ch_1.csv").exists()
        assert not (copied / "merged").exists()

    def test_status_3_when_a_fov_is_left_out(self, call, here, copied):
        (here / "samples.yaml").write_text("samples: [{name: all of it, fovs: 0-2}]")
        status, out, _ = call("merge", copied, here / "samples.yaml")
        assert status == 3
        assert "warning: sample 'all of it': left out: FOV 2: is not in the output, which has 0-1" in out

    def test_what_is_not_valid_is_said(self, call, here, copied):
        (here / "samples.yaml").write_text("samples: [{name: a/b, fovs: 0}]")
        status, out, error = call("merge", copied, here / "samples.yaml")
        assert (status, out) == (2, "")
        assert "samples.0.name: holds '/', which file names cannot have" in error


class TestStatus:
    def test_as_json(self, call, finished):
        status, out, _ = call("status", finished, "--json")
        assert status == 0
        assert [fov["status"] for fov in json.loads(out)["fovs"]] == ["done", "done"]

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            (["copy"], "partial (next step: segment): FOV 0-1"),
            (["copy", "segment", "background"], "partial (next step: track): FOV 0-1"),
        ],
    )
    def test_how_far(self, call, small_czi, tmp_path, steps, expected):
        pyama_dask.run(config(small_czi, tmp_path / "out"), steps=steps)
        assert expected in call("status", tmp_path / "out")[1]

    def test_number_of_tasks_of_a_run_that_was_cancelled(self, call, small_czi, tmp_path):
        cancel, document = threading.Event(), config(small_czi, tmp_path / "out")

        def stop(event):
            if event["step"] == "done":
                cancel.set()

        pyama_dask.run(document, progress=stop, cancel=cancel)
        document = json.loads(call("status", tmp_path / "out", "--json")[1])
        done = sum(fov["tasks_done"] for fov in document["fovs"])
        assert 8 <= done < 16
        assert [fov["tasks"] for fov in document["fovs"]] == [8, 8]
        assert f"{done} of 16 tasks are done" in call("status", tmp_path / "out")[1]

    def test_of_what_is_no_output(self, call, here):
        status, _, error = call("status", here)
        assert status == 2
        assert "holds no run of pyama_dask" in error
        assert listing(here) == set()


def test_a_disk_that_is_full_at_the_start_refuses_the_run(call, run_yaml, here, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyama_dask.store.lock.write_record", full)
    status, out, error = call("run", run_yaml)
    assert (status, out) == (2, "")
    assert re.search(
        r": No space left on device; about [\d.]+ MiB are still to be written, and \S+ \SiB are free\.", error
    )
    assert error.endswith("Fix: free space, or choose another 'output'\n")
    assert listing(here) == {"run.yaml"}


class TestRetry:
    def test_nothing_has_failed(self, call, small_czi, copied, here):
        path = write_config(here / "run.yaml", config(small_czi, copied))
        status, out, error = call("run", path, "--retry-failed")
        assert (status, error) == (0, "")
        assert out.startswith("Nothing to do: 2 FOVs done")
        assert "warning: no FOV has failed\n" in out

    def test_unfinished_fovs_are_left_and_named(self, call, small_czi, tmp_path, here):
        path = write_config(here / "run.yaml", config(small_czi, tmp_path / "out"))
        status, _, error = call("run", path, "--retry-failed")
        assert (status, "out: holds no results yet. Fix: run without --retry-failed" in error) == (2, True)
        assert not (tmp_path / "out").exists()
        assert call("run", path, "--steps", "copy")[0] == 0
        status, out, _ = call("run", path, "--retry-failed")
        assert (status, out.splitlines()[0]) == (0, "Nothing to do: 2 FOVs partial")
        assert "no FOV has failed; unfinished: 2 FOVs. Fix: run without --retry-failed" in out


class TestRefusals:
    """One message, exit status 2, and nothing written."""

    @pytest.mark.parametrize("name", ["plan", "run"])
    @pytest.mark.parametrize(
        ("changes", "arguments", "says"),
        [
            ({"params.colour": 1}, [], "run.yaml:\n  params.colour: is not a key here"),
            ({"params.fovs": "9"}, [], "params.fovs: 9 is not in movie.czi"),
            ({"channels.pc.channel": 5}, [], "channels.pc.channel: 5 is not in movie.czi"),
            ({"input": "none.nd2"}, [], "none.nd2"),
            ({}, ["--set", "params.background_weight"], "must be KEY=VALUE"),
            ({}, ["--set", "params.background_weight=2"], "pyama-dask: --set params.background_weight: "),
            ({}, ["--set=params.tracking_params.min_frames=-1"], "--set params.tracking_params.min_frames: "),
            ({}, ["--set", "output.x=1"], "pyama-dask: --set output.x: 'output' holds a value"),
            ({}, ["--set", "params.fovs=[1"], "--set params.fovs=[1"),
            ({}, ["--fovs", "5-3"], "params.fovs: range '5-3' runs backwards"),
            ({}, ["--frames", "0-99"], "params.frames: 99 is not in movie.czi"),
        ],
    )  # fmt: skip
    def test_of_a_config(self, call, here, small_czi, name, changes, arguments, says):
        write_config(here / "run.yaml", config(small_czi, here / "out", changes))
        status, out, error = call(name, "run.yaml", *arguments)
        assert (status, out) == (2, "")
        assert error.startswith("pyama-dask: ")
        assert says in error
        assert "Traceback" not in error
        assert listing(here) == {"run.yaml"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--workers", "0"], "cluster.workers: "),
            (["--cluster", "cloud"], "cluster.kind: "),
            (["--steps", "fly"], "step 'fly' is not one of this run's"),
            (["--steps", "track"], "step 'track' of FOV 0 needs 'segment'"),
        ],
    )
    def test_of_a_run(self, call, run_yaml, here, arguments, says):
        status, _, error = call("run", run_yaml, *arguments)
        assert status == 2
        assert says in error
        assert listing(here) == {"run.yaml"}

    def test_of_an_output_that_is_a_file(self, call, run_yaml, here):
        (here / "out").write_text("mine")
        status, _, error = call("run", run_yaml)
        assert status == 2
        assert "out is a file. Fix: choose another 'output'" in error
        assert (here / "out").read_text() == "mine"

    def test_of_an_output_where_nobody_may_write(self, call, run_yaml, here):
        status, _, error = call("run", run_yaml, "--set", "output=/proc/results")  # not even the superuser
        assert status == 2
        assert "/proc/results: cannot be" in error
        assert "choose another 'output'" in error
        assert listing(here) == {"run.yaml"}

    @pytest.mark.parametrize("arguments", [["fly"], ["run"], ["run", "run.yaml", "--colour"], ["plan", "a", "b"]])
    def test_of_arguments(self, call, here, arguments):
        status, _, error = call(*arguments)
        assert status == 2
        assert "Usage" in error

    def test_without_arguments_help_is_shown(self, call):
        _, out, error = call()
        assert "inspect" in out + error

    def test_debug_lets_the_error_through(self, call, here):
        with pytest.raises(pyama_dask.PyamaError):
            call("--debug", "status", here)

    @pytest.mark.parametrize("name", ["a.tif", "a.nd2", "a.czi"])
    @pytest.mark.parametrize("verb", ["inspect", "init"])
    def test_of_a_file_that_is_no_movie(self, call, here, verb, name):
        (here / name).write_bytes(b"something else")
        status, out, error = call(verb, name)
        assert (status, out) == (2, "")
        assert name in error
        assert listing(here) == {name}


class TestDemo:
    def test_it_does_not_touch_a_directory_of_something_else(self, call, here):
        (here / "demo").mkdir()
        (here / "demo" / "thesis.tex").write_text("mine")
        status, _, error = call("demo", "demo")
        assert status == 2
        assert "holds other files" in error
        assert listing(here) == {"demo", "demo/thesis.tex"}


class TestPipes:
    """Files that are pipes: opening one would wait until somebody writes into it."""

    @pytest.fixture
    def pipe(self, here, run_yaml):
        """Put a pipe in the place of a file."""

        def made(name):
            path = here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            os.mkfifo(path)
            return path

        return made

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("pipe.yaml", ["plan", "pipe.yaml"]),
            ("samples.yaml", ["merge", "old", "samples.yaml"]),
            ("old/good.yaml", ["inspect-traces", "old"]),
            ("good.yaml", ["inspect-traces", "old", "--good", "good.yaml"]),
            ("old/fov_000/m_traces.csv", ["inspect-traces", "old"]),
            ("old/processing_results.yaml", ["inspect-traces", "old"]),
            ("old/.pyama_dask/plan.json", ["status", "old"]),
            ("table.csv", ["fit", "table.csv"]),
            ("fit.yaml", ["fit", "table.csv", "-c", "fit.yaml"]),
            ("fits.csv", ["plot", "fits.csv"]),
            ("own.py", ["plan", "run.yaml", "--set", "params.segmentation_method=own.py:cut"]),
            ("movie.nd2", ["inspect", "movie.nd2"]),
        ],
    )
    def test_each_is_one_message(self, call, here, pipe, name, arguments):
        (here / "old" / "fov_000").mkdir(parents=True)
        (here / "old" / "fov_000" / "m_traces.csv").write_text("fov,cell,frame,time\n0,1,0,0\n")
        (here / "table.csv").write_text("# Time units: h\ntime,fov,cell,value\n0,0,1,1\n")
        pipe(name)
        status, out, error = call(*arguments)
        assert (status, out) == (2, "")
        assert error.startswith("pyama-dask: ")
        assert Path(name).name in error
        assert "Traceback" not in error


@pytest.mark.usefixtures("isolated")
def test_names_that_command_a_terminal_are_printed_as_text(call, here):
    status, _, error = call("inspect", "a\x1b[2J\x9b\r.nd2")
    assert (status, error) == (2, "pyama-dask: a\\x1b[2J\\x9b\\r.nd2: no such file. Fix: check the path\n")
    for module in (Path(pyama_dask.__file__).parent / "cli").glob("*.py"):
        assert not re.search(r"(?<![\w.])print\(", module.read_text()) or module.name in ("app.py", "signals.py")
    (here / LOG).parent.mkdir()
    with logging_to(here):
        logging.getLogger("pyama_dask").warning("FOV %s\nnext", "\x1b]0;x\x07")
    assert "FOV \\x1b]0;x\\x07\nnext" in (here / LOG).read_text()
    shown = io.StringIO()
    RunDisplay(Console(file=shown, width=80)).event(
        {"step": "failed", "fov": 0, "frame": 0, "message": "[bold]\x1b[31mred"}
    )
    assert "[bold]\\x1b[31mred" in shown.getvalue()


@pytest.mark.parametrize("name", ["run", "fit"])
def test_a_system_without_threads_is_one_message(call, here, run_yaml, monkeypatch, name):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    (here / "table.csv").write_text("# Time units: h\ntime,fov,cell,value\n0,0,1,1\n")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    status, out, error = call(name, "run.yaml" if name == "run" else "table.csv")
    assert (status, out) == (2, "")
    assert error.startswith("pyama-dask: the system starts no more threads for this user. Fix: ")
    assert error.count("\n") == 1
    assert listing(here) == {"run.yaml", "table.csv"}


@pytest.mark.parametrize("verb", ["inspect", "plan", "status"])
def test_a_path_in_a_folder_that_may_not_be_entered_is_one_message(call, here, monkeypatch, verb):
    path = here / "secret" / "plate"

    def refused(name, *arguments, real=os.stat, **options):
        if str(path) in str(name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "stat", refused)
    status, out, error = call(verb, path)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"pyama-dask: {path}.*Permission denied.* Fix: check its permissions.*\n", error)


def test_help_names_the_extra_that_view_needs(call):
    assert "pip install pyama-dask[napari]" in call("view", "--help")[1]


def test_a_glob_that_begins_with_a_star_is_text():
    assert parsed(["input=*.nd2", "params.fovs=[0, 1]"]) == {"input": "*.nd2", "params.fovs": [0, 1]}
