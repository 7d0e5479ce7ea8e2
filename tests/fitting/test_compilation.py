"""What a fit compiles is said before, once, and all of it is compiled by the fit of made values."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from pyama_dask.cli.progress import FitDisplay
from pyama_dask.fitting import MODELS, compilation
from pyama_dask.fitting.compilation import compile_fit, what_to_compile

ONCE = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from pyama_dask.fitting import MODELS, fit_cells, lm_steps, maturation
from pyama_dask.fitting.compilation import compile_fit, what_to_compile

def compiled():
    found = {one for module in (lm_steps, maturation) for one in vars(module).values() if isinstance(one, Dispatcher)}
    return {(one.__name__, str(signature)) for one in found for signature in one.stats.cache_misses}

for name in sys.argv[1:]:
    model = MODELS[name]
    print(what_to_compile(model))
    compile_fit(model)
    print(what_to_compile(model))
    before = compiled()
    hours = np.linspace(0, 30, 60)
    values = 100 + 20 * np.random.default_rng(1).normal(size=(5, 60)) + hours
    values[2, 10:20] = np.nan
    fit_cells(hours, values, model)
    fit_cells(np.tile(hours, (5, 1)), values, model)
    print(compiled() - before or "")
"""


@pytest.mark.slow
def test_a_fit_compiles_nothing_after_it(tmp_path):
    names = ["maturation", "trivial", "two_rate_onset"]
    command = [sys.executable, "-c", ONCE, *names]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout for _ in range(2)
    ]
    first, again = (text.split("\n")[:-1] for text in said)
    only = "Compiling the model {}; only the first fit with it does this"
    assert first == [only.format("maturation"), "", "", "", "", "", only.format("two_rate_onset"), "", ""]
    assert again == [""] * 9


def test_what_this_process_has_compiled_is_not_announced(monkeypatch):
    for model in MODELS.values():
        compile_fit(model)
        assert what_to_compile(model) == ""
    monkeypatch.setattr(compilation, "lacks_code", lambda _: ["noise"])
    assert what_to_compile(MODELS["trivial"]) == ""
    assert what_to_compile(MODELS["trivial"], "soft_l1", 3.0) == ""
    assert what_to_compile(MODELS["trivial"], "soft_l1").startswith("Compiling the model trivial; only the first fit")
    monkeypatch.setattr(compilation, "cache_folder", lambda: None)
    assert "Fix: set NUMBA_CACHE_DIR" in what_to_compile(MODELS["two_rate_onset"])


def test_a_terminal_and_a_file_are_told():
    shown = io.StringIO()
    FitDisplay(Console(file=shown, width=40)).event(
        {
            "step": "compile",
            "fov": -1,
            "frame": 0,
            "total": 0,
            "message": "Compiling the model [maturation]; only the first",
        }
    )
    assert shown.getvalue() == "Compiling the model [maturation]; only the first\n"
