"""Speed of an active run, from the receipts of its tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pyama_dask.runs.snapshot import Rate, WorkerProgress
from pyama_dask.store.records import Cost
from pyama_dask.workflow.kinds import Kind
from pyama_dask.workflow.task import parse_key

MINUTE, SPAN = 60.0, 600.0
"""Seconds over which speeds are measured."""


@dataclass(frozen=True)
class Pace:
    """Speed of an active run."""

    costs: Sequence[Cost]
    began: float
    """Begin of the first task."""
    now: float

    def rate(self, frames_of: Callable[[str], float]) -> Rate | None:
        """Frames per second, from the ends of the tasks; None before the first one."""
        if not any(cost.begun for cost in self.costs):
            return None
        return Rate(*(self._per_second(span, lambda cost: frames_of(cost.key)) for span in (MINUTE, SPAN)))

    def _per_second(self, span: float, amount: Callable[[Cost], float]) -> float:
        """Amount that ended per second, in the last seconds of the run."""
        since = max(self.now - span, self.began)
        ended = sum(amount(cost) for cost in self.costs if cost.begun and cost.end > since)
        return ended / max(self.now - since, 1.0)

    def seconds_left(self, left: Mapping[Kind, int], todo: Mapping[Kind, int] | None) -> float | None:
        """Time that the tasks left take, at the mean durations of their kinds and the present number of workers.

        Parameters
        ----------
        left
            Unfinished tasks of the plan by kind.
        todo
            Tasks that this run had to do by kind; None if unknown.
        """
        durations = defaultdict[Kind, list[float]](list)
        for cost in self.costs:
            durations[parse_key(cost.key).kind].append(cost.seconds)
        at_once = self._per_second(SPAN, lambda cost: cost.seconds)
        if not at_once:
            return None
        mean = {kind: sum(of) / len(of) for kind, of in durations.items()}
        unseen = sum(mean.values()) / len(mean)
        ours = {
            kind: n if todo is None else min(n, max(0, int(todo.get(kind, 0)) - len(durations.get(kind, ()))))
            for kind, n in left.items()
        }
        return sum(n * mean.get(kind, unseen) for kind, n in ours.items()) / at_once


def workers_of(
    costs: Iterable[Cost], began: float, now: float, on_gpu: Collection[str] = ()
) -> tuple[WorkerProgress, ...]:
    """Work of each worker; receipts of older versions do not name theirs. `on_gpu` are tasks that were done on one."""
    of: dict[str, list[Cost]] = {}
    for cost in costs:
        if cost.worker:
            of.setdefault(cost.worker, []).append(cost)
    found = (_progress_of(name, of[name], max(now - SPAN, began), now) for name in sorted(of))
    return tuple(replace(one, has_gpu=any(cost.key in on_gpu for cost in of[one.worker])) for one in found)


def _progress_of(name: str, costs: Sequence[Cost], since: float, now: float) -> WorkerProgress:
    within = sum(max(0.0, cost.end - max(cost.begun, since)) for cost in costs)
    seconds, last = sum(cost.seconds for cost in costs), max(cost.end for cost in costs)
    return WorkerProgress(name, len(costs), seconds, min(1.0, within / max(now - since, 1.0)), last)
