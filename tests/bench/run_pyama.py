"""Runs PyAMA's whole workflow: ``PYTHON run_pyama.py CHECKOUT MOVIE OUTPUT WORKERS``.

PYTHON is an interpreter that has PyAMA's packages. The module imports the checkout's package ``pyama_core``, and
otherwise the standard library only.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SOURCES = ("pyama-core/src", "src", ".")
"""Folders of a checkout that may have the package."""
LOADERS = ("pyama_core.io",)
WORKFLOWS = ("pyama_core.processing.workflow", "pyama_core.processing.workflow.pipeline")
TYPES = ("pyama_core.types.processing", "pyama_core.processing.workflow.services.types")
ARGUMENTS = {"metadata", "context", "n_workers"}


class ApiError(Exception):
    """The checkout is not the PyAMA that this module knows."""


def source_of(checkout: Path) -> Path:
    """Folder of the package in a checkout.

    Raises
    ------
    ApiError
        If it has none.
    """
    for source in SOURCES:
        if (checkout / source / "pyama_core" / "__init__.py").is_file():
            return checkout / source
    raise ApiError(
        f"{checkout}: has no package pyama_core in {', '.join(SOURCES)}. "
        "Fix: name a checkout of PyAMA (SoftmatterLMU-RaedlerGroup); 'pyama' on PyPI is another project"
    )


def found_in(modules: Iterable[str], name: str) -> Any:
    """Object of the first of some modules that has it.

    Raises
    ------
    ApiError
        If no module has it, or one of its packages is missing.
    """
    problems = []
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name and not error.name.startswith("pyama_core"):
                raise ApiError(
                    f"{sys.executable}: cannot import {module}: no module {error.name!r}. "
                    "Fix: install the requirements of pyama-core for it, or name another interpreter with PYAMA_PYTHON"
                ) from error
            problems.append(f"no module {error.name}")
        except AttributeError:
            problems.append(f"no {name} in {module}")
    raise ApiError(
        f"pyama_core: its API differs: {'; '.join(problems)}. "
        "Fix: check out a version of October or November 2025, or extend tests/bench/run_pyama.py"
    )


def run(movie: Path, output: Path, workers: int) -> bool:
    """Process all FOVs of a movie with its defaults, phase contrast in channel 0 and fluorescence in channel 1.

    Raises
    ------
    ApiError
        If its API differs.
    """
    load, workflow = found_in(LOADERS, "load_microscopy_file"), found_in(WORKFLOWS, "run_complete_workflow")
    context_type, channels = found_in(TYPES, "ProcessingContext"), found_in(TYPES, "Channels")
    if missing := ARGUMENTS - set(inspect.signature(workflow).parameters):
        raise ApiError(
            f"pyama_core: its API differs: run_complete_workflow takes no {', '.join(sorted(missing))}. "
            "Fix: extend tests/bench/run_pyama.py"
        )
    metadata = load(movie)
    metadata = metadata[-1] if isinstance(metadata, tuple) else metadata
    context = context_type(output_dir=output, channels=channels(**_selected()), params={})
    return bool(workflow(metadata=metadata, context=context, n_workers=workers))


def _selected() -> dict[str, Any]:
    """Channels as selections with features, or as plain numbers in versions before."""
    try:
        selection: Callable[..., Any] = found_in(TYPES, "ChannelSelection")
    except ApiError:
        return {"pc": 0, "fl": [1]}
    return {"pc": selection(channel=0, features=["area"]), "fl": [selection(channel=1, features=["intensity_total"])]}


def main(checkout: str, movie: str, output: str, workers: str) -> None:
    """Run, and end with a message if that fails."""
    logging.basicConfig(level=logging.WARNING)
    try:
        sys.path.insert(0, str(source_of(Path(checkout))))
        complete = run(Path(movie), Path(output), int(workers))
    except ApiError as error:
        sys.exit(str(error))
    if not complete:
        sys.exit(f"{output}: PyAMA did not complete all FOVs; its log is above")


if __name__ == "__main__":
    main(*sys.argv[1:])
