"""Loading of configs from YAML files and mappings."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from pyama_dask.config.messages import named_keys
from pyama_dask.config.models import Config, Params
from pyama_dask.config.movie_input import KINDS
from pyama_dask.config.several import check_one
from pyama_dask.config.units import quoted
from pyama_dask.config.yaml_text import parse_yaml
from pyama_dask.errors import ConfigError

LARGEST_CONFIG = 2**20
"""Largest bytes of a config file; one with every key has a few thousand."""
MOVIES = (".nd2", ".czi", ".tif", ".tiff")
"""Suffixes of files that are movies, and never configs."""


_WITH_FILE = re.compile(r"(?P<title>[A-Za-z_]\w* = )?(?P<file>.+\.py:\w+|[^~].*\.(?:onnx|tiff?))")
"""Values that name a file, perhaps with the title of a feature in front."""


def load_config(
    path: Path, overrides: Mapping[str, Any] | None = None, shared: Mapping[str, Iterable[str]] | None = None
) -> Config:
    """Read a YAML config; relative paths in it are relative to the file's folder.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Values by dotted key, such as ``{"params.fovs": "0-5"}``, that replace those in the file; paths among them are
        relative to the working directory.
    shared
        Parameters that all methods of a kind take, by kind, such as ``tracking``. If an override selects another
        method of that kind, the file's other parameters, which belong to the former method, are dropped.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is invalid; the message names every such key.
    """
    return parse_config(read_document(path, overrides, shared), source=str(path))


def read_document(
    path: Path, overrides: Mapping[str, Any] | None = None, shared: Mapping[str, Iterable[str]] | None = None
) -> dict[str, Any]:
    """Read the keys of a YAML config without checking them; parameters as for `load_config`.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds something else.
    """
    if path.suffix.lower() in MOVIES and path.is_file():
        raise ConfigError(
            f"{path}: is a movie, not a config. Fix: run 'pyama-dask init {quote(str(path))}', which writes one, "
            "then pass that"
        )
    document = parse_yaml(config_text(path), f"{path}: is not a YAML config")
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: must hold keys such as 'input:' and 'output:'. Fix: run 'pyama-dask init MOVIE', which writes "
            "a config"
        )
    if "metadata" in document:
        raise ConfigError(
            f"{path}: has a key 'metadata', as the config that a run writes to its output. Fix: to repeat it, pass "
            "its output to 'pyama-dask run'; to use a copy as a config, delete that key, and set 'input' and 'output'"
        )
    document = {key: value for key, value in document.items() if value is not None}
    document |= {key: _beside(document[key], path.parent) for key in ("input", "output") if key in document}
    for part in ("params", "channels", "pipelines"):
        if part in document:
            document[part] = with_files_in(document[part], path.parent)
    return _overridden(document, overrides or {}, shared or {})


def _beside(value: Any, folder: Path) -> Any:
    """Resolve a path, or those in a list or mapping, relative to a folder."""
    if isinstance(value, list):
        return [_beside(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _beside(of, folder) if key in KINDS else of for key, of in value.items()}
    return folder / value if isinstance(value, str) and value.strip() else value


def with_overrides(
    config: Config, overrides: Mapping[str, Any], shared: Mapping[str, Iterable[str]], source: str = "config"
) -> Config:
    """Config with some values replaced, and checked again.

    Parameters
    ----------
    config
        Not resolved; it stays as it is.
    overrides, shared
        As for `load_config`.
    source
        Origin of the values, for messages.

    Raises
    ------
    ConfigError
        If a key or value is invalid.
    """
    return parse_config(_overridden(config.model_dump(exclude_unset=True), overrides, shared), source)


def as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """Config of one movie, from a mapping with its keys, or from a YAML file."""
    if isinstance(config, Config):
        return config
    document, source = given_document(config)
    check_one(document.get("input"), source)
    return parse_config(document, source)


def given_document(config: Mapping[str, Any] | str | Path) -> tuple[Mapping[str, Any], str]:
    """Keys of a config that are given as they are, or as a YAML file; and its origin, for messages."""
    if isinstance(config, str | Path):
        return read_document(Path(config)), str(config)
    return config, "config"


def _overridden(
    document: dict[str, Any], overrides: Mapping[str, Any], shared: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Replace values of a document in place; see `load_config`."""
    for kind, kept in shared.items():
        _drop_former(document.get("params"), kind, overrides, set(kept))
    for dotted, value in overrides.items():
        if dotted.startswith("input.") and isinstance(document.get("input"), str | Path):
            document["input"] = {KINDS[0]: document["input"]}
        set_key(document, dotted, value)
    return document


def _drop_former(params: Any, kind: str, overrides: Mapping[str, Any], kept: Collection[str]) -> None:
    """Drop the parameters of the file's method (or the default one) if overrides select another method."""
    method, parameters = f"{kind}_method", f"{kind}_params"
    if not isinstance(params, dict) or not isinstance(params.get(parameters), dict):
        return
    former = params.get(method) or Params.model_fields[method].default
    if overrides.get(f"params.{method}", former) != former:
        params[parameters] = {name: value for name, value in params[parameters].items() if name in kept}


def config_text(path: Path) -> str:
    """Read a config file as text.

    Raises
    ------
    ConfigError
        If it is no file, or too large, or not UTF-8 text.
    """
    try:
        state = path.stat()
        is_file, size = stat.S_ISREG(state.st_mode), state.st_size  # reading a pipe would wait for a writer
        text = path.read_text(encoding="utf-8") if is_file and size <= LARGEST_CONFIG else ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Fix: check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a YAML config: it is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: cannot be a file name: {error}") from error
    if not is_file:
        raise ConfigError(f"{path}: cannot be read as a config: it is a directory, a pipe or a device")
    if size > LARGEST_CONFIG:
        raise ConfigError(f"{path}: is not a YAML config: it has {size} bytes, more than any config")
    return text


def parse_config(document: Mapping[str, Any], source: str = "config") -> Config:
    """Validate a mapping with the config's keys; see `load_config`."""
    with named_keys(source, document=document):
        return Config.model_validate(document)


def with_files_in(value: Any, folder: Path) -> Any:
    """Resolve methods in files, ``file.py:function``, and other files, such as ``file.onnx``, relative to a folder."""
    if isinstance(value, dict):
        return {key: with_files_in(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_files_in(inner, folder) for inner in value]
    if isinstance(value, str) and (found := _WITH_FILE.fullmatch(value)):
        return (found["title"] or "") + str(folder.absolute() / found["file"])
    return value


def set_key(document: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a value at a dotted key in nested mappings.

    Parameters
    ----------
    document
        Mapping that is changed in place; missing mappings in it are created.
    dotted
        Key such as ``params.fovs``.
    value
        Value for it.

    Raises
    ------
    ConfigError
        If a part of the key is empty, or a list or a single value stands where a mapping should.
    """
    *parents, last = dotted.split(".")
    if not all((*parents, last)):
        raise ConfigError(f"{quoted(dotted)}: is not a key. Fix: join words with dots, such as params.fovs")
    for parent in parents:
        if document.get(parent) is None:
            document[parent] = {}
        document = document[parent]
        if not isinstance(document, dict):
            is_list = isinstance(document, list)
            fix = ". Fix: give the list whole, such as 'channels.fl=[{channel: 1}]'" if is_list else ""
            raise ConfigError(f"{dotted}: '{parent}' holds a {'list' if is_list else 'value'}, not keys{fix}")
    document[last] = value
