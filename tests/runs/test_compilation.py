"""Kernels are compiled once before workers start, and that is said; when they are, nothing is done or said."""

import ast
import os
import subprocess
import sys
import threading

import pytest
from support.movies import config
from support.onnx_models import write_model

import pyama_dask
from pyama_dask.runs import compilation, run_workers
from pyama_dask.runs.compilation import compile_kernels

SIGNATURES = """
import sys
import pyama_dask
from numba.core.dispatcher import Dispatcher
from pyama_dask.kernels.first_calls import KERNELS, call_all

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("pyama_dask.kernels.")]
    found = {{value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}}
    return {{(loop.__name__, str(signature)) for loop in found for signature in loop.nopython_signatures}}

call_all([f"uint16/{{name}}" for name in KERNELS])
before = compiled()
assert len(before) > 20, before
for config in {configs!r}:
    assert pyama_dask.run(config).exit_status == 0
assert compiled() - before == set(), compiled() - before
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
    assert said.startswith("Compiling for uint16 pixels, once per installation")
    assert told({"uint16"}) == []
    assert len(told({"uint16", "uint8"})) == 1
    assert each(calls) == [["uint16/logstd"], ["uint8/logstd"]]
    assert len(told({"uint16"}, names=("bright", "logstd"))) == 1
    assert each(calls)[2:] == [["uint16/bright"]]


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


@pytest.mark.slow
def test_all_that_a_run_needs_is_compiled(tmp_path, small_czi):
    model = str(write_model(tmp_path / "model.onnx"))
    methods = {"logstd": {}, "bright": {"noise": 3.0}, "unet": {"model": model, "zoom": 1.5}}
    changes = ({"params.segmentation_method": name, "params.segmentation_params": of} for name, of in methods.items())
    code = SIGNATURES.format(configs=[config(small_czi, tmp_path / f"out{k}", of) for k, of in enumerate(changes)])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
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
