"""Configs from the arguments of scripts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyama_dask.api.context import Channels, ChannelSelection, MicroscopyMetadata, ProcessingContext
from pyama_dask.api.registries import FLUORESCENCE_FEATURES, PHASE_FEATURES, PREPROCESSORS, Features
from pyama_dask.api.settings import translate
from pyama_dask.config.load import parse_config
from pyama_dask.config.models import Config
from pyama_dask.config.units import as_ranges
from pyama_dask.errors import ConfigError, SettingsWarning
from pyama_dask.readers import Metadata, movie_stem
from pyama_dask.runs.template import fitting_params, guess_channels, notes_on_channels

log = logging.getLogger("pyama_dask")

MINUTES = (None, "min", "minute", "minutes")
_HERE = str(Path(__file__).parent)
"""Folder of this API, whose lines warnings do not name."""


def cluster_of(
    batch_size: int | None, n_workers: int | None, cluster: Mapping[str, Any] | None = None, *, has_client: bool = False
) -> dict[str, Any]:
    """``cluster`` of a config: that of the script, or worker processes on this machine.

    Parameters
    ----------
    batch_size, n_workers
        FOVs in flight, and workers; None for 2, and with a cluster or client for what these say.
    cluster
        Keys of ``cluster`` in a config.
    has_client
        True for a run on a Dask client.

    Raises
    ------
    ConfigError
        If a number is below 1.

    Warns
    -----
    SettingsWarning
        If a number has no effect.
    """
    for name, value in {"batch_size": batch_size, "n_workers": n_workers}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name}: must be 1 or more, not {value}")
    if cluster is None and not has_client:
        count = 2 if n_workers is None else n_workers
        workers = {"kind": "serial"} if count == 1 else {"kind": "local", "workers": count}
        return workers | {"batch_size": 2 if batch_size is None else batch_size}
    keys = dict(cluster or {})
    if n_workers is not None:
        given = "client" if has_client else "cluster"
        _warn([f"n_workers ({n_workers}) is not used: the workers are those of {given!r}"])
    if batch_size is not None and keys.setdefault("batch_size", batch_size) != batch_size:
        _warn([f"batch_size ({batch_size}) is not used: 'cluster' says {keys['batch_size']}"])
    return keys


def config_of(
    movie: Metadata, metadata: MicroscopyMetadata, context: ProcessingContext, fovs: Sequence[int],
    cluster: Mapping[str, Any],
) -> Config:  # fmt: skip
    """Config of a script's run; what the script does not say is as 'pyama-dask init' would write it.

    Parameters
    ----------
    movie, metadata
        Content of the movie, as it is read, and as the script describes it.
    context
        Output, channels and settings; guessed channels are put in.
    fovs
        FOVs to process.
    cluster
        Where the work runs.

    Raises
    ------
    ConfigError
        If a setting is invalid.

    Warns
    -----
    SettingsWarning
        For each setting and argument that has no effect.
    """
    settings = translate(context.params)
    _warn([*settings.left_out, *_unused(metadata, context)])
    channels = context.channels = context.channels or _guessed(movie)
    for place, value in fitting_params(movie).items():
        if settings.put_default(place, value):
            log.warning("%s: params.%s is %s, because its default does not fit this movie", movie.path, place, value)
    registered = {"preprocess": (*settings.params.get("preprocess", ()), *PREPROCESSORS)} if PREPROCESSORS else {}
    features = settings.features
    return parse_config(
        {
            "input": movie.path.absolute(),
            "output": context.output_dir.absolute(),
            "channels": {
                "pc": None if channels.pc is None else _choice(channels.pc, PHASE_FEATURES, features.get("pc")),
                "fl": [_choice(one, FLUORESCENCE_FEATURES, features.get("fl")) for one in channels.fl],
            },
            "params": settings.params | registered | {"fovs": as_ranges(fovs)},
            "cluster": cluster,
        },
        source="run_complete_workflow",
    )


def _choice(given: int | ChannelSelection, known: Features, names: Sequence[str] | None) -> dict[str, Any]:
    """Channel of a config with its features: those of the channel, else of the settings, else all that are known."""
    selection = given if isinstance(given, ChannelSelection) else ChannelSelection(given)
    chosen = next((of for of in (selection.features, names) if of is not None), [*known])
    return {"channel": selection.channel, "features": [known.in_config(name) for name in chosen]}


def _unused(metadata: MicroscopyMetadata, context: ProcessingContext) -> Iterator[str]:
    """Messages about other arguments that have no effect."""
    if metadata.base_name != (name := movie_stem(metadata.file_path)):
        yield f"base_name {metadata.base_name!r} is not used: files are named by the movie, {name!r}"
    if context.time_units not in MINUTES:
        yield f"time_units {context.time_units!r} is not used: times are in minutes"


def _warn(messages: Sequence[str]) -> None:
    """Warn of settings at the line of the script that calls the older API."""
    for message in messages:
        warnings.warn(message, SettingsWarning, stacklevel=_depth())


def _depth() -> int:
    """Stack level of the script's call, counted from the function that warns."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back and frame.f_code.co_filename.startswith(_HERE):
        frame, depth = frame.f_back, depth + 1
    return depth


def _guessed(movie: Metadata) -> Channels:
    """Guess the channels as 'pyama-dask init' does."""
    guess = guess_channels(movie)
    channels = Channels(guess["pc"] and guess["pc"]["channel"], [choice["channel"] for choice in guess["fl"]])
    for note in (f"guessed channels: pc={channels.pc}, fl={channels.fl}", *notes_on_channels(movie)):
        log.warning("%s: %s", movie.path, note)
    return channels
