"""Images and tables of a user's own steps in an output: their names, and their files."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyama_dask.errors import OutputError, ResultsWarning
from pyama_dask.files.atomic import MISSING, fault
from pyama_dask.steps.own_arrays import TAKEN
from pyama_dask.store.crops import CELLS
from pyama_dask.store.layout import IMAGES
from pyama_dask.store.ledger import Checksum, Ledger
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import fov_name, parse_key

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


@dataclass(frozen=True)
class OwnTable:
    """A table that a step has written."""

    path: str
    """Path in the output."""
    checksum: Checksum
    step: Step
    name: str
    """Pipeline and name of the table, such as ``more_spots``."""
    fov: int
    """The FOV, or the last one of the well."""
    is_of_well: bool

    def read(self, output: Path) -> pd.DataFrame:
        """Read it, and warn if the file has changed since it was written; raises `OutputError` if it is gone."""
        import pandas as pd  # noqa: PLC0415  (takes long to import)

        check_file(output, self.path, self.checksum)
        try:
            return pd.read_csv(output / self.path)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{output / self.path}: cannot be read ({error}). Fix: run 'pyama-dask verify --deep', then run again"
            ) from error


def own_tables(ledger: Ledger) -> Iterator[OwnTable]:
    """Yield the recorded tables of all steps of pipelines, by task."""
    for key in sorted(ledger.files):
        fov = parse_key(key).fov
        for step, files in ledger.files[key].items():
            pipeline, dot, _ = step.partition(".")
            for path, checksum in files.items() if dot else ():
                if path.endswith(".csv"):
                    is_of_well = not path.startswith(f"{fov_name(fov)}/")
                    after = f"_{pipeline}_" if is_of_well else f"_{fov_name(fov)}_{pipeline}_"
                    name = f"{pipeline}_{Path(path).stem.rpartition(after)[2]}"
                    yield OwnTable(path, checksum, step, name, fov, is_of_well)


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
