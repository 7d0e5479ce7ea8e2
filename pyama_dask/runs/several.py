"""Several movies in one config, each with its own output below one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.several import expanded, names_several
from pyama_dask.config.units import as_path
from pyama_dask.errors import ConfigError, OutputError, PlanError
from pyama_dask.files.manifest import read_manifest
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.status import PLAN, read_status
from pyama_dask.workflow.task import WORK


def configs_of(document: Mapping[str, Any], source: str = "config") -> list[Config]:
    """Configs of the movies that a document names: one, or several with an output for each below its ``output``.

    Parameters
    ----------
    document
        Keys of the config; ``input`` may be a list or a glob.
    source
        Its origin, for messages.

    Raises
    ------
    ConfigError
        If a key is invalid, a movie does not exist or is named twice, or two have the same name.
    OutputError
        If the folder for the outputs is an output itself.
    """
    if not names_several(document.get("input")):
        return [parse_config(document, source)]
    try:
        movies = expanded(document["input"], partial(_is_result, document.get("output")))
    except ConfigError as error:
        raise ConfigError(f"{source}:\n  input: {error}") from error
    each = [parse_config({**document, "input": movie}, source) for movie in movies]
    names: dict[str, Path] = {}
    for config in each:
        name = movie_stem(config.input.path)
        if name in names:
            raise ConfigError(
                f"{source}:\n  input: {names[name]} and {config.input.path} would both have the output "
                f"{config.output / name}. Fix: rename one, or give it a config with another 'output'"
            )
        names[name] = config.input.path
    if (each[0].output / PLAN).exists():
        raise OutputError(
            f"{each[0].output}: is the output of a run of one movie. Fix: choose another 'output', a folder for the "
            "outputs of all movies"
        )
    return [
        parse_config({**document, "input": movie, "output": config.output / name}, source)
        for movie, config, name in zip(movies, each, names, strict=True)
    ]


def _is_result(output: Any, path: Path) -> bool:
    """True for the folder of the outputs, and for what runs have written into it; movies may be in it, too."""
    try:
        folder = Path(os.path.realpath(as_path(output)))
        parts = Path(os.path.realpath(path)).relative_to(folder).parts
    except ValueError:  # not in it, or no path, which is refused later
        return False
    return not parts or (folder / parts[0] / WORK).is_dir() or parts[0] in read_manifest(folder)


def alike(movies: Sequence[Metadata]) -> Metadata:
    """Shortest of several movies that one config suits.

    Raises
    ------
    ConfigError
        If channels or z planes differ, or two paths lead to the same movie, such as two files of one OME-TIFF.
    """
    first, paths = movies[0], dict[Path, None]()
    for movie in movies:
        for what, of in _COMPARED.items():
            if of(movie) != of(first):
                raise ConfigError(
                    f"{movie.path}: has other {what} than {first.path}. Fix: write a config for each kind of movie"
                )
        if movie.path in paths:
            raise ConfigError(f"{movie.path}: is named twice. Fix: name one file of each movie")
        paths[movie.path] = None
    return min(movies, key=lambda movie: movie.n_frames)


_COMPARED: Mapping[str, Callable[[Metadata], Any]] = {
    "channels": lambda movie: [(channel.name, channel.kind) for channel in movie.channels],
    "z planes": lambda movie: movie.z_planes > 1,
}
"""Properties in which movies with the same config must agree."""


def with_failures(configs: Sequence[Config]) -> list[Config]:
    """Configs whose outputs have FOVs that failed when they were last tried; without any, those that have outputs.

    Raises
    ------
    PlanError
        If there is no output.
    """
    begun = [config for config in configs if _has_plan(config.output)]
    if not begun:
        raise PlanError(f"{configs[0].output.parent}: holds no results yet. Fix: run without --retry-failed")
    return [config for config in begun if _has_failures(config.output)] or begun


def _has_failures(output: Path) -> bool:
    try:
        return any(fov["status"] == "failed" for fov in read_status(output)["fovs"])
    except OutputError:  # no output yet
        return False


def _has_plan(folder: Path) -> bool:
    return (folder / PLAN).exists()


def outputs_below(folder: Path, is_output: Callable[[Path], bool] = _has_plan) -> list[Path]:
    """Outputs in a folder, by name, by default those of runs; empty if the folder is an output itself, or has none."""
    if is_output(folder) or not folder.is_dir():
        return []
    return sorted(output for output in folder.iterdir() if is_output(output))
