"""State of a run at one moment, as `top` and the dashboard show it; plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pyama_dask.workflow.graph import Step

VERSION = 1
"""Version of the document; increased when a key changes its meaning or is removed."""

RunState = Literal["starting", "running", "stopping", "killed", "ended"]
FovState = Literal["done", "in work", "partial", "failed", "to do"]
FOV_STATES: tuple[FovState, ...] = ("done", "in work", "partial", "failed", "to do")


@dataclass(frozen=True)
class StepProgress:
    """Progress of a step, in all FOVs of the plan."""

    step: Step
    label: str
    frames: int
    """Frames in all FOVs together."""
    frames_done: int
    seconds: float
    """Time that the workers have spent on it in this run, added up."""
    memory: int
    """Largest peak of a worker in this run in bytes, in tasks that the step has a part in; 0 before the first."""


@dataclass(frozen=True)
class FovProgress:
    """Progress of a FOV."""

    fov: int
    name: str
    state: FovState
    """``in work`` if this run has finished tasks of it; ``partial`` if only earlier runs have."""
    tasks: int
    tasks_done: int


@dataclass(frozen=True)
class FovFailure:
    """Reason why a FOV has failed; while a run is active, it may be tried again."""

    fov: int
    cause: str
    reason: str
    attempts: int
    """Failed attempts at its tasks."""

    @property
    def place(self) -> str:
        """FOV to put before a reason that does not name it."""
        return "" if f"FOV {self.fov}" in self.reason else f"FOV {self.fov}: "


@dataclass(frozen=True)
class WorkerProgress:
    """Work of a worker in this run."""

    worker: str
    """Host and process, such as ``node07/4711``."""
    tasks: int
    seconds: float
    """Time spent on them."""
    busy: float
    """Share of the last 10 minutes, or of the run if that is shorter, that it spent on tasks that have ended."""
    last: float
    """End of its last task, in UTC seconds since 1970."""
    has_gpu: bool = False
    """True if it owns a GPU, as its tasks say."""


@dataclass(frozen=True)
class Rate:
    """Speed of a run: each kind of task on blocks that a frame passes through counts an equal part of it."""

    last_minute: float
    """Frames per second."""
    last_10_minutes: float
    """Frames per second."""


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment; of the last run if none is active."""

    output: Path
    input: str
    at: float
    """Time of the snapshot, in UTC seconds since 1970, like all times."""
    state: RunState
    run: str
    """Name of the run; '' if unknown."""
    host: str
    """Machine of the driver, while a run is active; '' if unknown."""
    pid: int
    """Process of the driver; 0 if unknown."""
    started: float
    """Time of its start; 0 if unknown."""
    silent: float
    """Seconds since its last sign of life, by the clock of this machine; 0 without a run."""
    dashboard: str
    """Address of Dask's dashboard on the driver's machine; '' without one."""
    tasks: int
    """Tasks of the whole plan."""
    tasks_done: int
    rate: Rate | None
    """None if no run is active, or no task has ended."""
    seconds_left: float | None
    """Time left at the present speed; None if unknown."""
    steps: Sequence[StepProgress]
    fovs: Sequence[FovProgress]
    failures: Sequence[FovFailure]
    workers: Sequence[WorkerProgress]
    """Workers of this run, in the order of their names."""
    jobs: str
    """State of the jobs of a queue; '' without one."""
    alarms: Sequence[str]
    warnings: Sequence[str]
    ended: str
    """End of the last run: ``complete``, ``failed``, ``cancelled``, ``stopped``, or '' if unknown."""

    @property
    def is_active(self) -> bool:
        """True if a run writes to the output."""
        return self.state in ("starting", "running", "stopping")

    @property
    def share(self) -> float:
        """Share of the tasks that is done, from 0 to 1."""
        return self.tasks_done / self.tasks if self.tasks else 0.0

    @property
    def fov_counts(self) -> Mapping[FovState, int]:
        """Number of FOVs by state."""
        counts = Counter(fov.state for fov in self.fovs)
        return {state: counts[state] for state in FOV_STATES if counts[state]}

    @property
    def memory(self) -> int:
        """Largest peak of a worker in bytes; 0 before the first task."""
        return max((step.memory for step in self.steps), default=0)

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"version": VERSION, **asdict(self), "output": str(self.output), "fov_counts": dict(self.fov_counts)}


@dataclass(frozen=True)
class Cell:
    """One cell of a picture of all FOVs: a FOV, or some consecutive ones."""

    first: int
    """Number of its first FOV."""
    last: int
    state: FovState
    """``failed`` if any has failed, ``done`` if all are done, ``in work`` if any is."""
    done: float
    """Share of their tasks that is done."""
    size: int
    """Number of FOVs; of the last cell of a picture, at most."""


def cells_of(fovs: Sequence[FovProgress], most: int) -> list[Cell]:
    """Group FOVs into at most `most` cells of 1, 2, 5, 10, 20, ... FOVs each."""
    size = next(size for k in range(20) for size in (10**k, 2 * 10**k, 5 * 10**k) if len(fovs) <= size * most)
    return [_cell(fovs[start : start + size], size) for start in range(0, len(fovs), size)]


def _cell(fovs: Sequence[FovProgress], size: int) -> Cell:
    states = {fov.state for fov in fovs}
    done, tasks = sum(fov.tasks_done for fov in fovs), sum(fov.tasks for fov in fovs)
    if len(states) == 1:
        (state,) = states
    else:
        state = next((one for one in ("failed", "in work") if one in states), "partial")
    return Cell(fovs[0].fov, fovs[-1].fov, state, done / tasks if tasks else float(state == "done"), size)
