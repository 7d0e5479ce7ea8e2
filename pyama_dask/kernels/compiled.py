"""How loops over pixels are compiled: at first call, kept on disk, and without holding the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile a function with numba at its first call; the machine code is cached beside the module."""
    return cast("Loop", numba.njit(cache=True, nogil=True)(loop))
