"""Files with a user's functions: one run must use one version of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from pyama_dask.config.function_names import title_and_name
from pyama_dask.config.models import Config
from pyama_dask.errors import ConfigError
from pyama_dask.methods.entry_points import content_of
from pyama_dask.methods.registry import BUILT_IN


def own_files(config: Config) -> dict[str, str]:
    """Digests of the contents of all files whose functions a config names, by path; '' for one that is absent."""
    files = {name.rpartition(":")[0] for name in _named(config)}
    return {file: content_of(Path(file)) for file in sorted(files) if file.endswith(".py")}


def calls_plugins(config: Config) -> bool:
    """True if a config names functions that do not come with the core of this package."""
    built_in = set(chain.from_iterable(BUILT_IN.values()))
    return any(name not in built_in for name in _named(config))


def check_unchanged(files: Mapping[str, str]) -> None:
    """Check that files have the contents that they had when the run was planned.

    Parameters
    ----------
    files
        From `own_files`.

    Raises
    ------
    ConfigError
        If one has changed: results of two versions must not be mixed.
    """
    for file, content in files.items():
        if content_of(Path(file)) != content:
            raise ConfigError(
                f"{file}: was changed since the run was planned. Fix: run again; what its functions made is redone. "
                "Do not edit it during a run"
            )


def _named(config: Config) -> Iterator[str]:
    params, channels = config.params, config.channels
    yield from (*params.preprocess, params.segmentation_method, params.tracking_method)
    for choice in (channels.pc, *channels.fl):
        for feature in choice.features if choice else ():
            yield title_and_name(feature)[1]
    for pipeline in config.pipelines:
        yield from (step.do for step in pipeline.steps)
