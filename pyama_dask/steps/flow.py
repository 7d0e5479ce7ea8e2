"""Flow of images through the pipelines of a config: which images each step gets, and which it gives.

Everything is derived from the resolved config, so that driver and workers come to the same flow, and nothing of it
travels with tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from pyama_dask.config.flat_fields import FLAT_FIELD
from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Pipeline, Step
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import PlanError
from pyama_dask.store.layout import labels_name, raw_name, tracked_name
from pyama_dask.workflow.graph import Step as StepName

MOVIE = "movie"
"""Origin of images that are read from the movie."""
LABELS, TRACKED = "labels", "tracked"
"""Names of the labels of single frames and of the tracked labels, for steps after those that make them."""
COPIED = "copy.frames"
"""Part that stores the raw frames of all channels."""
STORED_BY: Mapping[str, str] = {LABELS: "segment.labels", TRACKED: "track.relabel"}
"""Part that stores each of them."""
FOUND = "found"
"""Origin of labels as the segmenter finds them, which are not stored if steps replace them."""
NUMBERED = "numbered"
"""Origin of labels that are numbered again, as a step has replaced them."""

TRACES = "traces"
"""Name of the table of traces; what a step gives to it becomes columns of it."""
DRIFT = "drift"
"""Step that moves frames by shifts which are found for the whole FOV."""


def shifts_part(step: StepName) -> str:
    """Part that finds the shifts for a step `DRIFT`."""
    return f"pipelines.{step}.shifts"


@dataclass(frozen=True, eq=False)
class Image:
    """One channel, or labels, at one place of a pipeline."""

    name: str
    """Channel by index, or the name that a step has given it."""
    dtype: str
    origin: str = ""
    """`MOVIE`, `FOUND`, `NUMBERED`, or the part that stores it; empty for what a step of a user's own gives."""
    group: str = ""
    """Group in ``images.zarr``, if it is stored there."""
    step: Step | None = None
    """Step that gives it."""
    of: tuple[Image, ...] = ()
    """Images that the step gets, or of which it is the numbered form."""
    planes: int = 0
    """Number of planes of a frame; 0 for frames without an axis z."""
    is_labels: bool = False
    made_by: str = ""
    """Name of the step that gives it."""
    key: str = ""
    """Name in the mapping that its function returns; empty if that returns one image."""
    call: object = None
    """The same for all images that one call of the function gives."""
    given_shape: tuple[int, int] | None = None
    """(H, W) that the step gives, if it is not that of what it gets."""
    lies_on: Image | None = None
    """Image whose pixels lie at the same places, for what one of the seven steps stores."""
    by: Image | None = None
    """Image in which the drift is measured that is undone in this one."""

    def shape(self, movie: tuple[int, int]) -> tuple[int, int]:
        """(H, W) for a FOV whose frames have this shape in the movie."""
        if self.step is None:
            return self.lies_on.shape(movie) if self.lies_on else movie
        return self.given_shape or self.of[0].shape(movie)

    @property
    def author(self) -> Step:
        """Step of a user's own that gives it; raises `PlanError` for images of the movie and of the seven steps."""
        if self.step is None:
            raise PlanError(f"image {self.name}: no step of a pipeline gives it. Fix: ask for the frames of its source")
        return self.step

    @cached_property
    def reach(self) -> int:
        """Frames before and after a frame that it is made from."""
        return max(reach for _, reach in self.needed())

    @cached_property
    def is_of_movie(self) -> bool:
        """True if it is made from the frames of the movie only."""
        if self.by is not None:
            return False
        return all(image.is_of_movie for image in self.of) if self.step else self.origin == MOVIE

    def stored_labels(self) -> Iterator[tuple[str, int]]:
        """Yield the labels of the seven steps that it is made from, and how many frames around its own of them."""
        of_seven = (FOUND, *STORED_BY.values())
        yield from ((image.name, reach) for image, reach in self.needed() if image.origin in of_seven)

    @property
    def shifts(self) -> str:
        """Part that finds the shifts by which its frames are moved; '' if they are not."""
        return shifts_part(self.made_by) if self.by is not None else ""

    @property
    def on_gpu(self) -> str:
        """Part that makes and stores it on a worker with a GPU, for all others to read; '' if each task makes it."""
        return f"pipelines.{self.made_by}" if self.step is not None and self.step.is_on_gpu else ""

    @property
    def unchanged(self) -> Image:
        """Image that a FOV keeps for which the step is not done: the one of the same name, else the first one."""
        return next((image for image in self.of if image.name == self.name), self.of[0])

    @property
    def is_of_found(self) -> bool:
        """True if it is made from the labels as the segmenter finds them."""
        return any(image.origin == FOUND for image in self.upstream())

    @property
    def moved_by(self) -> tuple[StepName, ...]:
        """Steps `DRIFT` that have moved its pixels, in their order, also before they were stored."""
        before = self.of[0] if self.of else self.lies_on
        return (*(before.moved_by if before else ()), *([self.made_by] if self.by is not None else []))

    def upstream(self) -> Iterator[Image]:
        """Yield it and all images that it is made from."""
        yield self
        for image in self.of:
            yield from image.upstream()

    def needed(self, reach: int = 0) -> Iterator[tuple[Image, int]]:
        """Yield it and all images that a task makes it from, each with the frames around its own that it needs of them.

        Raw frames of other blocks may not be stored yet, and are made again from what they are copied from.

        Parameters
        ----------
        reach
            Frames before and after a frame that are needed of the image itself.
        """
        yield self, reach
        if reach and self.origin == COPIED and self.lies_on is not None:
            yield from self.lies_on.needed(reach)
        halo = (self.step.halo or 0) if self.step else 0
        for image in self.of:
            yield from image.needed(reach + halo)

    def in_task(self, *, stored: bool = False) -> Iterator[Image]:
        """Yield it and all images of which a task makes it; one made on a GPU is read, except where it is `stored`."""
        yield self
        for image in self.of if stored or not self.on_gpu else ():
            yield from image.in_task()


