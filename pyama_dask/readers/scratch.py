"""Memory that is used again for each frame, because touching new memory takes as long as reading into it."""

from __future__ import annotations

import os
import threading

import numpy as np
import numpy.typing as npt

MOST_KEPT = 2**24
"""Bytes for a purpose that are kept between two frames; a plan does not count them."""


def fill(file: int, data: npt.NDArray[np.uint8], offset: int) -> bool:
    """Fill `data` with the bytes of a file from `offset` on, without moving its position.

    Parameters
    ----------
    file
        Descriptor of the open file.
    data
        Contiguous bytes.
    offset
        First byte in the file.

    Returns
    -------
    False if the file ends before.
    """
    rest = data.data
    while rest:  # a call may read less
        count = os.preadv(file, [rest], offset)
        if not count:
            return False
        rest, offset = rest[count:], offset + count
    return True


class Scratch(threading.local):
    """Memory of a reader, separate for each thread that reads."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[np.uint8]] = {}

    def get(self, purpose: str, count: int) -> npt.NDArray[np.uint8]:
        """Return `count` bytes of undefined content, which are valid until the next call for the same purpose."""
        held = self._held.get(purpose)
        if held is None or held.size < count:
            held = np.empty(count, np.uint8)
            if count <= MOST_KEPT:
                self._held[purpose] = held
        return held[:count]
