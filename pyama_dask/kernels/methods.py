"""Methods by the names that a config gives them: built in, ``package.module:function``, or ``file.py:function``."""

from __future__ import annotations

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
    except Exception as error:
        raise ConfigError(f"{kind} {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{kind} {name!r} is not a function")
    method: Method = found
    return method


def _load(module: str) -> Any:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    name = f"pyama_dask_file_{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    sys.modules[name] = loaded
    return loaded
