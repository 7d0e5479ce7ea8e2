"""Planning a run: open the movie, make the plan, and find what is left to do. Nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from distributed import Client

from pyama_dask.config.models import Config
from pyama_dask.config.units import many, parse_selection
from pyama_dask.errors import OutputError, PlanError
from pyama_dask.execute.walltime import room_of, too_long
from pyama_dask.files.atomic import check_names
from pyama_dask.launch import memory_per_task, most_jobs, workers_in
from pyama_dask.methods import unet
from pyama_dask.plan.plan import Plan, make_plan
from pyama_dask.plan.resolve import resolve
from pyama_dask.plan.resume import remaining
from pyama_dask.readers import Metadata
from pyama_dask.runs.extend import first_identity, keep_zero
from pyama_dask.runs.gpus import find_gpus
from pyama_dask.runs.method_trial import try_methods
from pyama_dask.runs.movie import look_at_movie
from pyama_dask.runs.output_dir import check_output, fault_of, keep_layout
from pyama_dask.runs.ownership import longest_names
from pyama_dask.runs.plan_settings import other_frames, settings_of
from pyama_dask.runs.status import LEDGER, read_plan, report_fov
from pyama_dask.runs.stitching import Registering
from pyama_dask.runs.timings import Calibration, read_calibration
from pyama_dask.steps.image_place import frames_of, resizing_step
from pyama_dask.steps.standard import uses_model
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Step


def plan_run(
    config: Config,
    client: Client | None = None,
    *,
    extend: bool = False,
    into: bool = False,
    tell: Registering = lambda _done, _wells: None,
) -> tuple[Plan, Metadata]:
    """Open the movie and plan a run of it; writes nothing.

    Parameters
    ----------
    config
        Config, not yet resolved.
    client
        Dask client whose workers' memory counts; None for the config's cluster.
    extend
        True to accept a movie that has more frames than when the output was begun.
    into
        True to write beside other files in the output.
    tell
        Called as wells are registered; see `find_positions`.

    Raises
    ------
    ConfigError, SourceError, OutputError, PlanError, TableError
        If the run cannot be done as configured.
    """
    movie = look_at_movie(config, tell)
    snapshot, metadata = movie.snapshot, keep_zero(movie.metadata, config.output)
    resolved = resolve(config, metadata)
    found = find_gpus(resolved, client)
    memory = memory_per_task(config.cluster, client, found.count)
    check_output(config.output, into=into)
    first = first_identity(config, metadata, snapshot, extend=extend)
    measured = read_calibration(resolved)
    pace = measured.seconds if measured else None
    workers = sum(client.nthreads().values()) if client else workers_in(config.cluster, most_jobs(config.cluster))
    plan = make_plan(keep_layout(resolved), metadata, snapshot.identity, memory, first, pace, movie.problems, workers)
    plan = replace(plan, job=replace(plan.job, snapshot=snapshot))
    check_names(plan.job.output, longest_names(plan))
    if measured:
        check_walltime(plan, measured)
    noticed = [*remarks_on_model(config, plan.job.config, metadata), *try_methods(plan.job.config, metadata)]
    noticed += [*_unknown_pixel_size(plan.job.config, metadata), *found.warnings]
    warnings = (*plan.warnings, *movie.warnings, *noticed)
    return replace(plan, warnings=warnings, files=movie.files, gpus=found.text), metadata


def remarks_on_model(config: Config, resolved: Config, metadata: Metadata) -> list[str]:
    """Warnings about a network that was made for other movies.

    Parameters
    ----------
    config, resolved
        Config as the user gave it, and resolved for the movie.
    metadata
        Of the movie.
    """
    if not uses_model(resolved) or resolved.channels.pc is None:
        return []
    kind = metadata.channels[int(resolved.channels.pc.channel)].kind
    pixel = frames_of("segment", resolved, metadata).pixel_size_um
    return unet.remarks(config.params.segmentation_params, pixel, kind)


def _unknown_pixel_size(config: Config, metadata: Metadata) -> list[str]:
    """Warning about a step after which it is not known how large pixels are."""
    step = resizing_step(config, metadata)
    said = (
        f"pipelines: step {step!r} changes the size of frames in its own way, so that the results have no pixel size. "
        "Fix: use 'crop' or 'resample' if micrometres matter"
    )
    return [said] if step else []


def check_walltime(plan: Plan, measured: Calibration) -> None:
    """Refuse a run with tasks that were measured to take longer than the walltime of a job.

    Raises
    ------
    PlanError
        If there is such a task; the message says what to change.
    """
    cluster = plan.job.config.cluster
    for task in sorted(plan.tasks, key=measured.of, reverse=True):
        if (room := room_of(cluster, task.kind)) and measured.of(task) > room:
            raise PlanError(too_long(cluster, measured.of(task), task))


def what_is_left(
    plan: Plan, steps: Sequence[Step] | None = None, fovs: Collection[int] | None = None, ledger: Ledger | None = None
) -> Plan:
    """Plan of what is not yet done in the output; writes nothing.

    Parameters
    ----------
    plan
        Plan of the whole run.
    steps
        Steps to do; None for all.
    fovs
        FOVs to do; None for all of the plan.
    ledger
        Records of the output; None to read them.

    Raises
    ------
    PlanError
        If a chosen step needs one that is neither done nor chosen.
    """
    recorded = ledger or Ledger(plan.job.output / LEDGER)
    of = plan if fovs is None else replace(plan, fovs=tuple(fov for fov in plan.fovs if fov.fov in fovs))
    left = remaining(of, recorded, steps, partial(fault_of, plan.job, recorded))
    return replace(left, made_before=made_before(plan, recorded)) if left.replaces else left


def only_failed(plan: Plan, ledger: Ledger) -> Plan:
    """Plan of the FOVs that failed when they were last tried, and of the tasks of their wells and plates.

    Raises
    ------
    PlanError
        If the output has no results yet.
    """
    if not ledger.receipts and not ledger.failed:
        raise PlanError(f"{plan.job.output}: holds no results yet. Fix: run without --retry-failed")
    standing = {fov["fov"]: report_fov(ledger, fov).status for fov in plan.document()["fovs"]}
    failed = {fov for fov, status in standing.items() if status == "failed"}
    others = sum(status in ("partial", "pending") for status in standing.values())
    more = f"; unfinished: {many(others, 'FOV')}. Fix: run without --retry-failed" if others else ""
    return replace(
        plan,
        fovs=tuple(
            fov if fov.fov in failed else fov.only(lambda task: task.digests if failed.intersection(task.group) else {})
            for fov in plan.fovs
        ),
        warnings=plan.warnings if failed else (*plan.warnings, f"no FOV has failed{more}"),
    )


def made_before(plan: Plan, ledger: Ledger) -> dict[int, str]:
    """Origin of stale results in words, by FOV, where settings are the same; see `plan_settings.other_frames`."""
    try:
        before = read_plan(plan.job.output, ledger)
    except OutputError:
        return {}
    now = settings_of(plan.job.config)
    found = {fov["fov"]: _made_how(before["settings"].get(fov["settings"]), now) for fov in before["fovs"]}
    return {fov: how for fov, how in found.items() if how}


def _made_how(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str | None:
    """Origin of results, if nothing but the frames differs from the settings, or nothing at all."""
    if before == now:  # as after an extension that was interrupted, or when a plugin was edited
        return "before methods, times, frames or the name of the movie changed"
    if (frames := other_frames(before, now)) is None:
        return None
    then, today = parse_selection(frames), parse_selection(now["params"]["frames"])
    more = f"; now there are {len(today)}" if len(today) > len(then) and today[: len(then)] == then else ""
    return f"from frames {frames}{more}"
