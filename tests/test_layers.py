"""Imports go down only, and each third-party package stays where it belongs."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import pyama_dask

ROOT = Path(pyama_dask.__file__).parent
ARCHITECTURE = Path(__file__).parents[1] / "ARCHITECTURE.md"
LAYERS = re.findall(r"^\| `([a-z]+)` \|", ARCHITECTURE.read_text(), re.MULTILINE)[::-1]
"""Folders and modules of the package from the bottom up, as the table of layers lists them."""
RANK = {layer: rank for rank, layer in enumerate(LAYERS)}
PLACES = {
    "PIL": {"files", "previews"},
    "btrack": {"methods"},
    "cellpose": {"methods"},
    "distributed": {"analysis", "api", "execute", "launch", "runs"},
    "geff_spec": {"analysis"},
    "imagecodecs": {"readers", "store"},
    "jax": {"training"},
    "jinja2": {"previews", "report", "runs"},
    "markupsafe": {"report"},
    "matplotlib": {"analysis", "napari", "previews", "training"},
    "napari": {"napari"},
    "nd2": {"demo", "readers"},
    "numba": {"kernels"},
    "onnx": {"training"},
    "multiview_stitcher": {"methods"},
    "onnxruntime": {"methods"},
    "optax": {"training"},
    "pyarrow": {"analysis", "files"},
    "pylibCZIrw": {"demo", "readers"},
    "pynvml": {"launch"},
    "qtpy": {"napari"},
    "rich": {"cli"},
    "tensorstore": {"store"},
    "tifffile": {"demo", "analysis", "files", "readers"},
    "torch": {"methods"},
    "typer": {"cli"},
    "zarr": {"analysis", "files", "readers", "store"},
}
"""Packages that only some layers may import."""
KERNELS_MAY = {"numpy", "scipy", "numba", "pydantic"}
"""Packages of kernels; pydantic describes and limits the parameters in their signatures."""


@cache
def imports(path):
    """Names of all modules that a file imports, wherever in it, without those for type checkers only."""
    package, found = ["pyama_dask", *path.relative_to(ROOT).parent.parts], []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [f"{module}.{name.name}" for name in node.names]
    return found


def part_of(path):
    """Layer table's name of a file: its module, or its package within pyama_dask."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


FILES = sorted(ROOT.rglob("*.py"))


@pytest.fixture(scope="module")
def arrows():
    """Pairs of layers of which the first imports the second."""
    return {
        (part_of(path), name.split(".")[1])
        for path in FILES
        for name in imports(path)
        if name.startswith("pyama_dask.") and name.split(".")[1] in RANK
    } - {(part, part) for part in RANK}


def test_every_folder_and_module_is_a_layer_of_the_architecture():
    assert {part_of(path) for path in FILES} == {*LAYERS, "__init__", "__main__"}
    assert len(LAYERS) <= 22
    assert len(set(LAYERS)) == len(LAYERS)


def test_arrows_are_found_within_functions_too(arrows):
    assert {("cli", "runs"), ("runs", "plan")} <= arrows


def test_imports_do_not_go_up(arrows):
    assert not {(above, below) for above, below in arrows if above in RANK and RANK[below] > RANK[above]}


def test_no_two_modules_of_the_package_import_each_other():
    arrows = {(str(path), name) for path in FILES for name in _modules(path)}
    while arrows:  # remove what imports nothing; a circle would stay
        leaves = {b for _, b in arrows} - {a for a, _ in arrows}
        assert leaves, f"a circle among {sorted(arrows)}"
        arrows = {(a, b) for a, b in arrows if b not in leaves}


def _modules(path):
    """Files of the package that a file imports when it is imported itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyama_dask"):
            below = ROOT.joinpath(*node.module.split(".")[1:])
            for file in (below.with_suffix(".py"), *(below / f"{name.name}.py" for name in node.names)):
                if file.exists():
                    yield str(file)


def test_third_party_packages_stay_in_their_place():
    for package, places in PLACES.items():
        users = {part_of(path) for path in FILES if package in {name.split(".")[0] for name in imports(path)}}
        assert users <= places, package
        assert users, f"the table is out of date: {package}"


def test_what_uses_zarr_ends_its_thread():
    for path in FILES:
        found = imports(path)
        if any(name.split(".")[0] == "zarr" for name in found) and path.stem != "zarr_thread":
            assert "pyama_dask.files.zarr_thread" in found, path


@pytest.mark.parametrize("folder", ["kernels", "fitting"])
def test_kernels_know_no_files_and_no_scheduler(folder):
    for path in (ROOT / folder).glob("*.py"):
        for name in imports(path):
            top, *rest = name.split(".")
            allowed = {"errors", "config", "kernels", folder} | ({"methods"} if folder == "fitting" else set())
            assert rest[0] in allowed if top == "pyama_dask" else top in KERNELS_MAY | sys.stdlib_module_names, path


HEAVY = {
    "dask", "distributed", "matplotlib", "pandas", "pyarrow", "zarr", "numba", "nd2", "onnxruntime", "pylibCZIrw",
    "tifffile", "torch", "jax", "onnx", "dask_image", "skimage",
}  # fmt: skip


def test_importing_the_package_or_the_command_line_loads_nothing_heavy():
    code = f"import sys, pyama_dask, pyama_dask.cli; print(*({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []
