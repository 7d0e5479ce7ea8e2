"""FOVs in the window while a plan is executed: their number, and the state of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from pyama_dask.execute.pool import SMALL
from pyama_dask.plan.plan import FovPlan
from pyama_dask.store.records import FovRecords
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.task import Task, parse_key

FOVS_PER_WORKER = 2
"""FOVs in the window for each worker; more if they are small, so that their tasks can travel together."""
MOST_PER_WORKER = 16
"""The same for the smallest FOVs."""


def fovs_per_worker(fovs: Collection[FovPlan]) -> int:
    """FOVs in the window for each worker, if the config does not say: as many small FOVs as make a large one."""
    largest = max((sum(task.bytes_read + task.bytes_written for task in fov.tasks) for fov in fovs), default=0)
    return max(FOVS_PER_WORKER, min(MOST_PER_WORKER, FOVS_PER_WORKER * SMALL // max(1, largest)))


@dataclass
class FovRun:
    """State of a FOV in the window."""

    plan: FovPlan
    records: FovRecords
    """Held here so that they need not be read again while the FOV is at work."""
    stages: list[tuple[Task, ...]] = field(init=False)
    """Stages that are not submitted yet."""
    running: set[str] = field(default_factory=set)
    """Keys of submitted tasks."""
    complete: bool = True
    """False if a stage was left out, as another FOV is not done."""
    damaged: set[str] = field(default_factory=set)
    """Damaged files that its tasks were to read, by path in the output."""
    frames_done: Counter[Step] = field(default_factory=Counter)
    """Frames for which a step is done."""

    def __post_init__(self) -> None:
        self.stages = list(self.plan.stages)

    @property
    def waits(self) -> bool:
        """True if a stage is left that waits for other FOVs."""
        return any(stage[0].group for stage in self.stages)

    def ready(self, graph: Graph) -> tuple[Task, ...] | None:
        """Next stage that no unfinished task of its FOV keeps waiting; None if each has to wait.

        Stages that are done on workers with a GPU do not keep others waiting that need nothing of them.
        """
        open_kinds = {parse_key(key).kind for key in self.running}
        for stage in self.stages:
            kind = stage[0].kind
            if kind not in open_kinds and open_kinds.isdisjoint(graph.waits_for[kind]):
                return stage
            open_kinds.add(kind)
        return None

    @property
    def finished(self) -> bool:
        """True if no task is left or running."""
        return not self.running and not self.stages
