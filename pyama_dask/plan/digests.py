"""Digests of the parts of a FOV's tasks: everything that a result depends on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pyama_dask.config.models import Config
from pyama_dask.readers import movie_stem
from pyama_dask.steps.graphs import graph_of
from pyama_dask.workflow.graph import Graph, Part, Step
from pyama_dask.workflow.kinds import OF_SEVERAL_FOVS, ON_BLOCKS, Kind, on_blocks, scope_of
from pyama_dask.workflow.task import Job, Task, digest

Value = TypeVar("Value")


@dataclass(frozen=True)
class Digests:
    """Digests of the steps of one task."""

    full: Mapping[Step, str]
    """Of everything that the result of a step depends on."""
    local: Mapping[Step, str] = field(default_factory=dict)
    """Of all but what a step reads from other parts, for steps that declare what that is."""


@dataclass
class Unit:
    """The frames of a FOV that a part works on; see `workflow.graph.Inputs`."""

    job: Job
    movie: str
    fov: int
    shape: tuple[int, int]
    times_min: Sequence[float]
    frames: Sequence[int]
    place: Sequence[object] = ()
    """Well and site, as they stand in the traces; empty outside of wells."""
    tiles: Sequence[Sequence[int]] = ()
    """Site, y and x of all tiles of a stitched well; empty for others."""
    previous: Unit | None = None
    """The block before, of which a part in a chain needs its own result."""
    _of_config: dict[Hashable, Any] = field(default_factory=dict)
    """Values that depend on the config only; all units of a plan share them."""
    _of_fov: dict[Hashable, Any] = field(default_factory=dict)
    """Values that all units of the FOV share."""
    _known: dict[str, str] = field(default_factory=dict)
    _recorded: dict[str, str] = field(default_factory=dict)
    known_local: dict[str, str] = field(default_factory=dict)
    """Results of `local_digest`."""
    config: Config = field(init=False)
    """Resolved config."""
    graph: Graph = field(init=False)
    """Graph of the steps that the config asks for."""

    def __post_init__(self) -> None:
        self.config = self.job.config
        self.graph = self.setting(graph_of)

    @property
    def values(self) -> tuple[Any, ...]:
        """Values by which a view of the same frames is made."""
        return (
            self.job, self.movie, self.fov, self.shape, self.times_min, self.frames, self.place, self.tiles, None,
            *self.shared,
        )  # fmt: skip

    @property
    def shared(self) -> tuple[dict[Hashable, Any], dict[Hashable, Any]]:
        """Values that all units of the plan share, and those of the FOV."""
        return self._of_config, self._of_fov

    def setting(self, function: Callable[[Config], Value]) -> Value:
        """Value of a function of the config, which is called once."""
        if function not in self._of_config:
            self._of_config[function] = function(self.config)
        found: Value = self._of_config[function]
        return found

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Value that is the same for all blocks of the FOV, which is made once; `key` names it."""
        if key not in self._of_fov:
            self._of_fov[key] = make()
        found: Value = self._of_fov[key]
        return found

    @property
    def earlier(self) -> Sequence[int]:
        """Numbers in the movie of all processed frames before these."""
        return self.job.frames[: self.job.frames.index(self.frames[0])]

    def around(self, reach: int) -> Sequence[int]:
        """Frames, and as many before and after them; fewer at the ends of the movie."""
        if not reach:
            return self.frames
        first = self.job.frames.index(self.frames[0])
        return self.job.frames[max(0, first - reach) : first + len(self.frames) + reach]

    @property
    def block_frames(self) -> int:
        """Frames of a block."""
        return self.job.block_frames

    @property
    def name(self) -> str:
        """Name of the movie, without its suffix."""
        return movie_stem(self.job.source)

    def digest(self, part: str) -> str:
        """Digest of everything that the result of a part depends on, without the form in which it is stored."""
        if part not in self._known:
            found = self.own_digest(self.graph.parts[part])
            if self.graph.parts[part].scope == "chain" and self.previous is not None:
                found = digest(found, self.previous.digest(part))
            self._known[part] = found
        return self._known[part]

    def own_digest(self, part: Part) -> str:
        """Digest of a part as it is declared, without that of the block before in a chain."""
        if part.digest is not None:
            return part.digest(self)
        needs = [need for need in part.needs if self.setting(self.graph.parts[need].active)]
        return digest(part.name, part.values(self.config), [self.digest(need) for need in needs])

    def recorded(self, part: Part) -> str:
        """Digest with which the ledger records a part: also of the form in which its result is stored."""
        if part.name not in self._recorded:
            self._recorded[part.name] = _with_form(self.digest(part.name), part, self)
        return self._recorded[part.name]


@dataclass
class LocalUnit(Unit):
    """The frames of a block, as a part sees them that reads from wider parts; their content is left out."""

    reader: Part = field(kw_only=True)
    block: Unit = field(kw_only=True)
    """The same block, for parts that read nothing wider."""
    whole: Unit = field(kw_only=True)
    """The FOV of the block."""

    def digest(self, part: str) -> str:
        """Digest of a part as the reader depends on it: empty for a wider part of which it declares what it reads."""
        if self.graph.parts[part].scope in ON_BLOCKS:
            return local_digest(self.graph.parts[part], self.block, self.whole)
        return "" if part in self.reader.reads_from else self.whole.digest(part)


def local_digest(part: Part, block: Unit, whole: Unit) -> str:
    """Digest of everything that a part on a block depends on, but for what it reads from wider parts."""
    if (found := block.known_local.get(part.name)) is None:
        found = block.known_local[part.name] = _local_digest(part, block, whole)
    return found


