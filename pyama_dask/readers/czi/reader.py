"""Zeiss CZI movies, through the `pylibCZIrw` package, and directly where pixels are stored in a plain form."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from pylibCZIrw import czi

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, Planes, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name, default_fov_name
from pyama_dask.readers.czi.metadata_xml import (
    SceneText,
    TimeAxis,
    read_channels,
    read_pixel_size_um,
    read_scenes,
    read_size,
    read_time_axis,
)
from pyama_dask.readers.czi.planes import CziPlanes, find_planes
from pyama_dask.readers.czi.stamps import read_plane_times, read_stamps, stamps_of_frames
from pyama_dask.readers.czi.subblocks import Subblocks
from pyama_dask.readers.file_reader import FileReader
from pyama_dask.readers.times import Stamps, choose_times

_DTYPES = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32"}
_AXES = {"S": "scenes", "T": "time points", "C": "channels", "Z": "z planes"}
_OTHER_AXES = {"R": "rotation", "I": "illumination", "H": "phase", "V": "view", "B": "block"}


@dataclass(frozen=True)
class CziMovie:
    """An open CZI file and its planes."""

    document: czi.CziReader
    root: ET.Element
    planes: CziPlanes
    blocks: Subblocks
    opened: ExitStack

    def close(self) -> None:
        """Close the file."""
        self.opened.close()

    def pixel_type(self, channel: int) -> str:
        """ZEISS's name of a channel's pixel type."""
        (kind,) = self.planes.pixel_types[channel]
        return kind

    def read(self, fov: int, frame: int, channel: int, z: int) -> np.ndarray:
        """(H, W) pixels of any plane, by ZEISS's library."""
        planes = self.planes
        first_frame, first_z = planes.first
        pixels: np.ndarray = self.document.read(
            roi=planes.boxes[fov],
            plane={"T": first_frame + frame, "C": planes.channels[channel], "Z": first_z + z},
            scene=planes.scenes[fov],
            pixel_type=self.pixel_type(channel),
        )[..., 0]
        return pixels

    def read_directly(self, out: np.ndarray, place: tuple[int, int, int, int], where: str) -> bool:
        """Read a plane, by FOV, frame, channel and z, that is one plain subblock; else return False.

        See `Subblocks.read`.
        """
        block = int(self.planes.blocks[place])
        return bool(self.planes.tiles[place] == 1) and self.blocks.read(out, block, where)


