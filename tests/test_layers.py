"""Imports go down only, and each third-party package stays where it belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyama_dask

ROOT = Path(pyama_dask.__file__).parent
LAYERS = [
    {"at_work", "errors", "files", "manifest", "config", "plugins", "quantities", "yaml_text", "csv_text", "streams"},
    {"adapters", "fitting", "kernels", "readers"},
    {"tasks"},
    {"layout", "failures"},
    {"store", "traces", "tables", "results", "fitted", "measures", "stacked", "ledger", "lock", "scratch", "cells"},
    {"blocks"},
    {"resolve"},
    {"plan"},
    {"trial"},
    {"compiling", "deaths", "walltime"},
    {"pool"},
    {"execute"},
    {"launch"},
    {"calibration", "report", "space"},
    {"movie_check"},
    {"verify", "owned"},
    {"workspace", "output", "samples", "sources", "overrides", "quality"},
    {"grown", "export", "fit_config"},
    {"pipeline", "fits", "plots"},
    {"calibrate", "doctor"},
    {"template", "describe", "progress"},
    {"api"},
    {"demo", "cli", "__init__"},
    {"__main__"},
]
"""From the bottom up."""
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
PLACES = {
    "btrack": {"adapters"},
    "cellpose": {"adapters"},
    "distributed": {"deaths", "doctor", "fits", "launch", "pipeline", "pool", "walltime"},
    "geff_spec": {"export"},
    "matplotlib": {"plots"},
    "nd2": {"readers", "demo"},
    "numba": {"kernels"},
    "pyarrow": {"csv_text", "tables"},
    "pylibCZIrw": {"readers", "demo"},
    "rich": {"cli", "progress"},
    "tifffile": {"export"},
    "torch": {"adapters"},
    "typer": {"cli"},
    "zarr": {"store", "output", "export"},
}
"""Packages that only some parts may import."""
KERNELS_MAY = {"numpy", "scipy", "numba"}


def imports(path):
    """Names of all modules that a file imports, wherever in it, without those for type checkers only."""
    package = ["pyama_dask", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def part_of(path):
    """Layer table's name of a file: its module, or its package within pyama_dask."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


FILES = sorted(ROOT.rglob("*.py"))
ARROWS = sorted(
    {
        (part_of(path), name.split(".")[1])
        for path in FILES
        for name in imports(path)
        if name.startswith("pyama_dask.") and name.split(".")[1] in RANK
    }
    - {(part, part) for part in RANK}
)


def test_every_module_has_a_layer():
    assert {part_of(path) for path in FILES} == set(RANK)


def test_arrows_are_found_within_functions_too():
    assert ("cli", "pipeline") in ARROWS
    assert ("pipeline", "plan") in ARROWS


@pytest.mark.parametrize("arrow", ARROWS, ids=" -> ".join)
def test_imports_do_not_go_up(arrow):
    above, below = arrow
    assert RANK[below] <= RANK[above]


def test_siblings_do_not_import_each_other():
    assert not {("kernels", "readers"), ("readers", "kernels")} & set(ARROWS)


def test_no_two_modules_of_a_layer_import_each_other():
    inside = {(a, b) for a, b in ARROWS if RANK[a] == RANK[b]}
    while inside:  # take away what imports nothing; a cycle would stay
        leaves = {b for _, b in inside} - {a for a, _ in inside}
        assert leaves, f"a cycle among {sorted(inside)}"
        inside = {(a, b) for a, b in inside if b not in leaves}


@pytest.mark.parametrize("package", sorted(PLACES))
def test_third_party_packages_stay_in_their_place(package):
    users = {part_of(path) for path in FILES if package in {name.split(".")[0] for name in imports(path)}}
    assert users <= PLACES[package]
    assert users, "the table is out of date"


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "kernels").glob("*.py"), *(ROOT / "fitting").glob("*.py")]),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_kernels_know_no_files_and_no_scheduler(path):
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "pyama_dask":
            assert rest[0] in {"errors", "kernels", "plugins", "quantities", path.parent.name}
        else:
            assert top in KERNELS_MAY | sys.stdlib_module_names


@pytest.mark.parametrize(
    "heavy",
    [
        "dask",
        "distributed",
        "matplotlib",
        "pandas",
        "pyarrow",
        "zarr",
        "numba",
        "nd2",
        "pylibCZIrw",
        "tifffile",
        "torch",
    ],
)
def test_importing_the_package_or_the_command_line_loads_nothing_heavy(heavy):
    code = f"import sys, pyama_dask, pyama_dask.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
