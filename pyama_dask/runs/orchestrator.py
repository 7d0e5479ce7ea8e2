"""Three phases of a run in Python: look at the movie, compile pipelines to a plan, and execute the plan."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from pyama_dask.config.flat_fields import without_flat_fields
from pyama_dask.config.load import parse_config, read_document
from pyama_dask.config.models import Config
from pyama_dask.config.movie_input import KINDS
from pyama_dask.config.pipelines import Pipeline
from pyama_dask.config.several import check_one
from pyama_dask.config.units import many
from pyama_dask.errors import PlanError
from pyama_dask.execute.events import Progress
from pyama_dask.files.atomic import write_bytes
from pyama_dask.launch import most_jobs, script_of, workers_in
from pyama_dask.plan.find_fovs import fovs_by_well
from pyama_dask.plan.pipeline_text import describe_pipelines
from pyama_dask.plan.plan import Plan
from pyama_dask.readers import Metadata
from pyama_dask.runs.driver import run
from pyama_dask.runs.movie import check_outside, check_same_fovs, described_movie
from pyama_dask.runs.plan_text import arrays_of, describe_plan
from pyama_dask.runs.planning import plan_run, what_is_left
from pyama_dask.runs.status import FovReport, RunReport
from pyama_dask.runs.timings import Prediction, predict, read_calibration
from pyama_dask.workflow.failure import Cause

Status = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, repr=False)
class CompiledPlan:
    """A plan that can be printed, saved and compared; nothing was written for it."""

    config: Config
    """Config with the pipelines, not resolved."""
    plan: Plan
    metadata: Metadata = field(repr=False)
    left: Plan = field(repr=False)
    """Plan of what was not yet done in the output when the plan was compiled."""
    predicted: Prediction | None = None
    """Time, memory and disk space of the whole run, if a block was processed with these settings before."""

    @property
    def digests(self) -> dict[str, Mapping[str, str]]:
        """Digests of all results by task and step: equal ones mean equal results."""
        return digests_of(self.plan)

    def differences(self, other: CompiledPlan) -> dict[str, tuple[str, ...]]:
        """Steps that are in one plan only, or give other results than in the other, with the keys of their tasks."""
        return differences(self.plan, other.plan)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, with the description of its pipelines.

        Raises
        ------
        PlanError
            If the file cannot be written.
        """
        try:
            write_bytes(Path(path), json.dumps(self.document(), indent=1).encode())
        except OSError as error:
            reason = error.strerror or error
            raise PlanError(f"{path}: cannot be written: {reason}. Fix: choose another file") from error

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON: the plan, the arrays that it creates, what is left to do, and what is predicted."""
        arrays = {
            path: {"dtype": spec.dtype, "shape": list(spec.shape), "frames_per_shard": spec.block_frames}
            for path, spec in arrays_of(self.plan).items()
        }
        read, written = self.left.traffic
        return self.plan.document() | {
            "pipelines": self.lines, "arrays": arrays, "left": len(self.left.tasks), "bytes_read_left": read,
            "bytes_written_left": written,
            "predicted": asdict(self.predicted) if self.predicted else None,
        }  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """Pipelines in words."""
        names = [channel.name for channel in self.metadata.channels]
        shape = max((self.metadata.fovs[fov.fov].shape for fov in self.plan.fovs), key=prod, default=(0, 0))
        return describe_pipelines(self.plan.job.config, names, shape)

    def __str__(self) -> str:
        script = script_of(self.plan.job.config.cluster, gpu=self.plan.gpu_tasks > 0)
        return describe_plan(self.plan, self.left, self.predicted, script, self.lines)

    def __repr__(self) -> str:
        return f"<CompiledPlan: {len(self.plan.fovs)} FOVs, {len(self.plan.tasks)} tasks>"


def compiled(
    config: Config, plan: Plan, metadata: Metadata, predicted: Prediction | None = None, jobs: int | None = None
) -> CompiledPlan:
    """Describe a plan that was made; reads what the output has, and predicts from earlier measurements.

    Parameters
    ----------
    config
        Config of the plan, not resolved.
    plan, metadata
        From `plan_run`.
    predicted
        A prediction that was made now; None for one from measurements that the output has.
    jobs
        Number of jobs or local workers to predict for; None for those of the config.
    """
    if predicted is None and (measured := read_calibration(plan.job.config)):
        cluster = plan.job.config.cluster
        predicted = predict(plan, measured, workers_in(cluster, jobs or most_jobs(cluster)))
    return CompiledPlan(config, plan, metadata, what_is_left(plan), predicted)


def digests_of(plan: Plan) -> dict[str, Mapping[str, str]]:
    """Digests of all results by task and step."""
    return {task.key: dict(task.digests) for task in plan.tasks}


def differences(one: Plan, other: Plan) -> dict[str, tuple[str, ...]]:
    """Steps that are in one plan only, or give other results than in the other, with the keys of their tasks."""
    mine, theirs = digests_of(one), digests_of(other)
    found: dict[str, list[str]] = {}
    for key in mine | theirs:
        a, b = mine.get(key, {}), theirs.get(key, {})
        for step in dict.fromkeys((*a, *b)):
            if a.get(step) != b.get(step):
                found.setdefault(step, []).append(key)
    return {step: tuple(keys) for step, keys in found.items()}


@dataclass(frozen=True)
class WellResult:
    """Result of one well, or of one FOV outside of wells."""

    status: Status
    reason: str = ""
    """Reason why it is not done."""
    fovs: tuple[int, ...] = ()
    cause: Cause | None = None
    """Kind of failure."""


class Orchestrator:
    """Look at one movie or plate, compile pipelines, and execute them.

    Parameters
    ----------
    input
        The movie.
    config
        A config, a mapping with its keys, or the path of a YAML file; its ``input`` may be missing.
    into
        True to write beside other files in the output.

    Examples
    --------
    >>> orchestrator = Orchestrator("plate", {"output": "out", "channels": {"pc": {"channel": 0}}})
    >>> orchestrator.initialize()
    >>> plan = orchestrator.compile([Pipeline("cells", "seven")])
    >>> print(plan)
    >>> orchestrator.execute(plan)["B02"].status
    'done'
    """

    def __init__(
        self, input: str | Path | None, config: Config | Mapping[str, Any] | str | Path, *,  # noqa: A002
        into: bool = False,
    ) -> None:  # fmt: skip
        document = _document(config)
        if input is not None:
            document["input"] = _with_path(document.get("input"), input)
        check_one(document.get("input"))
        self._given = document
        self.config = parse_config(document)
        self.into = into
        self.metadata: Metadata | None = None

    def initialize(self) -> Metadata:
        """Read what the movie has; nothing is written, and no well is registered.

        Raises
        ------
        SourceError, ConfigError, TableError, OutputError
            If the movie cannot be read, or its wells cannot be stitched as configured.
        """
        check_same_fovs(self.config)
        self.metadata = described_movie(self.config)
        check_outside(self.config.output, self.metadata.path)
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
        config = self.config if pipelines is None else self._with(pipelines)
        return compiled(config, *plan_run(config, into=self.into))

    def _with(self, pipelines: Sequence[Pipeline | Mapping[str, Any]]) -> Config:
        """Config with other pipelines, and without the shading that its own ones name."""
        document = without_flat_fields(self._given, self.config.pipelines)
        given = [pipe.model_dump() if isinstance(pipe, Pipeline) else pipe for pipe in pipelines]
        return parse_config(document | {"pipelines": given})

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
        Result of each well by name; with several plates, by plate and well, such as ``Plate1 B02``; of each FOV by
        number, such as ``FOV 3``, outside of wells.

        Raises
        ------
        PlanError
            If the movie or a function has changed since the plan was compiled, so that results would be others.
        """
        block = {"block_frames": plan.plan.job.block_frames}  # the memory of another client's workers changes no block
        config = plan.config.model_copy(update={"storage": plan.config.storage.model_copy(update=block)})
        report = run(
            config,
            client=client,
            cancel=cancel,
            progress=progress,
            into=self.into,
            approve=lambda now, _: _check_same(plan.plan, now),
        )
        return results_by_well(report, plan.plan, plan.metadata)


