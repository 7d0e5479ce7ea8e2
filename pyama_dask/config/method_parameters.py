"""Validation of method parameters, from the methods' signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from pyama_dask.config.messages import named_keys
from pyama_dask.config.units import IS_LENGTH, in_pixels, quoted
from pyama_dask.errors import ConfigError


def parameter_model(function: Callable[..., Any]) -> type[BaseModel]:
    """Model of a function's keyword-only parameters: their names, types, limits and defaults.

    Raises
    ------
    ConfigError
        If its annotations are not types that pydantic knows.
    """
    return _model_once(function) if isinstance(function, Hashable) else _model(function)


def _model(function: Callable[..., Any]) -> type[BaseModel]:
    try:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
            for name, p in inspect.signature(function).parameters.items()
            if p.kind is p.KEYWORD_ONLY
        }
        settings = ConfigDict(extra="forbid", frozen=True)
        return create_model(getattr(function, "__name__", "method"), __config__=settings, **fields)
    except Exception as error:  # a plugin may be any callable, with any annotations
        raise ConfigError(
            f"the parameters of {quoted(function)} cannot be read: {type(error).__name__}: {error}. "
            "Fix: annotate the parameters with types that pydantic knows"
        ) from error


_model_once = lru_cache(maxsize=256)(_model)  # a run asks dozens of times, and a model takes milliseconds


def method_parameters(key: str, given: Mapping[str, Any], *functions: Callable[..., Any]) -> dict[str, Any]:
    """Validate parameters against the keyword-only arguments of the functions that take them, and add defaults.

    Parameters
    ----------
    key
        Key of the parameters in the config, for messages, such as ``params.tracking_params``.
    given
        Parameters by name.
    functions
        Functions that share the parameters; each name belongs to one of them.

    Raises
    ------
    ConfigError
        If a name is unknown or a value is invalid.
    """
    try:
        models = [parameter_model(function) for function in functions]
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    known = [name for model in models for name in model.model_fields]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f"{key}.{unknown[0]}: is not a parameter here; known are: {', '.join(known) or 'none'}. Fix: if you "
            "changed the method, delete the old method's parameters"
        )
    filled: dict[str, Any] = {}
    with named_keys("", key):
        for model in models:
            mine = {name: value for name, value in given.items() if name in model.model_fields}
            filled |= model.model_validate(mine).model_dump()
    return filled


def lengths_in_pixels(
    key: str, given: Mapping[str, Any], function: Callable[..., Any], pixel_size_um: float | None, movie: str
) -> dict[str, Any]:
    """Convert the lengths among validated parameters to pixels.

    Parameters
    ----------
    key
        Key of the parameters in the config, for messages.
    given
        Validated parameters by name.
    function
        Function that takes them; those annotated as `pyama_dask.config.units.Length` are converted.
    pixel_size_um
        Micrometres per pixel of the movie; None if unknown.
    movie
        Name of the movie, for messages.

    Raises
    ------
    ConfigError
        If a length is in micrometres and the pixel size is unknown.
    """
    found = dict(given)
    texts = [name for name, value in given.items() if isinstance(value, str)]
    hints = get_type_hints(function, include_extras=True) if texts else {}
    for name in texts:
        value = given[name]
        if _is_length(hints.get(name)):
            if pixel_size_um is None:
                raise ConfigError(f"{key}.{name}: {movie} states no pixel size for {value!r}. Fix: give it in pixels")
            found[name] = in_pixels(value, pixel_size_um)
    return found


def _is_length(hint: Any) -> bool:
    return hint is IS_LENGTH or any(map(_is_length, get_args(hint)))
