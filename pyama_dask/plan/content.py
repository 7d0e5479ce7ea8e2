"""Content that results are made from: as long as it is the same, a result stays, though settings have changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from pyama_dask.plan.plan import Plan
from pyama_dask.steps.graphs import graph_of
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.graph import Part, Step
from pyama_dask.workflow.kinds import ON_BLOCKS
from pyama_dask.workflow.task import Job, Task, digest, task_key


@dataclass(frozen=True)
class Settled:
    """Tasks that are about to be handed out, compared with what is recorded of them."""

    tasks: tuple[Task, ...]
    """Tasks with the steps that are left to do, and the content that these are made from."""
    kept: Mapping[str, Mapping[Step, str]]
    """Digests of the steps that a change leaves as they are, by task key."""
    stale: Mapping[str, Collection[Step]]
    """Recorded steps that are regenerated, by task key."""


def compare_content(plan: Plan, tasks: Collection[Task], ledger: Ledger) -> Settled:
    """Compare the content that steps would be made from with that of their recorded results.

    Parameters
    ----------
    plan
        Of the whole run.
    tasks
        Tasks of one stage of a FOV; all that they need is recorded.
    ledger
        What is recorded.
    """
    contents = Contents(plan.job, ledger)
    unchanged = {task.key: {step for step in task.digests if contents.is_same(task, step)} for task in tasks}
    for step in _removed(plan, tasks, unchanged, contents):
        for same in unchanged.values():
            same.discard(step)
    left, kept, stale = list[Task](), dict[str, dict[Step, str]](), dict[str, set[Step]]()
    for task in tasks:
        same = unchanged[task.key]
        if same:
            kept[task.key] = {step: task.digests[step] for step in same}
        if outdated := (ledger.task(task.key).done.keys() & task.digests.keys()) - same:
            stale[task.key] = outdated
        if rest := {step: found for step, found in task.digests.items() if step not in same}:
            wide = {step: of for step in rest if (of := contents.of(task, step)) is not None}
            left.append(replace(task, digests=rest, wide=wide))
    return Settled(tuple(left), kept, stale)


def _removed(
    plan: Plan, tasks: Collection[Task], unchanged: Mapping[str, Collection[Step]], contents: Contents
) -> set[Step]:
    """Steps with temporary files that may be removed by now, and that something is going to be made from."""
    found = set()
    for step in {step for task in tasks for step in task.digests}:
        mine = [task for task in tasks if step in task.digests]
        if plan.graph.by_kind[mine[0].kind, step].temporary:
            all_same = all(step in unchanged[task.key] for task in mine)
            if not all_same or not all(contents.is_same(*made) for made in _made_from(plan, mine[0], step)):
                found.add(step)
    return found


def _made_from(plan: Plan, task: Task, step: Step) -> list[tuple[Task, Step]]:
    """Planned tasks of the same FOV that are made from a step of a task directly, each with its step."""
    planned, graph = plan.fov(task.fov), plan.graph
    made = [graph.parts[name] for name in graph.made_from(graph.by_kind[task.kind, step].name)]
    return [
        (other, part.step)
        for part in made
        for other in planned.stage(graph.kind_of[part.name])
        if part.step in other.digests
    ]


def is_held(task: Task, step: Step, ledger: Ledger) -> bool:
    """Check whether a step is recorded for the same frames and settings, the content of other parts left aside.

    Its result is kept until these are done: what it reads from them may have stayed the same.
    """
    return step in task.local and ledger.task(task.key).local.get(step) == task.local[step]


class Contents:
    """Digests of what results are made from, as far as it is recorded.

    Parameters
    ----------
    job
        Config and blocks of the run.
    ledger
        What is recorded.
    """

    def __init__(self, job: Job, ledger: Ledger) -> None:
        self._ledger, self._blocks = ledger, range(len(job.blocks))
        self._graph = graph_of(job.config)
        self._active = {part.name for part in self._graph.active(job.config)}

    def is_done(self, task: Task, step: Step) -> bool:
        """Check whether a step is recorded for these settings, and for what other parts have made since.

        These may have been voided and made again, with another result although their digest is the same.
        """
        if not self._ledger.has(task.key, step, task.digests[step]):
            return False
        before = self._ledger.task(task.key).wide.get(step)
        return before is None or before == self.of(task, step)

    def is_same(self, task: Task, step: Step) -> bool:
        """Check whether the recorded result of a step stays as it is; a warning of a FOV may name settings."""
        if not is_held(task, step, self._ledger):
            return False
        recorded = self._ledger.task(task.key)
        before, now = recorded.wide.get(step), self.of(task, step)
        warned = task.block is None and bool(recorded.warnings.get(step))
        return now is not None and before == now and not warned

    def of(self, task: Task, step: Step) -> str | None:
        """Digest of what a step with a digest in `Task.local` reads from other parts; None if it is not recorded."""
        if step not in task.local:
            return None
        part = self._graph.by_kind[task.kind, step]
        return self._of_blocks(part, task.fov) if task.block is None else self._of_wider(part, task.fov, task.block)

    def _of_wider(self, part: Part, fov: int, block: int) -> str | None:
        """Digest of what a part on a block reads from wider parts."""
        found = []
        for reader, wider in self._graph.wide_reads(part.name, self._active):
            of_fov = self._ledger.task(task_key(self._graph.kind_of[wider.name], fov, None))
            blocks = of_fov.provides.get(wider.step, {}).get(reader.name, ())
            if block >= len(blocks):
                return None
            found.append((reader.name, wider.name, blocks[block]))
        return digest(*sorted(found))

    def _of_blocks(self, part: Part, fov: int) -> str | None:
        """Digest of what the blocks were made from that a part on a FOV is made from."""
        found = []
        for need in map(self._graph.parts.__getitem__, part.needs):
            if need.name in self._active and need.scope in ON_BLOCKS:
                for block in self._blocks:
                    if (made_from := self._recorded(need, fov, block)) is None:
                        return None
                    found.append((need.name, *made_from))
        return digest(*found)

    def _recorded(self, part: Part, fov: int, block: int) -> Iterable[str] | None:
        """Digests that the content of a block's recorded result follows from."""
        key = task_key(self._graph.kind_of[part.name], fov, block)
        recorded = self._ledger.task(key)
        local, wide, done = (of.get(part.step) for of in (recorded.local, recorded.wide, recorded.done))
        if local is None:
            return None if done is None else (done,)
        return None if wide is None else (local, wide)
