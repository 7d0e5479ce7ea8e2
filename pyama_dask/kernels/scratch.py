"""Arrays of the size of a frame in memory that is used again: memory that is new to a process costs more than clearing.

An array may be kept, returned and written to like any other: its memory is used again only when the array and all
views of it are gone.
"""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np
import numpy.typing as npt

MOST, MOST_FREE = 32, 256 * 2**20
"""Largest number of pieces of memory that a thread knows, and bytes of those that it keeps for arrays to come."""


class _Pieces(threading.local):
    """Memory of the last arrays of a thread, and weak references to what holds it."""

    def __init__(self) -> None:
        self.known: list[tuple[memoryview, weakref.ref[np.ndarray]]] = []


_pieces = _Pieces()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Array with arbitrary content, in memory of an earlier array of this thread if one of the same size is free."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.empty(shape, dtype)
    memory = _free(size) or np.empty(size, np.uint8).data
    holder = np.frombuffer(memory, dtype)  # every view keeps this array, and not the memory alone, as that is no array
    _pieces.known = [*_pieces.known[1 - MOST :], (memory, weakref.ref(holder))]
    _free_oldest()
    return holder.reshape(shape)


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
    """Array of zeros, as `empty`."""
    found = empty(shape, dtype)
    found.fill(0)
    return found


def _free_oldest() -> None:
    """Free the oldest pieces that nothing holds, as far as they are too large together."""
    free = [place for place, (_, holder) in enumerate(_pieces.known) if holder() is None]
    total = sum(_pieces.known[place][0].nbytes for place in free)
    for freed, place in enumerate(free):
        if total <= MOST_FREE:
            return
        total -= _pieces.known[place - freed][0].nbytes
        del _pieces.known[place - freed]


def _free(size: int) -> memoryview | None:
    """Take memory of a number of bytes that nothing holds out of what is known."""
    for place, (memory, holder) in enumerate(_pieces.known):
        if memory.nbytes == size and holder() is None:
            del _pieces.known[place]
            return memory
    return None