def _local_digest(part: Part, block: Unit, whole: Unit) -> str:
    graph = block.graph
    if graph.kind_of[part.name] in graph.narrow:
        return block.digest(part.name)
    if part.scope == "chain":  # it depends on other blocks, too
        return whole.digest(part.name)
    view = LocalUnit(*block.values, reader=part, block=block, whole=whole)
    needs = [graph.parts[need] for need in part.needs]
    on_block = [need for need in needs if need.scope in ON_BLOCKS and block.setting(need.active)]
    return digest(view.own_digest(part), [local_digest(need, block, whole) for need in on_block])


@dataclass
class GatheringUnit(Unit):
    """A FOV, as a part sees it that is made from the results of blocks; what these were made from is left out."""

    reader: Part = field(kw_only=True)
    whole: Unit = field(kw_only=True)
    """The same FOV."""

    def digest(self, part: str) -> str:
        """Digest of a part as the reader depends on it: empty for a part on blocks that it needs."""
        by_content = part in self.reader.needs and self.graph.parts[part].scope in ON_BLOCKS
        return "" if by_content else self.whole.digest(part)


def gathering_digest(part: Part, whole: Unit) -> str:
    """Digest of everything that a part on a FOV depends on, but for what the blocks that it needs were made from."""
    view = GatheringUnit(*whole.values, reader=part, whole=whole)
    return digest(part.name, view.own_digest(part))


def _with_form(found: str, part: Part, of: Unit) -> str:
    form = of.setting(part.form)
    return digest(found, *form) if form else found


def step_digests(
    job: Job,
    movie: str,
    fov: int,
    shape: tuple[int, int],
    times_min: Sequence[float],
    place: Sequence[object] = (),
    tiles: Sequence[Sequence[int]] = (),
    known: dict[Hashable, Any] | None = None,
) -> dict[Kind, list[Digests]]:
    """Digests of the parts that a config asks for, by kind of task, for each task of the FOV.

    Blocks that no wider part is read for depend on their own frames only, so that they stay when frames are added; all
    others depend on the whole FOV, unless what they read from it is the same (see `plan.content.compare_content`).

    Parameters
    ----------
    job
        Config, frames and blocks.
    movie
        Identity that the movie had when the output was begun.
    fov
        Number of the FOV.
    shape
        (H, W) of its frames in pixels.
    times_min
        (T,) minutes of the frames.
    place
        Well and site, as they stand in the traces; empty outside of wells.
    tiles
        Site, y and x of all tiles of a stitched well; empty for others.
    known
        Values that depend on the config only, of other FOVs of the plan; they are added to.
    """
    graph = graph_of(job.config)
    given = {} if known is None else known
    whole = Unit(job, movie, fov, shape, times_min, job.frames, place, tiles, None, given)
    blocks: list[Unit] = []
    for start, stop in job.blocks:
        blocks.append(Unit(
            job, movie, fov, shape, times_min, job.frames[start:stop], place, tiles, blocks[-1] if blocks else None,
            *whole.shared,
        ))  # fmt: skip
    found: dict[Kind, list[Digests]] = {}
    for kind, parts in graph.kinds.items():
        if scope_of(kind) not in OF_SEVERAL_FOVS:
            chosen = [part for part in parts if whole.setting(part.active)]
            units = blocks if on_blocks(kind) else [whole]
            found[kind] = [_of_task(chosen, unit if kind in graph.narrow else whole, unit, whole) for unit in units]
    return found


def _of_task(parts: Sequence[Part], depends_on: Unit, block: Unit, whole: Unit) -> Digests:
    graph = whole.graph
    wide = [part for part in parts if part.scope == "block" and graph.kind_of[part.name] not in graph.narrow]
    local = {part.step: local_digest(part, block, whole) for part in wide}
    local |= {part.step: gathering_digest(part, whole) for part in parts if part.from_blocks}
    return Digests(
        {part.step: depends_on.recorded(part) for part in parts},
        {part.step: _with_form(local[part.step], part, block) for part in parts if part.step in local},
    )


@dataclass
class GroupUnit(Unit):
    """All FOVs of a well or plate; digests of what is made of each are those of their tasks."""

    tasks: Sequence[Task] = field(kw_only=True)
    """Of all these FOVs."""

    def digest(self, part: str) -> str:
        """Digest of a part of the group itself, or of one that is there once for each of its FOVs or wells."""
        declared = self.graph.parts[part]
        made_before = [of.digests[declared.step] for of in tasks_of(self.tasks, declared, self.graph)]
        return digest(made_before) if made_before else super().digest(part)


def tasks_of(tasks: Iterable[Task], part: Part, graph: Graph) -> list[Task]:
    """Tasks that do a part."""
    return [task for task in tasks if task.kind == graph.kind_of[part.name] and part.step in task.digests]


def group_digests(job: Job, movie: str, kind: Kind, last: Task, tasks: Sequence[Task]) -> dict[Step, str]:
    """Digests of the parts that a config asks for in a task of several FOVs.

    Parameters
    ----------
    job
        Config, frames and blocks.
    movie
        Identity that the movie had when the output was begun.
    kind
        Kind of the task.
    last
        A task of the last one of the FOVs.
    tasks
        All tasks of these FOVs.
    """
    unit = GroupUnit(job, movie, last.fov, last.shape, (), job.frames, tasks=tasks)
    return {part.step: unit.recorded(part) for part in unit.graph.kinds[kind] if part.active(job.config)}
