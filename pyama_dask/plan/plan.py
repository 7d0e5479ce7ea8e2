"""The plan: config and metadata go in, a list of tasks comes out, with their bytes and memory. Nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, prod
from typing import Any

from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges, parse_selection
from pyama_dask.errors import PlanError
from pyama_dask.methods.own_files import own_files
from pyama_dask.plan.config_warnings import warnings_of
from pyama_dask.plan.digests import Digests, group_digests, step_digests, tasks_of
from pyama_dask.plan.lacking import lacking_frames
from pyama_dask.plan.packed import JoinedTasks, PackedTasks
from pyama_dask.plan.resolve import Times, frame_times
from pyama_dask.plan.resources import (
    automatic_block,
    count_files,
    files_in_plate,
    files_of_pipelines,
    longest_block,
    reads_movie,
    task_memory,
    traffic,
    traffic_of,
)
from pyama_dask.readers import Metadata
from pyama_dask.steps.batches import frames_together
from pyama_dask.steps.flow import shape_after
from pyama_dask.steps.graphs import graph_of
from pyama_dask.store.layout import check_chunks, layout
from pyama_dask.store.plate import images_in_plate
from pyama_dask.store.trace_csv import place_of
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.kinds import OF_SEVERAL_FOVS, Kind, Scope, on_blocks, scope_of
from pyama_dask.workflow.task import Job, Task, digest

Shapes = tuple[tuple[int, int], tuple[int, int]]
"""(H, W) of a FOV's frames as the seven steps get them, and in the movie."""
Costs = tuple[int, int, Mapping[int, int]]


@dataclass(frozen=True)
class FovPlan:
    """The tasks of one FOV, in an order in which they can be done."""

    fov: int
    name: str
    tasks: Sequence[Task]
    times: Times
    problem: str | None = None
    """Reason why the FOV cannot be processed; it then has no tasks."""
    waits_for: Mapping[Kind, Mapping[str, Mapping[Step, str]]] = field(default_factory=dict)
    """Digests by task key of what a task of several FOVs needs of the others; the last of them has it in its tasks."""
    place: Mapping[str, Any] = field(default_factory=dict)
    """Well and site, see `place_of`; empty outside of wells."""

    @property
    def title(self) -> str:
        """Number, and name if it is in a well: ``FOV 3 (B02 s2)``."""
        return FovPlace.of({"fov": self.fov, "name": self.name, **self.place}).title

    @property
    def stages(self) -> tuple[tuple[Task, ...], ...]:
        """Tasks by kind, or of a chain one by one: a stage needs all stages before it, and its tasks need no other."""
        stages: list[tuple[Task, ...]] = []
        for kind in dict.fromkeys(task.kind for task in self.tasks):
            tasks = self.stage(kind)
            stages += [(task,) for task in tasks] if scope_of(kind) == "chain" else [tasks]
        return tuple(stages)

    def stage(self, kind: Kind) -> tuple[Task, ...]:
        """Tasks of one kind."""
        return tuple(task for task in self.tasks if task.kind == kind)

    def only(self, choose: Callable[[Task], Mapping[Step, str]]) -> FovPlan:
        """Leave out the steps that are not chosen, and the tasks that have none left."""
        chosen = [(task, choose(task)) for task in self.tasks]
        if all(of == task.digests for task, of in chosen):
            return self
        left = (task if of == task.digests else replace(task, digests=of) for task, of in chosen if of)
        return replace(self, tasks=PackedTasks(left))


