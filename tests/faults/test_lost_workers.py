"""Workers that are lost: by a task that crashes them, by memory, or by no fault of its own."""

import os
import re
import signal

import numpy as np
import pytest
from support.movies import as_czi, config, differences, pixels, products
from support.processes import worker_processes

import pyama_dask
from pyama_dask.plan import plan as planning
from pyama_dask.runs.status import LEDGER
from pyama_dask.store.ledger import Ledger

pytestmark = pytest.mark.slow

DEADLY = """
import os, signal, time
from pathlib import Path
import numpy as np
from pyama_dask.kernels.segmentation import segment

def deadly(frame, *, poison: int = 0, flag: str = "", deaths: str = ""):
    if Path(flag).exists() and int(frame.sum(dtype=np.int64)) == poison:
        with open(deaths, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # the signal may take a moment to arrive
    return segment(frame, morph_iterations=1)
"""


LOCAL = {"cluster.kind": "local", "cluster.workers": 2, "cluster.dashboard": "127.0.0.1:0"}


def test_a_task_that_crashes_its_workers_is_given_up_and_harms_no_other_fov(
    small_czi, small_pixels, finished, tmp_path
):
    flag, deaths, plugin = (tmp_path / name for name in ("flag", "deaths", "plugin.py"))
    flag.touch()
    plugin.write_text(DEADLY)
    params = {"poison": int(small_pixels[0, 5, 0].sum(dtype=np.int64)), "flag": str(flag), "deaths": str(deaths)}
    method = {"params.segmentation_method": f"{plugin}:deadly", "params.segmentation_params": params}
    changes = LOCAL | method | {"cluster.lost_workers": 2}
    report = pyama_dask.run(config(small_czi, tmp_path / "out", changes))
    assert report.exit_status == 3
    assert [(fov.status, fov.cause) for fov in report.fovs] == [("failed", "worker lost"), ("done", None)]
    assert re.search(r"FOV 0, frame 5\b.*, in the segmenter '\S+:deadly'", report.fovs[0].reason)
    assert "signal 11" in report.fovs[0].reason
    assert len(deaths.read_text()) == 2
    assert Ledger(tmp_path / "out" / LEDGER).attempts["ingest-fov000-b001"] == 2

    flag.unlink()
    begun = []
    again = pyama_dask.run(
        config(small_czi, tmp_path / "out", changes), retry_failed=True, on_start=lambda todo, _: begun.append(todo)
    )
    assert {task.fov for task in begun[0].tasks} == {0}
    assert [fov.status for fov in again.fovs] == ["done", "done"]
    assert differences(products(tmp_path / "out"), products(finished)) == []
    nothing = pyama_dask.run(config(small_czi, tmp_path / "out", changes), retry_failed=True)
    assert (nothing.exit_status, nothing.tasks, nothing.warnings) == (0, 0, ("no FOV has failed",))


def test_workers_that_are_killed_cost_time_only(small_czi, finished, tmp_path):
    killed, others = [], worker_processes()  # of other tests

    def kill_one(event):
        if event["step"] == "copy" and len(killed) < 2:
            workers = sorted(worker_processes() - others, key=lambda worker: worker.pid)
            victim = workers[len(killed) % len(workers)]
            killed.append(victim.pid)
            victim.send_signal(signal.SIGKILL)

    report = pyama_dask.run(config(small_czi, tmp_path / "out", LOCAL), progress=kill_one)
    assert len(killed) == 2
    assert report.exit_status == 0
    assert differences(products(tmp_path / "out"), products(finished)) == []


HUNGRY = """
import time
import numpy as np
from pyama_dask.kernels.segmentation import segment

def hungry(stack):
    held = np.ones((len(stack), 2**20))  # 8 MiB per frame
    time.sleep(2 if len(stack) > 12 else 0)  # until the nanny has seen it
    return np.stack([segment(frame) for frame in stack])

hungry.batch = 48
"""
"""Segmenter of up to 48 frames at once."""


def test_a_block_too_large_for_a_worker_is_done_with_fewer_frames_at_once(tmp_path, monkeypatch):
    data = pixels(fovs=1, frames=48, shape=(1024, 768), cells=10)
    movie = as_czi(tmp_path / "movie.czi", data)
    (tmp_path / "hungry.py").write_text(HUNGRY)
    changes = {"storage.block_frames": 48, "storage.cells": "off", "params.tracking_params.min_frames": 2}
    changes |= {"params.segmentation_method": f"{tmp_path}/hungry.py:hungry", "params.segmentation_params": {}}
    real = planning.task_memory
    monkeypatch.setattr(planning, "task_memory", lambda *given: min(real(*given), 2**20))  # a plan that is too hopeful
    limit = LOCAL | {"cluster.workers": 1, "cluster.memory": "520MiB"}
    report = pyama_dask.run(config(movie, tmp_path / "out", changes | limit))
    assert report.exit_status == 0, report
    log = (tmp_path / "out/.pyama_dask/log.txt").read_text()
    assert "ingest-fov000-b000 failed, retrying with batches of 12 frames" in log
    assert "exceeded its memory limit" in log
    pyama_dask.run(config(movie, tmp_path / "serial", changes))
    assert differences(products(tmp_path / "out"), products(tmp_path / "serial")) == []


def test_new_files_have_the_modes_that_the_umask_allows(small_czi, tmp_path):
    before = os.umask(0o027)
    try:
        pyama_dask.run(config(small_czi, tmp_path / "out", {"params.fovs": "0"}))
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}
    folders = [path for path in (tmp_path / "out").rglob("*") if path.is_dir()]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o750"}
