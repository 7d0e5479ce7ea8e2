"""The graph of a run: the standard steps, and those of a user's own pipelines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from pyama_dask.config.models import Config
from pyama_dask.config.pipelines import Step
from pyama_dask.methods.registry import method_identity
from pyama_dask.steps.flow import (
    FOUND,
    MOVIE,
    NUMBERED,
    STORED_BY,
    TRACES,
    TRACKED,
    Flow,
    Image,
    Own,
    applies,
    flow_of,
    shifts_part,
)
from pyama_dask.steps.images_memory import loaded, with_images
from pyama_dask.steps.on_gpu import WITH_GPU, placed
from pyama_dask.steps.own_arrays import group_of
from pyama_dask.steps.read_back import may_be_read
from pyama_dask.steps.standard import DRIFTING, GRAPH, PARTS, needs_gpu
from pyama_dask.store.layout import form_of
from pyama_dask.workflow.graph import Graph, Held, Part, never
from pyama_dask.workflow.inputs import Inputs
from pyama_dask.workflow.task import digest

SEGMENT = "segment.labels"
OF_LABELS = ("background.tiles", "crop.counts")
"""Parts that read labels, and whose digests have the segmenter where others have the digest of the labels."""
Needed = Collection[tuple[Image, int]]
"""Images that a task needs, each with the frames before and after a frame, see `Image.needed`."""
_GRAPHS: dict[int, tuple[object, Graph]] = {}


def graph_of(config: Config) -> Graph:
    """Graph of all steps that a config may ask for.

    Parameters
    ----------
    config
        Resolved; without pipelines, any.
    """
    flow = flow_of(config) if config.pipelines else None
    if flow is None or not flow.own:
        usual = GRAPH.parts
        return _kept(usual, lambda: Graph(placed([*usual.values()], config))) if needs_gpu(config) else GRAPH
    return _kept(flow, lambda: Graph(placed([*_standard(flow), *_own(flow)], config)))


def _kept(of: object, make: Callable[[], Graph]) -> Graph:
    """Graph that belongs to a flow or a table of parts, made once."""
    if id(of) not in _GRAPHS:
        if len(_GRAPHS) > 16:
            _GRAPHS.clear()
        _GRAPHS[id(of)] = of, make()  # what it belongs to is kept, so that nothing else gets its id
    return _GRAPHS[id(of)][-1]


# ---------------------------------------------------------------------------------------------- digests


def image_digest(of: Inputs, image: Image) -> str:
    """Digest of everything that an image of a pipeline depends on."""
    if image.is_of_movie:  # the same for all blocks
        return of.once(image, lambda: _image_digest(of, image))
    return _image_digest(of, image)


def _image_digest(of: Inputs, image: Image) -> str:
    if image.step is not None:
        if not _is_done(of, image):
            return image_digest(of, image.unchanged)
        made_from = [image_digest(of, before) for before in image.of]
        return digest("made", call_digest(of, image.step), image.key, made_from, *_shifts_digest(of, image))
    if image.origin == FOUND:
        return FOUND
    if image.origin == NUMBERED:
        return image_digest(of, image.of[0])
    if image.origin == MOVIE:
        config = of.config
        return digest("movie", of.movie, of.fov, config.params.z, image.name, list(of.tiles))
    return digest("stored", of.digest(image.origin), image.name)


def _shifts_digest(of: Inputs, image: Image) -> list[str]:
    return [of.digest(image.shifts)] if image.shifts else []


def _is_done(of: Inputs, image: Image) -> bool:
    step = image.step
    return step is not None and applies(step, of.fov)


def call_digest(of: Inputs, step: Step) -> str:
    """Digest of a function with its parameters, and of what it is called with."""
    return of.setting(_calls)[id(step), applies(step, of.fov)]


def _calls(config: Config) -> dict[tuple[int, bool], str]:
    """Digests of the functions of all steps, where they are called and where they are not."""
    steps = [own.step for own in flow_of(config).own]
    return {(id(step), is_done): _call(step, is_done=is_done) for step in steps for is_done in (True, False)}


def _call(step: Step, *, is_done: bool) -> str:
    found = step.planned
    return digest(
        method_identity("step", step.do), step.params, found.takes, found.per, found.array, step.over, step.halo,
        list(found.names), found.given, is_done,
    )  # fmt: skip


def _seen_digest(of: Inputs, images: Iterable[Image]) -> str:
    """Digest of images that one of the seven steps gets, and of the frames that they are made from."""
    made = [image for image in images if image.of]
    reach = max((image.reach for image in made), default=0)
    return digest([image_digest(of, image) for image in made], list(of.around(reach)))


# ------------------------------------------------------------------------------------------ the seven


def _standard(flow: Flow) -> Iterator[Part]:
    """Parts of the standard steps, as the pipelines change what they get."""
    for part in PARTS:
        seen = [*flow.seen.get(part.step, {}).values()]
        if flow.relabelled is not None and part.name == SEGMENT:
            seen.append(flow.relabelled)
        if not flow.config.has_seven:
            changed = replace(part, active=never)
        elif part.step in ("plate", "summary", "track", "cache") or not any(image.of for image in seen):
            changed = part
        else:
            changed = _with_images(part, flow, seen)
        if flow.relabelled is not None and part.name in OF_LABELS:
            changed = _with_labels(changed, flow.relabelled)
        if part.name == "extract.table":
            changed = _with_columns(changed, flow)
        yield changed


def _with_images(part: Part, flow: Flow, seen: Sequence[Image]) -> Part:
    """Part that gets images of a pipeline instead of those of the movie, or of the raw arrays."""
    before = part.digest
    assert before is not None
    held = part.memory

    def changed(of: Inputs) -> str:
        return digest(before(of), _seen_digest(of, seen))

    def memory(config: Config) -> Held:
        return with_images(held(config), flow, seen)

    needed = list(chain.from_iterable(image.needed() for image in seen))
    shifts, stored = _shifts_read(needed), _stored_on_gpu(needed)
    reads = {**part.reads_from, **shifts} if part.scope == "block" else part.reads_from
    return replace(
        part, needs=(*part.needs, *shifts, *stored), digest=changed, memory=memory, reads_from=reads,
        reads_back=_reads_back(flow, needed) if part.scope == "block" else {},
        from_movie=part.from_movie or _reads_movie(needed),
    )  # fmt: skip


def _with_labels(part: Part, labels: Image) -> Part:
    """Part whose digest also has the steps that replace the labels."""
    before = part.digest
    assert before is not None
    return replace(part, digest=lambda of: digest(before(of), _seen_digest(of, [labels])))


def _reads_back(flow: Flow, needed: Needed) -> dict[str, int]:
    """Parts whose stored images are read instead of being made again, with the frames needed around a block."""
    return {f"pipelines.{name}": reach for name, reach in may_be_read(flow, needed).items()}


def _reads_movie(needed: Needed) -> bool:
    """Check whether frames of the movie are read for images: as the source, or for frames of other blocks."""
    return any(image.origin == MOVIE for image, _ in needed)


def _with_columns(part: Part, flow: Flow) -> Part:
    """Table of traces with the columns that steps of a user's own give."""
    own = [own for own in flow.own if own.step.to == TRACES]
    rows = [part for one in own for part in (_tables_of(flow, one) if _is_of_traces(one) else [part_of(one)])]
    before = part.digest
    if not own or before is None:
        return part

    def changed(of: Inputs) -> str:
        in_order = [_column_digest(of, flow, one) for one in own]
        return digest(before(of), in_order)

    return replace(part, needs=(*part.needs, *dict.fromkeys(rows)), digest=changed)


