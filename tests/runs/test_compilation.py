"""Kernels are compiled once before workers start, and that is said; when they are, nothing is done or said."""

import ast
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from support.movies import as_czi, config, pixels, put_in_wells
from support.onnx_models import write_model

import pyama_dask
from pyama_dask.runs import compilation, run_workers
from pyama_dask.runs.compilation import compile_kernels

SIGNATURES = """
import json
import sys
import threading
import pyama_dask
from numba.core.dispatcher import Dispatcher
from pyama_dask.config.load import as_config
from pyama_dask.kernels.first_calls import SCORES, call_all
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers import read_metadata
from pyama_dask.readers.isolated import isolation
from pyama_dask.runs import run_workers
from pyama_dask.runs.final_page import final_pages
from pyama_dask.runs.first_look import first_look
from pyama_dask.runs.method_choice import METHODS
from pyama_dask.runs.run_workers import compile_first

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("pyama_dask.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
    return {(loop.__name__, str(signature)) for loop in found for signature in loop.nopython_signatures}

def call(types, names, *_):
    call_all([f"{dtype}/{name}" for dtype in sorted(types) for name in sorted(names)])

def unchanged(work):
    before = compiled()
    result = work()
    assert compiled() == before, compiled() - before
    return result

run_workers.compile_kernels = call
dtype, configs = json.loads(sys.argv[1])
with isolation(on=False), final_pages(on=False):
    for config in configs:
        metadata = read_metadata(config["input"])
        compile_first(resolve(as_config(config), metadata), metadata, print, threading.Event())
        assert unchanged(lambda: pyama_dask.run(config)).exit_status == 0
    call({dtype}, {*METHODS, SCORES})
    unchanged(lambda: first_look(metadata, 0, None, print))
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Compiles into a folder by a command that only counts; gives the folder, and sets what the command does."""
    (folder := tmp_path / "cache").mkdir()
    monkeypatch.setattr(compilation.compiled, "cache_folder", lambda: folder)

    def does(body="pass"):
        code = f"import sys, time; open({str(tmp_path / 'calls')!r}, 'a').write(f'{{sys.argv[1:]}}\\n'); {body}"
        monkeypatch.setattr(compilation, "COMMAND", (sys.executable, "-c", code))
        return tmp_path / "calls"

    return does


def of(method, params, tracker, tracks):
    """Changes of a config to these methods and their parameters."""
    named = {"segmentation_method": method, "tracking_method": tracker}
    given = {"segmentation_params": params, "tracking_params": tracks}
    return {f"params.{key}": value for key, value in (named | given).items()}


def told(types, cancel=None, names=("logstd",)):
    said = []
    compile_kernels(types, names, said.append, cancel or threading.Event())
    return said


def each(calls):
    """What was compiled, by both processes."""
    found = [ast.literal_eval(line) for line in calls.read_text().splitlines()]
    wanted = [rest for order, *rest in found if order == "forwards"]
    assert sorted(wanted) == sorted(rest for order, *rest in found if order == "backwards")
    return wanted


def test_once_for_each_type_of_pixels(compiler):
    calls = compiler()
    (said,) = told({"uint16"})
    assert said == "Compiling logstd for uint16 pixels; later runs load the result. This takes 10 to 30 s"
    assert told({"uint16"}) == []
    (said,) = told({"uint16", "uint8"})
    assert said.startswith("Compiling logstd for uint8 pixels; ")
    assert each(calls) == [["uint16/logstd"], ["uint8/logstd"]]
    assert len(told({"uint16"}, names=("bright", "logstd"))) == 1
    assert each(calls)[2:] == [["uint16/bright"]]
    (said,) = told({"uint16", "uint8"}, names=("every_run", "fill_gaps", "lap", "logstd", "scores"))
    what = "lap, scores, filling of gaps and what every run needs"
    assert said.startswith(f"Compiling {what} for uint16 and uint8 pixels; ")


