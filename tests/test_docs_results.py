"""What docs/example.md and docs/results.md show, done as they say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pyama_dask.analysis.fit_config import load_fit_config
from pyama_dask.analysis.fit_tables import read_fitted
from pyama_dask.analysis.overrides import load_overrides
from pyama_dask.analysis.samples import load_samples
from pyama_dask.fitting import find_model

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name, *languages):
    """Code of a document, with its language."""
    return re.findall(rf"^```({'|'.join(languages)})\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_example_is_what_happens(tmp_path, call, monkeypatch):
    """Each block is run, in its order; what it shows is found in what it prints and writes."""
    said = []
    monkeypatch.chdir(tmp_path)
    for language, code in blocks("example.md", "sh", "yaml", "python"):
        if language == "yaml":
            Path("samples.yaml").write_text(code)
        elif language == "python":
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
        else:
            for line in code.splitlines():
                status, out, error = call(*line.split()[1:])
                assert status == 0, error
                said.append(out)
    assert "2 FOVs done" in said[0]
    found, expected = re.search(r"^(\d+) of (\d+) true cells found", said[0], re.MULTILINE).groups()
    assert int(found) >= 0.95 * int(expected) > 0
    assert (tmp_path / "demo" / "truth.csv").exists()
    merged = tmp_path / "demo" / "results" / "merged"
    said.append((merged / "control_intensity_total_ch_1.csv").read_text())
    text_only = re.sub(r"^```.*?^```", "", (DOCS / "example.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    for shown in re.findall(r"(?:^    .*\n)+", text_only, re.MULTILINE):
        parts = re.sub("^    ", "", shown, flags=re.MULTILINE).split("...\n")
        assert any(all(part in printed for part in parts) for printed in said), shown
    onsets = [read_fitted(path).table["t0"] for path in merged.glob("*_fitted_two_rate_onset.csv")]
    assert 0.16 < np.concatenate(onsets).min() < np.concatenate(onsets).max() < 2.01
    assert len(list((merged / "plots").iterdir())) == 8 + 1  # the record of them


def test_the_yaml_of_the_results(tmp_path):
    readers = {
        "control": load_samples,
        "overrides": lambda path: load_overrides(tmp_path, path),
        "model": load_fit_config,
    }
    shown = [code for _, code in blocks("results.md", "yaml")]
    used = set()
    for code in shown:
        (tmp_path / "shown.yaml").write_text(code)
        (key,) = readers.keys() & yaml.safe_load(code).keys()
        readers[key](tmp_path / "shown.yaml")
        used.add(key)
    assert used == readers.keys()
    assert load_fit_config(tmp_path / "shown.yaml").chosen().names[5] == "beta"


def test_the_model_of_the_results(tmp_path):
    (code,) = [code for _, code in blocks("results.md", "python") if "LOGISTIC" in code]
    (tmp_path / "growth.py").write_text(code)
    assert find_model(f"{tmp_path}/growth.py:LOGISTIC").names == ("top", "rate", "middle")


def test_figures_are_there():
    named = re.findall(r"\]\((figures/[^)]+)\)", "".join(page.read_text() for page in DOCS.glob("*.md")))
    assert {path.relative_to(DOCS).as_posix() for path in (DOCS / "figures").iterdir()} == set(named)
