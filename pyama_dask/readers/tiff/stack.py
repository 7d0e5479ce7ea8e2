"""TIFF files with several images whose axes are stated in the file: hyperstacks of ImageJ, and stacks of tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from pyama_dask.config.units import many
from pyama_dask.errors import UnsupportedSourceError
from pyama_dask.files.atomic import open_file
from pyama_dask.files.images import pixel_size_of
from pyama_dask.readers.base import Channel, FovInfo, Metadata, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name
from pyama_dask.readers.damage import READ_ERRORS
from pyama_dask.readers.folders.plane_table import as_tcz
from pyama_dask.readers.folders.planes import ABSENT, TIFF, Folder, Planes, stat_files
from pyama_dask.readers.tiff.ome_xml import SECONDS
from pyama_dask.readers.times import choose_times

_FOLLOWING = "TZC"
"""Axes in the order of ImageJ, from the slowest one to the fastest."""


class _Stack(NamedTuple):
    """Places of the planes of a file."""

    place: npt.NDArray[np.int64]
    """(T, C, Z) place in the file, or `ABSENT`."""
    form: str
    """As in `Planes`."""


def scan_stack(path: Path, file: tifffile.TiffFile, *, times: bool) -> Folder:
    """Find the planes of a TIFF file.

    Parameters
    ----------
    path, file
        The file, open.
    times
        False to leave out the times of frames.

    Raises
    ------
    UnsupportedSourceError
        If the file does not state what its images are, or if they have colours.
    """
    series = file.series[0]
    axes = _check(path, file, series)
    stack = _places(file, series, axes)
    held = stack.place != ABSENT
    shape = int(series.shape[-2]), int(series.shape[-1])
    name = np.dtype(series.dtype).newbyteorder("=").name
    about = file.imagej_metadata or {}
    channels = [default_channel_name(k) for k in range(held.shape[1])]
    interval = float(about.get("finterval", 0)) * SECONDS.get(str(about.get("tunit", "s")), 1.0) / 60
    metadata = Metadata(
        path=path,
        format="ImageJ TIFF" if file.is_imagej else "TIFF",
        fovs=(FovInfo(path.stem, shape, **absent_planes(held)),),
        n_frames=held.shape[0],
        channels=tuple(Channel(channel, name, channel_kind(channel)) for channel in channels),
        z_planes=held.shape[2],
        pixel_size_um=pixel_size_of(file),
        interval_min=interval if interval > 0 else None,
        notes=_notes(path, held),
        **(choose_times([], held.any(axis=(1, 2))[None], interval if interval > 0 else None) if times else {}),
    )
    numbers = np.where(held, 0, ABSENT).astype(np.int32)
    states = stat_files(path.parent, [path.name])
    return Folder(
        metadata,
        Planes(path.parent, [path.name], *states, numbers[None], stack.place[None], form=stack.form),
    )


def has_several(path: Path) -> bool:
    """True if a TIFF file has several images; False if it cannot be read, too."""
    try:
        with open_file(path) as opened, tifffile.TiffFile(opened) as file:
            return len(file.pages) > 1 or int((file.imagej_metadata or {}).get("images", 1)) > 1
    except READ_ERRORS:
        return False


def _check(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> str:
    """Axes before height and width."""
    remedy = "Fix: save it as a hyperstack from Fiji, as OME-TIFF, or as single images"
    if series.axes[-2:] != "YX" or series.dtype is None or np.dtype(series.dtype).kind not in "iuf":
        raise UnsupportedSourceError(f"{path}: has images in colours or another unusual form. {remedy}")
    if series.keyframe.shape != series.shape[-2:]:
        raise UnsupportedSourceError(f"{path}: has several grey levels per pixel. {remedy}")
    if len(file.series) > 1:
        raise UnsupportedSourceError(f"{path}: has {len(file.series)} series of images of different sizes. {remedy}")
    if strange := [axis for axis in series.axes[:-2] if axis not in _FOLLOWING]:
        count = series.shape[series.axes.index(strange[0])]
        raise UnsupportedSourceError(
            f"{path}: has {many(count, 'image')}, and does not say whether they are frames, channels or z planes. "
            f"{remedy}"
        )
    return str(series.axes[:-2])


def _places(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, axes: str) -> _Stack:
    """Find where the planes are: pixels without a gap between them, or images of the file."""
    sizes = dict(zip(axes, series.shape, strict=False))
    count = int(np.prod([*sizes.values(), 1]))
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        size = dtype.itemsize * int(np.prod(series.shape[-2:]))
        offsets = series.dataoffset + size * np.arange(count, dtype=np.int64)
        return _Stack(as_tcz(offsets.reshape(list(sizes.values())), axes), dtype.str)
    pages = [ABSENT if page is None else page.offset for page in series.pages]
    return _Stack(as_tcz(np.array(pages, np.int64).reshape(list(sizes.values())), axes), TIFF)


def _notes(path: Path, held: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return () if np.all(held) else (f"{path.name}: images that the file announces are not there; they are missing",)