def test_runs_that_start_together_do_it_once(compiler):
    calls = compiler("time.sleep(1)")
    runs = [threading.Thread(target=told, args=({"uint8"},)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert each(calls) == [["uint8/logstd"]]


def test_what_goes_wrong_ends_no_run(compiler, caplog, monkeypatch):
    compiler("raise SystemExit('no compiler')")
    assert len(told({"uint16"})) == 1
    assert "no compiler" in caplog.text
    assert len(told({"uint16"})) == 1  # it is tried again
    monkeypatch.setattr(compilation.compiled, "cache_folder", lambda: None)
    (said,) = told({"uint16"})
    assert said.startswith("No folder can keep compiled code")


def test_a_run_that_is_cancelled_does_not_wait(compiler):
    compiler("time.sleep(60)")
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    assert len(told({"uint16"}, cancel)) == 1
    compiler()
    assert len(told({"uint16"})) == 1  # nothing was kept


def test_a_run_with_workers_reports_it(tmp_path, small_czi, monkeypatch):
    """It is one event, before the first task."""
    monkeypatch.setattr(run_workers, "compile_kernels", lambda types, names, say, _: say(f"{types} {sorted(names)}"))
    events, local = [], {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    report = pyama_dask.run(config(small_czi, tmp_path / "out", {"cluster": local}), progress=events.append)
    assert report.exit_status == 0
    assert (events[0]["step"], events[0]["message"]) == ("compile", "{'uint16'} ['every_run', 'logstd']")
    assert [event["step"] for event in events].count("compile") == 1


@pytest.mark.parametrize("dtype", ["uint16", "uint8"])
def test_all_that_a_run_needs_is_compiled(tmp_path, dtype):
    """What it calls has the types of the first calls: in frames of the strongest contrast, too, and in gaps."""
    grey = pixels(fovs=1, frames=5, shape=(200, 240), cells=6)
    movie = grey if dtype == "uint16" else np.minimum(grey >> 4, 255).astype(dtype)
    movie[:, 2, 0] = np.median(movie[:, 2, 0])  # its cells are missing
    strong = movie.copy()
    strong[:, :, 0, ::40, ::40], strong[:, :, 0, 1::40, ::40] = 0, np.iinfo(dtype).max
    usual = put_in_wells(as_czi(tmp_path / "usual.czi", movie), ["B2"])
    wide, lap = {"threshold": "mode", "logstd_window_size": 25}, {"min_frames": 2, "divide": True}
    model = {"model": str(write_model(tmp_path / "model.onnx")), "zoom": 1.5}
    balls = ({"do": name, "radius": 5} for name in ("top_hat", "rolling_ball"))
    steps = ["flat_field", "gaussian", "median", *balls]
    pipelines = [{"name": "before", "steps": steps}, {"name": "cells", "input": "before", "steps": "seven"}]
    runs = [
        (as_czi(tmp_path / "strong.czi", strong), of("logstd", wide, "lap", lap)),
        (usual, {"params.register": "drift", "storage.layout": "plate"}),
        (usual, of("logstd", {"threshold": "mode"}, "lap", lap)),
        (usual, of("bright", {"noise": 3}, "lap", lap | {"fill_gaps": True})),
        (usual, of("unet", model, "iou", {"min_frames": 2})),
        (usual, {"pipelines": pipelines}),
    ]
    configs = [config(path, tmp_path / f"out{k}", changes) for k, (path, changes) in enumerate(runs)]
    command = [sys.executable, "-c", SIGNATURES, json.dumps([dtype, configs])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_processes_that_compile_the_same_at_once_share_a_cache(tmp_path):
    """They replace each other's files as a whole: what is cached is complete, and gives the same results."""
    code = """
import numpy as np
from pyama_dask.kernels.sharpness import level_and_spread, sharpness
frame = (np.arange(12, dtype=np.uint16) ** 2).reshape(3, 4)
print(sharpness(frame), level_and_spread(frame)[0])
from pyama_dask.kernels import sharpness as module
print(*(sum(loop.stats.cache_hits.values()) for loop in (module._sums, module._squared_differences)))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(4)]
    found = {process.communicate(timeout=120)[0].splitlines()[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    after = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    assert found == {after[0]}
    assert after[1] == "1 1"  # nothing is compiled again
