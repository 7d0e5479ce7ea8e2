"""The notebooks, from the first cell to the last, and how their outputs look."""

import os
import re
import sys
import time
from html import escape
from pathlib import Path
from unittest.mock import patch

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from support.graphs import USUAL
from support.movies import config, differences, products

import pyama_dask

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
LARGEST, LARGEST_OUTPUT = 300_000, 200_000
"""Characters that an executed notebook may have, and one of its outputs."""
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
PAGE = """<!doctype html><meta charset="utf-8"><style>
:root { color-scheme: light dark; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 1em; background: #ffffff; color: #1b1b1b; }
@media (prefers-color-scheme: dark) { body { background: #111111; color: #e0e0e0; } a { color: #7fc4ff; } }
table { border-collapse: collapse; font-size: 12px; margin: 0.5em 0; } td, th { padding: 0.2em 0.7em; }
pre { white-space: pre-wrap; } .output { margin: 0.6em 0; }
</style>"""
"""Head of a page that gives outputs the fonts and colours of a notebook, light and dark."""


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Execute a notebook in an empty folder, once; gives the notebook with its outputs."""
    done = {}

    def execute(name):
        if name not in done:
            done[name] = read(name)
            where = {"metadata": {"path": str(tmp_path_factory.mktemp(name))}}
            with patch.dict(os.environ, PATH=PATH):
                NotebookClient(done[name], timeout=None, kernel_name="python3", resources=where).execute()
        return done[name]

    return execute


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(notebook, kind="text/html"):
    return [output.data[kind] for output in outputs(notebook) if kind in output.get("data", {})]


def page_of(notebook):
    """HTML page of the outputs of a notebook."""
    parts = [PAGE]
    for output in outputs(notebook):
        data = output.get("data", {})
        if "text/html" in data:
            parts.append(f'<div class="output">{data["text/html"]}</div>')
        elif "image/png" in data:
            parts.append(f'<img src="data:image/png;base64,{data["image/png"].strip()}" width="600" alt="figure">')
        else:
            parts.append(f"<pre>{escape(output.get('text', '') or data.get('text/plain', ''))}</pre>")
    return "\n".join(parts)


@pytest.mark.parametrize("name", NAMES)
class TestNotebook:
    def test_it_is_stored_without_outputs(self, name):
        notebook = read(name)
        assert not outputs(notebook)
        assert not any(cell.get("execution_count") for cell in notebook.cells)
        assert notebook.cells[0].source.startswith("# ")

    def test_its_cells_run_and_its_outputs_are_small(self, name, executed):
        notebook = executed(name)
        assert len(nbformat.writes(notebook)) < LARGEST
        assert max(len(str(output)) for output in outputs(notebook)) < LARGEST_OUTPUT
        errors = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
        assert not errors
        assert "cannot be shown" not in nbformat.writes(notebook)

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_its_outputs_can_be_read(self, name, dark, executed, browser, screenshots, tmp_path):
        (tmp_path / "page.html").write_text(page_of(executed(name)))
        with browser.page(tmp_path / "page.html", width=1000, dark=dark) as page:
            page.screenshot(screenshots / f"notebook_{name}_{'dark' if dark else 'light'}.png")
            assert not page.faults()


def test_every_link_leads_to_a_file():
    for name in NAMES:
        for target in re.findall(r"\]\(([^)]+)\)", "".join(cell.source for cell in read(name).cells)):
            assert (NOTEBOOKS / target).exists(), (name, target)


def test_quick_start_shows_bars_of_all_steps_and_every_kind_of_result(executed):
    bars, report, output, fov, cell, *_ = shown(executed("quick_start"))
    assert bars.count("20 / 20") == len(USUAL)
    assert "2 of 2 FOVs" in bars
    assert "segmentation" in report
    assert "FOV 1" in output
    assert "seg_tracked_ch_0" in fov
    assert "in 10 of 10 frames" in cell


def test_the_display_of_a_run_in_the_background_ends_with_its_report(executed):
    bars, report, *_ = shown(executed("cluster"))
    assert bars == report
    assert "2 FOVs done" in bars


def test_the_trained_model_finds_most_cells(executed):
    told = "".join(output.get("text", "") for output in outputs(executed("dense_cells")))
    assert float(re.search(r"F1 ([\d.]+)\n$", told)[1]) > 0.5


def test_a_run_is_cancelled_or_resumed_when_its_kernel_ends(tmp_path, small_czi, finished):
    wanted = config(small_czi, tmp_path / "results")
    manager, kernel = start_new_kernel(kernel_name="python3")
    try:
        kernel.execute_interactive(f"import pyama_dask; run = pyama_dask.start({wanted!r})", timeout=60)
        ledger = tmp_path / "results" / ".pyama_dask" / "ledger.jsonl"
        until = time.monotonic() + 60
        while not (ledger.exists() and ledger.stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel()
    assert pyama_dask.run(wanted).exit_status == 0
    assert not differences(products(tmp_path / "results"), products(finished))
