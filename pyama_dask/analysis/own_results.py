"""Images and tables of a user's own steps in an output: their names, and their files."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pyama_dask.errors import OutputError, ResultsWarning
from pyama_dask.files.checksums import MISSING, fault
from pyama_dask.runs.own_tables import OwnTable
from pyama_dask.steps.own_arrays import TAKEN
from pyama_dask.store.crops import CELLS
from pyama_dask.store.layout import IMAGES
from pyama_dask.store.records import Checksum
from pyama_dask.workflow.graph import Step

if TYPE_CHECKING:
    import pandas as pd

_STEPS = "_steps"
"""Ending of the stores of pipelines whose names are those of other stores."""


def stored_groups(fov_dir: Path) -> dict[str, Path]:
    """Groups of the images that steps have stored of a FOV, by pipeline and group, such as ``prepare/gaussian_1``."""
    found = {}
    for document in sorted(fov_dir.glob("*.zarr/*/0/zarr.json")):
        group = document.parents[1]
        if group.parent.name not in (IMAGES, *CELLS.values()):
            found[name_of_group(group)] = group
    return found


def name_of_group(group: Path) -> str:
    """Name of an image, such as ``prepare/gaussian_1``, from the folder of its group."""
    pipeline = group.parent.name.removesuffix(".zarr")
    short = pipeline.removesuffix(_STEPS)
    return f"{short if short in TAKEN else pipeline}/{group.name}"


def step_of(name: str, steps: Collection[Step]) -> Step | None:
    """Step among some that gives an image such as ``prepare/gaussian_1``; None if none of them does."""
    pipeline, _, group = name.partition("/")
    return next((step for step in steps if f"{pipeline}/{group}_".startswith(f"{step.replace('.', '/')}_")), None)


def read_table(output: Path, found: OwnTable) -> pd.DataFrame:
    """Read a table of a step, and warn if the file has changed since it was written; raises if it is gone."""
    import pandas as pd  # noqa: PLC0415  (takes long to import)

    check_file(output, found.path, found.checksum)
    try:
        return pd.read_csv(output / found.path)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{output / found.path}: cannot be read ({error}). Fix: run 'pyama-dask verify --deep', then run again"
        ) from error


def check_file(output: Path, path: str, checksum: Checksum) -> None:
    """Warn if a recorded file has changed since.

    Raises
    ------
    OutputError
        If it is gone.
    """
    if found := fault(output / path, checksum, deep=True):
        problem = f"{output / path}: {found}. Fix: run 'pyama-dask verify --deep', then run again"
        if found == MISSING:
            raise OutputError(problem)
        warnings.warn(problem, ResultsWarning, stacklevel=4)
