"""The graph of steps with other parts, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyama_dask.steps.standard import GRAPH
from pyama_dask.workflow.graph import Part

USUAL = tuple(step for step in GRAPH.steps if step not in ("plate", "drift"))
"""Steps of a run that writes no plate."""


@contextmanager
def graph_of(*parts: Part) -> Iterator[None]:
    """Give `GRAPH` other parts within the block, in this process."""
    before = tuple(GRAPH.parts.values())
    vars(GRAPH).clear()
    GRAPH.__init__(parts)
    try:
        yield
    finally:
        vars(GRAPH).clear()
        GRAPH.__init__(before)
