"""Shading of the channels of a run: of the instrument, from files, or estimated from sites all over the plate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import ConfigError, ImageError, PyamaError, SourceError
from pyama_dask.files.images import read_image, to_tiff
from pyama_dask.kernels.flat_field import Profile, shading_profile
from pyama_dask.plan.resolve import resolved_channels
from pyama_dask.readers import Metadata, Reader, reopen
from pyama_dask.readers.base import FlatField, planes_of
from pyama_dask.readers.frames import read_planes
from pyama_dask.readers.opera.flat_field import InstrumentShading, read_shading

SAMPLES = 64
"""Number of frames that shading is estimated from, spread over all sites."""
ENOUGH = 20
"""Number of sites from which on cells do not show in the shading."""


@dataclass
class Shading:
    """Shading of the channels of a run."""

    flat_field: FlatField | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents of profiles that were estimated now, by their names in the output."""
    warnings: list[str] = field(default_factory=list)


def profile_name(channel: int) -> str:
    """Name in the output of the estimated shading of a channel."""
    return f"flat_field_ch_{channel}.tif"


def find_shading(config: Config, metadata: Metadata) -> Shading:
    """Find the shading of the channels of a config; nothing is written.

    A profile in the output that was estimated before is used again.

    Parameters
    ----------
    config
        Config, not yet resolved.
    metadata
        Of the movie with FOVs as they are in the file.

    Raises
    ------
    ConfigError, ImageError
        If a profile cannot be read or does not fit the movie, or none can be estimated.
    """
    found, profiles, backgrounds = Shading(), dict[int, Profile](), dict[int, Profile]()
    for choice in resolved_channels(config, metadata):
        channel, wanted = int(choice.channel), choice.flat_field
        if wanted == "estimate":
            profiles[channel] = _estimated_once(config, metadata, channel, found)
        elif wanted == "instrument":
            measured = _of_instrument(metadata, channel, found)
            if measured.profile is not None or measured.is_background_only:
                flat = np.ones(metadata.fovs[0].shape, np.float32)
                profiles[channel] = flat if measured.profile is None else measured.profile
                backgrounds |= {} if measured.background is None else {channel: measured.background}
        elif wanted != "off":
            profiles[channel] = read_profile(Path(wanted).expanduser(), metadata)
    if profiles:
        found.flat_field = FlatField(profiles, config.params.dark_level, backgrounds)
    return found


def _estimated_once(config: Config, metadata: Metadata, channel: int, found: Shading) -> Profile:
    """Profile that was estimated before, or is now and then belongs to the output."""
    path = config.output / profile_name(channel)
    if len(metadata.fovs) < ENOUGH:
        found.warnings.append(
            f"channel {channel}: its shading is estimated from {len(metadata.fovs)} sites, and cells may show in "
            f"it. Fix: take {ENOUGH} or more, or look at {path.name} in the output"
        )
    if path.exists():
        return read_profile(path, metadata)
    image = estimated(config, metadata, channel)
    found.files[path.name] = to_tiff(image)
    return normalised(image)


def _of_instrument(metadata: Metadata, channel: int, found: Shading) -> InstrumentShading:
    """Shading that the instrument has measured; raises `ConfigError` if it cannot be used."""
    texts, name = metadata.instrument_shading, metadata.channels[channel].name
    if not any(texts[channel : channel + 1]):
        holds = f"{metadata.format} has no shading of the instrument" if not texts else "the index has no profile of it"
        raise ConfigError(
            f"flat_field: instrument: {metadata.path.name}: channel {channel} ({name}): {holds}. "
            "Fix: set it to estimate, or to a file"
        )
    try:
        measured = read_shading(texts[channel], metadata.fovs[0].shape)
    except SourceError as error:
        raise ConfigError(
            f"flat_field: instrument: {metadata.path.name}: channel {channel} ({name}): {error}"
        ) from error
    if measured.is_background_only:
        found.warnings.append(
            f"channel {channel} ({name}): the instrument has measured the shading of the background only, so that "
            "cells at the border stay darker. Fix: set its flat_field to estimate, or to a file"
        )
    return measured


def read_profile(path: Path, metadata: Metadata) -> Profile:
    """Read the shading of a channel: a TIFF file (H, W) as large as all FOVs, with any mean.

    Raises
    ------
    ImageError
        If it cannot be read, or does not fit the movie.
    """
    image = read_image(path)
    other = next((fov for fov in metadata.fovs if fov.shape != image.shape), None)
    if other is not None:
        raise ImageError(
            f"{path}: has shape {image.shape}, but {other.name} has {other.shape}. Fix: give a profile of this size"
        )
    if not (np.isfinite(image).all() and (image > 0).all()):
        raise ImageError(f"{path}: has pixels that are not above 0. Fix: give the share of the light of each pixel")
    return normalised(image)


def normalised(image: np.ndarray) -> Profile:
    """Profile (H, W) with mean 1."""
    return np.asarray(image / image.mean(dtype=np.float64), np.float32)


def estimated(config: Config, metadata: Metadata, channel: int) -> Profile:
    """Estimate the shading of a channel from frames of sites all over the plate.

    Raises
    ------
    ConfigError
        If the sites differ in size, or there is no light.
    """
    if len({fov.shape for fov in metadata.fovs}) > 1:
        raise ConfigError(f"flat_field: FOVs of {metadata.path.name} differ in size. Fix: set it to off")
    with reopen(metadata) as reader:
        try:
            return shading_profile(_samples(config, reader, channel), dark=config.params.dark_level)
        except ValueError as error:
            if isinstance(error, PyamaError):
                raise
            raise ConfigError(f"flat_field of channel {channel}: {error} (params.dark_level)") from error


def _samples(config: Config, reader: Reader, channel: int) -> Iterator[np.ndarray]:
    """Frames of the channel, spread over sites and time; those that are absent or damaged are left out."""
    metadata, z = reader.metadata, config.params.z
    planes = planes_of(z, metadata.z_planes)
    chosen = range(metadata.n_frames) if config.params.frames == "all" else parse_selection(config.params.frames)
    for fov in spread(range(len(metadata.fovs)), SAMPLES):
        lacking = metadata.fovs[fov].lacking([channel], planes)
        frames = [frame for frame in chosen if frame < metadata.n_frames and frame not in lacking]
        for frame in spread(frames, max(1, SAMPLES // len(metadata.fovs))):
            try:
                yield read_planes(reader, fov, frame, [channel], z)[0]
            except (OSError, LookupError):  # the run says so, if the frame is in it
                continue


def spread(items: Sequence[int], most: int) -> list[int]:
    """Choose at most as many items, evenly spread."""
    return [items[k] for k in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]
