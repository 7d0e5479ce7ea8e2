"""Metadata of a movie as plain values, for JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from pyama_dask.readers.base import Channel, FovInfo, Metadata, Tile


def as_plain(metadata: Metadata) -> dict[str, Any]:
    """Convert metadata to numbers, text, lists and mappings."""
    plain = {field.name: getattr(metadata, field.name) for field in fields(metadata)}
    times = metadata.times_min
    return plain | {
        "path": str(metadata.path),
        "fovs": [asdict(fov) for fov in metadata.fovs],
        "channels": [asdict(channel) for channel in metadata.channels],
        "times_min": None if times is None else times.tolist(),
    }


def from_plain(plain: dict[str, Any]) -> Metadata:
    """Metadata from what `as_plain` returned, also after JSON has turned tuples into lists."""
    times, source = plain["times_min"], plain["time_source"]
    read = {
        "path": Path(plain["path"]),
        "fovs": tuple(_fov(fov) for fov in plain["fovs"]),
        "channels": tuple(Channel(**channel) for channel in plain["channels"]),
        "times_min": None if times is None else np.array(times, np.float64),
        "time_source": tuple(source) if isinstance(source, list) else source,
        "projected": tuple(plain["projected"]),
        "notes": tuple(plain["notes"]),
        "instrument_shading": tuple(plain.get("instrument_shading", ())),
        "plate_shape": tuple(shape) if (shape := plain.get("plate_shape")) else None,
    }
    return Metadata(**plain | read)


def _fov(plain: dict[str, Any]) -> FovInfo:
    lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list | tuple)}
    lists["partial"] = tuple((channel, z, tuple(frames)) for channel, z, frames in plain["partial"])
    lists["tiles"] = tuple(Tile(*tile) for tile in plain.get("tiles", ()))
    return FovInfo(**plain | lists)
