"""Facts about a movie that the config states: they count instead of those in the file, and differences are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pyama_dask.config.models import Config
from pyama_dask.config.well_names import parse_well
from pyama_dask.config.wells import FORMATS
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata
from pyama_dask.readers.times import typical_step

ALIKE = 0.01
"""Relative difference between two values up to which they count as equal."""


def as_stated(metadata: Metadata, config: Config) -> Metadata:
    """Metadata with the pixel size, times and plate format that the config states, if it does.

    Parameters
    ----------
    metadata
        Of the movie, as its files state them.
    config
        Config; ``input`` and ``params.pixel_size`` are used.

    Raises
    ------
    ConfigError
        If a plate is stated for a movie without wells, or is too small for them.
    """
    given = config.input
    size = given.pixel_size if given.pixel_size is not None else config.params.pixel_size
    if size is not None:
        metadata = replace(metadata, pixel_size_um=size)
    if (interval := given.frame_interval) is not None:
        minutes = np.tile(np.arange(metadata.n_frames) * interval, (len(metadata.fovs), 1))
        source = f"input.frame_interval, {interval:g} min"  # other times have another name, and are never joined
        metadata = replace(metadata, interval_min=interval, times_min=minutes, time_source=source)
    if given.plate is not None:
        metadata = replace(metadata, plate_shape=_plate(given.plate, metadata))
    return metadata


def _plate(wells: int, metadata: Metadata) -> tuple[int, int]:
    """Rows and columns of a plate with a number of wells that has those of a movie."""
    shape = next((rows, columns) for rows, columns in FORMATS if rows * columns == wells)
    there = [fov.well for fov in metadata.fovs if fov.well is not None]
    if not there:
        raise ConfigError(f"input.plate: {metadata.path.name} has no wells. Fix: leave out the key")
    for well in there:
        row, column = parse_well(well)
        if row >= shape[0] or column >= shape[1]:
            raise ConfigError(
                f"input.plate: well {well} of {metadata.path.name} is not on a plate with {wells} wells. "
                "Fix: give the number of wells of the plate"
            )
    return shape


def contradicted(metadata: Metadata, config: Config) -> Iterator[str]:
    """Yield a warning for each value of ``input`` that differs from the file's own.

    Parameters
    ----------
    metadata
        Of the movie, as its files state them.
    config
        Config.
    """
    given, name = config.input, metadata.path.name
    size, own = given.pixel_size, metadata.pixel_size_um
    if size is not None and own is not None and _differ(size, own):
        yield f"input.pixel_size is {size:g} um; {name} states {own:.4g} um, which is not used"
    interval, (step, source) = given.frame_interval, _own_interval(metadata)
    if interval is not None and step is not None and _differ(interval, step):
        yield f"input.frame_interval is {interval:g} min; {name} states {step:.4g} min ({source}), which is not used"
    if given.plate is not None and metadata.plate_shape is not None:
        rows, columns = metadata.plate_shape
        if rows * columns != given.plate:
            yield f"input.plate is {given.plate}; {name} states {rows} rows and {columns} columns, which are not used"


def _own_interval(metadata: Metadata) -> tuple[float | None, str]:
    """Minutes between frames as a file states them, by its stamps or else nominally, and where it does."""
    for fov, stamps in enumerate([] if metadata.times_min is None else metadata.times_min):
        if (step := typical_step(stamps)) > 0:
            return step, str(metadata.source_of(fov))
    return metadata.interval_min, "nominal interval"


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > ALIKE * other
