"""Parts of steps in a task: on a block frame by frame, on a FOV one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import chain, zip_longest
from typing import Any, Self

import numpy as np

from pyama_dask.steps.context import TaskContext
from pyama_dask.workflow.graph import Graph, Part, Step
from pyama_dask.workflow.kinds import on_blocks


class BlockPart:
    """A part of a step on a block.

    Pixels are there for one batch of frames only, so `batch` writes what was made of them. Tables are small, and
    collected until the `end`.

    Parameters
    ----------
    context
        Arrays and files of the task.
    step
        Step as which its files, warnings and time are recorded.
    """

    def __init__(self, context: TaskContext, step: Step) -> None:
        self._context, self.step = context, step

    @classmethod
    def passes(cls, context: TaskContext, step: Step) -> Sequence[Self]:
        """Instances that do the part, each in a pass over the frames; usually one."""
        return [cls(context, step)]

    def frame(self, k: int) -> None:
        """Process frame k of the batch."""

    def batch(self) -> None:
        """Write the arrays of the batch."""

    def end(self) -> None:
        """Write the tables of the block."""


def run_parts(context: TaskContext, graph: Graph) -> None:
    """Do all parts of a task."""
    rounds = graph.rounds(context.task.kind, context.task.digests)
    if on_blocks(context.task.kind):
        go_through(context, passes_of(context, rounds))
        return
    for part in chain.from_iterable(rounds):
        context.begin(part.step)
        function: Callable[[TaskContext], None] = load(part.do)
        function(context)
    for part, wider in graph.readers(context.task.kind, context.task.digests):
        if part.active(context.job.config):
            context.begin(wider.step)
            blocks: Sequence[Sequence[np.ndarray]] = load(part.reads_from[wider.name])(context)
            context.provides[wider.step][part.name] = [digest_arrays(arrays) for arrays in blocks]


def digest_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Digest of the types, shapes and values of arrays."""
    found = hashlib.blake2b(digest_size=12)
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def passes_of(context: TaskContext, rounds: Iterable[Iterable[Part]]) -> list[list[BlockPart]]:
    """Parts of each pass over the frames; a round has several passes where a part needs them."""
    found: list[list[BlockPart]] = []
    for parts in rounds:
        instances = [load(part.do).passes(context, part.step) for part in parts]
        found += [[part for part in of_pass if part is not None] for of_pass in zip_longest(*instances)]
    return found


def load(code: str) -> Any:
    """Import the class or function that a part names as ``module:name``."""
    module, _, name = code.partition(":")
    return getattr(import_module(module), name)


def go_through(context: TaskContext, passes: Sequence[Sequence[BlockPart]]) -> None:
    """Go over the frames of a block; parts of one pass process each frame together.

    Arrays that a pass has made of a batch are there for the passes after it. What parts of a pass share, such as the
    background of a frame, is made once and is never there for the whole batch.
    """
    for _ in context.batches():
        for parts in passes:
            for k in range(len(context.frames)):
                context.check()
                for part in parts:
                    context.begin(part.step)
                    part.frame(k)
            for part in parts:
                context.begin(part.step)
                part.batch()
    for parts in passes:
        for part in parts:
            context.begin(part.step)
            part.end()
