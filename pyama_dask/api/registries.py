"""Features and preprocessors that scripts register, and the names by which workers find them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from pyama_dask.config.function_names import named
from pyama_dask.errors import ConfigError
from pyama_dask.methods.objects import ExtractionContext
from pyama_dask.methods.registry import BUILT_IN, FLUORESCENCE, PHASE

__all__ = ["FLUORESCENCE_FEATURES", "PHASE_FEATURES", "ExtractionContext", "register_preprocessor"]

Function = Callable[..., Any]


class Features(MutableMapping[str, Function]):
    """Features of a kind by name: the built-in ones, and those that a script adds, ``PHASE_FEATURES["name"] = f``.

    A function takes image, mask and context of one cell, and returns a number (docs/methods.md). Workers import it, so
    that it must stand at the top level of a file.

    Parameters
    ----------
    kind
        Kind of methods that they are.
    """

    def __init__(self, kind: str) -> None:
        self._known: dict[str, Function] = dict(BUILT_IN[kind])
        self._places: dict[str, str] = {}

    def __setitem__(self, name: str, function: Function) -> None:
        if not name.isidentifier():
            raise ConfigError(f"feature {name!r}: must consist of letters, digits and _, as it names a column")
        self._places[name] = named(function)
        self._known[name] = function

    def __getitem__(self, name: str) -> Function:
        return self._known[name]

    def __delitem__(self, name: str) -> None:
        del self._known[name]
        self._places.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def in_config(self, name: str) -> str:
        """Name of a feature in a config."""
        return f"{name} = {self._places[name]}" if name in self._places else name


PHASE_FEATURES, FLUORESCENCE_FEATURES = Features(PHASE), Features(FLUORESCENCE)
PREPROCESSORS: list[str] = []
"""Names in a config of the registered preprocessors, in the order of their use."""


def list_phase_features() -> list[str]:
    """Names of all features of phase contrast."""
    return list(PHASE_FEATURES)


def list_fluorescence_features() -> list[str]:
    """Names of all features of fluorescence."""
    return list(FLUORESCENCE_FEATURES)


def register_preprocessor(preprocessor: Any) -> None:
    """Let all later runs of this script apply a preprocessor to phase-contrast frames before segmentation.

    Parameters
    ----------
    preprocessor
        Object with a method ``process(image)``, or a function of an image: (H, W) uint8 or uint16, and returns the
        same. Workers make it again: its class, and its parameters unless they are the defaults, must stand in a file.

    Raises
    ------
    ConfigError
        If workers cannot make or import it.
    """
    name = _place_of(preprocessor)
    if name not in PREPROCESSORS:
        PREPROCESSORS.append(name)


def _place_of(preprocessor: Any) -> str:
    """Name of a function or class in a config, or of an object at the top level of the file of its class."""
    if not callable(getattr(preprocessor, "process", None)) or isinstance(preprocessor, type):
        return named(preprocessor)
    made = type(preprocessor)
    place = named(made)
    for name, value in vars(sys.modules[made.__module__]).items():
        if value is preprocessor:
            return f"{place.rpartition(':')[0]}:{name}"
    if not _is_like_new(preprocessor):
        raise ConfigError(
            f"preprocessor {made.__qualname__}: differs from {made.__qualname__}(), which is what workers make. "
            "Fix: give it a name at the top level of the file of its class, or make its parameters the defaults"
        )
    return place


def _is_like_new(given: Any) -> bool:
    """Check whether an object equals one that its class makes without parameters."""
    try:
        return bool(vars(given) == vars(type(given)()))
    except Exception:  # noqa: BLE001  (user code may raise anything, and arrays have no single truth)
        return False
