"""A plan in words: what a run does, creates and needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod

from pyama_dask.config.models import Storage
from pyama_dask.config.units import as_ranges, duration, many
from pyama_dask.methods.tracker_parameters import WITHOUT_SHIFT
from pyama_dask.plan.plan import Plan
from pyama_dask.runs.disk_space import gib
from pyama_dask.runs.timings import Prediction
from pyama_dask.steps.own_arrays import own_arrays
from pyama_dask.steps.standard import registers
from pyama_dask.store.layout import ArraySpec, changed_form, layout
from pyama_dask.workflow.graph import GPU

MANY = 12
"""Lines of a list that are shown; the rest is counted."""


def cut_lines(lines: Sequence[str]) -> list[str]:
    """First `MANY` lines of a list, and how many more there are."""
    return [*lines[:MANY], f"  ... and {len(lines) - MANY} more"] if len(lines) > MANY else list(lines)


def describe_plan(
    plan: Plan, left: Plan, predicted: Prediction | None = None, script: str = "", pipelines: Sequence[str] = ()
) -> str:
    """Summary of a plan, its pipelines, its unfinished tasks, the predicted costs, and the job script."""
    job, blocks = plan.job, f"{many(len(plan.job.blocks), 'block')} of {_block_length(plan)}"
    lines = [
        f"input:   {job.source}",
        f"output:  {job.output}",
        f"FOVs:    {len(plan.fovs)} ({job.config.params.fovs}){_in_wells(plan)}",
        f"times:   {_sources(plan)}",
        f"frames:  {job.n_frames} ({job.config.params.frames}), in {blocks}",
        f"steps:   {', '.join(plan.steps)}",
        *pipelines,
        *_drift(plan),
        *_amounts(plan, left),
        f"memory:  {plan.memory / 2**20:.0f} MiB per worker, of {plan.worker_memory / 2**20:.0f} MiB available",
        *([f"GPU:     {plan.gpus}"] if plan.gpus else ()),
        *_resources(plan),
        *(describe_prediction(predicted, whole=left.tasks != plan.tasks) if predicted else ()),
        *(f"replaces: {line}" for line in describe_replaced(left)),
        *(f"warning: {warning}" for warning in cut_lines(plan.warnings)),
        *cut_lines([f"cannot be done: {fov.problem}" for fov in plan.fovs if fov.problem]),
        *(["", "script of a job:", script] if script else ()),
    ]
    return "\n".join(lines)


def _amounts(plan: Plan, left: Plan) -> list[str]:
    """Lines with the tasks that are left, what they read and write, and the files of all; each beside the whole."""
    (read, written), (all_read, all_written) = left.traffic, plan.traffic
    kinds = Counter(task.kind for task in left.tasks)
    counts = f" ({', '.join(f'{count} {kind}' for kind, count in kinds.items())})" if kinds else ""
    begun, stores = left.tasks != plan.tasks, plan.files_per_cell > 0
    crops = ", plus the crops of the cells" if stores and any("crop" in task.digests for task in left.tasks) else ""
    cells = f", plus {plan.files_per_cell} per cell" if stores else ""
    fovs = f"; {sum(bool(fov.tasks) for fov in left.fovs)} of {many(len(plan.fovs), 'FOV')} left"
    return [
        f"tasks:   {len(left.tasks)}{f' left of {len(plan.tasks)}' if begun else ''}{counts}",
        *_arrays(plan),
        f"reads:   {gib(read)} of pixels" + (f", of {gib(all_read)} in the whole run" if begun else ""),
        f"writes:  {gib(written)} before compression"
        + (f", of {gib(all_written)} in the whole run" if begun else "")
        + crops,
        *_storage(plan),
        f"files:   {plan.files_per_fov} per FOV{cells}{fovs if begun else ''}",
    ]


def _block_length(plan: Plan) -> str:
    """Number of frames of a block; "up to" it if the last block is shorter."""
    length = plan.job.block_frames
    return f"up to {length}" if plan.job.n_frames % length else str(length)


def arrays_of(plan: Plan) -> dict[str, ArraySpec]:
    """Arrays that a run creates for its largest FOV, by path in the FOV's folder; empty if no FOV can be processed."""
    job, task = plan.job, max(plan.tasks, key=lambda task: prod(task.shape), default=None)
    if task is None:
        return {}
    own = own_arrays(job, task.movie_shape)
    return {f"{spec.store}/{path}": spec for path, spec in layout(job, task.shape).items()} | own


