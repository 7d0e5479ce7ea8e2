"""Compilation of pixel loops with numba: at the first call, cached on disk, without holding the GIL."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile a function with numba at its first call.

    The machine code is cached in ``NUMBA_CACHE_DIR``, the module's folder or the user's cache folder, whichever is the
    first that is writable. If none is writable, every process compiles for itself.
    """
    dispatcher: Any = numba.njit(nogil=True)(loop)
    with suppress(RuntimeError):  # numba found no writable folder
        dispatcher._cache = OptionalCache(loop)
    return cast("Loop", dispatcher)


def load_cached(module: ModuleType) -> None:
    """Load the machine code of a module's functions from the cache, for all types of arguments; compile nothing."""
    for loop in _loops(module):
        for types in loop._cache.signatures() if isinstance(loop._cache, OptionalCache) else ():
            code = None if types in loop.overloads else loop._cache.load_overload(types, loop.targetctx)
            if code is not None:
                loop.targetctx.insert_user_function(code.entry_point, code.fndesc, [code.library])
                loop.add_overload(code)


def lacks_code(module: ModuleType) -> list[str]:
    """Names of a module's functions without machine code for this processor, in the process or in the cache."""
    return [loop.__name__ for loop in _loops(module) if not loop.overloads and not _holds_code(loop._cache)]


def _holds_code(cache: Any) -> bool:
    return isinstance(cache, OptionalCache) and cache.holds_code()


def _loops(module: ModuleType) -> list[Any]:
    return [value for value in vars(module).values() if isinstance(value, Dispatcher)]


def cache_folder() -> Path | None:
    """Folder that caches this package's machine code; None if no folder is writable."""
    with suppress(RuntimeError):
        return Path(FunctionCache(compiled).cache_path)
    return None


def target() -> str:
    """Version of numba and type of processor that cached machine code is valid for."""
    return f"{numba.__version__} {cpu_target.target_context.codegen().magic_tuple()}"


INSTRUCTION_SETS = ("avx512f", "avx2", "avx", "sse2", "neon")
"""Vector instructions for which libraries have separate loops, the widest first."""


def instruction_set() -> str:
    """Kind of this machine's processor: architecture and widest vector instructions, such as ``x86_64 avx2``."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    has = {feature.removeprefix("+") for feature in str(features).split(",") if feature.startswith("+")}
    return f"{platform.machine()} {next((name for name in INSTRUCTION_SETS if name in has), '')}".strip()


class OptionalCache:
    """Numba's function cache that ignores full disks and damaged files."""

    def __init__(self, loop: Callable[..., object]) -> None:
        self._cache: Any = FunctionCache(loop)
        self.cache_path = self._cache.cache_path

    def signatures(self) -> list[Any]:
        """Types of arguments with machine code, perhaps for another processor; [] if they are not known."""
        return [key[0] for key in self._keys()]

    def holds_code(self) -> bool:
        """Check whether there is machine code for this processor, for any types of arguments."""
        return any(key[1] == cpu_target.target_context.codegen().magic_tuple() for key in self._keys())

    def _keys(self) -> list[Any]:
        """Types of arguments, processor and digest of each machine code; [] if they are not known."""
        try:
            return list(self._cache._cache_file._load_index())
        except Exception:  # noqa: BLE001  (numba does not document these names)
            return []

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Load the machine code for a signature; None if it is absent or unreadable."""
        try:
            return self._cache.load_overload(signature, target)
        except Exception:  # noqa: BLE001  (a damaged pickle may raise anything)
            with suppress(OSError):
                self._cache.flush()
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Save the machine code for a signature, if the disk has space."""
        with suppress(OSError):
            self._cache.save_overload(signature, code)
