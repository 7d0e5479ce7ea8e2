"""How a task goes through its block: piece by piece, step by step, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

from pyama_dask.steps.context import Bench
from pyama_dask.workflow.graph import Step


class Part:
    """What a step makes of a block.

    Pixels are there for one piece of the block only, so `piece` writes what was made of them. Tables are small, and
    collected until the `end`.
    """

    step: Step
    """Whose part it is: what it writes is recorded as that step's."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def frame(self, k: int) -> None:
        """Take in the piece's frame k."""

    def piece(self) -> None:
        """Write what was made of the piece."""

    def end(self) -> None:
        """Write what was made of the block."""


def go_through(bench: Bench, *rounds: Sequence[Part]) -> None:
    """Do all rounds of parts on a block; parts of one round take in each frame together.

    What a round has made of a piece is there for the rounds after it. What parts of a round share, such as the
    background of a frame, is made once and is never there for the whole piece.
    """
    for _ in bench.pieces():
        for parts in rounds:
            for k in range(len(bench.frames)):
                bench.check()
                for part in parts:
                    bench.step = part.step
                    part.frame(k)
            for part in parts:
                bench.step = part.step
                part.piece()
    for parts in rounds:
        for part in parts:
            bench.step = part.step
            part.end()
