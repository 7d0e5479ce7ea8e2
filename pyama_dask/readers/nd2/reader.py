"""Nikon ND2 movies, through the `nd2` package."""

from __future__ import annotations

import io
import math
import struct
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import nd2
import numpy as np
import numpy.typing as npt

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.base import Channel, FovInfo, Metadata, Planes, absent_planes
from pyama_dask.readers.channel_kinds import channel_kind, default_channel_name, default_fov_name
from pyama_dask.readers.file_reader import FileReader, FirstBytes
from pyama_dask.readers.nd2.chunks import Chunk, FrameBytes, frame_chunks, recorded_values
from pyama_dask.readers.nd2.pixels import Layout, Wanted, read_lossless, read_raw
from pyama_dask.readers.scratch import Scratch
from pyama_dask.readers.times import Stamps, choose_times

_AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
_TIME_SOURCE = "nd2 events (Time [s])"
_MOST_PLANES = 10_000_000
"""Limit above any real recording; a damaged file may announce more, which would take hours to list."""


@dataclass(frozen=True)
class Nd2Movie:
    """An open ND2 file and the places of its frames."""

    file: nd2.ND2File
    """Source of metadata, not of pixels (see `nd2_chunks`)."""
    stream: BinaryIO
    """Open file that `file` also reads from."""
    chunks: dict[int, Chunk]
    """Places of the frames in the file, by sequence number."""
    scratch: Scratch = field(default_factory=Scratch, repr=False)
    """Memory for stored bytes."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        self.stream.close()

    @property
    def images(self) -> int:
        """Number of recorded images, from the last sequence number."""
        return max(self.chunks, default=-1) + 1

    @cached_property
    def announced(self) -> dict[str, int]:
        """Announced length of each loop, by axis, from the outermost to the innermost."""
        return {_AXES[loop.type]: loop.count for loop in self.file.experiment if loop.type in _AXES}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Length of each loop, from the images in the file.

        Raises
        ------
        SourceError
            If their number contradicts the loops, so that the FOV of an image is ambiguous.
        """
        images, announced = self.images, math.prod(self.announced.values())
        if images == announced:
            return self.announced
        for counts, is_usual in self._likely_counts():
            fits = self._fits_positions(counts)
            if fits or (fits is None and is_usual):
                return counts
        raise SourceError(
            f"{self.stream.name}: its loops announce {announced} images, but it holds {images}, so the FOV and frame "
            "of each image are not certain. Fix: save it again in NIS-Elements, or split it"
        )

    def _likely_counts(self) -> Iterator[tuple[dict[str, int], bool]]:
        """Yield possible loop lengths, and True if they are likely without further evidence."""
        images, announced = self.images, math.prod(self.announced.values())
        by_time = next(iter(self.announced), "") == "T"  # the inner loops then determine the FOV of each image
        if images < announced or "T" not in self.announced:
            yield self.announced, by_time or self.announced.get("P", 1) == 1 or "T" not in self.announced
        if "T" in self.announced:
            per_frame = announced // self.announced["T"]
            if by_time or images % per_frame == 0:
                yield self.announced | {"T": -(-images // per_frame)}, by_time

    def _fits_positions(self, counts: Mapping[str, int]) -> bool | None:
        """True if the recorded stage positions match the FOVs, False if they contradict, None if they do not tell."""
        places = [loop.parameters.points for loop in self.file.experiment if isinstance(loop, nd2.structures.XYPosLoop)]
        points = np.array([point.stagePositionUm[:2] for group in places for point in group], np.float64)
        points = points.reshape(-1, 2)
        if len(points) < 2:
            return None
        recorded = np.column_stack(_of_equal_length(*(recorded_values(self.stream, name) for name in "XY")))
        sequence = _sequence(counts)
        fovs = np.empty(sequence.size, np.int64)
        fovs[sequence] = np.arange(len(points))[:, None, None]
        numbers = np.array([k for k in self.chunks if k < min(len(recorded), len(fovs))], np.int64)
        own = points[fovs[numbers]]
        proven = len(numbers) == len(self.chunks)
        for fov, point in enumerate(points):
            other = fovs[numbers] != fov
            near = np.linalg.norm(own[other] - point, axis=1) / 4  # stage errors are always smaller
            if (np.linalg.norm(recorded[numbers][other] - point, axis=1) < near).any():
                return False
            proven &= bool((np.linalg.norm((recorded[numbers] - own)[other], axis=1) < near).all())
        return proven or None

    @cached_property
    def sequence(self) -> npt.NDArray[np.int64]:
        """(P, T, Z) sequence numbers of the planes, for loops in any nesting."""
        return _sequence(self.counts)

    @property
    def notes(self) -> tuple[str, ...]:
        """Contradiction between the announced loops and the images in the file."""
        images, announced, used = self.images, math.prod(self.announced.values()), self.sequence.size
        if used == announced >= images:
            return ()
        which = "all are used" if used >= images else f"the first {used} are used"
        name = Path(self.stream.name).name
        return (f"{name}: its loops announce {announced} images, but it holds {images}; {which}",)

    @cached_property
    def held(self) -> npt.NDArray[np.bool_]:
        """(P, T, Z) mask of the planes in the file that have the usual size."""
        return np.isin(self.sequence, np.array(sorted(self.whole_frames()), np.int64))

    @cached_property
    def layout(self) -> Layout:
        """Layout of a frame's uncompressed bytes."""
        attributes, dtype = self.file.attributes, self.file.dtype
        shape, channels = (attributes.heightPx, attributes.widthPx or 0), attributes.componentCount
        return Layout(shape, channels, dtype, int(attributes.widthBytes or shape[1] * channels * dtype.itemsize))

    @property
    def is_compressed(self) -> bool:
        """True if each frame is stored compressed."""
        return self.file.attributes.compressionType == "lossless"

    def whole_frames(self) -> list[int]:
        """Sequence numbers of the frames with the expected size, or with the most frequent size if that is larger."""
        if self.is_compressed:  # sizes are only known after decompression
            return list(self.chunks)
        sizes = Counter(chunk.size for chunk in self.chunks.values())
        own = self.layout.frame_bytes
        usual = own if own in sizes else max(sizes, key=sizes.__getitem__, default=0)
        return [number for number, chunk in self.chunks.items() if chunk.size == usual >= own]

    def read(self, number: int, wanted: Wanted, where: str) -> None:
        """Read channels of a frame.

        Parameters
        ----------
        number
            Sequence number of the frame.
        wanted
            Channels, each with its (H, W) array.
        where
            File and frame, for messages.
        """
        stored = FrameBytes(self.stream, number, self.chunks[number], where)
        read = read_lossless if self.is_compressed else read_raw
        read(stored, self.layout, wanted, self.scratch)


class Nd2Reader(FileReader[Nd2Movie]):
    """Reader of ND2 files with any nesting of time, position and z loops."""

    suffixes: Sequence[str] = (".nd2",)
    signatures: Sequence[bytes] = (b"\xda\xce\xbe\x0a", b"\x00\x00\x00\x0c")
    # nd2 is pure Python that trusts the file, so damage may raise almost any exception
    vendor_errors = (
        ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NameError, OSError, RuntimeError,
        TypeError, ValueError, struct.error, zlib.error, ET.ParseError,
    )  # fmt: skip

    def _open(self) -> Nd2Movie:
        if nd2.is_legacy(self.path):
            raise UnsupportedSourceError(
                f"{self.path}: is a legacy ND2 file (JPEG 2000). Fix: save it again in NIS-Elements"
            )
        # The map of the frames is at the end of the file.
        stream = self.path.open("rb") if self.size is None else io.BufferedReader(FirstBytes(self.path, self.size))
        try:
            chunks = frame_chunks(stream)
            return Nd2Movie(nd2.ND2File(stream), stream, chunks)
        except BaseException:
            stream.close()
            raise

    def _describe(self, movie: Nd2Movie) -> Metadata:
        planes = max(math.prod(loop.count for loop in movie.file.experiment), movie.images)
        if planes > _MOST_PLANES:
            raise SourceError(f"{self.path}: is damaged: it announces {planes} planes. Fix: copy it again")
        self._check_kind(movie.file)
        n_fovs, n_frames, z_planes = movie.sequence.shape
        return Metadata(
            path=self.path,
            format="ND2",
            fovs=tuple(_fov(movie, fov) for fov in range(n_fovs)),
            n_frames=n_frames,
            channels=_channels(movie.file),
            z_planes=z_planes,
            pixel_size_um=_pixel_size_um(movie.file),
            interval_min=_interval_min(movie.file),
            notes=movie.notes,
            **_times(movie, recorded_values(movie.stream, "AcqTimesCache")),
        )

    def _check_kind(self, file: nd2.ND2File) -> None:
        axes = [_AXES.get(loop.type) for loop in file.experiment if loop.type in _AXES or loop.count > 1]
        problem = ""
        if file.components_per_channel != 1:
            problem = "holds colour images. Fix: export its channels as separate grey images"
        elif file.attributes.compressionType == "lossy":
            problem = "has lossy compression. Fix: save it in NIS-Elements without compression"
        elif None in axes or len(set(axes)) < len(axes):
            kinds = ", ".join(loop.type for loop in file.experiment)
            problem = f"has an unsupported combination of loops ({kinds}). Fix: split it in NIS-Elements"
        if problem:
            raise UnsupportedSourceError(f"{self.path}: {problem}")

    def _fill(self, file: Nd2Movie, out: Planes, fov: int, frame: int, channels: Sequence[int], z: int) -> None:
        wanted = list(zip(channels, out, strict=True))
        file.read(int(file.sequence[fov, frame, z]), wanted, f"{self.path}: FOV {fov}, frame {frame}")


def _sequence(counts: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """(P, T, Z) sequence numbers of planes, from the lengths of the loops, outermost first."""
    numbers = np.arange(math.prod(counts.values())).reshape(tuple(counts.values()))
    absent = [axis for axis in "PTZ" if axis not in counts]
    order = [[*absent, *counts].index(axis) for axis in "PTZ"]
    return np.expand_dims(numbers, tuple(range(len(absent)))).transpose(order)


def _of_equal_length(*lists: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    return [values[: min(map(len, lists))] for values in lists]


def _fov(movie: Nd2Movie, fov: int) -> FovInfo:
    attributes = movie.file.attributes
    held = np.repeat(movie.held[fov][:, None], attributes.componentCount, axis=1)
    name = ""
    for loop in movie.file.experiment:
        if isinstance(loop, nd2.structures.XYPosLoop):
            name = loop.parameters.points[fov].name or ""
            place = loop.parameters.points[fov].stagePositionUm
            position: tuple[float, float] | None = (float(place.x), float(place.y))
            break
    else:
        position = _recorded_position(movie)
    return FovInfo(
        name=name or default_fov_name(fov),
        shape=(attributes.heightPx, attributes.widthPx or 0),
        position_um=position,
        **absent_planes(held),
    )


def _recorded_position(movie: Nd2Movie) -> tuple[float, float] | None:
    channel = _frame_channel(movie.file, min(movie.chunks, default=0))
    if channel is None:
        return None
    place = channel.position.stagePositionUm
    return float(place[0]), float(place[1])


def _channels(file: nd2.ND2File) -> tuple[Channel, ...]:
    described = file.metadata.channels or []
    channels = []
    for index in range(file.attributes.componentCount):
        name, flags = "", []
        if index < len(described):
            name, flags = described[index].channel.name, described[index].microscope.modalityFlags
        name = name or default_channel_name(index)
        channels.append(Channel(name, file.dtype.name, channel_kind(name, flags)))
    return tuple(channels)


def _pixel_size_um(file: nd2.ND2File) -> float | None:
    for channel in file.metadata.channels or []:
        if channel.volume.axesCalibrated[0] and channel.volume.axesCalibration[0] > 0:
            return float(channel.volume.axesCalibration[0])
    return None


def _interval_min(file: nd2.ND2File) -> float | None:
    periods: set[float] = set()
    for loop in file.experiment:
        if isinstance(loop, nd2.structures.TimeLoop):
            periods = {loop.parameters.periodMs}
        elif isinstance(loop, nd2.structures.NETimeLoop):
            periods = {period.periodMs for period in loop.parameters.periods}
    if len(periods) != 1 or min(periods) <= 0:
        return None
    return float(periods.pop()) / 60_000


def _times(movie: Nd2Movie, recorded_ms: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Times of frames, each from the frame's first plane in the file."""
    first = np.argmax(movie.held, axis=2)
    numbers = np.take_along_axis(movie.sequence, first[..., None], axis=2)[..., 0]
    held = np.asarray(movie.held.any(axis=2))
    has_stamp = held & (numbers < len(recorded_ms))
    seconds = np.full(held.shape, np.nan)
    seconds[has_stamp] = recorded_ms[numbers[has_stamp]] / 1000
    return choose_times([Stamps(_TIME_SOURCE, seconds)], held, None)


def _frame_channel(file: nd2.ND2File, number: int) -> nd2.structures.FrameChannel | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = file.frame_metadata(number)
    except Nd2Reader.vendor_errors:
        return None
    return frame.channels[0] if isinstance(frame, nd2.structures.FrameMetadata) and frame.channels else None
