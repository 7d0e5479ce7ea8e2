"""A run on a real Slurm: jobs, driver and workers that die lose nothing, and leave nothing behind.

The short form of ``make chaos-slurm``, with the same functions.
"""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from chaos.slurm import JOBS, REPLACED, Night, disturbed, one_allocation
from support.movies import config, file_bytes, write_config
from support.processes import wait_until

import pyama_dask
from pyama_dask.runs.live import LiveRun

pytestmark = pytest.mark.slow
TWO = {"cluster": JOBS | {"jobs": 2}}
DENSE = {
    "params.segmentation_method": "unet",
    "params.segmentation_params": {"model": "adherent-phase-10x", "cell_diameter": 40},
    "params.tracking_method": "lap",
    "params.tracking_params": {"min_frames": 3, "border_margin": 0},
}
SMALL = {"fovs": 2, "frames": 10, "shape": (200, 240), "cells": 6}


def test_jobs_give_the_bytes_of_a_serial_run_and_none_is_left(slurm, tmp_path, small_czi, finished):
    """A job of two processes, which `top` and the page of the run see; keys are private, and gone with the run."""
    output, modes, seen = tmp_path / "results", [], {}

    def see_keys(plan, dashboard):
        modes.extend(oct(path.stat().st_mode & 0o777) for path in sorted((output / ".pyama_dask").glob("keys-*/..")))
        modes.extend(oct(path.stat().st_mode & 0o777) for path in (output / ".pyama_dask").glob("keys-*"))
        assert "ssh -N -L" in dashboard
        seen["address"] = re.search(r"http://[\w.]+:\d+", dashboard)[0]

    def look(event):
        if event["step"] == "done" and "snapshot" not in seen:
            seen["snapshot"] = LiveRun(output).snapshot()
            seen["page"] = urllib.request.urlopen(f"{seen['address']}/pyama", timeout=30).read().decode()

    changes = {"cluster": JOBS | {"jobs": 1, "cores": 2, "memory": "2500MiB"}}
    report = pyama_dask.run(config(small_czi, output, changes), on_start=see_keys, progress=look)
    assert report.exit_status == 0
    assert report.jobs == "1 submitted"
    assert modes[-1] == "0o700"
    assert seen["snapshot"].state == "running"
    assert seen["snapshot"].jobs.startswith("jobs: 1 running")
    assert len(seen["snapshot"].workers) in (1, 2)
    assert seen["snapshot"].jobs in seen["page"]
    assert not list((output / ".pyama_dask").glob("keys-*"))
    assert file_bytes(output) == file_bytes(finished)
    until = time.monotonic() + 15
    while slurm.jobs() and time.monotonic() < until:
        time.sleep(0.1)
    assert slurm.jobs() == []


def test_a_job_and_the_driver_are_killed(slurm, tmp_path):
    """With a network and filled gaps, too, the bytes are those of an undisturbed run."""
    night = Night("short", tmp_path / "night", slurm, SMALL, TWO | DENSE | {"storage.block_frames": 5}, 0.4)
    row = disturbed(night, 2, 1, 0)
    assert night.problems == []
    assert night.done.total() >= 2
    assert row[-1] == 0
    assert pyama_dask.open_output(night.output).traces()["filled"].size
    assert all(seconds < REPLACED for seconds in night.replaced)


def test_one_allocation(slurm, tmp_path):
    runner = {"cluster": {"kind": "runner", "interface": "lo", "dashboard": "127.0.0.1:0"}}
    night = Night("one", tmp_path / "night", slurm, SMALL, runner)
    one_allocation(night)
    assert night.problems == []


def test_jobs_that_end_before_a_worker_comes_end_the_run_with_what_they_said(slurm, tmp_path, small_czi, capsys):
    broken = JOBS | {"jobs": 1, "failed_jobs": 1, "options": {"python": "/no/such/python"}}
    run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out", {"cluster": broken}))
    command = [Path(sys.executable).with_name("pyama-dask"), "run", run_yaml]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 4
    assert "1 jobs in a row ended before a worker connected" in ended.stderr
    assert "/no/such/python: No such file or directory" in ended.stderr


def test_the_doctor_tries_a_job(slurm, tmp_path, small_czi, call):
    output = tmp_path / "out"
    run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, output, TWO))
    status, told, _ = call("doctor", run_yaml)
    assert status == 0, told
    assert "FIX" not in told
    assert "ok    worker:   started on" in told
    assert "ok    versions: the same here and on the worker" in told
    assert "#SBATCH --mem=1500M" in told
    assert not output.exists()


def test_a_calibration_takes_one_job(slurm, tmp_path, small_czi, call):
    run_yaml = write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out", TWO))
    before = len(slurm.ended())
    status, told, _ = call("plan", run_yaml, "--calibrate", "--json")
    assert status == 0
    assert json.loads(told)["predicted"]["workers"] == 2
    wait_until(lambda: len(slurm.ended()) == before + 1, 15)


def test_ctrl_c_ends_a_run_in_order_and_its_jobs_with_it(slurm, tmp_path):
    """What dask-jobqueue does with Ctrl-C when it is imported would end the driver with status 0, and no word."""
    night = Night("interrupt", tmp_path / "night", slurm, SMALL, TWO, 2.0)
    night.prepare()
    start = night.start()
    until = time.monotonic() + 60
    while not slurm.jobs("RUNNING") and time.monotonic() < until:
        time.sleep(0.1)
    start.send(signal.SIGINT, group=True)
    assert start.wait(10) == 130
    assert "Stopping" in start.error
    assert "Cancelled after" in start.out
    night.nothing_left()
    assert night.problems == []


SEGMENTER = """
import os
from pathlib import Path
from pyama_dask.kernels.segmentation import segment as on_cpu
from pyama_dask.methods.device import has_gpu

def segment(frame):
    with (Path(__file__).parent / "jobs.txt").open("a") as file:
        file.write(f"{os.environ.get('SLURM_JOB_ID')} {os.environ.get('CUDA_VISIBLE_DEVICES')} {has_gpu()}\\n")
    return on_cpu(frame, morph_iterations=1)
"""


def test_jobs_with_a_gpu_are_a_group_of_their_own(slurm, tmp_path, small_czi, finished):
    """Each node has two made-up GPUs, of which Slurm shows a job its own."""
    (tmp_path / "mine.py").write_text(SEGMENTER)
    output, held = tmp_path / "results", {}

    def look(event):
        for job in slurm.jobs("RUNNING"):
            held[job] = slurm.ask("scontrol", "--oneliner", "show", "job", job)

    gpu = {
        "params.segmentation_gpu": 1,
        "cluster": JOBS | {"jobs": 1, "gpu": {"jobs": 1, "directives": ["--gres=gpu:1"]}},
    }
    method = {"params.segmentation_method": f"{tmp_path}/mine.py:segment", "params.segmentation_params": {}}
    report = pyama_dask.run(config(small_czi, output, gpu | method), progress=look)
    assert report.exit_status == 0
    assert report.jobs == "1 submitted; jobs with a GPU: 1 submitted"
    with_gpu = {job for job, told in held.items() if "gres:gpu:1" in told or "gres/gpu=1" in told}
    assert len(held) == 2
    assert len(with_gpu) == 1
    lines = (tmp_path / "jobs.txt").read_text().split("\n")[:-1]
    assert {line for line in lines if not line.startswith("None")} == {f"{with_gpu.pop()} 0 True"}
    assert file_bytes(output) == file_bytes(finished)
    wait_until(lambda: not slurm.jobs(), 15)