class CziReader(FileReader[CziMovie]):
    """Reader of CZI files: every scene is a FOV, a mosaic is one image."""

    suffixes: Sequence[str] = (".czi",)
    signatures: Sequence[bytes] = (b"ZISRAWFILE",)
    vendor_errors = (ArithmeticError, LookupError, OSError, RuntimeError, ValueError, struct.error, ET.ParseError)

    def _open(self) -> CziMovie:
        with ExitStack() as stack:
            document = stack.enter_context(czi.open_czi(str(self.path)))
            text = document.raw_metadata
            root = ET.fromstring(text) if text.strip() else ET.Element("ImageDocument")
            self._check_axes(document)
            planes = find_planes(document, read_size(root, "T"))
            if planes is None:
                raise SourceError(f"{self.path}: holds no images. Fix: check whether the recording was aborted")
            self._check_pixels(planes)
            blocks = Subblocks(stack.enter_context(self.path.open("rb")))
            return CziMovie(document, root, planes, blocks, stack.pop_all())

    def _describe(self, movie: CziMovie) -> Metadata:
        planes = movie.planes
        axis = read_time_axis(movie.root)
        interval_min = axis.increment_s / 60 if axis.increment_s else None
        stamps, notes = self._stamps(planes, axis)
        return Metadata(
            path=self.path,
            format="CZI",
            fovs=_fovs(movie),
            n_frames=planes.whole.shape[1],
            channels=_channels(movie),
            z_planes=planes.whole.shape[3],
            pixel_size_um=read_pixel_size_um(movie.root),
            interval_min=interval_min,
            notes=(*_size_notes(self.path.name, movie), *notes),
            **choose_times(stamps, np.asarray(planes.whole.any(axis=(2, 3))), interval_min),
        )

    def _stamps(self, planes: CziPlanes, axis: TimeAxis) -> tuple[list[Stamps], list[str]]:
        """Time stamps from each source, best first, and notes on unusable stamps."""
        found, notes = list[Stamps](), list[str]()
        if not self.times:
            return found, notes
        try:
            of_planes = read_plane_times(self.path, planes.first_blocks)
            if of_planes is not None:
                found.append(Stamps("czi AcquisitionTime of planes", of_planes))
        except TimeoutError:
            notes.append(f"{self.path.name}: the times of planes are not used, because reading them took too long")
        lists = {
            f"czi attachment {axis.attachment}": read_stamps(self.path, axis.attachment),
            "czi T/Positions/List/Offsets": axis.offsets_s,
        }
        scenes, frames = planes.first_blocks.shape
        for source, listed in lists.items():
            if listed:
                seconds = stamps_of_frames(listed, scenes, planes.first[0], frames, axis.increment_s)
                if seconds is not None:
                    found.append(Stamps(source, seconds))
                elif frames > 1:
                    notes.append(
                        f"{self.path.name}: {source} has {len(listed)} time stamps for {scenes} FOVs of {frames} "
                        "frames, in an order that is not certain; they are not used"
                    )
        return found, notes

    def _check_axes(self, document: czi.CziReader) -> None:
        for axis, (start, stop) in document.total_bounding_box.items():
            if axis in _OTHER_AXES and stop - start > 1:
                raise UnsupportedSourceError(
                    f"{self.path}: has {stop - start} images along {axis} ({_OTHER_AXES[axis]}), but only scenes, "
                    "time, channels and z are supported. Fix: save one of them as a new file in ZEN"
                )

    def _check_pixels(self, planes: CziPlanes) -> None:
        for fov, channel in np.argwhere(planes.of_other_size):
            raise UnsupportedSourceError(
                f"{self.path}: FOV {fov}, channel {channel} has images of a different size or position than the other "
                "channels. Fix: export them in one size in ZEN"
            )
        for channel, kinds in enumerate(planes.pixel_types):
            other = sorted(kinds - _DTYPES.keys())
            if other:
                raise UnsupportedSourceError(
                    f"{self.path}: channel {channel} has pixels of type {other[0]}, but only grey images are "
                    "supported. Fix: split the colours into channels in ZEN"
                )
            if len(kinds) > 1:
                raise UnsupportedSourceError(
                    f"{self.path}: channel {channel} mixes the pixel types {', '.join(sorted(kinds))}. "
                    "Fix: convert it to one of them in ZEN"
                )

    def _fill(self, file: CziMovie, out: Planes, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        for plane, channel in zip(out, channels, strict=True):
            where = f"{self.path}: FOV {fov}, frame {frame}, channel {channel}, plane {z}"
            dtype = np.dtype(_DTYPES[file.pixel_type(channel)])
            levels = plane if plane.dtype == dtype else np.empty(plane.shape, dtype)
            if not file.read_directly(levels, (fov, frame, channel, z), where):
                levels = file.read(fov, frame, channel, z)
            if levels.shape != plane.shape:
                raise SourceError(
                    f"{where} has a different size: {levels.shape} instead of {plane.shape}. "
                    "Fix: copy the file again, or leave out the frame"
                )
            if levels is not plane:
                plane[...] = levels


def _size_notes(name: str, movie: CziMovie) -> Iterator[str]:
    """Notes on axes whose length in the XML differs from the planes in the file."""
    for (axis, what), held in zip(_AXES.items(), movie.planes.whole.shape, strict=True):
        announced = read_size(movie.root, axis)
        if announced not in (0, held):
            yield f"{name}: announces {announced} {what}, but holds {held}; all that it holds are used"


def _fovs(movie: CziMovie) -> tuple[FovInfo, ...]:
    texts = read_scenes(movie.root)
    in_well: Counter[str] = Counter()
    fovs = []
    for fov, scene in enumerate(movie.planes.scenes):
        # A file without scene indices may still describe the one position where it was recorded.
        text = texts.get(0 if scene is None else scene, SceneText())
        if text.well is not None:
            in_well[text.well] += 1
        _, _, width, height = movie.planes.boxes[fov]
        fovs.append(
            FovInfo(
                name=text.name or default_fov_name(fov),
                shape=(height, width),
                position_um=text.position_um,
                **absent_planes(movie.planes.whole[fov]),
                well=text.well,
                site=None if text.well is None else in_well[text.well],
            )
        )
    return tuple(fovs)


def _channels(movie: CziMovie) -> tuple[Channel, ...]:
    planes, texts = movie.planes, read_channels(movie.root)
    # The XML lists the channels of the file; in an excerpt of a movie it may still list all the original ones.
    numbers = planes.channels if max(planes.channels) < len(texts) else range(len(planes.channels))
    channels = []
    for number, (pixel_type,) in zip(numbers, planes.pixel_types, strict=True):
        name, kind = texts[number] if number < len(texts) else ("", channel_kind(""))
        channels.append(Channel(name or default_channel_name(number), _DTYPES[pixel_type], kind))
    return tuple(channels)
