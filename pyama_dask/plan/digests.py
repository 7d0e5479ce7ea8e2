"""Digests of the parts of a FOV's tasks: everything that a result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyama_dask.config.models import Config
from pyama_dask.steps.standard import GRAPH
from pyama_dask.workflow.graph import Kind, Step
from pyama_dask.workflow.task import Job, digest

Digests = Mapping[Kind, Sequence[dict[Step, str]]]
"""For every kind of task, and each of its tasks in a FOV, the digest of every step."""


@dataclass
class Unit:
    """The frames of a FOV that a part works on; see `workflow.graph.Inputs`."""

    job: Job
    movie: str
    fov: int
    shape: tuple[int, int]
    times_min: Sequence[float]
    frames: Sequence[int]
    _known: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """Resolved config."""
        return self.job.config

    @property
    def block_frames(self) -> int:
        """Frames of a block."""
        return self.job.block_frames

    @property
    def name(self) -> str:
        """Name of the movie, without its suffix."""
        return self.job.source.stem

    def digest(self, part: str) -> str:
        """Digest of everything that the result of a part depends on, without the form in which it is stored."""
        if part not in self._known:
            self._known[part] = GRAPH.parts[part].digest(self)
        return self._known[part]

    def recorded(self, part: str) -> str:
        """Digest with which the ledger records a part: also of the form in which its result is stored."""
        form = GRAPH.parts[part].form(self.config)
        return digest(self.digest(part), *form) if form else self.digest(part)


def step_digests(job: Job, movie: str, fov: int, shape: tuple[int, int], times_min: Sequence[float]) -> Digests:
    """Digests of the parts that a config asks for.

    Blocks that no wider part is read for depend on their own frames only, so that they stay when frames are added; all
    others depend on the whole FOV.

    Parameters
    ----------
    movie
        Identity that the movie had when the output was begun.
    times_min
        (T,) minutes of the frames.
    """
    active = {part.name for part in GRAPH.active(job.config)}
    whole = Unit(job, movie, fov, shape, times_min, job.frames)
    blocks = [Unit(job, movie, fov, shape, times_min, job.frames[start:stop]) for start, stop in job.blocks]
    found: dict[Kind, Sequence[dict[Step, str]]] = {}
    for kind, parts in GRAPH.kinds.items():
        units = [whole] if GRAPH.scope(kind) == "fov" else blocks if GRAPH.is_first(kind) else [whole] * len(blocks)
        chosen = [part for part in parts if part.name in active]
        found[kind] = [{part.step: unit.recorded(part.name) for part in chosen} for unit in units]
    return found