@dataclass(frozen=True, eq=False)
class Own:
    """A step of a user's own, in its pipeline."""

    pipeline: str
    title: str
    """Name that no other step of the pipeline has."""
    step: Step
    gets: tuple[tuple[Image, ...], ...] = ()
    """Images of each call on a frame or stack; empty for functions of tables."""
    gives: tuple[Image, ...] = ()
    """Images that it gives, one for each call; empty for tables."""
    is_stored: bool = False
    tables: tuple[StepName, ...] = ()
    """Of a function of tables: the steps whose tables it gets, in order; '' for the traces."""

    @property
    def name(self) -> StepName:
        """Name in ``--steps``, reports and the ledger."""
        return f"{self.pipeline}.{self.title}"

    def needed(self) -> Iterator[tuple[Image, int]]:
        """Yield all images that its calls need, each with the frames before and after a frame."""
        for image in itertools.chain.from_iterable(self.gets):
            yield from image.needed(self.step.halo or 0)

    @property
    def reach(self) -> int:
        """Frames before and after a frame that its result is made from."""
        return max((reach for _, reach in self.needed()), default=0)


Names = dict[str, Image]


@dataclass
class Flow:
    """All steps of a user's own, and what the seven steps get.

    Parameters
    ----------
    config
        Resolved.
    """

    config: Config
    own: list[Own] = field(default_factory=list)
    seen: dict[str, Names] = field(default_factory=dict)
    """Channels by name, as each of the seven steps gets them; empty if no pipeline has these."""
    relabelled: Image | None = None
    """Labels that `segment` stores instead of those that it finds; None if no step replaces them."""
    _ends: dict[str, Names] = field(default_factory=dict)
    _tables: dict[str, dict[str, StepName]] = field(default_factory=dict)
    """Steps that give tables, by the names of these, after all steps of each pipeline."""

    def __post_init__(self) -> None:
        pipelines = self.config.pipelines
        taken = {pipeline.input for pipeline in pipelines}
        for pipeline in pipelines:
            start = self._ends[pipeline.input] if pipeline.input else self._movie()
            self._ends[pipeline.name] = self._through(pipeline, start, is_last=pipeline.name not in taken)

    @property
    def steps(self) -> Mapping[StepName, Own]:
        """Steps of a user's own by name."""
        return {own.name: own for own in self.own}

    @property
    def reach(self) -> int:
        """Most frames before and after a block from which anything of the block is made."""
        return max((own.reach for own in self.own), default=0)

    def end_of(self, pipeline: str) -> Mapping[str, Image]:
        """Images by name after all steps of a pipeline."""
        return self._ends[pipeline]

    def _movie(self) -> Names:
        """Channels of the movie that the config chooses."""
        found = (step.found for pipeline in self.config.pipelines for step in pipeline.steps if step.found)
        dtypes, planes = next(((of.dtypes, of.planes) for of in found), ((), 0))
        channels = [int(choice.channel) for choice in self.config.channels.all]
        types = dict(zip(channels, dtypes, strict=False))
        return {str(k): Image(str(k), types.get(k, "uint16"), MOVIE, planes=planes) for k in channels}

    def _through(self, pipeline: Pipeline, start: Names, *, is_last: bool) -> Names:
        """Images after the steps of a pipeline."""
        now, titles, own = dict(start), _titles(pipeline), list[Own]()
        last = last_to_relabel(pipeline)
        tables = self._tables[pipeline.name] = dict(self._tables.get(pipeline.input or "", {}))
        for step in pipeline.steps:
            if step.is_standard:
                self.seen[step.do] = {name: image for name, image in now.items() if name.isdigit()}
                now = now | self._after(step.do)
                if step.do == "segment" and last is not None:
                    now[LABELS] = replace(now[LABELS], origin=FOUND)
                continue
            if step.do == FLAT_FIELD:
                continue
            made = self._made(pipeline, next(titles), step, start if step.source == "start" else now)
            own.append(made)
            if step.to and step.to != TRACES and not made.gives:
                tables[step.to] = made.name
            now = now | {image.name: image for image in made.gives}
            if last is not None and LABELS in {image.name for image in made.gives}:
                now |= self._numbered(now[LABELS])
            if step is last:
                self.relabelled = now[LABELS]
                now |= self._after("segment")
        results = self._results(own, now) if is_last and not pipeline.has_seven else set()
        for made in own:
            is_result = any(id(image) in results for image in made.gives)
            is_kept = made.step.checkpoint or made.step.is_on_gpu or is_result
            self.own.append(replace(made, is_stored=bool(made.gives) and is_kept))
        return now

    @staticmethod
    def _results(own: list[Own], ends: Names) -> set[int]:
        """Images at the end of a pipeline that none of its steps gets: nothing would be left of them."""
        used = {id(image) for made in own for of in made.gets for image in of}
        return {id(image) for image in ends.values()} - used

    def _after(self, standard: str) -> Names:
        """Images that are new after one of the seven steps."""
        pc = self.config.channels.pc
        phase = None if pc is None else int(pc.channel)
        if standard == "copy":
            raw = {str(int(of.channel)): "pc" if of is pc else "fl" for of in self.config.channels.all}
            before = self.seen["copy"]
            return {
                name: Image(
                    name, "uint16", COPIED, raw_name("pc" if kind == "pc" else "fl", int(name)),
                    lies_on=before[name],
                )
                for name, kind in raw.items()
            }  # fmt: skip
        if phase is None or self.config.params.copy_only:
            return {}
        made = {"segment": (LABELS, "uint16", labels_name), "track": (TRACKED, "uint32", tracked_name)}.get(standard)
        if made is None:
            return {}
        name, dtype, group = made
        frames = self.seen[standard][str(phase)]
        return {name: Image(name, dtype, STORED_BY[name], group(phase), is_labels=True, lies_on=frames)}

    @staticmethod
    def _numbered(labels: Image) -> Names:
        """Labels that a step gives, as all steps after it get them."""
        return {LABELS: Image(LABELS, "uint16", NUMBERED, of=(labels,), is_labels=True, lies_on=labels)}

    def _made(self, pipeline: Pipeline, title: str, step: Step, now: Names) -> Own:
        """Images that a step gets and gives."""
        found = step.planned
        if found.takes in ("traces", "tables"):
            tables = self._tables[pipeline.name]
            return Own(pipeline.name, title, step, tables=tuple(tables.get(str(name), "") for name in step.of or ("",)))
        together = tuple(now[str(name)] for name in step.of)
        gets = (together,) if step.of else tuple((now[str(name)],) for name in step.channels)
        if found.gives == "table":
            return Own(pipeline.name, title, step, gets)
        by = now[str(step.params["by"])] if step.do == DRIFT else None
        calls = gets * (len(found.given) // len(gets))  # a mapping has several images of one call
        gives = tuple(
            Image(
                key or step.to or of[0].name, dtype, step=step, of=of, is_labels=found.gives == "labels",
                planes=0 if step.over == "z" else of[0].planes, made_by=f"{pipeline.name}.{title}", key=key, call=of,
                given_shape=shape, by=by,
            )
            for of, (key, dtype, shape) in zip(calls, found.given, strict=True)
        )  # fmt: skip
        return Own(pipeline.name, title, step, gets, gives)


def last_to_relabel(pipeline: Pipeline) -> Step | None:
    """Last of the steps between ``segment`` and ``track`` that replace the labels; None without any."""
    named = [step.do if step.is_standard else "" for step in pipeline.steps]
    if "segment" not in named:
        return None
    between = pipeline.steps[named.index("segment") : named.index("track")]
    return next((step for step in reversed(between) if LABELS in _given(step)), None)


def _given(step: Step) -> Iterator[str]:
    """Yield the names of the images that a resolved step gives."""
    if not step.is_standard and step.do != FLAT_FIELD and step.planned.gives != "table":
        keys = {key for key, *_ in step.planned.given}
        yield from keys - {""}
        if "" in keys:
            yield from [step.to] if step.to else map(str, step.channels)


def _titles(pipeline: Pipeline) -> Iterator[str]:
    """Yield the names of a pipeline's own steps: given ones as they are, others numbered from the second one on."""
    own = [step for step in pipeline.steps if not step.is_standard and step.do != FLAT_FIELD]
    taken = {step.name for step in own}
    for step in own:
        numbered = (f"{step.title}{count}" for count in itertools.count(2))
        title = step.name or next(name for name in itertools.chain([step.title], numbered) if name not in taken)
        taken.add(title)
        yield title


def applies(step: Step, fov: int) -> bool:
    """Check whether a step is done for a FOV."""
    fovs = step.planned.fovs
    return fovs == "all" or fov in _chosen(fovs)


@lru_cache(maxsize=64)
def _chosen(fovs: str) -> frozenset[int]:
    return frozenset(parse_selection(fovs))


_FLOWS: dict[tuple[int, int, int], tuple[object, object, object, Flow]] = {}


def flow_of(config: Config) -> Flow:
    """Flow of a resolved config; made once for equal pipelines, channels and parameters."""
    key = (id(config.pipelines), id(config.channels), id(config.params))
    if key not in _FLOWS:
        if len(_FLOWS) > 16:
            _FLOWS.clear()
        _FLOWS[key] = (config.pipelines, config.channels, config.params, Flow(config))  # kept, so that ids stay theirs
    return _FLOWS[key][-1]


def shape_after(config: Config, movie: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the frames that the seven steps get, for a FOV whose frames have this shape in the movie."""
    seen = flow_of(config).seen.get("copy", {}) if config.pipelines else {}
    return next(iter(seen.values())).shape(movie) if seen else movie
