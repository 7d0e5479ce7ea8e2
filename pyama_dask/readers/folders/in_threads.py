"""A function over many files: servers answer several requests together faster than one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

from pyama_dask.files.threads import Threads

AT_ONCE = 16
"""Number of threads."""
_LARGEST = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function, which mostly waits for files, with each item.

    Parameters
    ----------
    function
        Function of one item.
    items
        The items; threads take them in batches, since handing over each one costs more than a call.

    Returns
    -------
    Results in the order of the items.
    """
    size = min(max(len(items) // (4 * AT_ONCE), 1), _LARGEST)
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    with Threads(AT_ONCE, "files") as threads:
        return list(chain.from_iterable(threads.map(lambda batch: [function(item) for item in batch], batches)))
