"""Tasks: plain data that the plan makes, a worker runs, and the ledger records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple

from pyama_dask.config.models import Config
from pyama_dask.readers import Snapshot
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.kinds import Kind

WORK = ".pyama_dask"
"""Directory in the output for all that is not a result."""


@dataclass(frozen=True)
class Task:
    """One unit of work: some steps of one block of one FOV, of the whole FOV, or of the FOVs of a well or plate."""

    kind: Kind
    fov: int
    """Number of the FOV; the last one of a well or plate."""
    shape: tuple[int, int]
    """(H, W) of the FOV's frames in pixels."""
    start: int
    stop: int
    """Frames, counted in the output from 0, half-open."""
    block: int | None
    """Number of the block; None for a task of the whole FOV."""
    digests: Mapping[Step, str]
    """Steps to do, each with the digest of everything that its result depends on."""
    local: Mapping[Step, str] = field(default_factory=dict)
    """Digest of all that a step depends on but what it reads from other parts, for steps that declare what that is."""
    wide: Mapping[Step, str] = field(default_factory=dict)
    """Digest of what these steps read from wider parts, or from all blocks; known when those are done."""
    bytes_read: int = 0
    bytes_written: int = 0
    """Uncompressed, without crops, whose number is known only when cells are."""
    memory: int = 0
    """Predicted peak of the worker in bytes."""
    group: tuple[int, ...] = ()
    """Numbers of all FOVs of a well or plate; empty for a task of one FOV."""
    in_plate: str = ""
    """Path of the FOV's image in the plate, such as ``B/02/0``; empty for a FOV outside of wells."""
    title: str = ""
    """Number, well and site of the FOV, such as ``FOV 3 (B02 s2)``; empty for a FOV outside of wells."""
    at_once: int | None = None
    """Frames of the block that are held at once; None for all. The results are the same, so no digest has it."""
    shape_in_movie: tuple[int, int] | None = None
    """(H, W) of the FOV's frames in the movie, if steps change it; else None."""
    inputs: Mapping[str, tuple[int, int]] | None = None
    """Size and CRC-32C of the recorded files that it may read, by path in the output; None to read without checks."""
    seconds: float = 0.0
    """Time that it may take, as far as tasks of its kind have shown; 0 if they have not."""

    @cached_property
    def key(self) -> str:
        """Name in the plan, the ledger and on the dashboard, such as ``ingest-fov000-b003``."""
        return task_key(self.kind, self.fov, self.block)

    @property
    def place(self) -> str:
        """FOV as messages name it."""
        return self.title or f"FOV {self.fov}"

    @property
    def movie_shape(self) -> tuple[int, int]:
        """(H, W) of the FOV's frames in the movie."""
        return self.shape_in_movie or self.shape

    @property
    def frames_at_once(self) -> int:
        """Frames that it holds at once."""
        return min(self.at_once or self.stop - self.start, max(self.stop - self.start, 1))


def task_key(kind: Kind, fov: int, block: int | None) -> str:
    """Name of a task, such as ``ingest-fov000-b003``."""
    return f"{kind}-{fov_key(fov)}" + ("" if block is None else f"-b{block:03d}")


class TaskKey(NamedTuple):
    """The parts of a task's name."""

    kind: Kind
    fov: int
    block: int | None


_ENCODER = json.JSONEncoder(sort_keys=True, default=str, separators=(",", ":"))
LONG = 16
"""Values of a list that an encoder takes all at once."""
_KEY = re.compile(r"([a-z][a-z0-9_]*)-fov(\d+)(?:-b(\d+))?")


