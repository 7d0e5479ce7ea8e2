"""Sequences of tasks that hold them as bytes: as objects, the tasks of a long plan would take four times the memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import overload

from pyama_dask.workflow.task import Task

RECENT = 32
"""FOVs whose tasks are held as objects after they were asked for."""


class _Tasks(Sequence[Task]):
    """Tasks that equal others in the same order."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Task, ...]: ...
    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:
        """Task, or tasks, by number."""
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # its tasks have none


class PackedTasks(_Tasks):
    """Tasks of a FOV."""

    __slots__ = ("_count", "_packed")

    def __init__(self, tasks: Iterable[Task]) -> None:
        held = tuple(tasks)
        self._packed, self._count = pickle.dumps(held), len(held)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        return iter(_unpacked(self._packed))

    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:  # type: ignore[override]
        """Task, or tasks, by number."""
        return _unpacked(self._packed)[index]


class JoinedTasks(_Tasks):
    """Tasks of several FOVs, one FOV after the other."""

    __slots__ = ("_of_fovs",)

    def __init__(self, of_fovs: Sequence[Sequence[Task]]) -> None:
        self._of_fovs = of_fovs

    def __len__(self) -> int:
        return sum(map(len, self._of_fovs))

    def __iter__(self) -> Iterator[Task]:
        return chain.from_iterable(self._of_fovs)


@lru_cache(maxsize=RECENT)
def _unpacked(packed: bytes) -> tuple[Task, ...]:
    tasks: tuple[Task, ...] = pickle.loads(packed)
    return tasks
