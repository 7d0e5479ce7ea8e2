"""Maps of a function over batches of data, such as fits over thousands of cells: the interface, and the map here.

Nothing is recorded, so this is for work that is short compared with a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class BatchMap(Protocol):
    """Maps a function over batches, in any order."""

    def map(
        self, name: str, function: Callable[[Batch], Result], batches: Iterable[Batch], cancel: threading.Event
    ) -> Iterator[tuple[int, Result]]:
        """Apply a function to each batch.

        Parameters
        ----------
        name
            Name of the computation on the dashboard.
        function
            Picklable function; what it raises is raised here.
        batches
            Batches, taken one by one as workers become free.
        cancel
            Set it to stop early.

        Yields
        ------
        Number and result of each batch as it finishes.
        """
        ...


class SerialMap:
    """Computes batches one after the other in this process."""

    def map(
        self, name: str, function: Callable[[Batch], Result], batches: Iterable[Batch], cancel: threading.Event
    ) -> Iterator[tuple[int, Result]]:
        """Apply a function to each batch; see `BatchMap.map`."""
        del name  # there is no dashboard
        for number, batch in enumerate(batches):
            if cancel.is_set():
                return
            yield number, function(batch)
