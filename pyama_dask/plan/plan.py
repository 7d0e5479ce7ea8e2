"""The plan: config and metadata go in, a list of tasks comes out, with their bytes and memory. Nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, prod
from typing import Any

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import PlanError
from pyama_dask.files.atomic import MISSING
from pyama_dask.methods.registry import method_identity, ready_method
from pyama_dask.plan.resolve import Times, frame_times
from pyama_dask.readers import FovInfo, Metadata
from pyama_dask.readers.base import ChannelKind
from pyama_dask.store.layout import DOCUMENT, IMAGES, ArraySpec, layout, products
from pyama_dask.store.ledger import Checksum, Ledger
from pyama_dask.workflow.task import BLOCKED, KINDS, STEPS, WORK, Job, Kind, Step, Task, digest, fov_name, parse_key

METHOD_VERSION = 1
"""Raised when a kernel's results change, so that results of older versions are made anew."""

WORKER_BASE = 335 * 2**20
"""Memory of a worker that has not held a block: Python, the packages, compiled loops, tables of grey levels."""
KEPT = 2.5
"""Bytes a pixel of a frame of a block that were let go of, and that a worker keeps for what comes next."""
GATHERING = 96 * 2**20
"""Memory of the task that puts a FOV's tables and crops together, some at a time."""
BLOCK_MEMORY = 512 * 2**20
"""Most memory that ``block_frames: auto`` gives to one block."""
LONGEST_BLOCK = 16
TASK_SECONDS = 60.0
"""What a task on a queue should take: long against what handing it out costs, short against a walltime."""
SECONDS_A_MEGAPIXEL = 0.05
"""Of a task with all steps, for each channel, where nothing was measured."""
BLOCKS_A_WORKER = 3
"""Blocks that there should be for each worker, so that all have something to do until the end."""

USES: Mapping[ChannelKind, str] = {"phase": "phase contrast", "fluorescence": "fluorescence"}
"""What channels of a kind are for; those of other kinds may be for anything."""

Part = tuple[Kind, Step]
"""What a kind of task does of a step."""
NEEDS: Mapping[Part, tuple[Part, ...]] = {
    ("ingest", "segment"): (("ingest", "copy"),),
    ("ingest", "background"): (("ingest", "copy"), ("ingest", "segment")),
    ("link", "track"): (("ingest", "segment"),),
    ("link", "crop"): (("ingest", "copy"), ("ingest", "background")),
    ("link", "cache"): (("ingest", "copy"), ("ingest", "background")),
    ("finish", "track"): (("ingest", "segment"), ("link", "track")),
    ("finish", "extract"): (("ingest", "background"), ("link", "track")),
    ("finish", "crop"): (("link", "track"), ("link", "crop"), ("finish", "track")),
    ("finish", "cache"): (("link", "cache"), ("finish", "track")),
    ("gather", "extract"): (("finish", "extract"),),
    ("gather", "crop"): (("finish", "crop"),),
}
"""What each part of a step is made from; parts that a run does not have are passed over."""


