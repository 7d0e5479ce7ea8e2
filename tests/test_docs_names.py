"""Every name of the package in README.md and docs/ can be imported."""

import ast
import re
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

from pyama_dask.fitting.catalog import GROUP
from pyama_dask.methods.registry import GROUPS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENTRY_POINTS = {*GROUPS.values(), GROUP}
"""Groups of entry points, which are named like modules."""


def names_in(document):
    """Dotted names of the package that a document uses or imports."""
    text = document.read_text()
    found = set(re.findall(r"(?<![\w/.])pyama_dask(?:\.[A-Za-z_]\w*)+", text)) - ENTRY_POINTS
    for code in re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(textwrap.dedent(code))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pyama_dask":
                found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def resolve(name):
    """Object of a dotted name: a module, or an attribute of the longest module in it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


NAMES = sorted({name for document in DOCUMENTS for name in names_in(document)})


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_imported(name):
    resolve(name)


def test_names_are_found_in_text_and_in_imports():
    assert {"pyama_dask.run", "pyama_dask.fitting.NumericSlopes", "pyama_dask.api.run_complete_workflow"} <= {*NAMES}