@dataclass(frozen=True)
class Plan:
    """Everything that a run would do."""

    job: Job
    identity: str
    """Identity of the movie's content."""
    first_identity: str
    """Identity that it had when the output was begun; another one where it has grown since."""
    fovs: tuple[FovPlan, ...]
    steps: tuple[Step, ...]
    files_per_fov: int
    """Without those of cells."""
    files_per_cell: int
    worker_memory: int
    warnings: tuple[str, ...] = ()
    forced: frozenset[str] = frozenset()
    """Names of parts that are regenerated, whatever is recorded."""
    replaces: Mapping[int, tuple[Step, ...]] = field(default_factory=dict)
    """Steps by FOV whose results in the output were made with other settings, and are regenerated."""
    made_before: Mapping[int, str] = field(default_factory=dict)
    """Origin of these in words, by FOV, where they were not made with other settings."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents of files that are written to the output when the run begins, by name."""
    gpus: str = ""
    """Steps that are done on workers with a GPU, and what these are, in words; '' if no step needs one."""
    table_memory: int = 0
    """Predicted peak of a worker that links a FOV's objects or writes their traces, in bytes; 0 if they are unknown."""

    @property
    def graph(self) -> Graph:
        """Graph of the steps that the config asks for."""
        return graph_of(self.job.config)

    @property
    def tasks(self) -> Sequence[Task]:
        """All tasks."""
        return JoinedTasks([fov.tasks for fov in self.fovs])

    def fov(self, number: int) -> FovPlan:
        """Plan of a FOV."""
        return self.fovs[self._places[number]]

    @cached_property
    def _places(self) -> dict[int, int]:
        return {fov.fov: place for place, fov in enumerate(self.fovs)}

    @property
    def at_once(self) -> int:
        """Largest number of tasks that can run at the same time."""
        return sum(max(map(len, fov.stages), default=0) for fov in self.fovs)

    @property
    def gpu_tasks(self) -> int:
        """Number of tasks for workers with a GPU."""
        return sum(self.graph.needs_gpu(task.kind) for task in self.tasks)

    @property
    def memory(self) -> int:
        """Largest predicted peak of a worker in bytes."""
        return max(self.table_memory, max((task.memory for task in self.tasks), default=0))

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of images that the steps of the tasks read and write, uncompressed and without crops."""
        return traffic_of(self.job, self.tasks)

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON: the tasks of a FOV by kind, as blocks differ in their frames only."""
        return {
            "version": 1,
            "input": str(self.job.source),
            "identity": self.identity,
            "first_identity": self.first_identity,
            "output": str(self.job.output),
            "steps": list(self.steps),
            "frames": self.job.config.params.frames,
            "block_frames": self.job.block_frames,
            "blocks": len(self.job.blocks),
            "tasks": len(self.tasks),
            "bytes_read": sum(task.bytes_read for task in self.tasks),
            "bytes_written": sum(task.bytes_written for task in self.tasks),
            "files_per_fov": self.files_per_fov,
            "files_per_cell": self.files_per_cell,
            "memory": self.memory,
            "worker_memory": self.worker_memory,
            "warnings": list(self.warnings),
            "fovs": [_fov_document(fov) for fov in self.fovs],
        }


def _fov_document(fov: FovPlan) -> dict[str, Any]:
    kinds = {
        kind: {
            "tasks": len(stage),
            "steps": {step: [task.digests[step] for task in stage] for step in stage[0].digests},
            "bytes_read": sum(task.bytes_read for task in stage),
            "bytes_written": sum(task.bytes_written for task in stage),
            "memory": max(task.memory for task in stage),
        }
        for kind in dict.fromkeys(task.kind for task in fov.tasks)
        if (stage := fov.stage(kind))
    }
    return {
        "fov": fov.fov,
        "name": fov.name,
        "problem": fov.problem,
        "time_source": fov.times.source,
        "kinds": kinds,
    } | dict(fov.place)


