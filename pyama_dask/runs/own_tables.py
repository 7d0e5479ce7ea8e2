"""Tables that steps of pipelines have written into an output, as its ledger records them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyama_dask.config.units import many
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Checksum
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import fov_name, parse_key


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
    rows: int


def own_tables(ledger: Ledger, only: int | None = None) -> Iterator[OwnTable]:
    """Yield the recorded tables of all steps of pipelines, by task; `only` those in the records of a FOV."""
    if not any("." in step for step in ledger.steps):
        return  # without reading the records of each FOV
    tasks = ledger.tasks() if only is None else ledger.of_fov(only).tasks.items()
    of_pipelines = ((key, record) for key, record in tasks if any("." in step for step in record.files))
    for key, record in sorted(of_pipelines, key=lambda task: task[0]):
        fov = parse_key(key).fov
        for step, files in record.files.items():
            pipeline, dot, _ = step.partition(".")
            rows = record.notes.get(step, {}).get("rows", 0)
            for path, checksum in files.items() if dot else ():
                if path.endswith(".csv"):
                    is_of_well = not path.startswith(f"{fov_name(fov)}/")
                    after = f"_{pipeline}_" if is_of_well else f"_{fov_name(fov)}_{pipeline}_"
                    name = f"{pipeline}_{Path(path).stem.rpartition(after)[2]}"
                    yield OwnTable(path, checksum, step, name, fov, is_of_well, rows)


def describe_tables(ledger: Ledger) -> str:
    """Tables with their rows, such as ``more_spots (120 rows of 2 FOVs)``; '' without any."""
    found: dict[tuple[str, str], list[int]] = {}
    for of in own_tables(ledger):
        found.setdefault((of.name, "well" if of.is_of_well else "FOV"), []).append(of.rows)
    return ", ".join(
        f"{name} ({many(sum(rows), 'row')} of {many(len(rows), kind)})" for (name, kind), rows in found.items()
    )
