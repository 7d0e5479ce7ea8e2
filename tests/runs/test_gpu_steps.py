"""Steps of pipelines that need a GPU: where they are done, with made-up devices, and what is refused without any."""

from collections import Counter

import pytest
from support.movies import as_czi, config, differences, pixels, products, write_config

import pyama_dask
from pyama_dask.config.load import load_config
from pyama_dask.errors import ConfigError
from pyama_dask.launch import devices
from pyama_dask.launch.devices import Device
from pyama_dask.runs.planning import plan_run

STEPS = """
import os
from pathlib import Path

import numpy as np
import pandas as pd

from pyama_dask.kernels.image_types import Frame, Labels, Stack
from pyama_dask.methods.device import has_gpu


def note(what, pixels):
    if pixels.shape[-2:] == (96, 128):  # not a trial
        with (Path(__file__).parent / "calls.txt").open("a") as file:
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "unset") or "none"
            file.write(f"{what} {device if has_gpu() else 'no ' + device}\\n")


def denoised(frame: Frame) -> Frame:
    note("denoised", frame)
    return frame + np.roll(frame, 1, axis=0) // 2


def brighter(frame: Frame) -> Frame:
    note("brighter", frame)
    return frame + 1


def calmed(stack: Stack) -> Stack:
    note("calmed", stack)
    padded = np.pad(stack, ((1, 1), (0, 0), (0, 0)), mode="edge")
    return np.maximum(padded[:-2], padded[2:])


def spots(frame: Frame, cells: Labels) -> pd.DataFrame:
    note("spots", frame)
    ids = np.unique(cells[cells > 0])
    return pd.DataFrame({"cell": ids, "top": [int(frame[cells == cell].max()) for cell in ids]}, dtype="int64")


def depths(frame: Frame, cells: Labels) -> pd.DataFrame:
    note("depths", frame)
    ids = np.unique(cells[cells > 0]).astype("int64")
    return pd.DataFrame({"cell": ids, "depth": np.full(len(ids), frame.min(), "int64")})


def counted(traces: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"rows": [len(traces)]})


denoised.gpu_memory = "6GiB"
"""

