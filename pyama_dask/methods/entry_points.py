"""Loading of user code by name: an installed entry point, ``module:name``, or ``file.py:name``.

Installed code is an entry point of another package, in a group such as ``pyama_dask.segmenters``:

    [project.entry-points."pyama_dask.segmenters"]
    mine = "my_package.segmentation:segment"
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Collection
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points, files, metadata, packages_distributions, version
from pathlib import Path
from types import CodeType
from typing import Any

from pyama_dask.config.units import exception_text
from pyama_dask.errors import ConfigError


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


def places(group: str, known: Collection[str]) -> dict[str, str]:
    """Origin of each named object in a group; the names in `known` belong to this package and take precedence."""
    theirs = {
        name: f"{entry.value}, of {entry.dist.name}" if entry.dist else entry.value
        for name, entry in installed(group).items()
        if name not in known
    }
    return dict.fromkeys(known, "pyama_dask") | theirs


def load(kind: str, group: str, name: str, known: Collection[str]) -> Any:
    """Load an object that does not belong to this package.

    Parameters
    ----------
    kind
        Kind of object, for messages.
    group
        Group of its entry points.
    name
        Name of an entry point, ``package.module:name``, or ``path/to/file.py:name``.
    known
        Names of this package's objects, for messages.

    Raises
    ------
    ConfigError
        If there is no such object, or loading it fails.
    """
    module, attribute = _place(kind, group, name, known)
    try:
        loaded = _module(module)
    except (Exception, SystemExit, GeneratorExit) as error:  # importing a script may exit
        raise ConfigError(f"{kind} {name!r} cannot be loaded: {exception_text(error)}") from error
    try:
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
    except Exception as error:  # a module may define `__getattr__`
        like = nearest(attribute, vars(_module(module)))
        raise ConfigError(f"{kind} {name!r} cannot be loaded: {module} has no {attribute!r}{like}") from error
    return loaded


def identity(kind: str, group: str, name: str, known: Collection[str]) -> str:
    """Name of an object, with a digest of its source file unless it belongs to this package.

    Parameters
    ----------
    kind, group, name, known
        As for `load`.

    Raises
    ------
    ConfigError
        If there is no such object.
    """
    if name in known:
        return name
    module, _ = _place(kind, group, name, known)
    file = Path(module) if module.endswith(".py") else Path(str(getattr(_module(module), "__file__", "")))
    return f"{name}@{content_of(file)}"


def distribution(kind: str, group: str, name: str, known: Collection[str]) -> str:
    """Name and version of the installed package that an object belongs to; '' for this package and users' files.

    Packages that are installed in editable form count as users' files.

    Parameters
    ----------
    kind, group, name, known
        As for `load`.
    """
    if name in known:
        return ""
    module, _ = _place(kind, group, name, known)
    file = "" if module.endswith(".py") else getattr(_module(module), "__file__", None)
    return _owner(module.partition(".")[0], Path(file)) if file else ""


@cache
def _owner(package: str, file: Path) -> str:
    for name in packages_distributions().get(package, ()):
        mine = (entry for entry in files(name) or () if entry.name == file.name)
        if any(Path(str(entry.locate())).resolve() == file.resolve() for entry in mine):
            return f"{metadata(name)['Name']} {version(name)}"
    return ""


def defined_at(function: Any) -> str:
    """File and line of a function, as `` (FILE, line N)``; '' for compiled functions."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""


def line_of(error: BaseException | None, function: Any) -> str:
    """Line of a function's file in which an exception was raised, as ``, in line N``; '' if it was elsewhere."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    file = getattr(code, "co_filename", None)
    frames = traceback.extract_tb(error.__traceback__) if error else []
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f", in line {lines[-1]}" if lines else ""


def _place(kind: str, group: str, name: str, known: Collection[str]) -> tuple[str, str]:
    """Module or file, and the name in it."""
    if entry := installed(group).get(name):
        return entry.module, entry.attr
    module, colon, attribute = name.rpartition(":")
    if not colon:
        choices = ", ".join(places(group, known)) or "none built in"
        raise ConfigError(
            f"{name!r} is not a {kind}; known are: {choices}. Fix: use one, or 'file.py:name' or 'module:name'"
            f"{nearest(name, places(group, known))}"
        )
    return module, attribute


def nearest(name: str, known: Collection[str]) -> str:
    """Suggest the known names that resemble an unknown one; '' if none does."""
    like = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(like)}?" if like else ""


_LOADING = threading.RLock()
"""Held while a file is loaded, as other threads find its module before it is complete."""


def content_of(path: Path) -> str:
    """Digest of the content of a file; '' if it is absent."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.is_file() else ""


def _module(module: str) -> Any:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    if path.exists() and not path.is_file():  # reading a pipe would wait for a writer
        raise ImportError(f"{path} is not a file")
    place = hashlib.blake2b(bytes(path), digest_size=8).hexdigest()
    name = f"pyama_dask_file_{path.stem}_{place}_{content_of(path)}"  # so a long-lived worker reloads a changed file
    with _LOADING:
        return sys.modules.get(name) or _load_file(name, path)


class _FromSource(SourceFileLoader):
    """Loads a file from its source, always: compiled code of an edited file may look up to date.

    Python compares times in seconds, and sizes. No compiled code is written beside the file either.
    """

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  (of importlib)
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses of the file look it up
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded
