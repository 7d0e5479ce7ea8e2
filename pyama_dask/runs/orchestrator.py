"""Three phases of a run in Python: look at the movie, compile pipelines to a plan, and execute the plan."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from pyama_dask.config.load import as_config, parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Pipeline
from pyama_dask.errors import PlanError
from pyama_dask.execute.events import Progress
from pyama_dask.files.atomic import write_bytes
from pyama_dask.plan.pipeline_text import describe_pipelines
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.driver import run
from pyama_dask.runs.movie import seen_movie
from pyama_dask.runs.planning import plan_run, what_is_left
from pyama_dask.runs.status import RunReport

Status = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, repr=False)
class CompiledPlan:
    """A plan that can be printed, saved and compared; nothing was written for it."""

    plan: Plan
    metadata: Metadata = field(repr=False)

    @property
    def digests(self) -> dict[str, Mapping[str, str]]:
        """Digests of all results by task and step: equal ones mean equal results."""
        return {task.key: dict(task.digests) for task in self.plan.tasks}

    def differences(self, other: CompiledPlan) -> dict[str, set[str]]:
        """Steps that are in one plan only, or give another result than in the other, with the keys of their tasks."""
        mine, theirs = self.digests, other.digests
        found: dict[str, set[str]] = {}
        for key in mine.keys() | theirs.keys():
            a, b = mine.get(key, {}), theirs.get(key, {})
            for step in a.keys() | b.keys():
                if a.get(step) != b.get(step):
                    found.setdefault(step, set()).add(key)
        return found

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, with what it says in words."""
        document = self.plan.document() | {"pipelines": self.lines}
        write_bytes(Path(path), json.dumps(document, indent=1).encode())

    @property
    def lines(self) -> list[str]:
        """Pipelines in words."""
        names = [channel.name for channel in self.metadata.channels]
        shape = max((self.metadata.fovs[fov.fov].shape for fov in self.plan.fovs), default=(0, 0))
        return describe_pipelines(self.plan.job.config, names, shape)

    def __str__(self) -> str:
        plan = self.plan
        size = sum(task.bytes_written for task in plan.tasks) / 2**30
        kinds = ", ".join(plan.steps)
        return "\n".join(
            [
                *self.lines,
                f"{len(plan.fovs)} FOVs, {plan.job.n_frames} frames, {len(plan.tasks)} tasks, steps {kinds}",
                f"writes {size:.1f} GiB before compression, {plan.memory / 2**20:.0f} MiB per worker",
                *(f"warning: {warning}" for warning in plan.warnings),
                *(f"cannot be done: {fov.problem}" for fov in plan.fovs if fov.problem),
            ]
        )

    def __repr__(self) -> str:
        return f"<CompiledPlan: {len(self.plan.fovs)} FOVs, {len(self.plan.tasks)} tasks>"


@dataclass(frozen=True)
class WellResult:
    """Result of one well, or of one FOV outside of wells."""

    status: Status
    reason: str = ""
    """Reason of a failure."""
    fovs: tuple[int, ...] = ()


class Orchestrator:
    """Look at a movie or plate, compile pipelines, and execute them.

    Parameters
    ----------
    input
        The movie.
    config
        A config, a mapping with its keys, or the path of a YAML file; its ``input`` may be missing.

    Examples
    --------
    >>> orchestrator = Orchestrator("plate", {"output": "out", "channels": {"pc": {"channel": 0}}})
    >>> orchestrator.initialize()
    >>> plan = orchestrator.compile([Pipeline("cells", "seven")])
    >>> print(plan)
    >>> orchestrator.execute(plan)["B02"].status
    'done'
    """

    def __init__(self, input: str | Path | None, config: Config | Mapping[str, Any] | str | Path) -> None:  # noqa: A002
        if isinstance(config, Mapping) and input is not None:
            config = {**config, "input": str(input)}
        loaded = as_config(config)
        if input is not None and not isinstance(config, Mapping):
            loaded = parse_config(loaded.model_dump(exclude_unset=True) | {"input": str(input)})
        self.config = loaded
        self.metadata: Metadata | None = None

    def initialize(self) -> Metadata:
        """Read what the movie has; raises as `plan_run` does."""
        self.metadata, _ = seen_movie(self.config, lambda _: ())
        return self.metadata

    def compile(self, pipelines: Sequence[Pipeline | Mapping[str, Any]] | None = None) -> CompiledPlan:
        """Plan pipelines, and refuse what cannot be done; nothing is written.

        Parameters
        ----------
        pipelines
            Pipelines in sequence; None for those of the config.

        Raises
        ------
        ConfigError, SourceError, OutputError, PlanError, TableError
            If a run of them cannot be done.
        """
        if self.metadata is None:
            raise PlanError("the movie has not been looked at. Fix: call initialize() before compile()")
        if pipelines is not None:
            given = [pipe.model_dump() if isinstance(pipe, Pipeline) else pipe for pipe in pipelines]
            self.config = parse_config(self.config.model_dump(exclude_unset=True) | {"pipelines": given})
        plan, metadata = plan_run(self.config)
        return CompiledPlan(plan, metadata)

    def left(self, plan: CompiledPlan) -> Plan:
        """Plan of what is not yet recorded as done in the output."""
        return what_is_left(plan.plan)

    def execute(
        self, plan: CompiledPlan, client: Client | None = None, *, cancel: threading.Event | None = None,
        progress: Progress | Literal[False] | None = None,
    ) -> dict[str, WellResult]:  # fmt: skip
        """Do what is left of a plan.

        Parameters
        ----------
        plan
            From `compile`.
        client, cancel, progress
            As for `run`.

        Returns
        -------
        Result of each well by name; of each FOV by number, such as ``FOV 3``, outside of wells.

        Raises
        ------
        PlanError
            If the movie, the config or a function has changed since the plan was compiled.
        """
        now = CompiledPlan(*plan_run(self.config, client))
        if changed := plan.differences(now):
            raise PlanError(
                f"the movie, the config or a function has changed since the plan was compiled, so that "
                f"{', '.join(sorted(changed))} would give other results. Fix: compile again"
            )
        report = run(self.config, client=client, cancel=cancel, progress=progress)
        return results_by_well(report, plan.plan)


def results_by_well(report: RunReport, plan: Plan) -> dict[str, WellResult]:
    """Results of a run by well: a well has failed if one of its FOVs has, and is cancelled if one is not done."""
    fovs: dict[str, list[int]] = {}
    for fov in plan.fovs:
        fovs.setdefault(str(fov.place.get("well", f"FOV {fov.fov}")), []).append(fov.fov)
    states = {state.fov: state for state in report.fovs}
    found = {}
    for well, members in fovs.items():
        failed = [states[fov] for fov in members if states[fov].status == "failed"]
        is_done = all(states[fov].status == "done" for fov in members)
        status: Status = "failed" if failed else "done" if is_done else "cancelled"
        reason = str(failed[0].reason) if failed else "" if is_done else report.stopped or "the run was cancelled"
        found[well] = WellResult(status, reason, tuple(members))
    return found
