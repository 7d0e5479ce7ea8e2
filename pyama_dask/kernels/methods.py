"""Methods by the names that a config gives them: built in, ``package.module:function``, or ``file.py:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
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


def find_method(kind: str, name: str) -> Method:
    """Find a method by its name in the config.

    Parameters
    ----------
    kind
        A key of `BUILT_IN`.
    name
        Name of a built-in method, ``package.module:function``, or ``path/to/file.py:function``.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    known = BUILT_IN[kind]
    if name in known:
        return known[name]
    module, colon, function = name.rpartition(":")
    if not colon:
        choices = ", ".join(known) or "none built in"
        raise ConfigError(f"{name!r} is not a {kind}; known are: {choices}; or name one as 'module:function'")
    try:
        found = getattr(_load(module), function)
    except (Exception, SystemExit) as error:  # a script may end the program when it is imported
        raise ConfigError(f"{kind} {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{kind} {name!r} is not a function")
    method: Method = found
    return method


def method_identity(name: str) -> str:
    """Name of a method, with a digest of the file that it is defined in if it is not built in."""
    module, colon, _ = name.rpartition(":")
    if not colon:
        return name
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
