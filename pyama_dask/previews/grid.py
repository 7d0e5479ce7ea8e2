"""Settings of a preview: the config's own, or a grid of values for one or two of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pyama_dask.config.load import with_overrides
from pyama_dask.config.messages import did_you_mean
from pyama_dask.config.method_parameters import parameter_model
from pyama_dask.config.models import Config, Params
from pyama_dask.config.units import quoted
from pyama_dask.config.yaml_text import dump_yaml
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.tracking import within_size
from pyama_dask.plan.resolve import resolve, shared_parameters
from pyama_dask.readers import Metadata

MOST_KEYS, MOST_CELLS = 2, 25
"""Largest number of keys and of combinations of their values."""
OF_SEGMENTATION = ("preprocess", "segmentation_method", "segmentation_params")
"""Keys of ``params`` that labels depend on."""
OF_TRACKING = ("tracking_method", "tracking_params")
"""Keys of ``params`` that tracks depend on."""
WITHOUT_TRACKS = frozenset({"border_margin", *parameter_model(within_size).model_fields})
"""Parameters of tracking that also decide about the objects of a single frame."""


@dataclass(frozen=True)
class Setting:
    """One combination of values."""

    values: Mapping[str, Any]
    """Values by dotted key; empty for the config as it is."""
    config: Config
    """Resolved config."""
    is_current: bool
    """True if the config has these values already."""

    def __str__(self) -> str:
        return ", ".join(f"{short_key(key)} {in_yaml(value)}" for key, value in self.values.items())

    @property
    def overrides(self) -> list[str]:
        """``KEY=VALUE`` of each key, as ``--set`` takes it."""
        return [f"{key}={in_yaml(value)}" for key, value in self.values.items()]


def settings(config: Config, grid: Mapping[str, Sequence[Any]], metadata: Metadata, *, tracks: bool) -> list[Setting]:
    """Make and check all settings; the values of the first key change fastest.

    Parameters
    ----------
    config
        Not resolved.
    grid
        Values by dotted key; ``params.`` may be left out, and ``segmentation_params.``, too.
    metadata
        Of the movie.
    tracks
        True if objects are tracked, so that all keys of tracking matter.

    Raises
    ------
    ConfigError
        If there are too many keys or combinations, or a key or value is invalid.
    """
    values = {full_key(key): list(of) for key, of in grid.items()}
    _check(grid, values, tracks)
    present = resolve(config, metadata)
    return list(_made(config, present, values, metadata))


def _made(config: Config, present: Config, values: Mapping[str, list[Any]], metadata: Metadata) -> Iterator[Setting]:
    for combination in product(*reversed([*values.values()])):
        chosen = dict(zip(values, reversed(combination), strict=True))
        if not chosen:
            yield Setting({}, present, is_current=True)
            continue
        try:
            made = resolve(with_overrides(config, _methods_first(chosen), shared_parameters(), source=""), metadata)
        except ConfigError as error:
            lines = [f"grid: {line.strip()}" for line in str(error).splitlines()]
            raise ConfigError("\n".join(lines)) from error
        yield Setting(chosen, made, is_current=made.params == present.params)


def _methods_first(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Values with those of ``..._params`` as a whole before those of single parameters."""
    return dict(sorted(chosen.items(), key=lambda item: item[0].count(".")))


def full_key(key: str) -> str:
    """Dotted key of the config for a key whose beginning may be left out.

    Raises
    ------
    ConfigError
        If the key changes nothing in a preview.
    """
    words = key.removeprefix("params.").split(".")
    if (
        len(words) == 1
        and not key.startswith("params.")
        and words[0] not in {*Params.model_fields, *Config.model_fields}
    ):
        words = ["segmentation_params", *words]
    if words[0] not in (*OF_SEGMENTATION, *OF_TRACKING) or not all(words):
        known = [f"params.{name}" for name in (*OF_SEGMENTATION, *OF_TRACKING)]
        raise ConfigError(
            f"grid: {quoted(key)} does not change what is found in a frame{did_you_mean(key, known)}. Fix: use keys "
            "such as morph_size, segmentation_method or tracking_params.min_size; --set takes all others"
        )
    return ".".join(("params", *words))


def short_key(key: str) -> str:
    """Last word of a dotted key, for titles."""
    return key.rpartition(".")[2]


def in_yaml(value: Any) -> str:
    """A value in one line of YAML, as ``--set`` takes it."""
    text = dump_yaml(value, default_flow_style=True, width=10**9).removesuffix("\n")
    return text.removesuffix("\n...")


def _check(grid: Mapping[str, Sequence[Any]], values: Mapping[str, list[Any]], tracks: bool) -> None:
    """Refuse a grid that is too large, empty, or without effect."""
    if len(values) < len(grid):
        raise ConfigError(f"grid: {quoted(list(grid)[-1])} is given twice. Fix: give its values in one list")
    if len(values) > MOST_KEYS:
        raise ConfigError(f"grid: has {len(values)} keys, and at most {MOST_KEYS} fit on a sheet. Fix: leave some out")
    cells = 1
    for key, given in values.items():
        written = [in_yaml(value) for value in given]
        if not given:
            raise ConfigError(f"grid: {key} has no values. Fix: give some, such as {key}=0,1,3")
        if twice := next((one for one in written if written.count(one) > 1), None):
            raise ConfigError(f"grid: {key} has the value {twice} twice. Fix: give it once")
        if not tracks and not _matters_without_tracks(key):
            raise ConfigError(f"grid: {key} changes tracks only. Fix: add --tracks (tracks=True)")
        cells *= len(given)
    if cells > MOST_CELLS:
        raise ConfigError(
            f"grid: has {cells} settings, and at most {MOST_CELLS} fit on a sheet. Fix: give fewer values"
        )


def _matters_without_tracks(key: str) -> bool:
    _, section, *rest = key.split(".")
    return section in OF_SEGMENTATION or (bool(rest) and rest[0] in WITHOUT_TRACKS)