@dataclass(frozen=True)
class FovPlan:
    """The tasks of one FOV, in an order in which they can be done."""

    fov: int
    name: str
    tasks: tuple[Task, ...]
    times: Times
    problem: str | None = None
    """Why the FOV cannot be done; it then has no tasks."""

    @property
    def stages(self) -> tuple[tuple[Task, ...], ...]:
        """Tasks by kind: those of a stage need all of the stage before, and nothing of each other."""
        return tuple(stage for kind in KINDS if (stage := self.stage(kind)))

    def stage(self, kind: Kind) -> tuple[Task, ...]:
        """Tasks of one kind."""
        return tuple(task for task in self.tasks if task.kind == kind)

    def only(self, choose: Callable[[Task], Mapping[Step, str]]) -> FovPlan:
        """Leave out the steps that are not chosen, and the tasks that have none left."""
        chosen = ((task, choose(task)) for task in self.tasks)
        return replace(
            self,
            tasks=tuple(task if of == task.digests else replace(task, digests=of) for task, of in chosen if of),
        )


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

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
    anew: frozenset[tuple[Kind, Step]] = frozenset()
    """Parts of steps that are done anew, whatever is recorded of them."""
    replaces: Mapping[int, tuple[Step, ...]] = field(default_factory=dict)
    """Steps by FOV whose results in the output were made with other settings, and are made anew."""
    frames_before: Mapping[int, str] = field(default_factory=dict)
    """Frames by FOV that these results were made from, where no other setting differs."""

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks."""
        return tuple(task for fov in self.fovs for task in fov.tasks)

    @property
    def memory(self) -> int:
        """Largest predicted peak of a worker in bytes."""
        return max((task.memory for task in self.tasks), default=0)

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
        stage[0].kind: {
            "tasks": len(stage),
            "steps": {step: [task.digests[step] for task in stage] for step in stage[0].digests},
            "bytes_read": sum(task.bytes_read for task in stage),
            "bytes_written": sum(task.bytes_written for task in stage),
            "memory": max(task.memory for task in stage),
        }
        for stage in fov.stages
    }
    return {
        "fov": fov.fov,
        "name": fov.name,
        "problem": fov.problem,
        "time_source": fov.times.source,
        "kinds": kinds,
    }


# ------------------------------------------------------------------------------------------ making plans


def make_plan(
    config: Config, metadata: Metadata, identity: str, worker_memory: int, first_identity: str | None = None,
    pace: Mapping[Kind, float] | None = None,
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

    Raises
    ------
    PlanError
        If a task would not fit a worker's memory.
    """
    frames = tuple(parse_selection(config.params.frames))
    chosen = parse_selection(config.params.fovs)
    largest = max((metadata.fovs[k].shape for k in chosen), key=prod)
    wanted = config.storage.block_frames
    if wanted == "auto":
        longest = longest_block(config, largest, len(chosen) * len(frames), pace)
        block = automatic_block(config, largest, len(frames), worker_memory, longest)
    else:
        block = min(int(wanted), len(frames))
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"block_frames": block})})
    job = Job(metadata.path.absolute(), config.output.absolute(), config, frames, block)
    first_identity = first_identity or identity
    fovs = tuple(_plan_fov(job, metadata, first_identity, k, worker_memory) for k in chosen)
    specs = layout(config, largest, len(frames), block)
    per_fov, per_cell = count_files(config, specs, len(job.blocks))
    of_times = [fov.times.warning for fov in fovs if fov.times.warning]
    warnings = [*metadata.notes, *_general_warnings(config, metadata), *of_times]
    steps = active_steps(config)
    return Plan(job, identity, first_identity, fovs, steps, per_fov, per_cell, worker_memory, tuple(warnings))


def active_steps(config: Config) -> tuple[Step, ...]:
    """Steps that a config asks for, by its channels, ``copy_only`` and ``storage``."""
    off: set[Step] = set()
    if config.params.copy_only or config.channels.pc is None:
        off = set(STEPS) - {"copy", "cache"}
    elif not config.channels.fl:
        off = {"background"}
    if config.storage.cells == "off":
        off.add("crop")
    if config.storage.display == "off":
        off.add("cache")
    return tuple(step for step in STEPS if step not in off)


def _general_warnings(config: Config, metadata: Metadata) -> Iterator[str]:
    if config.channels.pc is None and not config.params.copy_only:
        yield (
            "channels.pc: no phase-contrast channel, so that frames are copied and displayed only: cells cannot be "
            "found, nor the background between them. Set channels.pc if there is one, else copy_only: true"
        )
    fewest, frames = config.params.tracking_params["min_frames"], len(parse_selection(config.params.frames))
    if "segment" in active_steps(config) and fewest > frames:
        yield (
            f"params.tracking_params.min_frames: is {fewest}, but only {frames} frames are processed, so that no cell "
            "will be kept; lower it"
        )
    yield from _channel_warnings(config, metadata)


def _channel_warnings(config: Config, metadata: Metadata) -> Iterator[str]:
    """Compare the use of each channel with its kind in the file."""
    pc, fl = config.channels.pc, config.channels.fl
    uses = {"channels.pc": ("phase contrast", pc)} if pc else {}
    uses |= {f"channels.fl.{k}": ("fluorescence", choice) for k, choice in enumerate(fl)}
    for key, (use, choice) in uses.items():
        channel = metadata.channels[int(choice.channel)]
        if (kind := USES.get(channel.kind, use)) != use:
            yield (
                f"{key}: channel {choice.channel} ({channel.name!r}) is used as {use}, but {metadata.path.name} "
                f"describes it as {kind}. Fix: check 'channels'; 'pyama-dask inspect' lists the kinds"
            )


