"""Comparison of the movie with the frames read from it: at the end of a run, and later by reading it again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyama_dask.config.units import parse_selection
from pyama_dask.errors import CancelledError, MissingFrameError, OutputError, SourceError
from pyama_dask.plan.plan import Plan
from pyama_dask.plan.resume import derived_from
from pyama_dask.readers import Reader, changed, open_reader, take_snapshot
from pyama_dask.readers.frames import digest_of, read_chosen
from pyama_dask.runs.movie import recorded_view
from pyama_dask.runs.output_dir import recorded_fovs
from pyama_dask.runs.status import read_blocks, read_plan
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.task import parse_key


def check_after_run(plan: Plan, ledger: Ledger, costs: Iterable[Cost]) -> list[str]:
    """Compare the movie at the end of a run with the one that the run was planned for.

    If it differs, the FOVs that were read in this run are recorded as doubtful.

    Parameters
    ----------
    plan
        Of the run.
    ledger
        Open for writing.
    costs
        Of the tasks that the run has done.

    Returns
    -------
    A warning, if the movie grew.
    """
    graph = plan.graph
    of_movie = {(graph.kind_of[part.name], part.step) for part in graph.parts.values() if part.from_movie}
    keys = ((parse_key(cost.key), cost) for cost in costs)
    read = {key.fov for key, cost in keys if any((key.kind, step) in of_movie for step in cost.spent)}
    fovs = sorted(read.intersection(fov.fov for fov in plan.fovs))
    snapshot = plan.job.snapshot
    if not fovs or snapshot is None:
        return []
    try:
        if grown := snapshot.growth():
            grew = f"{snapshot.path}: grew {grown} during the run"
            return [f"{grew}. The frames that were read are valid; --extend processes those that were added"]
    except SourceError as error:
        ledger.doubt(fovs, str(error))
    return []


# ---------------------------------------------------------------------------------------- reading it again


@dataclass(frozen=True)
class Block:
    """A block whose frames are recorded as copied."""

    key: str
    fov: int
    frames: Sequence[int]
    """Numbers in the movie."""
    channels: list[int]
    z: int | str | None
    digests: Sequence[int]
    """CRC-32C of each frame as it was read; fewer than frames if an older version has copied them."""


@dataclass(frozen=True)
class FrameFault:
    """A frame of the movie that differs from the one that was read."""

    fov: int
    frame: int
    """In the movie."""
    what: str
    key: str
    """Of the task that read it."""
    has_other_pixels: bool = True
    """False if it cannot be read now; then the earlier reading may still be right."""


@dataclass(frozen=True)
class MovieCheck:
    """Comparison of a movie with the frames that were read from it."""

    movie: Path
    frames: int
    """Frames that were compared."""
    faults: tuple[FrameFault, ...]
    unknown: int
    """Frames that were copied by an older version, which recorded no digests."""
    is_recorded: bool = True
    """True if the movie has the identity recorded in the output."""

    @property
    def to_read_again(self) -> tuple[FrameFault, ...]:
        """Frames that the next run must read again.

        A frame that cannot be read now, or that belongs to another movie, voids no result.
        """
        return tuple(fault for fault in self.faults if self.is_recorded and fault.has_other_pixels)

    @property
    def is_good(self) -> bool:
        """True if all frames are as they were read."""
        return not self.faults and not self.unknown


def check_movie(
    output: Path, ledger: Ledger, movie: Path | None = None, *, cancel: threading.Event | None = None
) -> MovieCheck:
    """Read all frames of an output's movie again, and compare their digests.

    Parameters
    ----------
    output
        Output directory of a run.
    ledger
        What is recorded of it.
    movie
        The movie; by default where the last run read it.
    cancel
        Set it to end this early.

    Raises
    ------
    SourceError
        If the movie cannot be opened, or changes meanwhile.
    OutputError
        If the output is not one of a run.
    CancelledError
        If it was ended early.
    """
    path = (movie or Path(read_plan(output, ledger)["input"])).absolute()
    blocks = list(_blocks(output, ledger))
    unknown = sum(len(block.frames) for block in blocks if not block.digests)
    known = [block for block in blocks if block.digests]
    faults: list[FrameFault] = []
    numbered = recorded_fovs(output)
    with _open(path, numbered, movie is None) as opened:
        reader = recorded_view(output, opened.metadata).on(opened)
        snapshot = take_snapshot(path, numbered)
        for block in known:
            if cancel is not None and cancel.is_set():
                raise CancelledError(f"{path}: the comparison with {output} was cancelled")
            faults += _frame_faults(reader, block)
        if grown := snapshot.growth():
            raise changed(path, f"it grew {grown}")
    recorded = ledger.movie.get("identity", "")
    is_recorded = not recorded or snapshot.has_identity(recorded)
    return MovieCheck(path, sum(len(block.frames) for block in known), tuple(faults), unknown, is_recorded)


def _open(path: Path, known: Sequence[str], is_recorded: bool) -> Reader:
    try:
        reader = open_reader(path, known=known)
        _ = reader.metadata
    except SourceError as error:
        hint = ", or name the movie with --movie if it was moved" if is_recorded and not path.exists() else ""
        raise SourceError(f"{error}{hint}") from error
    return reader


def _blocks(output: Path, ledger: Ledger) -> Iterator[Block]:
    """Yield all blocks that are recorded as copied with the settings of the plan."""
    plan = read_plan(output, ledger)
    try:
        for fov in plan["fovs"]:
            settings = plan["settings"][fov["settings"]]
            chosen, length = settings["channels"], settings["storage"]["block_frames"]
            channels = [choice["channel"] for choice in (chosen["pc"], *chosen["fl"]) if choice]
            frames = parse_selection(settings["params"]["frames"])
            for number, key in read_blocks(ledger, fov):
                mine = frames[number * length : (number + 1) * length]
                read = ledger.task(key).frames_read
                z = settings["params"]["z"]
                yield Block(key, fov["fov"], mine, channels, z, read if len(read) == len(mine) else [])
    except (LookupError, TypeError) as error:
        raise OutputError(f"{output}: its plan is damaged. Fix: run the same config again") from error


def _frame_faults(reader: Reader, block: Block) -> Iterator[FrameFault]:
    for frame, recorded in zip(block.frames, block.digests, strict=True):
        try:
            same = digest_of(read_chosen(reader, block.fov, frame, block.channels, block.z)) == recorded
        except (SourceError, MissingFrameError, IndexError) as error:
            yield FrameFault(block.fov, frame, f"cannot be read: {error}", block.key, has_other_pixels=False)
        else:
            if not same:
                yield FrameFault(block.fov, frame, "has other pixels than were read", block.key)


def read_again(ledger: Ledger, faults: Iterable[FrameFault], graph: Graph) -> None:
    """Void blocks with differing frames, and everything derived from them.

    With pipelines, all blocks of these FOVs are, as functions may have looked at neighbouring frames.
    """
    keys = {fault.key for fault in faults}
    if graph is not GRAPH:
        keys = {key for fault in keys for key in ledger.keys_of(parse_key(fault).fov)}
    again = {key: [step for step in ledger.task(key).done if _reads_movie(graph, key, step)] for key in keys}
    ledger.void(derived_from(again, ledger, graph))


def _reads_movie(graph: Graph, key: str, step: Step) -> bool:
    part = graph.by_kind.get((parse_key(key).kind, step))
    return part is not None and part.from_movie