LOCAL = {"kind": "local", "workers": 2, "dashboard": "127.0.0.1:0", "gpu": {"devices": ["GPU-a", "GPU-b"]}}
FRAMES = 4


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Give a config whose steps note where they are called, those of some names with a need of a GPU."""
    (tmp_path / "mine.py").write_text(STEPS)
    monkeypatch.chdir(tmp_path)
    movie = as_czi(tmp_path / "movie.czi", pixels(fovs=1, frames=FRAMES, shape=(96, 128), cells=3))

    def make(output, on_gpu=(), need=1, **changes):
        def step(name, **keys):
            return {"do": f"mine.py:{name}", **({"gpu": need} if name in on_gpu else {}), **keys}

        before = ["copy", step("denoised", channels=["GFP"]), step("brighter", channels=["GFP"])]
        cells = {"name": "cells", "steps": [*before, "segment", "track", "background", "crop", "extract", "cache"]}
        after = [
            step("calmed", channels=["GFP"], halo=1),
            step("spots", of=["GFP", "tracked"], to="spots"),
            step("depths", of=["GFP", "tracked"], to="traces"),
        ]
        basic = {
            "params.tracking_params": {"min_frames": 2, "border_margin": 0}, "storage.block_frames": 2,
            "pipelines": [cells, {"name": "light", "input": "cells", "steps": after}],
        }  # fmt: skip
        return config(movie, tmp_path / output, basic | changes)

    return make


def calls(folder):
    """How often each function was called, by its name and whether it was on a worker with a GPU."""
    lines = (folder / "calls.txt").read_text().split("\n")[:-1]
    return Counter(line.partition(" ")[::2] for line in lines)


def test_images_and_rows_are_made_on_workers_with_a_gpu_and_all_else_reads_them(given, tmp_path):
    report = pyama_dask.run(given("out", ["denoised", "calmed", "depths"], cluster=LOCAL))
    assert report.exit_status == 0, report.failed
    found = calls(tmp_path)
    on_gpu, elsewhere = Counter(), set()
    for (name, where), count in found.items():
        if where.startswith("GPU-"):
            on_gpu[name] += count
        else:
            elsewhere.add((name, where))
    # each block is calmed with a frame of the other one, whose task may not have stored it yet
    assert on_gpu == {"denoised": FRAMES + 2, "brighter": FRAMES + 2, "calmed": 2, "depths": FRAMES}
    assert elsewhere == {("brighter", "no none"), ("spots", "no none")}
    made = products(tmp_path / "out")
    assert pyama_dask.run(given("plain")).exit_status == 0
    plain = products(tmp_path / "plain")
    stored = {"fov_000/cells_steps.zarr/denoised_1/0", "fov_000/light.zarr/calmed_1/0"}
    assert {path for path in {*made} ^ {*plain} if path.endswith("/0")} == stored
    assert differences({path: made[path] for path in plain}, plain) == []


def test_without_a_gpu_steps_are_refused_or_done_elsewhere(given, tmp_path, call):
    path = write_config(tmp_path / "run.yaml", given("out", ["denoised"]))
    status, _, error = call("plan", path)
    assert status == 2
    assert "pipelines.cells.denoised.gpu: cells.denoised needs a GPU, but cluster.kind is serial" in error
    assert len(error.splitlines()) == 1
    report = pyama_dask.run(given("out", ["denoised"], "optional"))
    assert report.exit_status == 0
    assert any("cells.denoised: is done without a GPU, as cluster.kind is serial" in told for told in report.warnings)
    assert calls(tmp_path)["denoised", "no unset"] == FRAMES
    assert pyama_dask.run(given("out", ["denoised"], "optional")).tasks == 0
    status, told, _ = call("plan", write_config(path, given("out", ["denoised"], "optional")))
    assert "on workers with a GPU, if there are any" in told
    assert "stored in cells_steps.zarr/denoised_1" in told


def test_results_are_the_same_wherever_steps_for_a_gpu_stand(given, tmp_path):
    """Steps before copying, before finding cells, after it, and of the cells, each in tasks of its own."""
    made = {}
    for need in ("optional", "off"):
        wanted = given(need, ["denoised", "calmed", "depths"], need, **{"params.segmentation_gpu": need})
        first = {"do": "mine.py:calmed", "halo": 1, "gpu": need, "checkpoint": True}
        wanted["pipelines"].insert(0, {"name": "first", "steps": [first]})
        wanted["pipelines"][1] |= {"input": "first"}
        wanted["pipelines"][1]["steps"].insert(-2, {"do": "mine.py:denoised", "gpu": need, "name": "late"})
        report = pyama_dask.run(wanted)
        assert report.exit_status == 0, report.failed
        made[need] = products(tmp_path / need)
    assert len(made["optional"]) > len(made["off"])
    assert differences({path: made["optional"][path] for path in made["off"]}, made["off"]) == []


def test_a_function_says_itself_what_it_needs_and_the_config_decides(given, tmp_path, call, monkeypatch):
    cards = (Device("GPU-a", "L4", 24 * 2**30),)
    monkeypatch.setattr(devices, "nvml_devices", lambda: cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cluster = {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    (tmp_path / "mine.py").write_text(STEPS + "denoised.gpu = 1\n")
    status, told, _ = call("plan", write_config(tmp_path / "run.yaml", given("out", cluster=cluster)))
    assert status == 0
    assert "GPU:     cells.denoised on 1 worker here, on L4; cells.denoised needs 6.0 GiB of its memory" in told
    assert "2 block1_gpu" in told
    off = load_config(write_config(tmp_path / "off.yaml", given("out", ["denoised"], "off")))
    assert not plan_run(off)[0].gpu_tasks


def test_a_plan_knows_nothing_of_gpus_where_no_step_asks_for_one(given, tmp_path):
    plan, _ = plan_run(load_config(write_config(tmp_path / "run.yaml", given("out"))))
    steps = [step for pipeline in plan.job.config.model_dump(mode="json")["pipelines"] for step in pipeline["steps"]]
    assert not any("gpu" in step for step in steps)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"do": "mine.py:counted", "to": "counts"}, r"light\.counted\.gpu: is 1, but functions of tables use no GPU"),
        ({"do": "gaussian", "channels": ["GFP"]}, r"light\.gaussian\.gpu: is 1, but gaussian works on the CPU only"),
    ],
)
def test_steps_that_cannot_use_a_gpu_are_refused(given, tmp_path, step, message):
    wanted = given("out")
    wanted["pipelines"][1]["steps"].append(step | {"gpu": 1})
    with pytest.raises(ConfigError, match=message):
        plan_run(load_config(write_config(tmp_path / "run.yaml", wanted)))
