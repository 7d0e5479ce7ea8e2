"""Remaining tasks: the plan compared with the ledger."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from pyama_dask.errors import MissingStepError, PlanError
from pyama_dask.files.checksums import MISSING
from pyama_dask.plan.content import Contents
from pyama_dask.plan.plan import FovPlan, Plan
from pyama_dask.steps.flow import Own, flow_of
from pyama_dask.store.layout import DOCUMENT, IMAGES
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.records import Checksum
from pyama_dask.workflow.graph import Graph, Part, Step
from pyama_dask.workflow.kinds import scope_of
from pyama_dask.workflow.task import Task, fov_name, parse_key, task_key


def with_inputs(task: Task, ledger: Ledger, graph: Graph, block_frames: int) -> Task:
    """Task with the recorded checksums of the files that it may read.

    A task of a whole FOV, or of several, gets those of tables only, unless one of its parts declares that it reads
    images. `block_frames` is the number of frames of a block.
    """
    parts = [graph.by_kind[task.kind, step] for step in task.digests]
    needed = {name for part in parts for name in part.needs} if task.group else graph.upstream(p.name for p in parts)
    files = dict[str, Checksum]()
    for key in _related(task.key, ledger, task.group):
        for step, written in ledger.task(key).files.items():
            if needed.issuperset(_parts(graph, key, [step])):
                files |= written
    if scope_of(task.kind) == "chain" and task.block:
        before = ledger.task(task_key(task.kind, task.fov, task.block - 1)).files
        files |= {path: recorded for step in task.digests for path, recorded in before.get(step, {}).items()}
    if task.block is None and not any(part.reads for part in parts):
        files = {path: recorded for path, recorded in files.items() if f"/{IMAGES}/" not in path}
    files |= _read_back(task, parts, ledger, graph, block_frames)
    attributes = f"{fov_name(task.fov)}/{IMAGES}/{DOCUMENT}"
    if recorded := ledger.checksums(attributes):
        files[attributes] = recorded[0]
    return replace(task, inputs=files)


def _read_back(
    task: Task, parts: Iterable[Part], ledger: Ledger, graph: Graph, block_frames: int
) -> dict[str, Checksum]:
    """Recorded files of parts that are read instead of being made again, of the task's block and of those beside it."""
    files = dict[str, Checksum]()
    for name, reach in (each for part in parts for each in part.reads_back.items()):
        assert task.block is not None
        further = -(-reach // block_frames)
        for block in range(max(0, task.block - further), task.block + further + 1):
            key = task_key(graph.kind_of[name], task.fov, block)
            files |= ledger.task(key).files.get(graph.parts[name].step, {})
    return files


def derived_from(steps: Mapping[str, Iterable[Step]], ledger: Ledger, graph: Graph) -> dict[str, set[Step]]:
    """Recorded steps, by task key, that are made from any of the given ones, directly or not, and those themselves."""
    found: dict[str, set[Step]] = {}
    further = [(key, step) for key, of in steps.items() for step in of]
    while further:
        key, step = further.pop()
        if step not in found.setdefault(key, set()):
            found[key].add(step)
            if (later := _next_in_chain(key)) and step in ledger.task(later).done:
                further.append((later, step))
            made_from = {name for part in _parts(graph, key, [step]) for name in graph.made_from(part)}
            further += [
                (other, made)
                for other in _related(key, ledger)
                for made in ledger.task(other).done
                if not made_from.isdisjoint(_parts(graph, other, [made]))
            ]
    return found


def _related(key: str, ledger: Ledger, group: Collection[int] = ()) -> list[str]:
    """Recorded tasks of the same FOV, well or plate, but for those of other blocks."""
    _, fov, block = parse_key(key)
    keys = {other for member in group or ledger.groups.get(key, (fov,)) for other in ledger.keys_of(member)}
    return [other for other in keys if None in (block, of := parse_key(other).block) or of == block]


def _next_in_chain(key: str) -> str | None:
    """Key of the task of the next block, if it needs the result of this one."""
    kind, fov, block = parse_key(key)
    if block is None or not kind.startswith("chain"):
        return None
    return task_key(kind, fov, block + 1)


def _parts(graph: Graph, key: str, steps: Iterable[Step]) -> list[str]:
    """Names of the parts of some steps in a recorded task; those of steps that are no longer there are left out."""
    kind = parse_key(key).kind
    return [part.name for step in steps if (part := graph.by_kind.get((kind, step)))]


FaultOf = Callable[[Task, bool], str | None]
"""Gives what is wrong with the recorded files of a task, None if nothing; with True, parts of crops must be there too.

The parts of crops are removed when the crops are done.
"""


def remaining(plan: Plan, ledger: Ledger, steps: Iterable[Step] | None, fault_of: FaultOf) -> Plan:
    """Plan of what is not yet recorded as done.

    Parameters
    ----------
    plan
        Of the whole run.
    ledger
        What is recorded.
    steps
        The steps to do; None for all.
    fault_of
        Looks at the files that are recorded of a task.

    Raises
    ------
    PlanError
        If a chosen step needs one that is neither done nor chosen.
    """
    wanted = known_steps(plan, plan.steps if steps is None else steps)
    faults, undone = dict[str, str](), list[FovPlan]()
    for fov in plan.fovs:  # once, as the records of each FOV are read for it
        faults |= {task.key: found for task in fov.tasks if (found := fault_of(task, False))}
        undone.append(_undone(plan, fov, ledger, fault_of, faults, {}))
    damaged = {key: ledger.task(key).done for key, found in faults.items() if found != MISSING}
    if invalid := derived_from(damaged, ledger, plan.graph):
        undone = [_undone(plan, fov, ledger, fault_of, faults, invalid) for fov in plan.fovs]
    for fov in undone:
        _check_needs(plan.graph, fov, wanted)
    fovs = (fov.only(lambda task: {s: d for s, d in task.digests.items() if s in wanted}) for fov in undone)
    replaces = {
        fov.fov: of
        for fov, left in zip(plan.fovs, undone, strict=True)
        if left.tasks and (of := _replaced(plan.graph, fov, ledger))
    }
    return replace(plan, fovs=tuple(fovs), replaces=replaces)


def _replaced(graph: Graph, fov: FovPlan, ledger: Ledger) -> tuple[Step, ...]:
    found = set().union(*ledger.outdated(fov.fov, fov.tasks).values()) if fov.tasks else set()
    return tuple(step for step in graph.steps if step in found)


def known_steps(plan: Plan, steps: Iterable[Step]) -> set[Step]:
    """Check that steps are those of a run."""
    if unknown := set(steps) - set(plan.steps):
        if own := flow_of(plan.job.config).steps.get(min(unknown)):
            raise PlanError(_nothing_kept(own))
        like = difflib.get_close_matches(min(unknown), plan.steps, n=1)
        meant = f". Fix: did you mean {like[0]}?" if like else ". Fix: name one of these"
        raise PlanError(f"step {min(unknown)!r} is not one of this run's: {', '.join(plan.steps)}{meant}")
    return set(steps)


def _nothing_kept(own: Own) -> str:
    """Reason why a step of a user's own cannot be chosen: no task records it."""
    if own.gives:
        return (
            f"step {own.name!r} stores nothing: its images stay in memory, and are made again by each step that gets "
            "them. Fix: name one of those, or store its images with 'checkpoint: true'"
        )
    return f"step {own.name!r} gives columns of the traces, which 'extract' writes. Fix: name 'extract'"


def forced(plan: Plan, steps: Iterable[Step]) -> Plan:
    """Plan in which steps, and everything derived from them, are regenerated.

    Raises
    ------
    PlanError
        If a step is not one of the run's.
    """
    chosen = known_steps(plan, steps)
    of_steps = (part.name for part in plan.graph.parts.values() if part.step in chosen)
    return replace(plan, forced=frozenset(plan.graph.downstream(of_steps)))


def _undone(
    plan: Plan, fov: FovPlan, ledger: Ledger, fault_of: FaultOf, faults: Mapping[str, str],
    invalid: Mapping[str, Collection[Step]],
) -> FovPlan:  # fmt: skip
    """Leave what is not recorded, not there, or made from damaged files.

    Parameters
    ----------
    plan
        Of the whole run; its forced parts are regenerated, whatever is recorded.
    fov
        All tasks of a FOV.
    ledger
        What is recorded.
    fault_of
        Looks at the files that are recorded of a task.
    faults
        Tasks whose files are not as recorded, by key, and what is wrong: a missing file cannot have been read.
    invalid
        Recorded steps, by task key, that are made from damaged files.
    """
    contents = Contents(plan.job, ledger)

    def left(task: Task) -> Mapping[Step, str]:
        if faults.get(task.key, MISSING) != MISSING:
            return task.digests
        again = _with_missing(task, fault_of) if task.key in faults else set[Step]()
        again |= {step for step in task.digests if plan.graph.by_kind[task.kind, step].name in plan.forced}
        again |= set(invalid.get(task.key, ()))
        return {s: d for s, d in task.digests.items() if s in again or not contents.is_done(task, s)}

    undone = fov.only(left)
    for part in plan.graph.parts.values():
        if part.temporary:
            undone = _with_temporary(plan.graph, part, fov, undone, fault_of)
    return undone


def _with_missing(task: Task, fault_of: FaultOf) -> set[Step]:
    """Steps of a task of which files are missing."""
    alone = (replace(task, digests={step: digest}) for step, digest in task.digests.items())
    return {step for one in alone for step in one.digests if fault_of(one, False)}


def _with_temporary(graph: Graph, part: Part, fov: FovPlan, undone: FovPlan, fault_of: FaultOf) -> FovPlan:
    """Add the tasks that regenerate a part's removed files, if something that is made from them is to be done."""
    kind, open_steps = graph.kind_of[part.name], {task.key: task.digests for task in undone.tasks}
    if not any(
        graph.parts[name].step in task.digests
        for name in graph.made_from(part.name)
        for task in undone.stage(graph.kind_of[name])
    ):
        return undone

    def left(task: Task) -> Mapping[Step, str]:
        again = {part.step} if task.kind == kind and fault_of(task, True) is not None else set()
        return {s: d for s, d in task.digests.items() if s in open_steps.get(task.key, ()) or s in again}

    return fov.only(left)


def _check_needs(graph: Graph, fov: FovPlan, wanted: set[Step]) -> None:
    """Refuse to do a step whose input is neither there nor about to be made."""
    undone = {(task.kind, step) for task in fov.tasks for step in task.digests}
    for kind, step in sorted(undone):
        if step in wanted:
            for needed in map(graph.parts.__getitem__, graph.by_kind[kind, step].needs):
                if (graph.kind_of[needed.name], needed.step) in undone and needed.step not in wanted:
                    raise MissingStepError(
                        f"step '{step}' of FOV {fov.fov} needs '{needed.step}', "
                        "which is not done for these settings. Fix: do it first, or add it to --steps"
                    )
