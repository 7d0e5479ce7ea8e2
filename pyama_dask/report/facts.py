"""Everything that a report tells of a run, read from its output; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pyama_dask.analysis.summaries import FovSummary, read_summary
from pyama_dask.config.yaml_text import load_yaml
from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import read_file
from pyama_dask.files.documents import Types, read_fields
from pyama_dask.report.drift import Drift, read_drifts
from pyama_dask.report.findings import Finding, find, weights
from pyama_dask.runs.output_dir import CONFIG
from pyama_dask.runs.own_tables import describe_tables
from pyama_dask.runs.status import (
    LEDGER,
    REPORT,
    FovReport,
    StepCost,
    costs_by_step,
    is_recorded,
    read_plan,
    recorded_traces,
    report_fov,
    warn_of_mixed_processors,
)
from pyama_dask.store.layout import raw_name, tracked_name
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost
from pyama_dask.workflow.task import fov_name

LAST_RUN: Types = {
    "seconds": (int, float), "ended": str, "warnings": list, "stopped": str, "cancelled": bool, "jobs": str,
    "tasks": int, "attention": str,
}  # fmt: skip
"""Fields of the document of the last run that a report shows, and their types."""


@dataclass(frozen=True)
class FovFacts:
    """One FOV of a run."""

    number: int
    name: str
    """Name in the movie; '' if it has none."""
    report: FovReport
    summary: FovSummary | None
    """None if it is not done, or an older version processed it."""
    table: str | None
    """Path of the traces in the output; None before they are written."""
    page: Path | None = None
    """Page of the FOV in the output; None if it has none, or its results may be newer."""
    well: str | None = None
    drifts: tuple[Drift, ...] = ()
    """Drift of the stage, as often as it was measured."""

    @property
    def label(self) -> str:
        """Number, and name if it is a site of a well: ``3 (B02 s2)``."""
        return f"{self.number}" + (f" ({self.name})" if self.well is not None else "")


@dataclass(frozen=True)
class RunFacts:
    """A run, as far as it has come."""

    output: Path
    movie: str
    """Path of the movie."""
    identity: str
    """Digest of the movie's content."""
    fovs: tuple[FovFacts, ...]
    warnings: tuple[str, ...]
    costs: tuple[Cost, ...]
    last: Mapping[str, Any]
    """Document of the last run that came to an end; empty if no run has ended."""
    channels: Mapping[int, str]
    """Names of the channels by their number in the movie."""
    settings: Mapping[str, Any]
    """Settings that results depend on: ``channels``, ``params`` and ``storage``."""
    metadata: Mapping[str, Any]
    """Metadata of the movie, as in the config; empty if that cannot be read."""
    config: str
    """Text of the config, without the metadata."""
    tables: str = ""
    """Tables of steps of pipelines, with their rows."""

    @cached_property
    def findings(self) -> list[Finding]:
        """Findings about all FOVs with a summary, worst first."""
        drifts = {fov.number: fov.drifts for fov in self.fovs}
        return find({fov.number: fov.summary for fov in self.fovs if fov.summary}, self.channels, drifts)

    @cached_property
    def worst_first(self) -> list[FovFacts]:
        """FOVs that failed, then those with the heaviest findings, then those with the fewest cells."""
        heavy = weights(self.findings)

        def rank(fov: FovFacts) -> tuple[bool, int, float]:
            cells = fov.report.cells
            return fov.report.status != "failed", -heavy.get(fov.number, 0), np.inf if cells is None else cells

        return sorted(self.fovs, key=rank)

    @property
    def phase(self) -> str | None:
        """Group of the images in which cells are found; None without phase contrast."""
        pc = self.settings["channels"]["pc"]
        return None if pc is None else raw_name("pc", int(pc["channel"]))

    @property
    def shown(self) -> str | None:
        """Group of the images to show: phase contrast, else the first fluorescence channel."""
        fl = self.settings["channels"]["fl"]
        return self.phase or (raw_name("fl", int(fl[0]["channel"])) if fl else None)

    @property
    def tracked(self) -> str | None:
        """Group of the tracked labels; None if the run finds no cells."""
        return tracked_name(int(self.settings["channels"]["pc"]["channel"])) if self.finds_cells else None

    @property
    def finds_cells(self) -> bool:
        """True if the run segments."""
        return self.has_seven and self.phase is not None and not self.settings["params"].get("copy_only")

    @property
    def has_seven(self) -> bool:
        """True unless its pipelines are without the seven steps."""
        pipelines = self.settings.get("pipelines") or ()
        return not pipelines or any(step["do"] == "segment" for pipe in pipelines for step in pipe["steps"])

    @property
    def counts(self) -> Counter[str]:
        """Number of FOVs by status."""
        return Counter(fov.report.status for fov in self.fovs)

    @property
    def cells(self) -> int:
        """Kept cells of all FOVs."""
        return sum(fov.report.cells or 0 for fov in self.fovs)

    @cached_property
    def steps(self) -> tuple[StepCost, ...]:
        """Time and memory by step, of all runs."""
        return costs_by_step(self.costs)

    def fov_dir(self, fov: int) -> Path:
        """Folder with a FOV's results."""
        return self.output / fov_name(fov)


