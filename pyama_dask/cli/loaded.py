"""Configs that commands take: of a file or an output, with the overrides of the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.cli.app import parsed

if TYPE_CHECKING:
    from pyama_dask.config.models import Config

LARGEST = 2**20
"""Bytes of a config that is looked at before it is loaded."""


def likely_kind(path: Path, changes: list[str] | None, cluster: str | None) -> str:
    """``cluster.kind`` of a config that is yet to be loaded, for what can begin before; '' if it cannot be read."""
    from pyama_dask.config.yaml_text import parse_yaml
    from pyama_dask.errors import ConfigError

    file = path / "processing_config.yaml" if path.is_dir() else path
    try:
        if cluster or not file.is_file() or file.stat().st_size > LARGEST:
            return cluster or ""
        document, given = parse_yaml(file.read_text(), ""), parsed(changes)
    except (OSError, ValueError, ConfigError):  # the loading reports it
        return ""
    settings = document.get("cluster") if isinstance(document, dict) else None
    settings = given.get("cluster", settings)
    of_file = settings.get("kind") if isinstance(settings, dict) else None
    return str(given.get("cluster.kind", of_file or "local"))


def loaded_config(path: Path, changes: list[str] | None, **options: Any) -> Config:
    """Read the config of one movie; see `loaded_configs`."""
    from pyama_dask.errors import ConfigError

    configs = loaded_configs(path, changes, **options)
    if len(configs) > 1:
        raise ConfigError(
            f"{path}: 'input' names {len(configs)} movies, but this command takes one. "
            f"Fix: choose one, such as --set input={configs[0].input.path}"
        )
    return configs[0]


def loaded_configs(
    path: Path, changes: list[str] | None, *, fovs: str | None = None, wells: str | None = None,
    frames: str | None = None, workers: int | None = None, cluster: str | None = None, extend: bool = False,
) -> list[Config]:  # fmt: skip
    """Read a config, or that of an output, and apply the overrides of the command line: one config per movie."""
    from pyama_dask.analysis.pyama_files import is_of_output, recorded_config
    from pyama_dask.config.load import read_document, with_overrides
    from pyama_dask.errors import ConfigError
    from pyama_dask.plan.resolve import shared_parameters
    from pyama_dask.runs.several import configs_of
    from pyama_dask.runs.template import known_keys

    overrides = parsed(changes)
    given = {
        "params.fovs": fovs,
        "params.wells": wells,
        "params.frames": frames,
        "cluster.workers": workers,
        "cluster.kind": cluster,
    }
    try:
        given = {key: value for key, value in given.items() if value is not None}
        if is_of_output(path):
            recorded = recorded_config(path, extend=extend)
            return [with_overrides(recorded, overrides | given, shared_parameters(), source=str(path))]
        return configs_of(read_document(path, overrides | given, shared_parameters()), str(path))
    except ConfigError as error:
        raise ConfigError(_with_hints(str(error), overrides, known_keys())) from error


def _with_hints(error: str, overrides: Iterable[str], known: Collection[str]) -> str:
    """Text of an error with better suggestions for unknown keys: a model knows only its own."""
    from pyama_dask.config.messages import did_you_mean

    for key in overrides:
        before, unknown, after = error.partition(f"{key}: is not a key here")
        if unknown:
            _, end, rest = after.partition("\n")
            error = before + unknown + did_you_mean(key, known) + end + rest
    return error