def make_plan(
    config: Config, metadata: Metadata, identity: str, worker_memory: int, first_identity: str | None = None,
    pace: Mapping[Kind, float] | None = None, problems: Mapping[str, str] | None = None, workers: int = 1,
) -> Plan:  # fmt: skip
    """Plan a whole run.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie.
    identity
        Identity of the movie's content.
    worker_memory
        Bytes that a worker may use.
    first_identity
        Identity that the movie had when the output was begun, if it has grown since.
    pace
        Seconds of tasks by kind for each frame, where they were measured.
    problems
        Reasons why FOVs cannot be processed, by name.
    workers
        Number of tasks that can run at the same time.

    Raises
    ------
    PlanError
        If a task would not fit a worker's memory.
    """
    frames = tuple(parse_selection(config.params.frames))
    chosen = parse_selection(config.params.fovs)
    largest = max((shape_after(config, metadata.fovs[k].shape) for k in chosen), key=prod)
    wanted = config.storage.block_frames
    if wanted == "auto":
        longest = longest_block(config, largest, len(chosen) * len(frames), pace, workers)
        in_movie = max((metadata.fovs[k].shape for k in chosen), key=prod)
        block = automatic_block(
            config, largest, len(frames), worker_memory, longest, metadata.read_memory, in_movie,
            ceil(workers / len(chosen)),
        )  # fmt: skip
    else:
        block = min(int(wanted), len(frames))
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"block_frames": block})})
    job = Job(
        metadata.path.absolute(), config.output.absolute(), config, frames, block, own_files=own_files(config)
    )  # fmt: skip
    first_identity = first_identity or identity
    seen = digest(first_identity, metadata.flat_field.digest) if metadata.flat_field else first_identity
    known, planned = problems or {}, _Fovs(job, metadata, seen, worker_memory)
    fovs = tuple(planned.fov(k, known.get(metadata.fovs[k].name)) for k in chosen)
    for kind in (kind for kind in graph_of(config).kinds if scope_of(kind) in OF_SEVERAL_FOVS):
        groups = _groups(scope_of(kind), metadata, fovs)
        last = {group[-1].fov: _with_group(job, first_identity, kind, group) for group in groups}
        fovs = tuple(last.get(fov.fov, fov) for fov in fovs)
    left_out = [fov.fov for fov in fovs if fov.problem] if any(fov.waits_for for fov in fovs) else []
    of_groups = [f"FOV {k}: is left out of the results of its well and plate. Fix: see its problem" for k in left_out]
    specs = layout(job, largest)
    check_chunks(specs.values())
    per_fov, per_cell = count_files(config, specs, len(job.blocks))
    in_movie = max((metadata.fovs[k].shape for k in chosen), key=prod)
    per_fov += files_in_plate(job, largest) + files_of_pipelines(job, in_movie)
    warnings = [*metadata.notes, *warnings_of(config, metadata), *_time_warnings(fovs), *of_groups]
    steps = graph_of(config).active_steps(config)
    return Plan(job, identity, first_identity, fovs, steps, per_fov, per_cell, worker_memory, tuple(warnings))


def _time_warnings(fovs: Iterable[FovPlan]) -> Iterator[str]:
    """Warnings about times; the same one of several FOVs once, with their numbers."""
    alike: dict[str, list[FovPlan]] = {}
    for fov in fovs:
        alike.setdefault((fov.times.warning or "").removeprefix(f"FOV {fov.fov}: "), []).append(fov)
    for warning, of in alike.items():
        if warning:
            yield f"{f'FOVs {as_ranges([fov.fov for fov in of])}' if len(of) > 1 else of[0].title}: {warning}"