@lru_cache(maxsize=2**12)
def parse_key(key: str) -> TaskKey:
    """Take the name of a task apart.

    Raises
    ------
    ValueError
        If it is not the name of a task.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"{key}: is not the name of a task")
    return TaskKey(found[1], int(found[2]), int(found[3]) if found[3] else None)


def fov_key(fov: int) -> str:
    """``fov007`` for FOV 7, as in the keys of its tasks."""
    return f"fov{fov:03d}"


def fov_name(fov: int) -> str:
    """``fov_007`` for FOV 7."""
    return f"fov_{fov:03d}"


@dataclass(frozen=True)
class Job:
    """Data that all tasks of a run share; small enough to travel with each of them."""

    source: Path
    output: Path
    config: Config
    """Resolved: channels by index, every default filled in."""
    frames: tuple[int, ...]
    """Frame numbers in the movie, by frame in the output."""
    block_frames: int
    run: str = ""
    """Name of this run, by which tasks and receipts of an earlier one are told apart."""
    snapshot: Snapshot | None = None
    """The movie when the run was planned; tasks that read frames need it."""
    own_files: Mapping[str, str] = field(default_factory=dict)
    """Digests of the files with functions of users, by path, when the run was planned."""
    direct_io: bool = False
    """True if shards are written and read past the page cache; see ``storage.direct_io``."""

    @property
    def n_frames(self) -> int:
        """Frames of the output."""
        return len(self.frames)

    @cached_property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Half-open frame ranges of the blocks."""
        size = self.block_frames
        return tuple((start, min(start + size, self.n_frames)) for start in range(0, self.n_frames, size))

    def fov_dir(self, fov: int) -> Path:
        """Directory of the results of a FOV."""
        return self.output / fov_name(fov)

    def work_dir(self, fov: int) -> Path:
        """Directory of what the tasks of a FOV leave for each other."""
        return self.output / WORK / fov_name(fov)


@dataclass(frozen=True)
class Receipt:
    """Record of a finished task; all that travels back from a worker."""

    key: str
    digests: Mapping[Step, str]
    files: Mapping[Step, Mapping[str, tuple[int, int]]]
    """Size and CRC-32C of every file that a step wrote, by path relative to the output."""
    seconds: float
    bytes_read: int
    bytes_written: int
    peak_memory: int
    """Largest resident memory of the worker process during the task, in bytes; so far, on other systems than Linux."""
    group: tuple[int, ...] = ()
    """As in the task."""
    warnings: tuple[tuple[Step, str], ...] = ()
    """Step that gave it, and words for the report."""
    run: str = ""
    notes: Mapping[Step, Mapping[str, int]] = field(default_factory=dict)
    """Counts for the report by step, such as cells and rows."""
    spent: Mapping[Step, float] = field(default_factory=dict)
    """Seconds of work for each step."""
    local: Mapping[Step, str] = field(default_factory=dict)
    wide: Mapping[Step, str] = field(default_factory=dict)
    """As in the task."""
    provides: Mapping[Step, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Digests, one per block, of what parts on blocks read from a step of the whole FOV, by name of the part."""
    processors: Mapping[Step, str] = field(default_factory=dict)
    """Kind of the worker's processor, for each step whose results depend on it; see `Part.by_processor`."""
    frames_read: tuple[int, ...] = ()
    """CRC-32C of the chosen channels of every frame of the block, as they were read from the movie."""
    begun: float = 0.0
    """Start in UTC seconds since 1970 by the worker's clock; 0 in receipts of older versions."""
    worker: str = ""
    """Host and process of the worker, such as ``node07/4711``; '' in receipts of older versions."""


def digest(*parts: object) -> str:
    """Digest of plain values, equal for equal values on every machine."""
    return hashlib.blake2b(f"[{','.join(map(_as_json, parts))}]".encode(), digest_size=12).hexdigest()


def _as_json(value: object) -> str:
    """Encode a value; most are texts and short lists of them, for which an encoder takes long to start."""
    if type(value) is str:
        return encode_basestring_ascii(value)
    if type(value) is int:
        return str(value)
    if type(value) is list and len(value) < LONG:
        return f"[{','.join(map(_as_json, value))}]"
    return _ENCODER.encode(value)
