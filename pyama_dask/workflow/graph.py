"""The graph of steps: its parts, and the tasks that follow from them.

A step, such as ``track``, has parts: on each block, on the whole FOV, or on all FOVs of a well or plate. Each part is
declared once, as a `Part`. Kinds of tasks, their order, which parts share a task, and what depends on what are derived
from the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, get_args

from pyama_dask.config.models import Config
from pyama_dask.workflow.inputs import Inputs
from pyama_dask.workflow.kinds import ANCHORS, NAMES, OF_SEVERAL_FOVS, ON_BLOCKS, Kind, Scope, on_blocks

Step = str
"""Name of a step, such as ``segment``: what ``--steps``, ``--force`` and reports name."""
Role = str
"""Content of an array: ``raw``, ``labels``, ``tracks``, ``background`` or ``display`` in ``images.zarr``; ``half_raw``,
``half_labels`` or ``half_tracks`` for an image in ``plate.zarr`` at half size; else the step of a user's own that gives
it."""

GPU = "GPU"
"""Dask resource of a worker that owns a GPU."""


@dataclass(frozen=True)
class Held:
    """Memory of a part, in bytes per pixel of a frame where nothing else is stated."""

    frame: float = 0.0
    """For each frame that is in work at the same time."""
    block: float = 0.0
    """For each frame of the block, until the task ends."""
    once: float = 0.0
    """However many frames are in work."""
    fixed: int = 0
    """Bytes, whatever the size of a frame."""
    made: float = 0.0
    """For each frame in work, per pixel of a frame of the movie: images of pipelines, beside what other parts hold."""
    made_around: float = 0.0
    """The same, also for the frames around these."""
    around: int = 0
    """Number of frames around those in work that are read, too."""
    made_once: float = 0.0
    """As `made`, however many frames are in work."""


def always(_config: Config) -> bool:
    """Ask for a part in every config."""
    return True


def never(_config: Config) -> bool:
    """Answer no for every config."""
    return False


def holds_nothing(_config: Config) -> Held:
    """Memory of a part whose arrays are small."""
    return Held()


def no_form(_config: Config) -> Sequence[object]:
    """No settings of how a result is stored."""
    return ()


@dataclass(frozen=True)
class Part:
    """One part of a step, declared once.

    Parameters
    ----------
    name
        Such as ``crop.cut``.
    step
        Step that it belongs to.
    label
        Name of the step in progress bars and reports; one of its parts has it, else it is the step's own name.
    scope
        What it works on. A ``chain`` goes from block to block of a FOV, as each needs its own result of the one before.
        Wells and plates come after all that is done on single FOVs.
    do
        Code that does it, as ``module:name`` below ``pyama_dask.steps``: a subclass of `steps.part.BlockPart` for
        blocks, else a function of a `steps.context.TaskContext`.
    needs
        Parts whose results it reads; parts that a config does not ask for are passed over.
    reads_from
        Of a part on blocks: for each wider part that it needs, a function, as ``module:name``, that gives for every
        block the arrays that are read from it. A block keeps its result as long as these are equal. A wider part that
        is not listed here regenerates all blocks whenever its own digest changes.
    from_blocks
        Of a part on a FOV: whether it reads nothing but the results of the parts that it needs, and what these have
        declared to read. It keeps its result as long as its blocks are made from the same.
    reads_back
        Parts on blocks whose files it reads where they are recorded, and else makes again what is in them; each with
        the number of frames before and after its block of which it needs them.
    from_movie
        Whether it reads the movie.
    digest
        Digest of everything that its result depends on; None for the digests of the parts that it needs, with `values`.
    values
        Settings that its result depends on, as plain values.
    form
        Settings of how its result is stored; they regenerate it, and nothing that is made from it.
    writes
        Roles of the arrays that it writes.
    reads
        Roles of the arrays that it reads, for estimates of traffic.
    channels
        Gives the channels whose arrays it reads; None for all.
    memory
        Gives what it holds.
    active
        Whether a config asks for it.
    temporary
        Whether its files, which are in `TaskContext.work`, are removed when all that is made from them is done.
    together
        Part whose pass over the frames it shares: of this part it needs the frame at hand only, if anything.
    by_processor
        Whether its results depend on the kind of processor, as those of libraries with loops for each kind do.
    resources
        Dask resources that it needs, such as ``{"GPU": 1}``; parts with different ones are in different tasks.
    after
        Parts that are done before it, although it reads nothing from them: so that it comes in one task with others
        that wait for these.
    """

    name: str
    step: Step
    scope: Scope
    do: str
    digest: Callable[[Inputs], str] | None = None
    needs: tuple[str, ...] = ()
    reads_from: Mapping[str, str] = field(default_factory=dict)
    from_blocks: bool = False
    reads_back: Mapping[str, int] = field(default_factory=dict)
    from_movie: bool = False
    values: Callable[[Config], object] = no_form
    form: Callable[[Config], Sequence[object]] = no_form
    writes: tuple[Role, ...] = ()
    reads: tuple[Role, ...] = ()
    channels: Callable[[Config], Collection[int]] | None = None
    memory: Callable[[Config], Held] = holds_nothing
    active: Callable[[Config], bool] = always
    temporary: bool = False
    together: str | None = None
    by_processor: Callable[[Config], bool] = never
    resources: Mapping[str, float] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    label: str = ""


class Graph:
    """Parts, and what follows from their declarations.

    Parameters
    ----------
    parts
        In any order; the steps are in the order in which they occur first.

    Raises
    ------
    ValueError
        If a name occurs twice, a need is unknown, or needs form a circle.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        declared: dict[str, Part] = {}
        for part in parts:
            if part.name in declared:
                raise ValueError(f"{part.name}: is declared twice")
            declared[part.name] = part
        self.parts: Mapping[str, Part] = declared
        for part in self.parts.values():
            self._check_needs(part)
        self.steps: tuple[Step, ...] = tuple(dict.fromkeys(part.step for part in self.parts.values()))
        before = {part.name: (*part.needs, *part.after) for part in self.parts.values()}
        self._order = tuple(TopologicalSorter(before).static_order())
        by_kind: dict[tuple[Kind, Step], Part] = {}
        for kind, inside in self.kinds.items():
            for part in inside:
                if (kind, part.step) in by_kind:
                    raise ValueError(f"{part.name}: step {part.step!r} has two parts in {kind!r} tasks; give one")
                by_kind[kind, part.step] = part
        self.by_kind: Mapping[tuple[Kind, Step], Part] = by_kind
        """The part of a step that is in a kind of task."""

    def _check_needs(self, part: Part) -> None:
        for need in (*part.needs, *([part.together] if part.together else [])):
            if need not in self.parts:
                raise ValueError(f"{part.name}: needs {need}, which is not declared")
            of, scopes = self.parts[need].scope, get_args(Scope)
            if of in OF_SEVERAL_FOVS and scopes.index(part.scope) < scopes.index(of):
                raise ValueError(f"{part.name}: needs {need}, which is made after it, as it is of a whole {of}")
        for wider in part.reads_from:
            if part.scope != "block" or wider not in part.needs or self.parts[wider].scope in ON_BLOCKS:
                raise ValueError(f"{part.name}: reads from {wider}, which is not a wider part that it needs")
        if part.from_blocks and part.scope != "fov":
            raise ValueError(f"{part.name}: is on a {part.scope}; only parts on FOVs are made from blocks")

    @cached_property
    def _places(self) -> Mapping[str, tuple[int, Scope, tuple[Any, ...]]]:
        """Level, scope and resources by part: the level rises wherever scope or resources change along a need."""
        places: dict[str, tuple[int, Scope, tuple[Any, ...]]] = {}
        for name in self._order:
            part = self.parts[name]
            where = (part.scope, tuple(sorted(part.resources.items())))
            levels = (places[need][0] + (places[need][1:] != where) for need in (*part.needs, *part.after))
            places[name] = (max(levels, default=0), *where)
        return places

    @cached_property
    def kinds(self) -> Mapping[Kind, tuple[Part, ...]]:
        """Kinds of tasks in an order in which they can be done, with their parts in the order of the steps.

        A task of a kind needs all tasks of the kinds before it in its FOV, and no other task of its kind.
        """
        found: dict[Kind, list[Part]] = {}
        for place in sorted(set(self._places.values()), key=lambda place: (place[1] in OF_SEVERAL_FOVS, place)):
            inside = [part for part in self.parts.values() if self._places[part.name] == place]
            found[self._name(place)] = sorted(inside, key=lambda part: self.steps.index(part.step))
        return {name: tuple(inside) for name, inside in found.items()}

    def _name(self, place: tuple[int, Scope, tuple[Any, ...]]) -> Kind:
        """Name of the kind of task at a level, such as ``ingest`` or ``fov5``."""
        level, scope, resources = place
        held = {ANCHORS[part]: self._places[part] for part in ANCHORS if part in self.parts}
        given = {where: kind for kind, where in held.items()}.get(place)
        usual = NAMES.get((scope, level))
        plain = f"{scope}{level}" if usual is None or usual in held else usual
        return (given or plain) + "".join(f"_{of.lower()}" for of, _ in resources)

    @cached_property
    def kind_of(self) -> Mapping[str, Kind]:
        """Kind of task that each part is in."""
        return {part.name: kind for kind, inside in self.kinds.items() for part in inside}

    @cached_property
    def labels(self) -> Mapping[Step, str]:
        """Names of the steps in progress bars and reports."""
        given = {part.step: part.label for part in self.parts.values() if part.label}
        return {step: given.get(step, step) for step in self.steps}

    def resources(self, kind: Kind) -> Mapping[str, float]:
        """Dask resources that tasks of a kind need."""
        return self.kinds[kind][0].resources

    def needs_gpu(self, kind: Kind) -> bool:
        """Check whether tasks of a kind are for workers with a GPU."""
        return GPU in self.resources(kind)

    @cached_property
    def waits_for(self) -> Mapping[Kind, frozenset[Kind]]:
        """Kinds of tasks of a FOV that are done before those of a kind.

        These are all kinds before it, but those for workers with a GPU that nothing of it is made from: there may be
        few such workers, and all else goes on.
        """
        kinds, found = list(self.kinds), dict[Kind, frozenset[Kind]]()
        for place, kind in enumerate(kinds):
            made_from = {self.kind_of[name] for name in self.upstream(part.name for part in self.kinds[kind])}
            found[kind] = frozenset(of for of in kinds[:place] if of in made_from or not self.needs_gpu(of))
        return found

    def is_temporary(self, kind: Kind, step: Step) -> bool:
        """Check whether the files of a step in a task are removed when all that is made from them is done."""
        return (kind, step) in self.by_kind and self.by_kind[kind, step].temporary

    @cached_property
    def completes(self) -> Mapping[Step, Kind]:
        """Kind of task that ends each step."""
        return {part.step: kind for kind, inside in self.kinds.items() for part in inside}

    @cached_property
    def narrow(self) -> frozenset[Kind]:
        """Kinds of tasks on blocks that nothing of a wider scope is read for."""
        upstream = {kind: self.upstream(part.name for part in parts) for kind, parts in self.kinds.items()}
        return frozenset(
            kind
            for kind, needed in upstream.items()
            if on_blocks(kind) and all(self.parts[name].scope in ON_BLOCKS for name in needed)
        )

    def priority(self, kind: Kind) -> int:
        """Rank among the tasks of a FOV that are ready: those of whole FOVs first, as more waits for them."""
        kinds = list(self.kinds)
        return sorted(kinds, key=lambda one: (not on_blocks(one), kinds.index(one))).index(kind)

    def depth(self, kind: Kind) -> int | None:
        """Number of kinds of tasks on blocks before it; None if no kind on blocks comes after it, and it is not one."""
        kinds = list(self.kinds)
        place = kinds.index(kind)
        return sum(map(on_blocks, kinds[:place])) if any(map(on_blocks, kinds[place:])) else None

    def active(self, config: Config) -> tuple[Part, ...]:
        """Parts that a config asks for."""
        return tuple(part for part in self.parts.values() if part.active(config))

    def active_steps(self, config: Config) -> tuple[Step, ...]:
        """Steps that a config asks for."""
        return tuple(dict.fromkeys(part.step for part in self.active(config)))

    def rounds(self, kind: Kind, steps: Collection[Step]) -> list[list[Part]]:
        """Parts of chosen steps in a task, grouped by passes over its frames.

        A part comes in a pass after those whose results it reads.
        """
        inside = {part.name: part for part in self.kinds[kind]}
        depth: dict[str, int] = {}
        for name in (name for name in self._order if name in inside):
            depth[name] = max((depth[need] + 1 for need in inside[name].needs if need in depth), default=0)
        for part in inside.values():
            if part.together in depth:  # else it is in another task
                depth[part.name] = depth[part.together]
        chosen = [part for part in inside.values() if part.step in steps]
        return [
            [part for part in chosen if depth[part.name] == level] for level in sorted({depth[p.name] for p in chosen})
        ]

    def readers(self, kind: Kind, steps: Collection[Step]) -> Iterator[tuple[Part, Part]]:
        """Yield parts on blocks, each with a wider part of chosen steps in a task that it reads from."""
        for part in self.parts.values():
            for wider in map(self.parts.__getitem__, part.reads_from):
                if self.kind_of[wider.name] == kind and wider.step in steps:
                    yield part, wider

    def wide_reads(self, name: str, active: Collection[str]) -> Iterator[tuple[Part, Part]]:
        """Yield all pairs of part and wider part whose content a part on a block is made from.

        They are those of the part itself, and of the parts on the same block that it needs.
        """
        part = self.parts[name]
        for need in map(self.parts.__getitem__, part.needs):
            if need.name in active:
                if need.name in part.reads_from:
                    yield part, need
                elif need.scope in ON_BLOCKS:
                    yield from self.wide_reads(need.name, active)

    def upstream(self, parts: Iterable[str]) -> set[str]:
        """Parts that any of some parts needs, directly or not."""
        return self._closure(parts, lambda name: self.parts[name].needs)

    def downstream(self, parts: Iterable[str]) -> set[str]:
        """Some parts, and all that are made from them, directly or not."""
        chosen = set(parts)
        return chosen | self._closure(chosen, self.made_from)

    def made_from(self, name: str) -> Iterator[str]:
        """Parts that are made from a part directly."""
        return (part.name for part in self.parts.values() if name in part.needs)

    def _closure(self, parts: Iterable[str], further: Callable[[str], Iterable[str]]) -> set[str]:
        found, todo = set[str](), list(parts)
        while todo:
            new = set(further(todo.pop())) - found
            found |= new
            todo += new
        return found