def _plan_fov(job: Job, metadata: Metadata, movie: str, fov: int, worker_memory: int) -> FovPlan:
    info = metadata.fovs[fov]
    times = frame_times(job.config, metadata, fov, job.frames)
    if problem := _problem(job, metadata, info):
        return FovPlan(fov, info.name, (), times, f"FOV {fov}: {problem}")
    digests = step_digests(job, movie, fov, info.shape, times)
    tasks = tuple(_tasks(job, fov, info.shape, digests))
    for task in tasks:
        if task.memory > worker_memory:
            raise PlanError(
                f"{task.key} would need {task.memory / 2**20:.0f} MiB, but a worker has "
                f"{worker_memory / 2**20:.0f} MiB: give workers more (cluster.memory, or fewer cluster.workers), or "
                f"lower storage.block_frames, now {job.block_frames}"
            )
    return FovPlan(fov, info.name, tasks, times)


def _problem(job: Job, metadata: Metadata, info: FovInfo) -> str | None:
    config = job.config
    channels = [int(choice.channel) for choice in config.channels.all]
    planes = range(metadata.z_planes) if config.params.z == "max" else [int(config.params.z or 0)]
    lacking = info.lacking(channels, planes)
    missing = sorted(lacking.intersection(job.frames))
    if not missing:
        return None
    whole = min(lacking)
    remedy = f"take the frames that are whole with --frames 0-{whole - 1}" if whole else "leave it out with --fovs"
    if info.partial:
        remedy += "; 'pyama-dask inspect' lists the frames that lack only some channels or planes"
    return f"{len(missing)} of its frames are missing in {metadata.path.name}, the first is {missing[0]}; {remedy}"


Digests = Mapping[Kind, Sequence[dict[Step, str]]]
"""For every kind of task, and each of its tasks in a FOV, the digest of every step."""


def step_digests(job: Job, movie: str, fov: int, shape: tuple[int, int], times: Times) -> Digests:
    """Digests of all that the result of each step of a FOV depends on.

    What a block is ingested from are its own frames, so that it stays as it is when others are added.

    Parameters
    ----------
    movie
        Identity that the movie had when its output was begun.
    """
    config, params, storage = job.config, job.config.params, job.config.storage
    chosen = [choice.channel for choice in config.channels.all]
    base = digest(METHOD_VERSION, movie, fov, shape, params.z, storage.codec, config.channels.pc is None, chosen)
    methods = [method_identity("preprocessor", name) for name in params.preprocess]
    methods.append(method_identity("segmenter", params.segmentation_method))
    segmented = digest("segment", methods, params.segmentation_params)
    cleared = digest("background", segmented, params.background_params, params.background_weight)

    def ingested(*frames: Sequence[int]) -> tuple[str, str, str]:
        copy = digest("copy", base, job.block_frames, frames)
        return copy, digest(segmented, copy), digest(cleared, copy)

    copy, segment, back = ingested(job.frames)
    track = digest("track", segment, method_identity("tracker", params.tracking_method), params.tracking_params)
    cells = "segment" in active_steps(config)
    levels = digest("levels", back if cells else copy)
    crop = digest("crop", track, levels, params.crop_padding)
    kinds = [*(["phase feature"] if config.channels.pc else []), *["fluorescence feature"] * len(config.channels.fl)]
    features = [
        [method_identity(kind, name) for name in choice.features]
        for kind, choice in zip(kinds, config.channels.all, strict=True)
    ]
    extract = digest("extract", track, back, features)
    traces = digest("traces", extract, times.minutes.tolist(), job.source.stem)
    cache = digest("cache", levels, track if cells else None)
    blocks = [ingested(job.frames[start:stop]) for start, stop in job.blocks]
    whole: Digests = {
        "ingest": [{"copy": c, "segment": s, "background": digest(b, storage.background)} for c, s, b in blocks],
        "link": [{"track": track, "crop": levels, "cache": levels}],
        "finish": [{"track": track, "crop": crop, "extract": extract, "cache": cache}] * len(blocks),
        "gather": [{"crop": digest(crop, storage.cells, storage.display), "extract": traces}],
    }
    return _only(whole, active_steps(config))


def _only(digests: Digests, steps: Collection[Step]) -> Digests:
    return {kind: [{s: d for s, d in of.items() if s in steps} for of in tasks] for kind, tasks in digests.items()}


