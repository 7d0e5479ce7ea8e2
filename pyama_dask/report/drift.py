"""Drift of the stage on the pages of a report, from the tables of shifts of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.trace_csv import SHIFTS_HEAD, read_shift_table
from pyama_dask.workflow.task import fov_name

REGISTERED = GRAPH.parts["drift.shifts"].step
"""Step that measures the drift for ``register: drift``."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """Drift of a FOV with T frames."""

    step: str
    """Step of a pipeline that measured it; '' for ``register: drift``."""
    times_min: Values
    """(T,) minutes."""
    shifts: Values
    """(T, 2) y, x in pixels of the content of each frame against the first one."""
    measured: npt.NDArray[np.bool_]
    """(T,) False for frames whose shift is interpolated."""


def read_drifts(output: Path, ledger: Ledger, fov: int, problems: list[str]) -> tuple[Drift, ...]:
    """Read what a run has measured of a FOV; a table that cannot be read is left out, and added to the problems."""
    found = []
    for step, path in _tables(output, ledger, fov):
        try:
            found.append(Drift(step, *read_shift_table(output / path)))
        except (OSError, ValueError) as error:
            problems.append(f"{output / path}: cannot be read ({error}). Fix: run again, it is regenerated")
    return tuple(found)


def _tables(output: Path, ledger: Ledger, fov: int) -> Iterator[tuple[str, str]]:
    """Yield step and path of the recorded tables of shifts of a FOV."""
    for key in sorted(ledger.keys_of(fov)):
        for step, files in ledger.task(key).files.items():
            if step == REGISTERED or "." in step:  # that of a pipeline
                paths = (path for path in files if path.startswith(f"{fov_name(fov)}/") and path.endswith(".csv"))
                yield from (("" if step == REGISTERED else step, path) for path in paths if _has_shifts(output / path))


def _has_shifts(path: Path) -> bool:
    try:
        with path.open() as file:
            return file.readline().rstrip("\n") == SHIFTS_HEAD
    except (OSError, ValueError):
        return False  # other readers of the table say so


def of_steps(drifts: Iterator[Drift]) -> dict[str, list[Drift]]:
    """Drifts of several FOVs by step, those with the usual number of frames."""
    by_step: dict[str, list[Drift]] = {}
    for drift in drifts:
        by_step.setdefault(drift.step, []).append(drift)
    usual = {step: Counter(len(of.shifts) for of in found).most_common(1)[0][0] for step, found in by_step.items()}
    return {step: [of for of in found if len(of.shifts) == usual[step]] for step, found in by_step.items()}