def read_facts(output: Path) -> RunFacts:
    """Read what is known of a run.

    Raises
    ------
    OutputError
        If the directory is not the output of a run.
    """
    ledger = Ledger(output / LEDGER)
    plan = read_plan(output, ledger)
    text, metadata = _config(output, ledger)
    last = read_fields(output / REPORT, LAST_RUN)
    warnings = [*plan["warnings"], *map(str, last.get("warnings", ())), *warn_of_mixed_processors(ledger)]
    if not text:
        warnings.append(f"{output / CONFIG}: is missing or damaged, so settings are not shown. Fix: run again")
    if ledger.damaged:
        warnings.append(
            f"{len(ledger.damaged)} lines of {LEDGER} cannot be read. Fix: run again, or 'pyama-dask verify'"
        )
    problems = list[str]()
    fovs = tuple(_fov(output, ledger, fov, problems) for fov in plan["fovs"])
    names = {
        number: str(channel["name"] or f"channel {number}")
        for number, channel in enumerate(metadata.get("channels", ()))
    }
    return RunFacts(
        output=output, movie=plan["input"], identity=plan["identity"],
        fovs=fovs,
        warnings=tuple(dict.fromkeys([*warnings, *problems])), costs=tuple(ledger.costs()), last=last, channels=names,
        settings=plan["settings"][plan["current"]], metadata=metadata, config=text, tables=describe_tables(ledger),
    )  # fmt: skip


def _fov(output: Path, ledger: Ledger, fov: Mapping[str, Any], problems: list[str]) -> FovFacts:
    """One FOV; a summary that cannot be read is left out, and added to the problems."""
    number = int(fov["fov"])
    try:
        summary = read_summary(output, number)
    except OutputError as error:
        problems.append(str(error))
        summary = None
    traces = recorded_traces(ledger, number)
    return FovFacts(
        number, str(fov.get("name") or ""), report_fov(ledger, fov), summary, traces[0] if traces else None,
        _newer(output / f"{fov_name(number)}.html", output / LEDGER), fov.get("well"),
        read_drifts(output, ledger, number, problems),
    )  # fmt: skip


def _newer(page: Path, ledger: Path) -> Path | None:
    """The page, if it was written after the last result."""
    try:
        return page if page.stat().st_mtime_ns >= ledger.stat().st_mtime_ns else None
    except OSError:
        return None


def _config(output: Path, ledger: Ledger) -> tuple[str, dict[str, Any]]:
    """Text of the config before the metadata, and the metadata; both empty if it cannot be read."""
    try:
        content = read_file(output / CONFIG)
        text = content.decode() if is_recorded(ledger, CONFIG, content) else ""
        return text.partition("\nmetadata:")[0], dict(load_yaml(text)["metadata"])
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError, RecursionError):
        return "", {}
