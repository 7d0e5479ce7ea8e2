"""Methods by the names that a config gives them: built in, installed, ``module:function`` or ``file.py:function``.

Installed ones are entry points of other packages, in the groups of `GROUPS`:

    [project.entry-points."pyama_dask.segmenters"]
    mine = "my_package.segmentation:segment"
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pyama_dask.errors import ConfigError
from pyama_dask.kernels.features import INTENSITY_FEATURES, SHAPE_FEATURES
from pyama_dask.kernels.segmentation import segment
from pyama_dask.kernels.tracking import link

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


@cache
def installed(kind: str) -> dict[str, EntryPoint]:
    """Methods of a kind that other packages bring, by name; those of this package go before them."""
    return {entry.name: entry for entry in entry_points(group=GROUPS[kind]) if entry.name not in BUILT_IN[kind]}


def known_methods() -> dict[str, dict[str, str]]:
    """Where each method that has a name comes from, by kind and name."""
    own = {kind: dict.fromkeys(names, "pyama_dask") for kind, names in BUILT_IN.items()}
    return {
        kind: names | {name: f"{entry.value}, of {entry.dist.name}" if entry.dist else entry.value
                       for name, entry in installed(kind).items()}
        for kind, names in own.items()
    }  # fmt: skip


def find_method(kind: str, name: str) -> Method:
    """Find a method by its name in the config.

    Parameters
    ----------
    kind
        A key of `BUILT_IN`.
    name
        Name of a built-in or installed method, ``package.module:function``, or ``path/to/file.py:function``.

    Raises
    ------
    ConfigError
        If there is no such method, or it does not take what methods of its kind are given.
    """
    if name in BUILT_IN[kind]:
        return BUILT_IN[kind][name]
    module, function = _place(kind, name)
    try:
        found = _load(module)
        for part in function.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a script may end the program when it is imported
        raise ConfigError(f"{kind} {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{kind} {name!r} is not a function")
    method: Method = found
    _check_takes_data(kind, name, method)
    return method


def _place(kind: str, name: str) -> tuple[str, str]:
    """Module, or file, and function of a method that is not built in."""
    if entry := installed(kind).get(name):
        return entry.module, entry.attr
    module, colon, function = name.rpartition(":")
    if not colon:
        choices = ", ".join([*BUILT_IN[kind], *installed(kind)]) or "none built in"
        raise ConfigError(f"{name!r} is not a {kind}; known are: {choices}; or name one as 'module:function'")
    return module, function


def _check_takes_data(kind: str, name: str, method: Method) -> None:
    """Refuse a method that cannot be called with its data alone; its parameters are keywords, with defaults."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # of a compiled function, which may take anything
        return
    try:
        signature.bind(None, **{key: None for key, of in signature.parameters.items() if of.kind is of.KEYWORD_ONLY})
    except TypeError as error:
        code = getattr(inspect.unwrap(method), "__code__", None)
        where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        raise ConfigError(
            f"{kind} {name!r}{where} has the signature {signature}, but must take one argument, what it works on, and "
            f"its parameters as keywords after a '*': {error}"
        ) from error


def is_plugin(kind: str, name: str) -> bool:
    """Whether a method is code that does not come with the package."""
    return name not in BUILT_IN[kind]


def method_identity(kind: str, name: str) -> str:
    """Name of a method, with a digest of the file that it is defined in if it is not built in."""
    if not is_plugin(kind, name):
        return name
    module, _ = _place(kind, name)
    found = Path(module) if module.endswith(".py") else Path(str(getattr(_load(module), "__file__", "")))
    return f"{name}@{_content(found)}"


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.is_file() else ""


def _load(module: str) -> Any:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    name = f"pyama_dask_file_{path.stem}_{_content(path)}"  # a worker that lives long loads what was edited anew
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    sys.modules[name] = loaded
    return loaded
