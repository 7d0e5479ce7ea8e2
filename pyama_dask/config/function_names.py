"""Names by which workers find a function that a script gives: ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pyama_dask.config.units import quoted
from pyama_dask.errors import ConfigError

_OF_FILES = "pyama_dask_file_"
"""Beginning of the names of modules that are loaded from a file."""


_TITLED = re.compile(r"([A-Za-z_]\w*) = (.+)")


def title_and_name(given: str) -> tuple[str, str]:
    """Split the name of a feature in a config into its title, which names columns, and the name of its function.

    Parameters
    ----------
    given
        ``title = file.py:function``, or the name of a function alone, which is its title, too.
    """
    found = _TITLED.fullmatch(given)
    return (found[1], found[2]) if found else (given.rpartition(":")[2], given)


def named(function: str | Callable[..., Any]) -> str:
    """Name of a function in a config; a text is returned as it is.

    Parameters
    ----------
    function
        Function of a module that can be imported, or of a script with a guard ``if __name__ == "__main__":``.

    Returns
    -------
    ``module:function``, or ``/path/to/file.py:function`` for a function of the script that runs.

    Raises
    ------
    ConfigError
        If a worker cannot find the function by a name: a lambda, a nested function, a bound method, a partial, an
        object that is no function, or a function that is typed into a notebook or a console.
    """
    if isinstance(function, str):
        return function
    _check_kind(function)
    name = str(getattr(function, "__qualname__", getattr(function, "__name__", "")))
    module = str(getattr(function, "__module__", None) or "")
    if module == "__main__":
        script = _script(function, name)
        return f"{_main_name() or script}:{name}"
    if module.startswith(_OF_FILES):
        return f"{_file(function)}:{name}"
    for place in (module.partition("._")[0], module):  # rather the public module than a private one below it
        if _at(place, name) is function:
            return f"{place}:{name}"
    fix = "give its name as a text, such as 'module:function'"
    raise _refused(function, f"is not found by its name in {module or 'a module'}", fix)


def _check_kind(function: Any) -> None:
    """Refuse what has no name by which another process could find it."""
    name = str(getattr(function, "__qualname__", ""))
    if not callable(function):
        raise ConfigError(
            f"{quoted(function)} is neither a function nor its name. Fix: give a function, or a text such as "
            "'module:function'"
        )
    if isinstance(function, functools.partial):
        fix = "give the function, and its parameters as keywords of the step: Step(function, sigma=2)"
        raise _refused(function, "is a partial, which has no name", fix)
    if not isinstance(getattr(function, "__self__", None), ModuleType | None):
        fix = "move the code to a function of a module, and give what it reads from the object as parameters"
        raise _refused(function, "is a method of an object, which workers do not have", fix)
    if name.rpartition(".")[2] == "<lambda>":
        raise _refused(function, "is a lambda, which has no name", "write it with def, at the top of a file")
    if "<locals>" in name:
        fix = "move it to the top level of its file, and give what it reads from outside as parameters"
        raise _refused(function, "is defined within another function", fix)
    if not name and not hasattr(function, "__name__"):
        raise _refused(function, "is an object that can be called, and has no name", "write a function that calls it")


def _refused(function: Any, problem: str, fix: str) -> ConfigError:
    return ConfigError(f"{_quoted(function)} {problem}; workers find functions by their names. Fix: {fix}")


def _quoted(function: Any) -> str:
    """Name of a function with its file and line, for messages."""
    code = getattr(inspect.unwrap(function) if isinstance(function, FunctionType) else function, "__code__", None)
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or type(function).__name__
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})" if code else str(name)


def _at(module: str, name: str) -> Any:
    """Object of this name in a module; None if there is no such module or object."""
    try:
        found: Any = importlib.import_module(module) if module else None
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def _main_name() -> str:
    """Name of the module that ``python -m`` runs; '' for scripts, notebooks and consoles."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else ""


def _file(function: Any) -> Path:
    """File in which a function or a class is written."""
    code = None if isinstance(function, type) else getattr(inspect.unwrap(function), "__code__", None)
    place = code.co_filename if code else getattr(sys.modules.get(function.__module__), "__file__", None)
    return Path(place or "")


def _script(function: Any, name: str) -> Path:
    """Path of the running script that defines a function."""
    path = _file(function)
    if path.suffix != ".py" or not path.is_file() or "ipykernel" in str(path):
        fix = f"save it to a file beside the notebook, such as steps.py, and give 'steps.py:{name}', or import it"
        raise _refused(function, "is typed into a notebook or a console", fix)
    if not _has_guard(path):
        fix = "put what the script does under  if __name__ == '__main__':  or move the function to another file"
        raise _refused(function, "is in the script that runs, which each worker would run again", fix)
    return path.resolve()


def unguarded_script() -> Path | None:
    """Script that runs, if processes that it starts would run it again, as it has no guard; None without one."""
    path = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    is_imported = path.suffix == ".py" and path.name != "__main__.py" and path.is_file()
    return path if is_imported and not _has_guard(path) else None


def _has_guard(path: Path) -> bool:
    """True if a script does not run when it is imported, as far as its top level shows."""
    tests = [node.test for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.If)]
    return any("__name__" in ast.unparse(test) and "__main__" in ast.unparse(test) for test in tests)
