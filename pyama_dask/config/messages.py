"""Messages about invalid config keys, with suggestions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pyama_dask.config.base import Model
from pyama_dask.config.models import Config
from pyama_dask.config.units import LONGEST_NAME, quoted
from pyama_dask.errors import ConfigError

_MOST_FAULTS = 20


@contextmanager
def named_keys(source: str, prefix: str = "", model: type[BaseModel] = Config, document: Any = None) -> Iterator[None]:
    """Turn pydantic's errors inside the block into one `ConfigError` that names every invalid key of a model.

    Parameters
    ----------
    source
        Heading of the message, such as the path of a file; '' for none.
    prefix
        Dotted key at which the validated mapping stands; '' for the top.
    model
        Model whose keys are suggested for unknown ones.
    document
        The validated mapping; names of pipelines and steps in it follow their numbers.
    """
    try:
        yield
    except ValidationError as error:
        faults: dict[str, Any] = {}
        for fault in error.errors():  # the first error suffices for a key that may have several types
            if not _short_of_refused(fault, error.errors()):
                faults.setdefault(_key(prefix, fault["loc"], document), fault)
        lines = [f"{quoted_key(key)}: {_says(fault, model)}" for key, fault in list(faults.items())[:_MOST_FAULTS]]
        lines += [f"... and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        if source:
            lines = [f"{source}:", *(f"  {line}" for line in lines)]
        raise ConfigError("\n".join(lines)) from error


def _short_of_refused(fault: Any, faults: Iterable[Any]) -> bool:
    """True if "too short" is only a consequence of invalid items, which pydantic does not count."""
    place = fault["loc"]
    return fault["type"] == "too_short" and any(other["loc"][: len(place)] == place != other["loc"] for other in faults)


def quoted_key(key: str) -> str:
    """Write a key for a message: verbatim if it is short and printable, else quoted."""
    return key if key.isprintable() and len(key) < 100 else quoted(key, 100)


def _key(prefix: str, location: tuple[int | str, ...], document: Any) -> str:
    """Dotted key without the parts by which pydantic distinguishes the members of a union.

    Pipelines and steps have their names after their numbers, as in ``pipelines.0 (prepare).steps.1 (gaussian)``.
    """
    union = re.compile(r"constrained-.*|literal\[.*|function-.*|tuple\[.*|int|str|\[key\]")
    parts, value = [prefix] if prefix else [], document
    for part in location:
        value = _item(value, part)
        if not union.fullmatch(str(part)):
            parts.append(f"{part}{_name_of(value) if isinstance(part, int) else ''}")
    return ".".join(parts) or "(top)"


def _item(value: Any, part: int | str) -> Any:
    """Value at a part of a key; None without one."""
    if isinstance(value, Model) and isinstance(part, str):
        return getattr(value, part, None)
    try:
        return value[part]
    except (TypeError, KeyError, IndexError):
        return None


def _name_of(item: Any) -> str:
    """Name of a pipeline or a step in brackets; '' for anything else."""
    name = _item(item, "name") or _item(item, "do")
    return f" ({name.rpartition(':')[2]})" if isinstance(name, str) else ""


def _says(error: Any, model: type[BaseModel]) -> str:
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "is not a key here" + did_you_mean(str(error["loc"][-1]), _dotted(model))
    if kind == "missing":
        return "is needed"
    if kind in ("model_type", "dict_type"):
        return f"must hold keys, not {quoted(value)}"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list, not {quoted(value)}"
    text = str(error["ctx"]["error"] if kind == "value_error" else error["msg"])
    several = value if isinstance(value, list | tuple) else (value,)
    is_nested = any(isinstance(one, dict | Model) for one in several)
    return text if is_nested or quoted(value) in text else f"{text} (got {quoted(value)})"


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Suggest known dotted keys whose last part resembles an unknown key, equal ones first; '' if none does."""
    if len(key) > LONGEST_NAME:
        return ""
    last = {dotted: dotted.rpartition(".")[2] for dotted in known}
    wanted = key.rpartition(".")[2]
    close = difflib.get_close_matches(wanted, last.values(), cutoff=0.75)
    like = sorted((dotted for dotted, name in last.items() if name in close), key=lambda dotted: last[dotted] != wanted)
    return f"; did you mean {' or '.join(like)}?" if like else ""


def _dotted(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _dotted(inner, f"{prefix}{name}.")