def _column_digest(of: Inputs, flow: Flow, own: Own) -> str:
    """Digest of the columns that a step gives to the traces: of its rows, or of its call and the tables it gets."""
    if not _is_of_traces(own):
        return of.digest(part_of(own))
    call, tables = call_digest(of, own.step), _tables_of(flow, own)
    return digest(call, own.tables, [of.digest(part) for part in tables]) if tables else call


def _tables_of(flow: Flow, own: Own) -> list[str]:
    """Parts that write the tables that a function of tables gets, beside the traces."""
    return [_table_part(flow.steps[name]) for name in own.tables if name]


def _table_part(own: Own) -> str:
    """Part that writes the table that a step gives of a FOV."""
    return part_of(own) if own.tables else f"{part_of(own)}.table"


def _is_of_traces(own: Own) -> bool:
    return own.step.planned.takes == "traces"


# ------------------------------------------------------------------------------------- a user's own steps


def part_of(own: Own) -> str:
    """Name of the part that stores what a step gives; no standard part has such a name."""
    return f"pipelines.{own.name}"


def _own(flow: Flow) -> Iterator[Part]:
    """Parts of all steps of a user's own that store something."""
    for own in flow.own:
        if own.step.planned.per in ("fov", "well"):
            if own.step.to != TRACES:  # else it is a part of writing the traces
                yield _of_tables(flow, own)
        elif own.gives:
            yield from _of_shifts(flow, own)
            if own.is_stored:
                yield _of_images(flow, own)
        else:
            yield _of_rows(flow, own)
            if own.step.to != TRACES:
                yield _of_table(own)


def _needs(needed: Needed) -> tuple[str, ...]:
    """Parts that store what images are made from."""
    origins = {image.origin for image, _ in needed} - {"", MOVIE, FOUND, NUMBERED}
    linked = {"track.link"} if STORED_BY[TRACKED] in origins else set[str]()
    return tuple(sorted(origins | linked | _shifts_read(needed).keys() | _stored_on_gpu(needed)))


