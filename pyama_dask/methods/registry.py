"""Methods by the names that a config gives them: built in, installed, ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pyama_dask.errors import ConfigError
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import link
from pyama_dask.methods import entry_points
from pyama_dask.methods.optional import READY, Ready

Method = Callable[..., Any]

BUILT_IN: Mapping[str, Mapping[str, Method]] = {
    "segmenter": {"logstd": segment},
    "tracker": {"iou": link},
    "preprocessor": {},
    "phase feature": SHAPE_FEATURES,
    "fluorescence feature": INTENSITY_FEATURES,
}
"""What comes with the package, by kind and name."""
GROUPS: Mapping[str, str] = {
    "segmenter": "pyama_dask.segmenters",
    "tracker": "pyama_dask.trackers",
    "preprocessor": "pyama_dask.preprocessors",
    "phase feature": "pyama_dask.phase_features",
    "fluorescence feature": "pyama_dask.fluorescence_features",
}
"""Groups of entry points, by kind of method."""


def known_methods() -> dict[str, dict[str, str]]:
    """Where each method that has a name comes from, by kind and name."""
    return {
        kind: entry_points.places(group, _of_here(kind))
        | {name: ready.place for name, ready in READY.get(kind, {}).items()}
        for kind, group in GROUPS.items()
    }


def _of_here(kind: str) -> tuple[str, ...]:
    """Names of the methods of a kind that this package has, built in or ready."""
    return (*BUILT_IN[kind], *READY.get(kind, ()))


def ready_method(kind: str, name: str) -> Ready | None:
    """Ready plugin of a name, if it is one."""
    return READY.get(kind, {}).get(name)


def find_method(kind: str, name: str) -> Method:
    """Find a method by its name in the config.

    Parameters
    ----------
    kind
        A key of `BUILT_IN`.
    name
        Name of a built-in, ready or installed method, ``package.module:function``, or ``path/to/file.py:function``.

    Raises
    ------
    ConfigError
        If there is no such method, it needs a package that is not installed, or it does not take what methods of its
        kind are given.
    """
    if name in BUILT_IN[kind]:
        return BUILT_IN[kind][name]
    if ready := ready_method(kind, name):
        try:
            of_ready: Method = ready.load()
        except ConfigError as error:
            raise ConfigError(f"{kind} {name!r} {error}") from error
        return of_ready
    found = entry_points.load(kind, GROUPS[kind], name, _of_here(kind))
    if not callable(found):
        raise ConfigError(f"{kind} {name!r} is not a function")
    method: Method = found
    _check_takes_data(kind, name, method)
    return method


def _check_takes_data(kind: str, name: str, method: Method) -> None:
    """Refuse a method that cannot be called with its data alone; its parameters are keywords, with defaults."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # of a compiled function, which may take anything
        return
    try:
        signature.bind(None, **{key: None for key, of in signature.parameters.items() if of.kind is of.KEYWORD_ONLY})
    except TypeError as error:
        raise ConfigError(
            f"{kind} {name!r}{entry_points.defined_at(method)} has the signature {signature}, but must take one "
            f"argument, what it works on, and its parameters as keywords after a '*': {error}"
        ) from error


def is_plugin(kind: str, name: str) -> bool:
    """Whether a method is code that does not come with the package."""
    return name not in BUILT_IN[kind]


def method_identity(kind: str, name: str) -> str:
    """Name of a method, with a digest of its file if it is not built in; with its package's version if it is ready."""
    if ready := ready_method(kind, name):
        return f"{name}@{ready.version}"
    return entry_points.identity(kind, GROUPS[kind], name, _of_here(kind))
