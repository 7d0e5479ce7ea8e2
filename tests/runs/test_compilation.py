"""Kernels are compiled once before workers start, and that is said; when they are, nothing is done or said."""

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
from pyama_dask.demo.first_run import main

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("pyama_dask.kernels.")]
    found = {{value for module in modules for value in vars(module).values() if hasattr(value, "nopython_signatures")}}
    return {{(loop.__name__, str(signature)) for loop in found for signature in loop.nopython_signatures}}

main(["uint16"])
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
        code = f"import sys, time; open({str(tmp_path / 'calls')!r}, 'a').write(f'{{sys.argv[1:]}}'); {body}"
        monkeypatch.setattr(compilation, "COMMAND", (sys.executable, "-c", code))
        return tmp_path / "calls"

    return does


def told(types, cancel=None):
    said = []
    compile_kernels(types, said.append, cancel or threading.Event())
    return said


def test_once_for_each_type_of_pixels(compiler):
    calls = compiler()
    (said,) = told({"uint16"})
    assert said.startswith("Compiling for uint16 pixels, once per installation")
    assert told({"uint16"}) == []
    assert len(told({"uint16", "uint8"})) == 1
    assert calls.read_text() == "['uint16']['uint8']"


def test_runs_that_start_together_do_it_once(compiler):
    calls = compiler("time.sleep(1)")
    runs = [threading.Thread(target=told, args=({"uint8"},)) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join(30)
    assert calls.read_text() == "['uint8']"


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
    monkeypatch.setattr(run_workers, "compile_kernels", lambda types, say, _: say(f"compiling {types}"))
    events, local = [], {"kind": "local", "workers": 1, "dashboard": "127.0.0.1:0"}
    report = pyama_dask.run(config(small_czi, tmp_path / "out", {"cluster": local}), progress=events.append)
    assert report.exit_status == 0
    assert (events[0]["step"], events[0]["message"]) == ("compile", "compiling {'uint16'}")
    assert [event["step"] for event in events].count("compile") == 1


@pytest.mark.slow
def test_all_that_a_run_needs_is_compiled(tmp_path, small_czi):
    model = str(write_model(tmp_path / "model.onnx"))
    methods = {"logstd": {}, "bright": {"noise": 3.0}, "unet": {"model": model, "zoom": 1.5}}
    changes = ({"params.segmentation_method": name, "params.segmentation_params": of} for name, of in methods.items())
    code = SIGNATURES.format(configs=[config(small_czi, tmp_path / f"out{k}", of) for k, of in enumerate(changes)])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
