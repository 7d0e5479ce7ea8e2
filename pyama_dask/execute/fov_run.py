"""State of one FOV while a plan is executed."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyama_dask.plan.plan import FovPlan
from pyama_dask.workflow.task import Task


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
        """True if its next stage waits for other FOVs."""
        return not self.running and bool(self.stages)

    @property
    def finished(self) -> bool:
        """True if no task is left or running."""
        return not self.running and not self.stages