class _Fovs:
    """Plans of FOVs one by one, for the digest of a movie; what FOVs have in common is found once."""

    def __init__(self, job: Job, metadata: Metadata, movie: str, worker_memory: int) -> None:
        self._job, self._metadata, self._movie, self._worker_memory = job, metadata, movie, worker_memory
        self._images = images_in_plate(metadata.fovs)
        self._known: dict[Hashable, Any] = {}
        self._costs: dict[tuple[Kind, Shapes], Costs] = {}

    def fov(self, fov: int, problem: str | None) -> FovPlan:
        """Plan a FOV, with the reason why it cannot be processed, if it is known already."""
        job, metadata = self._job, self._metadata
        info = metadata.fovs[fov]
        shape = shape_after(job.config, info.shape)
        times, place = frame_times(job.config, metadata, fov, job.frames), place_of(info.well, info.site)
        plan = FovPlan(fov, info.name, (), times, place=place)
        if problem := problem or lacking_frames(job, metadata, fov):
            return replace(plan, problem=f"{plan.title}: {problem}")
        digests = step_digests(
            job, self._movie, fov, shape, times.minutes.tolist(), tuple(place.values()), info.tiles, self._known
        )
        tasks = list(self._tasks(plan, (shape, info.shape), digests))
        if too_large := next((task for task in tasks if task.memory > self._worker_memory), None):
            raise PlanError(
                f"{too_large.key} would need {too_large.memory / 2**20:.0f} MiB, but a worker has "
                f"{self._worker_memory / 2**20:.0f} MiB. Fix: give workers more (cluster.memory, or fewer "
                f"cluster.workers), or lower storage.block_frames, now {job.block_frames}"
            )
        return replace(plan, tasks=PackedTasks(tasks))

    def _tasks(self, plan: FovPlan, shapes: Shapes, digests: Mapping[Kind, Sequence[Digests]]) -> Iterator[Task]:
        shape, movie = shapes
        in_plate, title = self._images.get(plan.fov, ""), plan.title if plan.place else ""
        for kind, of in digests.items():
            if (kind, shapes) not in self._costs:
                self._costs[kind, shapes] = _costs_of(self._job, kind, shapes, self._metadata.read_memory)
            read, written, memory = self._costs[kind, shapes]
            blocked = on_blocks(kind)
            together = frames_together(self._job.config, self._job.block_frames) if blocked else None
            for number, (start, stop) in enumerate(self._job.blocks if blocked else [(0, self._job.n_frames)]):
                if of[number].full:
                    n = stop - start
                    yield Task(
                        kind, plan.fov, shape, start, stop, number if blocked else None, of[number].full,
                        of[number].local, bytes_read=read * n, bytes_written=written * n, memory=memory[n],
                        in_plate=in_plate, title=title, shape_in_movie=None if movie == shape else movie,
                        at_once=together,
                    )  # fmt: skip


def _costs_of(job: Job, kind: Kind, shapes: Shapes, reading: int) -> Costs:
    """Bytes that tasks of a kind read and write per frame, and their memory by number of frames."""
    more = reading if reads_movie(job.config, kind) else 0
    blocked = on_blocks(kind)
    lengths = {stop - start for start, stop in job.blocks} if blocked else {job.n_frames}
    memory = {n: task_memory(job.config, kind, shapes[0], n, None, shapes[1]) + more for n in lengths}
    return (*(traffic(job, kind, *shapes) if blocked else (0, 0)), memory)


def _groups(scope: Scope, metadata: Metadata, fovs: Iterable[FovPlan]) -> list[list[FovPlan]]:
    """FOVs that can be processed by well or plate; FOVs outside of wells are in none."""
    found: dict[tuple[str | None, ...], list[FovPlan]] = {}
    for fov in (fov for fov in fovs if fov.tasks):
        info = metadata.fovs[fov.fov]
        if scope == "plate" or info.well is not None:
            found.setdefault((info.plate, info.well if scope == "well" else None), []).append(fov)
    return [*found.values()]


def _with_group(job: Job, movie: str, kind: Kind, group: Sequence[FovPlan]) -> FovPlan:
    """Plan of the last FOV of a well or plate, with the task of all of them."""
    last = group[-1]
    tasks = [task for fov in group for task in fov.tasks]
    if not (digests := group_digests(job, movie, kind, last.tasks[-1], tasks)):
        return last
    task = replace(
        last.tasks[-1], kind=kind, start=0, stop=job.n_frames, block=None, digests=digests, local={}, bytes_read=0,
        bytes_written=0, memory=task_memory(job.config, kind, last.tasks[-1].shape, job.n_frames),
        group=tuple(fov.fov for fov in group),
    )  # fmt: skip
    graph = graph_of(job.config)
    needs = [graph.parts[need] for part in graph.kinds[kind] if part.step in digests for need in part.needs]
    needed: dict[str, dict[Step, str]] = {}
    for part in needs:
        for of in tasks_of(tasks, part, graph):
            needed.setdefault(of.key, {})[part.step] = of.digests[part.step]
    return replace(last, tasks=PackedTasks((*last.tasks, task)), waits_for={**last.waits_for, kind: needed})
