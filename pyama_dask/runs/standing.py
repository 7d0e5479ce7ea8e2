"""Finished part of a plan, by its document and the ledger: tasks, frames of each step, FOVs and their failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyama_dask.config.units import parse_selection
from pyama_dask.runs.snapshot import FovFailure, FovProgress, FovState, StepProgress
from pyama_dask.runs.status import costs_by_step, report_fov, task_digests
from pyama_dask.steps.standard import in_order, label_of
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Cost
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.kinds import Kind, on_blocks
from pyama_dask.workflow.task import parse_key


class Planned:
    """Tasks of a plan's document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.input, self.fovs = str(document["input"]), document["fovs"]
        self.warnings: Sequence[str] = tuple(map(str, document["warnings"]))
        self.tasks: dict[int, list[tuple[str, Kind, Mapping[Step, str]]]] = {}
        self.frames: dict[str, int] = {}
        """Frames of each task."""
        settings = document["settings"]
        for fov in self.fovs:
            of = settings.get(fov["settings"], {})
            frames = len(parse_selection(of["params"]["frames"])) if of else 0
            size = int(of["storage"]["block_frames"]) if of else 0
            mine = self.tasks[fov["fov"]] = []
            for kind, stage in fov["kinds"].items():
                for number, (key, digests) in enumerate(task_digests(fov["fov"], kind, stage)):
                    mine.append((key, kind, digests))
                    start = number * size
                    self.frames[key] = min(size, max(0, frames - start)) if on_blocks(kind) else frames
        kinds = {kind for fov in self.fovs for kind in fov["kinds"] if on_blocks(kind)}
        self._passes = max(1, len(kinds))

    def frames_of(self, key: str) -> float:
        """Frames that a task on a block stands for; see `Rate`."""
        return self.frames.get(key, 0) / self._passes if parse_key(key).block is not None else 0.0


class Standing:
    """Finished part of a plan.

    Parameters
    ----------
    plan, ledger
        What there is to do, and what is recorded.
    at_work
        FOVs of which the active run has finished tasks.
    """

    def __init__(self, plan: Planned, ledger: Ledger, at_work: set[int]) -> None:
        self.tasks, self.done, self.left = Counter[int](), Counter[int](), Counter[Kind]()
        """Tasks by FOV, those of them that are done, and those that are left by kind, but for failed FOVs."""
        self._frames, self._frames_done = Counter[Step](), Counter[Step]()
        failed = {fov for key in ledger.failed for fov in ledger.groups.get(key, (parse_key(key).fov,))}
        self._completes = {step: kind for of in plan.tasks.values() for _, kind, digests in of for step in digests}
        fovs, failures = [], []
        for fov in plan.fovs:
            number, left = fov["fov"], Counter[Kind]()
            for key, kind, digests in plan.tasks[number]:
                left[kind] += self._count(kind, plan.frames[key], digests, ledger.task(key).done)
            self.tasks[number] = len(plan.tasks[number])
            self.done[number] = self.tasks[number] - left.total()
            state = _fov_state(self.tasks[number], self.done[number], number in at_work)
            if fov["problem"] or number in ledger.doubts or (number in failed and state != "done"):
                report = report_fov(ledger, fov)
                if report.status == "failed":
                    state = "failed"
                    attempts = sum(ledger.attempts.get(key, 0) for key, _, _ in plan.tasks[number])
                    failures.append(FovFailure(number, str(report.cause), str(report.reason), attempts))
            if state != "failed":
                self.left += left
            fovs.append(FovProgress(number, str(fov["name"]), state, self.tasks[number], self.done[number]))
        self.fovs, self.failures = tuple(fovs), tuple(failures)

    def _count(self, kind: Kind, frames: int, digests: Mapping[Step, str], recorded: Mapping[Step, str]) -> bool:
        """Count the frames of a task, and return True if anything of it is left."""
        left = False
        for step, digest in digests.items():
            done = recorded.get(step) == digest
            left |= not done
            if self._completes.get(step) == kind:
                self._frames[step] += frames
                self._frames_done[step] += frames if done else 0
        return left

    def steps(self, costs: Iterable[Cost]) -> tuple[StepProgress, ...]:
        """Progress of the steps, with what they cost."""
        spent = {cost.step: cost for cost in costs_by_step(costs)}
        return tuple(
            StepProgress(
                step, label_of(step), self._frames[step], self._frames_done[step],
                spent[step].seconds if step in spent else 0.0, spent[step].memory if step in spent else 0,
            )
            for step in in_order(self._frames)
            if self._frames[step]
        )  # fmt: skip


def _fov_state(tasks: int, done: int, at_work: bool) -> FovState:
    if done == tasks:
        return "done"
    if at_work:
        return "in work"
    return "partial" if done else "to do"
