"""Several movies in one config: a list, or a glob such as ``night1/*.nd2``; each is processed on its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from pyama_dask.config.movie_input import KINDS
from pyama_dask.config.units import as_path, quoted
from pyama_dask.errors import ConfigError

WILD = frozenset("*?[")
"""Characters by which a path is a glob."""


def names_several(value: Any) -> bool:
    """True if ``input`` is a list or a glob, even if that leads to one movie only."""
    return isinstance(value, list | tuple) or is_glob(_path_in(value))


def check_one(value: Any, source: str = "config") -> None:
    """Refuse a list or a glob as ``input`` where one movie is wanted; raises `ConfigError`."""
    if names_several(value):
        raise ConfigError(
            f"{source}:\n  input: {quoted(value)}: names several movies, but one is needed here. Fix: name one; or use "
            "'pyama-dask run', pyama_dask.run or pyama_dask.start, which process several"
        )


def is_glob(path: Any) -> bool:
    """True for a path with ``*``, ``?`` or ``[``, unless a file is called so, or it is a pattern with fields."""
    text = str(path) if isinstance(path, str | Path) else ""
    return bool(WILD.intersection(text)) and "{" not in text and not os.path.lexists(text)


def expanded(value: Any, leave_out: Callable[[Path], bool] = lambda _: False) -> list[Any]:
    """Movies that ``input`` names, sorted by path: each a path, or a mapping with a path and facts about the movie.

    Parameters
    ----------
    value
        A list of movies and globs, or one of them. A mapping with a glob states the same facts about all its movies.
    leave_out
        True for what a glob does not mean, such as results in the same folder.

    Raises
    ------
    ConfigError
        If a movie does not exist or is named twice, a glob leads to none, or an item is neither path nor mapping.
    """
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise ConfigError("is an empty list. Fix: name at least one movie")
    movies = [movie for item in items for movie in _movies(item, leave_out)]
    _refuse_repeated([_path_in(movie) for movie in movies])
    return sorted(movies, key=lambda movie: str(_path_in(movie)))


def _movies(item: Any, leave_out: Callable[[Path], bool]) -> Iterator[Any]:
    """Yield the movies that an item leads to: one, or those of a glob."""
    try:
        path = as_path(_path_in(item))
    except ValueError as error:
        raise ConfigError(f"{quoted(item)}: {error}") from error
    if not is_glob(path):
        if "{" not in str(path) and not Path(path).exists():
            raise ConfigError(f"{path}: no such file. Fix: check the path")
        yield item
        return
    names = sorted(glob(str(path), recursive=True))  # noqa: PTH207  (absolute, or relative)
    found = [Path(name) for name in names if not leave_out(Path(name))]
    if not found:
        raise ConfigError(f"{path}: no such file. Fix: check the path")
    for movie in found:
        yield {**item, _kind(item): movie} if isinstance(item, Mapping) else movie


def _refuse_repeated(paths: Sequence[Any]) -> None:
    seen: dict[str, Any] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            other = f", as {seen[real]}" if str(seen[real]) != str(path) else ""
            raise ConfigError(f"{path}: is named twice{other}. Fix: name each movie once")
        seen[real] = path


def _path_in(item: Any) -> Any:
    return item.get(_kind(item)) if isinstance(item, Mapping) else item


def _kind(item: Mapping[str, Any]) -> str:
    """Key of the path in a mapping."""
    return next((kind for kind in KINDS if kind in item), KINDS[0])