def _tasks(job: Job, fov: int, shape: tuple[int, int], digests: Digests) -> Iterator[Task]:
    for kind, of in digests.items():
        blocked = kind in BLOCKED
        read, written = traffic(job, kind, shape) if blocked else (0, 0)
        for number, (start, stop) in enumerate(job.blocks if blocked else [(0, job.n_frames)]):
            if steps := of[number]:
                n = stop - start
                memory = task_memory(job.config, kind, shape, n)
                yield Task(
                    kind, fov, shape, start, stop, number if blocked else None, steps, read * n, written * n, memory
                )


# --------------------------------------------------------------------------------- bytes, memory, files


def traffic(job: Job, kind: Kind, shape: tuple[int, int]) -> tuple[int, int]:
    """Bytes of images that a task on a block reads and writes a frame, uncompressed and without crops."""
    specs, steps = layout(job.config, shape, job.n_frames, job.block_frames), active_steps(job.config)
    written = sum(spec.frame_bytes for step in steps for spec in products(specs, kind, step))
    if kind == "ingest":
        return sum(spec.frame_bytes for spec in products(specs, kind, "copy")), written
    measured = {int(choice.channel) for choice in job.config.channels.fl if choice.features}
    seen = bool({"crop", "cache"} & set(steps))

    def is_read(spec: ArraySpec) -> bool:
        if spec.is_labels:
            return not spec.is_tracked
        return (spec.level == "tiles" or spec.is_raw) and (seen or (spec.channel in measured and "extract" in steps))

    return sum(spec.frame_bytes for spec in specs.values() if spec.level != 1 and is_read(spec)), written


def task_memory(config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None) -> int:
    """Peak memory of a worker that does a task on so many frames, all of them or some at once, in bytes."""
    of_method = segmenter_bytes(config, shape) if kind == "ingest" else 0
    return of_method + _memory_of_images(config, kind, shape, frames, at_once)


def _memory_of_images(
    config: Config, kind: Kind, shape: tuple[int, int], frames: int, at_once: int | None = None
) -> int:
    """Peak memory of a task, without what a ready segmenter needs."""
    if kind not in BLOCKED:
        return WORKER_BASE + GATHERING
    held = min(at_once or frames, frames)
    of_block = block_bytes(config, kind) + (added_bytes(config, kind) if held < frames else 0)
    return WORKER_BASE + int(prod(shape) * (held * pixel_bytes(config, kind) + frames * of_block))


def segmenter_bytes(config: Config, shape: tuple[int, int]) -> int:
    """Bytes that a ready segmenter's package needs besides; of other people's methods nothing is known."""
    ready = ready_method("segmenter", config.params.segmentation_method)
    return ready.memory + ready.pixel_bytes * prod(shape) if ready and "segment" in active_steps(config) else 0


def pixel_bytes(config: Config, kind: Kind) -> float:
    """Bytes that a task holds for a pixel of a frame it works on: arrays, and what is being compressed."""
    raw, fluorescent = len(config.channels.all), len(config.channels.fl)
    if "segment" not in active_steps(config):
        return 2 * raw + 2 + KEPT
    if kind == "ingest":
        planes = 6 if fluorescent and config.storage.background == "full" else 0  # 4, and 2 compressed
        return max(2 * raw + 2, 2 * fluorescent + 2 + planes) + KEPT
    return 2 * raw + 4.5 + KEPT


def block_bytes(config: Config, kind: Kind) -> float:
    """Bytes that a task holds to its end for a pixel of every frame of its block: parts of crops."""
    if kind == "ingest" or "crop" not in active_steps(config):
        return 0
    return len(config.channels.all)  # boxes of cells on a fourth of the frame


def added_bytes(config: Config, kind: Kind) -> float:
    """Bytes for a pixel of the largest shard of a task, compressed, which is in memory while a piece is added to it."""
    plain = config.storage.codec == "none"
    if kind == "finish":
        return 2 if plain else 0.25
    planes = "background" in active_steps(config) and config.storage.background == "full"
    return 4 if plain and planes else 2.25


