"""Scenes, channels, pixel size and times in the XML of a CZI file."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from pyama_dask.readers.base import ChannelKind
from pyama_dask.readers.channel_kinds import channel_kind

_IMAGE = "Metadata/Information/Image"
_DIMENSIONS = f"{_IMAGE}/Dimensions"


@dataclass(frozen=True)
class SceneText:
    """A scene, as described in the XML."""

    name: str = ""
    position_um: tuple[float, float] | None = None
    well: str | None = None


@dataclass(frozen=True)
class TimeAxis:
    """The time axis, as described in the XML."""

    offsets_s: tuple[float, ...] = ()
    """Time stamps in seconds; empty if the XML lists none."""
    increment_s: float | None = None
    """Nominal seconds between frames, above 0; None if absent."""
    attachment: str = "TimeStamps"
    """Name of the attachment with recorded time stamps."""


def read_channels(root: ET.Element) -> list[tuple[str, ChannelKind]]:
    """Read name ('' if absent) and kind of every channel."""
    channels = []
    for channel in root.iterfind(f"{_DIMENSIONS}/Channels/Channel"):
        name = channel.get("Name", "")
        contrast = [channel.findtext("ContrastMethod", "")]
        if channel.findtext("Fluor") and not contrast[0]:
            contrast = ["Fluorescence"]
        channels.append((name, channel_kind(name, contrast)))
    return channels


def read_scenes(root: ET.Element) -> dict[int, SceneText]:
    """Read the scenes by index."""
    scenes = {}
    for place, scene in enumerate(root.iterfind(f"{_DIMENSIONS}/S/Scenes/Scene")):
        shape = scene.find("Shape")  # the well that the scene lies in
        well = scene.findtext("ArrayName") or (None if shape is None else shape.get("Name"))
        index = scene.get("Index", "")
        scenes[int(index) if index.isdecimal() else place] = SceneText(
            name=scene.get("Name", ""), position_um=_position(scene), well=well or None
        )
    return scenes


def read_pixel_size_um(root: ET.Element) -> float | None:
    """Read the pixel width in micrometres; None if absent."""
    metres = _number(root.findtext("Metadata/Scaling/Items/Distance[@Id='X']/Value"))
    # 1.6e-06 m should be 1.6 um, not 1.5999999999999999.
    return float(f"{metres * 1e6:.12g}") if metres is not None and metres > 0 else None


def read_size(root: ET.Element, axis: str) -> int:
    """Read the announced length of an axis; 0 if absent."""
    return int(_number(root.findtext(f"{_IMAGE}/Size{axis}")) or 0)


def read_time_axis(root: ET.Element) -> TimeAxis:
    """Read the time axis."""
    positions = root.find(f"{_DIMENSIONS}/T/Positions")
    if positions is None:
        return TimeAxis()
    offsets = [_number(word) for word in positions.findtext("List/Offsets", "").split()]
    increment = _number(positions.findtext("Interval/Increment"))
    return TimeAxis(
        offsets_s=tuple(float("nan") if offset is None else offset for offset in offsets),
        increment_s=increment if increment and increment > 0 else None,
        attachment=positions.findtext("BinaryList/AttachmentName") or TimeAxis.attachment,
    )


def _position(scene: ET.Element) -> tuple[float, float] | None:
    centre = [_number(word) for word in scene.findtext("CenterPosition", "").split(",")]
    points = [centre] if len(centre) == 2 else []
    points = points or [[_number(p.get("X")), _number(p.get("Y"))] for p in scene.iterfind("Positions/Position")]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    if not known:
        return None
    return sum(x for x, _ in known) / len(known), sum(y for _, y in known) / len(known)


def _number(text: str | None) -> float | None:
    """Parse a finite number; None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
