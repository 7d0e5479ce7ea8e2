"""Write CZI movies with several scenes, time points, channels and planes.

Pixels are written with pylibCZIrw by ZEISS. Its writer omits the scene names, the stage positions and the time
axis, so the metadata editor adds them afterwards.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pylibCZIrw import czi

from pyama_dask.errors import OutputError

START = datetime(2024, 1, 1, 9, 0, 0, tzinfo=UTC)


class Planes(Protocol):
    """Movie that returns planes one by one, such as a NumPy array.

    With five axes ``planes[s, t, c]`` is a (Y, X) plane, with six axes ``planes[s, t, c, z]``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, T, C, Y, X) or (S, T, C, Z, Y, X)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all planes, uint8 or uint16."""
        ...

    def __getitem__(self, index: Any, /) -> npt.NDArray[Any]: ...


def write_czi(
    path: str | PathLike[str],
    data: Planes,
    *,
    channel_names: Sequence[str] | None = None,
    scene_names: Sequence[str] | None = None,
    pixel_size_um: float = 0.65,
    z_step_um: float | None = None,
    period_s: float | None = 600.0,
    time_offsets_s: Sequence[float] | None = None,
    start: datetime = START,
    stage_positions_um: Sequence[tuple[float, float]] | None = None,
    scene_gap_px: int = 1000,
    tile_shape: tuple[int, int] | None = None,
    skip: Container[tuple[int, int, int, int]] = (),
    compression: str | None = None,
) -> None:
    """Write a movie as CZI, replacing an existing file.

    Parameters
    ----------
    path : path
        File to write.
    data : Planes
        uint8 or uint16 array of shape (S, T, C, Y, X) or (S, T, C, Z, Y, X), or any object that returns
        the planes of such an array. Every plane is read once, in order of the indices, so that a large movie
        need not fit into memory.
    channel_names, scene_names : sequence of str, optional
        By default Ch0, Ch1, ... and P1, P2, ...
    pixel_size_um, z_step_um : float
        Micrometres per pixel and per plane.
    period_s : float, optional
        Seconds between time points; None writes no time axis.
    time_offsets_s : sequence of float, optional
        Seconds since the start, one per time point, instead of `period_s`.
    start : datetime
        Start of the acquisition, in UTC.
    stage_positions_um : sequence of (x, y), optional
        Centre of every scene. Bio-Formats cannot open such a file, because it lacks an experiment block.
    scene_gap_px : int
        Pixels between two scenes in the coordinates of the file.
    tile_shape : (height, width), optional
        Largest tile; planes are cut into tiles of this shape, so that the scenes are mosaics.
    skip : container of (s, t, c, z)
        Planes that the file announces but does not contain, as after an aborted acquisition. They are not read.
    compression : str, optional
        Options of pylibCZIrw, such as ``"zstd1:ExplicitLevel=2"``.

    Raises
    ------
    ValueError
        If the data is not uint8 or uint16 of five or six axes, or names, positions or offsets do not fit its
        shape.
    OutputError
        If a plane cannot be written.
    """
    sizes = _sizes(data)
    channels = list(channel_names or [f"Ch{c}" for c in range(sizes[2])])
    scenes = list(scene_names or [f"P{s + 1}" for s in range(sizes[0])])
    _check_length("channel names", channels, sizes[2])
    _check_length("scene names", scenes, sizes[0])
    _check_length("stage positions", stage_positions_um, sizes[0])
    _check_length("time offsets", time_offsets_s, sizes[1])

    path = Path(path)
    path.unlink(missing_ok=True)
    with czi.create_czi(str(path), compression_options=compression) as document:
        for index in np.ndindex(*sizes):
            if index not in skip:
                plane = data[index if len(data.shape) == 6 else index[:3]]
                _write_plane(document, path, plane, index, scene_gap_px, tile_shape)
        document.write_metadata(
            document_name=path.name,
            channel_names=dict(enumerate(channels)),
            scale_x=pixel_size_um * 1e-6,
            scale_y=pixel_size_um * 1e-6,
            scale_z=0.0 if z_step_um is None else z_step_um * 1e-6,
        )

    with czi.edit_czi(str(path)) as editor:
        root = ET.fromstring(editor.read_metadata_xml())
        image = _child(_child(_child(root, "Metadata"), "Information"), "Image")
        _put_text(image, "AcquisitionDateAndTime", f"{start:%Y-%m-%dT%H:%M:%SZ}")
        for axis, size in zip("STCZ", sizes, strict=True):
            _announce(image, axis, size)
        dimensions = _child(image, "Dimensions")
        _add_times(dimensions, start, period_s, time_offsets_s)
        _add_scenes(dimensions, scenes, stage_positions_um)
        if z_step_um is None:
            _drop_z_scale(root)
        with editor.edit_session() as builder:
            builder.set_xml(ET.tostring(root, encoding="unicode"))


def _sizes(data: Planes) -> tuple[int, int, int, int]:
    """(S, T, C, Z) of the movie."""
    if len(data.shape) not in {5, 6}:
        raise ValueError(f"a movie has axes (S, T, C, Y, X) or (S, T, C, Z, Y, X), not the shape {data.shape}")
    if data.dtype not in {np.dtype("u1"), np.dtype("u2")}:
        raise ValueError(f"planes must be uint8 or uint16, not {data.dtype}")
    s, t, c = data.shape[:3]
    return s, t, c, data.shape[3] if len(data.shape) == 6 else 1


def _check_length(what: str, values: Sequence[Any] | None, expected: int) -> None:
    if values is not None and len(values) != expected:
        raise ValueError(f"{len(values)} {what} for a movie that has {expected}")


def _write_plane(
    document: czi.CziWriter,
    path: Path,
    plane: npt.NDArray[Any],
    index: tuple[int, ...],
    scene_gap_px: int,
    tile_shape: tuple[int, int] | None,
) -> None:
    s, t, c, z = index
    left = s * (plane.shape[1] + scene_gap_px)
    for y, x, tile in _tiles(plane, tile_shape):
        pixels = np.ascontiguousarray(tile)[..., np.newaxis]
        if not document.write(pixels, location=(left + x, y), plane={"T": t, "C": c, "Z": z}, scene=s):
            raise OutputError(f"{path}: cannot write the plane of scene {s}, time {t}, channel {c}, z {z}")


def _tiles(plane: npt.NDArray[Any], shape: tuple[int, int] | None) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
    height, width = shape or plane.shape
    for y in range(0, plane.shape[0], height):
        for x in range(0, plane.shape[1], width):
            yield y, x, plane[y : y + height, x : x + width]


def _announce(image: ET.Element, axis: str, size: int) -> None:
    """Set the planned size; pylibCZIrw sets the written one."""
    stated = image.find(f"Size{axis}")
    if stated is not None:
        stated.text = str(size)


def _add_times(
    dimensions: ET.Element, start: datetime, period_s: float | None, offsets_s: Sequence[float] | None
) -> None:
    times = ET.SubElement(dimensions, "T")
    _put_text(times, "StartTime", f"{start:%Y-%m-%dT%H:%M:%SZ}")
    if offsets_s is not None:
        values = ET.SubElement(ET.SubElement(times, "Positions"), "List")
        _put_text(values, "Offsets", " ".join(f"{v:g}" for v in offsets_s))
    elif period_s is not None:
        values = ET.SubElement(ET.SubElement(times, "Positions"), "Interval")
        _put_text(values, "Start", "0")
        _put_text(values, "Increment", f"{period_s:g}")


def _add_scenes(
    dimensions: ET.Element, names: Sequence[str], positions_um: Sequence[tuple[float, float]] | None
) -> None:
    scenes = ET.SubElement(ET.SubElement(dimensions, "S"), "Scenes")
    for s, name in enumerate(names):
        scene = ET.SubElement(scenes, "Scene", Index=str(s), Name=name)
        if positions_um is not None:
            x, y = positions_um[s]
            _put_text(scene, "CenterPosition", f"{x:g},{y:g}")
        _put_text(scene, "ContourType", "Rectangle")


def _drop_z_scale(root: ET.Element) -> None:
    items = root.find("Metadata/Scaling/Items")
    if items is not None:
        for item in items.findall("Distance[@Id='Z']"):
            items.remove(item)


def _child(parent: ET.Element, tag: str) -> ET.Element:
    """Child with a tag, created if pylibCZIrw omitted it."""
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _put_text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