def _document(config: Config | Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Keys of a config as they were given."""
    if isinstance(config, str | Path):
        return read_document(Path(config))
    return config.model_dump(exclude_unset=True) if isinstance(config, Config) else dict(config)


def _with_path(given: Any, path: str | Path) -> Any:
    """``input`` of a config with another path; facts that it states stay."""
    facts = {key: value for key, value in given.items() if key not in KINDS} if isinstance(given, Mapping) else {}
    return {KINDS[0]: path, **facts} if facts else path


def _check_same(compiled: Plan, now: Plan) -> None:
    """Refuse a plan that would give other results than the compiled one."""
    if changed := differences(compiled, now):
        raise PlanError(
            f"the movie or a function has changed since the plan was compiled, so that {', '.join(sorted(changed))} "
            "would give other results. Fix: compile again"
        )


def results_by_well(report: RunReport, plan: Plan, metadata: Metadata) -> dict[str, WellResult]:
    """Results of a run by well: a well has failed if one of its FOVs has, and is cancelled if one is not done.

    Parameters
    ----------
    report
        Of the run.
    plan, metadata
        Plan of the whole run, and content of its movie.

    Returns
    -------
    Results by name, see `fovs_by_well`. The reason of a failure is that of the first FOV of the well that failed, with
    the number of others.
    """
    states = {state.fov: state for state in report.fovs}
    wells = fovs_by_well((fov.fov for fov in plan.fovs), metadata)
    return {well: _result([states[fov] for fov in fovs], report) for well, fovs in wells.items()}


def _result(states: Sequence[FovReport], report: RunReport) -> WellResult:
    fovs = tuple(state.fov for state in states)
    if failed := [state for state in states if state.status == "failed"]:
        more = f"; {many(len(failed) - 1, 'FOV')} more failed" if failed[1:] else ""
        return WellResult("failed", f"{failed[0].reason}{more}", fovs, failed[0].cause)
    if all(state.status == "done" for state in states):
        return WellResult("done", "", fovs)
    cancelled = "the run was cancelled" if report.cancelled else "the run was not to do all of its steps"
    return WellResult("cancelled", report.stopped or cancelled, fovs)
