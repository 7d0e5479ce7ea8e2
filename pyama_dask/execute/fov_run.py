"""State of one FOV while a plan is executed."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyama_dask.plan.plan import FovPlan
from pyama_dask.workflow.graph import Graph
from pyama_dask.workflow.task import Task, parse_key


@dataclass
class FovRun:
    """State of a FOV in the window."""

    plan: FovPlan
    stages: list[tuple[Task, ...]] = field(init=False)
    """Stages that are not submitted yet."""
    running: set[str] = field(default_factory=set)
    """Keys of submitted tasks."""
    complete: bool = True
    """False if a stage was left out, as another FOV is not done."""
    damaged: set[str] = field(default_factory=set)
    """Damaged files that its tasks were to read, by path in the output."""

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