def longest_block(config: Config, shape: tuple[int, int], frames: int, pace: Mapping[Kind, float] | None = None) -> int:
    """Most frames that ``block_frames: auto`` gives to a block.

    On a queue, as many as take about a minute, unless workers would run out of blocks before the end.

    Parameters
    ----------
    config
        Resolved config.
    shape
        (H, W) of the largest frames in pixels.
    frames
        Of all FOVs together.
    pace
        Seconds of tasks by kind for each frame, where they were measured.
    """
    if not config.cluster.of_queue:
        return LONGEST_BLOCK
    guess = SECONDS_A_MEGAPIXEL * prod(shape) / 1e6 * len(config.channels.all)
    a_minute = TASK_SECONDS / max((pace[kind] for kind in BLOCKED if kind in pace) if pace else [guess], default=guess)
    a_share = frames / (BLOCKS_A_WORKER * config.cluster.most_jobs * config.cluster.worker_processes)
    return max(1, int(min(a_minute, max(a_share, LONGEST_BLOCK))))


def automatic_block(
    config: Config, shape: tuple[int, int], n_frames: int, worker_memory: int, longest: int = LONGEST_BLOCK
) -> int:
    """Frames of a block: as many as fit comfortably in a worker's memory, and blocks of one FOV about equal."""
    room = 0.6 * (worker_memory - segmenter_bytes(config, shape))
    if not config.cluster.of_queue:  # other programs want to live on this machine, too
        room = min(room, WORKER_BASE + BLOCK_MEMORY)
    one, two = (max(_memory_of_images(config, kind, shape, n) for kind in BLOCKED) for n in (1, 2))
    fits = 1 + int(max(room - one, 0) // (two - one))
    blocks = ceil(n_frames / min(max(fits, 1), longest))
    return ceil(n_frames / blocks)


def count_files(config: Config, specs: Mapping[str, ArraySpec], blocks: int) -> tuple[int, int]:
    """Files of a FOV's results without those of its cells, and files that each cell adds."""
    stored = [spec for spec in specs.values() if prod(spec.shape)]
    groups = {spec.group for spec in specs.values()}
    images = 1 + len(groups) + len(specs) + len(stored) * blocks
    if "segment" not in active_steps(config):
        return images, 0
    with_traces = images + 1
    if config.storage.cells == "off":
        return with_traces, 0
    if config.storage.cells == "zip":
        return with_traces + 1, 0
    products, levels = len(config.channels.all) + 1, 2 if config.storage.display == "on" else 1
    return with_traces + (1 + 1 + 3 * 2 + products), products * (1 + 2 * levels)


# ------------------------------------------------------------------------------------------- dependencies


def with_inputs(task: Task, ledger: Ledger) -> Task:
    """Task with the recorded checksums of the files that it may read.

    A task of a whole FOV reads tables and no images, so it gets those only.
    """
    needed, files = _needed_for((task.kind, step) for step in task.digests), dict[str, Checksum]()
    for key in _related(task.key, ledger):
        for step, of in ledger.files.get(key, {}).items():
            if (parse_key(key).kind, step) in needed:
                files |= of
    if task.block is None:
        files = {path: recorded for path, recorded in files.items() if path.startswith(WORK)}
    attributes = f"{fov_name(task.fov)}/{IMAGES}/{DOCUMENT}"
    files |= {path: ledger.documents[path][0] for path in [attributes] if path in ledger.documents}
    return replace(task, inputs=files)


def derived_from(steps: Mapping[str, Iterable[Step]], ledger: Ledger) -> dict[str, set[Step]]:
    """Recorded steps, by task key, that are made from any of the given ones, directly or not, and those themselves."""
    found: dict[str, set[Step]] = {}
    further = [(key, step) for key, of in steps.items() for step in of]
    while further:
        key, step = further.pop()
        if step not in found.setdefault(key, set()):
            found[key].add(step)
            further += [
                (other, made)
                for other in _related(key, ledger)
                for made in ledger.done.get(other, {})
                if (parse_key(key).kind, step) in NEEDS.get((parse_key(other).kind, made), ())
            ]
    return found


def _related(key: str, ledger: Ledger) -> list[str]:
    """Recorded tasks of the same FOV, but for those of other blocks."""
    _, fov, block = parse_key(key)
    return [other for other in ledger.keys_of(fov) if None in (block, of := parse_key(other).block) or of == block]


def _needed_for(parts: Iterable[Part]) -> set[Part]:
    """Parts of steps that any of these need, directly or not."""
    found, further = set[Part](), set(parts)
    while further := {need for part in further for need in NEEDS.get(part, ())} - found:
        found |= further
    return found


# ---------------------------------------------------------------------------------------------- resuming


FaultOf = Callable[[Task, bool], str | None]
"""Gives what is wrong with the recorded files of a task, None if nothing; with True, parts of crops must be there too.

The parts of crops are removed when the crops are done.
"""


def remaining(plan: Plan, ledger: Ledger, steps: Iterable[Step] | None, fault_of: FaultOf) -> Plan:
    """Plan of what is not yet recorded as done.

    Parameters
    ----------
    plan
        Of the whole run.
    ledger
        What is recorded.
    steps
        The steps to do; None for all.
    fault_of
        Looks at the files that are recorded of a task.

    Raises
    ------
    PlanError
        If a chosen step needs one that is neither done nor chosen.
    """
    wanted = known_steps(plan, plan.steps if steps is None else steps)
    undone = [_undone(fov, ledger, fault_of, plan.anew) for fov in plan.fovs]
    for fov in undone:
        _check_needs(fov, wanted)
    fovs = (fov.only(lambda task: {s: d for s, d in task.digests.items() if s in wanted}) for fov in undone)
    replaces = {
        fov.fov: of
        for fov, left in zip(plan.fovs, undone, strict=True)
        if left.tasks and (of := _replaced(fov, ledger))
    }
    return replace(plan, fovs=tuple(fovs), replaces=replaces)


def _replaced(fov: FovPlan, ledger: Ledger) -> tuple[Step, ...]:
    found = set().union(*ledger.outdated(fov.fov, fov.tasks).values()) if fov.tasks else set()
    return tuple(step for step in STEPS if step in found)


def known_steps(plan: Plan, steps: Iterable[Step]) -> set[Step]:
    """Check that steps are those of a run."""
    if unknown := set(steps) - set(plan.steps):
        raise PlanError(f"step {min(unknown)!r} is not one of this run's: {', '.join(plan.steps)}")
    return set(steps)


def forced(plan: Plan, steps: Iterable[Step]) -> Plan:
    """Plan in which steps, and all that is made from them, are done anew.

    Raises
    ------
    PlanError
        If a step is not one of the run's.
    """
    return replace(plan, anew=frozenset(made_from(known_steps(plan, steps))))


def made_from(steps: Collection[Step]) -> set[Part]:
    """Parts of steps, and all that is made from them, directly or not."""
    found = {(kind, step) for kind, of in KINDS.items() for step in of if step in steps}
    while further := {part for part, needs in NEEDS.items() if found.intersection(needs)} - found:
        found |= further
    return found


def _undone(fov: FovPlan, ledger: Ledger, fault_of: FaultOf, anew: Collection[Part]) -> FovPlan:
    """Leave what is not recorded, not there, or made from damaged files.

    Crops are gathered from parts, which may have to be cut again.
    """
    faults = {task.key: found for task in fov.tasks if (found := fault_of(task, False))}
    damaged = {key: ledger.done[key] for key, found in faults.items() if found != MISSING}
    invalid = derived_from(damaged, ledger)

    def left(task: Task) -> Mapping[Step, str]:
        if task.key in faults:
            return task.digests
        again = {s for s in task.digests if (task.kind, s) in anew} | invalid.get(task.key, set())
        return {s: d for s, d in task.digests.items() if s in again or not ledger.has(task.key, s, d)}

    undone = fov.only(left)
    if not any("crop" in task.digests for task in undone.stage("gather")):
        return undone
    open_steps = {task.key: task.digests for task in undone.tasks}

    def recut(task: Task) -> Mapping[Step, str]:
        again = task.kind == "finish" and fault_of(task, True) is not None
        return {s: d for s, d in task.digests.items() if s in open_steps.get(task.key, ()) or (again and s == "crop")}

    return fov.only(recut)


def _check_needs(fov: FovPlan, wanted: set[Step]) -> None:
    """Refuse to do a step whose input is neither there nor about to be made."""
    undone = {(task.kind, step) for task in fov.tasks for step in task.digests}
    for kind, step in sorted(undone):
        if step in wanted:
            for needed in NEEDS.get((kind, step), ()):
                if needed in undone and needed[1] not in wanted:
                    raise PlanError(
                        f"step '{step}' of FOV {fov.fov} needs '{needed[1]}', "
                        "which is not done for these settings: add it to --steps"
                    )