def _arrays(plan: Plan) -> Iterator[str]:
    """Line with the arrays in full size, by store, type and shape."""
    alike: dict[str, list[str]] = {}
    for spec in arrays_of(plan).values():
        if spec.level == 0 and (spec.stack is None or spec.stack[0] == 0):
            planes = [str(spec.stack[1])] if spec.stack else []
            shape = " x ".join([str(spec.shape[0]), *planes, *map(str, spec.shape[1:])])
            alike.setdefault(f"{spec.store} {spec.dtype} {shape}", []).append(spec.group)
    if alike:
        most = "up to " if len({task.shape for task in plan.tasks}) > 1 else ""
        yield "arrays:  " + most + "; ".join(f"{kind}: {', '.join(groups)}" for kind, groups in alike.items())


def _drift(plan: Plan) -> Iterator[str]:
    """Line about the drift of the stage, if it is measured to track cells."""
    params = plan.job.config.params
    if registers(plan.job.config):
        instead = ", which looks for no shift itself" if params.tracking_method in WITHOUT_SHIFT else ""
        yield f"drift:   of phase contrast; {params.tracking_method} links cells without it{instead}"


def _resources(plan: Plan) -> Iterator[str]:
    """Line with other resources of Dask that tasks need."""
    needed = {kind: plan.graph.resources(kind) for kind in dict.fromkeys(task.kind for task in plan.tasks)}
    listed = [f"{kind}: {name} {count:g}" for kind, of in needed.items() for name, count in of.items() if name != GPU]
    if listed:
        yield "resources: " + ", ".join(listed)


def _storage(plan: Plan) -> list[str]:
    """Line with the form of the images, unless it is the default."""
    storage = plan.job.config.storage
    changed = ({} if storage.codec == Storage().codec else {"codec": storage.codec}) | changed_form(storage)
    return ["storage: " + ", ".join(f"{key} {value}" for key, value in changed.items())] if changed else []


def _sources(plan: Plan) -> str:
    """Sources of the times, with their FOVs if there are several."""
    fovs: dict[str, list[int]] = {}
    for fov in plan.fovs:
        fovs.setdefault(fov.times.source, []).append(fov.fov)
    return "; ".join(source + (f" (FOVs {as_ranges(of)})" if len(fovs) > 1 else "") for source, of in fovs.items())


def describe_prediction(predicted: Prediction, *, whole: bool = False) -> list[str]:
    """Predicted time, memory and disk space of a whole run, as lines; `whole` says so, if part of it is done."""
    what = "predicted for the whole run on" if whole else "predicted for"
    return [
        f"{what} {many(predicted.workers, 'worker')}, from one processed block:",
        f"  time:    {duration(predicted.seconds)}, not counting time in the queue",
        f"  work:    {duration(predicted.worker_seconds)} of worker time in total",
        f"  memory:  {predicted.memory / 2**20:.0f} MiB per worker",
        f"  disk:    {gib(predicted.size)}, in {predicted.files} files",
    ]


def _in_wells(plan: Plan) -> str:
    wells = {fov.place["well"] for fov in plan.fovs if fov.place}
    return f", in {many(len(wells), 'well')}" if wells else ""


def describe_replaced(plan: Plan) -> list[str]:
    """Stale results that a run regenerates: made with other settings or from other frames."""
    alike: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for fov, steps in plan.replaces.items():
        alike.setdefault((steps, plan.made_before.get(fov, "with other settings")), []).append(fov)
    return [
        f"results of {', '.join(steps)} in FOV {as_ranges(fovs)}, made {how}" for (steps, how), fovs in alike.items()
    ]
