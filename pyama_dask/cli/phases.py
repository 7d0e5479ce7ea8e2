"""The three phases of a run with pipelines, in few lines: what is there, what is done, and a result per well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pyama_dask.cli.movie_text import count_wells, headline
from pyama_dask.plan.pipeline_text import summarize_pipelines
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.orchestrator import WellResult, results_by_well
from pyama_dask.runs.plan_text import MANY, cut_lines
from pyama_dask.runs.status import RunReport


def in_phase(name: str, lines: list[str]) -> list[str]:
    """Lines of a phase, the first of which begins with its name."""
    return [f"{f'{name}:' if k == 0 else '':<11} {line}" for k, line in enumerate(lines)]


def describe_phases(plan: Plan, metadata: Metadata) -> list[str]:
    """Describe the first two phases: what is there, and the pipelines; no line without pipelines."""
    if not plan.job.config.pipelines:
        return []
    there = [headline(metadata), count_wells(metadata)]
    return [
        *in_phase("initialize", ["; ".join(filter(None, there))]),
        *in_phase("compile", summarize_pipelines(plan.job.config)),
    ]


def results_of_pipelines(report: RunReport, planned: tuple[Plan, Metadata] | None) -> list[str]:
    """Describe the result of each well of a run, whose whole plan is given; no line without pipelines."""
    if planned is None or not planned[0].job.config.pipelines:
        return []
    return describe_results(results_by_well(report, *planned))


def describe_results(wells: Mapping[str, WellResult]) -> list[str]:
    """Count the wells by their result, and list them; of many, only those that are not done."""
    counts = Counter(of.status for of in wells.values())
    counted = ", ".join(f"{count} {status}" for status, count in counts.items())
    what = "FOVs" if all(name.startswith("FOV ") for name in wells) else "Wells"
    listed = [
        f"  {name}: {of.status}{_reason(of)}" for name, of in wells.items() if of.status != "done" or len(wells) <= MANY
    ]
    return [f"{what}: {counted}", *cut_lines(listed)]


def _reason(of: WellResult) -> str:
    cause = f"({of.cause}) " if of.cause else ""
    return f": {cause}{of.reason}" if of.reason else ""