def _stored_on_gpu(needed: Needed) -> set[str]:
    """Parts on workers with a GPU that store images, or what these are made from."""
    return {image.on_gpu for image, _ in needed} - {""}


def _shifts_read(needed: Needed) -> dict[str, str]:
    """Parts that find shifts for images, and what a block reads from them, so that it stays as long as that does."""
    parts = {image.shifts for image, _ in needed} - {""}
    return dict.fromkeys(sorted(parts), "pyama_dask.steps.drift:own_shifts_by_block")


def _of_shifts(flow: Flow, own: Own) -> Iterator[Part]:
    """Parts that find the shifts for a step that undoes the drift; none for other steps."""
    by = own.gives[0].by
    if by is None:
        return
    name = f"{part_of(own)}.pairs"
    pairs = _on_blocks(flow, own, "pyama_dask.steps.drift:PairsOfImages", [by], [*by.needed()], "drift pairs")
    before = pairs.digest
    assert before is not None
    yield replace(
        pairs, name=name, from_movie=True,
        digest=lambda of: digest(before(of), list(of.earlier), _is_done(of, own.gives[0])),
        memory=lambda config: replace(pairs.memory(config), once=pairs.memory(config).once + DRIFTING),
    )  # fmt: skip
    yield Part(
        shifts_part(own.name), own.name, "fov", "pyama_dask.steps.drift:find_own_shifts",
        lambda of: digest("shifts", of.digest(name), of.times_min, own.step.to), needs=(name,),
    )  # fmt: skip


def _on_blocks(flow: Flow, own: Own, do: str, images: Sequence[Image], needed: Needed, kind: str) -> Part:
    """Part on blocks that makes images, for which it needs others."""
    needs = tuple(need for need in _needs(needed) if need != part_of(own))
    reach = max(reach for _, reach in needed)

    def made(of: Inputs) -> str:
        places = [group_of(own, image) for image in own.gives]
        made_from = [image_digest(of, image) for image in images]
        return digest(kind, made_from, list(of.around(reach)), of.block_frames, places, own.step.to)

    wide = {"track.link": "pyama_dask.steps.track:ids_by_block"} if "track.link" in needs else {}
    wide |= _shifts_read(needed)
    is_apart = own.step.is_on_gpu or _stored_on_gpu(needed)  # from the tasks of the seven steps, which hold their own
    held = Held(frame=loaded(images)) if is_apart else Held()
    return Part(
        part_of(own), own.name, "block", do, made, needs=needs, reads_from=wide, from_movie=_reads_movie(needed),
        reads_back={name: reach for name, reach in _reads_back(flow, needed).items() if name != part_of(own)},
        memory=lambda _: with_images(held, flow, images, stored=kind == "images"),
        resources=WITH_GPU if own.step.is_on_gpu else {},
    )  # fmt: skip


def _of_images(flow: Flow, own: Own) -> Part:
    needed = list(chain.from_iterable(image.needed() for image in own.gives))
    part = _on_blocks(flow, own, "pyama_dask.steps.own:StoredImages", own.gives, needed, "images")
    return replace(part, writes=(own.name,), form=lambda config: tuple(form_of(config.storage).values()))


def _of_rows(flow: Flow, own: Own) -> Part:
    images = tuple(image for of in own.gets for image in of)
    part = _on_blocks(flow, own, "pyama_dask.steps.own:Rows", images, [*own.needed()], "rows")
    before = part.digest
    assert before is not None
    return replace(part, digest=lambda of: digest(before(of), call_digest(of, own.step)))


def _of_table(own: Own) -> Part:
    return Part(
        _table_part(own), own.name, "fov", "pyama_dask.steps.own_tables:write_own_table",
        lambda of: digest("own table", of.digest(part_of(own)), of.times_min, of.name, own.step.to, *of.place),
        needs=(part_of(own),), from_blocks=True,
    )  # fmt: skip


def _of_tables(flow: Flow, own: Own) -> Part:
    """Part of a function of the traces, or of tables of other steps."""
    found = own.step.planned
    do = "write_own_table" if found.per == "fov" else "write_well_table"
    fovs = "" if found.per == "fov" else found.fovs  # of the well's FOVs, the digest of a call has the last one only
    needs = [_table_part(flow.steps[name]) if name else "extract.table" for name in own.tables]

    def made(of: Inputs) -> str:
        return digest("own table", *map(of.digest, needs), call_digest(of, own.step), own.step.to, fovs)

    return Part(
        part_of(own), own.name, "fov" if found.per == "fov" else "well", f"pyama_dask.steps.own_tables:{do}", made,
        needs=tuple(dict.fromkeys(needs)),
    )  # fmt: skip
