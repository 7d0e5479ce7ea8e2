"""Write synthetic but format-valid Nikon ND2 files (version 3.0).

Meant for tests: it lets a test suite make small multi-position, multi-channel,
time-lapse ``.nd2`` files with known pixels, channel names, pixel size, stage
positions and time stamps, instead of shipping microscope files.  Only numpy and
the standard library are needed.

Quick use::

    write_nd2("a.nd2", data, axes="TPCYX",
              channels=["Phase", "GFP"], pixel_size_um=0.65, period_ms=600_000)

Streaming use (one frame in memory at a time)::

    with Nd2Writer("a.nd2", sizes=dict(T=10, P=4, C=2, Y=256, X=256)) as w:
        for t in range(10):
            for p in range(4):
                w.write(frame, T=t, P=p)          # frame: (C, Y, X)

File layout
-----------
An ND2 file is a sequence of chunks, each starting on a 4096-byte boundary::

    uint32 magic 0x0ABECEDA | uint32 name_length | uint64 data_length
    name (zero padded to name_length)  | data

The name field is padded so that the data ends on the next boundary, except for
image chunks, whose name field is always 4072 bytes long: with the 8-byte time
stamp in front of them the pixels then start exactly on a boundary.  The last
chunk maps every chunk name to its (offset, data length); the last 40 bytes of the
file say where that map is.

Metadata chunks hold a binary property tree ("lite variant"), see `encode_lv`.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from xml.sax.saxutils import quoteattr

import numpy as np

__all__ = [
    "Nd2Channel",
    "Nd2Period",
    "Nd2Position",
    "Nd2Writer",
    "encode_lv",
    "write_nd2",
]

# --------------------------------------------------------------------------------
# lite variant (LV) encoding
# --------------------------------------------------------------------------------


class U32(int):
    """An int stored as an unsigned 32-bit value (a plain int is signed 32-bit)."""


class U64(int):
    """An int stored as an unsigned 64-bit value."""


_BOOL, _I32, _U32, _U64, _F64, _STR, _BYTES, _LEVEL = 1, 2, 3, 5, 6, 8, 9, 11


def encode_lv(name: str, value: Any) -> bytes:
    """Encode one property, or a whole tree of them.

    Record: ``uint8 type | uint8 name length | UTF-16 name | value``; the name
    length counts UTF-16 units and the closing zero, and is 0 for list items.  A
    dict or list is a *level*: ``uint32 item count | uint64 length | items``,
    followed by one uint64 per item, the item's offset from the start of the
    level's record, ordered by item name.  The length covers everything in front
    of that table.
    """
    if isinstance(value, Mapping):
        return _encode_level(name, list(value.items()))
    if isinstance(value, (list, tuple)):
        return _encode_level(name, [("", item) for item in value])
    if isinstance(value, (bool, np.bool_)):
        kind, body = _BOOL, struct.pack("<B", value)
    elif isinstance(value, U32):
        kind, body = _U32, struct.pack("<I", value)
    elif isinstance(value, U64):
        kind, body = _U64, struct.pack("<Q", value)
    elif isinstance(value, (int, np.integer)):
        kind, body = _I32, struct.pack("<i", value)
    elif isinstance(value, (float, np.floating)):
        kind, body = _F64, struct.pack("<d", value)
    elif isinstance(value, str):
        kind, body = _STR, value.encode("utf-16-le") + b"\0\0"
    elif isinstance(value, (bytes, bytearray)):
        kind, body = _BYTES, struct.pack("<Q", len(value)) + bytes(value)
    else:
        raise TypeError(f"cannot encode {name!r} of type {type(value).__name__}")
    return _lv_head(kind, name) + body


def _lv_head(kind: int, name: str) -> bytes:
    raw = name.encode("utf-16-le") + b"\0\0" if name else b""
    if len(raw) // 2 > 255:
        raise ValueError(f"property name too long: {name!r}")
    return struct.pack("<BB", kind, len(raw) // 2) + raw


def _encode_level(name: str, items: list[tuple[str, Any]]) -> bytes:
    head = _lv_head(_LEVEL, name)
    position = len(head) + 12
    blobs: list[bytes] = []
    offsets: list[tuple[str, int]] = []
    for key, value in items:
        blob = encode_lv(key, value)
        offsets.append((key, position))
        position += len(blob)
        blobs.append(blob)
    offsets.sort()
    table = struct.pack(f"<{len(offsets)}Q", *(offset for _, offset in offsets))
    return head + struct.pack("<IQ", len(items), position) + b"".join(blobs) + table


def _encode_xml(tree: Mapping[str, Any]) -> bytes:
    """Encode a property tree as an XML variant (used by ``CustomDataVar`` chunks)."""

    def node(key: str, value: Any) -> str:
        if isinstance(value, Mapping):
            inner = "".join(node(k, v) for k, v in value.items())
            return f'<{key} runtype="CLxListVariant">{inner}</{key}>'
        if isinstance(value, bool):
            kind, text = "bool", str(value).lower()
        elif isinstance(value, int):
            kind, text = "lx_int32", str(value)
        elif isinstance(value, float):
            kind, text = "double", repr(value)
        else:
            kind, text = "CLxStringW", str(value)
        return f'<{key} runtype="{kind}" value={quoteattr(text)}/>'

    body = "".join(node(k, v) for k, v in tree.items())
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{head}<variant version="1.0">{body}</variant>'.encode()


# --------------------------------------------------------------------------------
# public descriptions
# --------------------------------------------------------------------------------

_FLUORESCENCE, _BRIGHTFIELD, _PHASE, _DIC, _CAMERA = 0x1, 0x2, 0x10, 0x20, 0x100
_MODALITY = {
    "fluorescence": (_FLUORESCENCE | _CAMERA, "Widefield Fluorescence"),
    "brightfield": (_BRIGHTFIELD | _CAMERA, "Brightfield"),
    "phase": (_BRIGHTFIELD | _PHASE | _CAMERA, "Brightfield, Phase Contrast"),
    "dic": (_BRIGHTFIELD | _DIC | _CAMERA, "Brightfield, DIC"),
}


@dataclass(frozen=True)
class Nd2Channel:
    """One channel.  ``kind``: fluorescence, brightfield, phase or dic."""

    name: str
    kind: str = "fluorescence"
    color: tuple[int, int, int] = (255, 255, 255)
    excitation_nm: float | None = None
    emission_nm: float | None = None
    exposure_ms: float = 100.0

    def __post_init__(self) -> None:
        if self.kind not in _MODALITY:
            raise ValueError(f"kind must be one of {sorted(_MODALITY)}: {self.kind!r}")


@dataclass(frozen=True)
class Nd2Position:
    """One stage position (field of view), in micrometres."""

    x_um: float = 0.0
    y_um: float = 0.0
    z_um: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        for axis in ("x_um", "y_um", "z_um"):
            object.__setattr__(self, axis, float(getattr(self, axis)))


@dataclass(frozen=True)
class Nd2Period:
    """One phase of a time loop whose interval changes (an "ND time loop")."""

    count: int
    period_ms: float


# --------------------------------------------------------------------------------
# writer
# --------------------------------------------------------------------------------

_MAGIC = 0x0ABECEDA
_HEADER = struct.Struct("<IIQ")
_ALIGN = 4096
_NAME_RESERVE = 20  # spare bytes NIS-Elements keeps behind a chunk's name
_IMAGE_NAME_LENGTH = 4072
_FILE_SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
_MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
_MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_UNIX_EPOCH_JULIAN_DAY = 2440587.5
_LOOPS = ("T", "P", "Z")


class Nd2Writer:
    """Write an ND2 file frame by frame.

    Parameters
    ----------
    path
        File to create (overwritten).  It is complete only after `close`.
    sizes
        Axis lengths.  Any of ``T``, ``P``, ``Z`` in the order of nesting, outermost
        first, then ``C``, ``Y``, ``X`` (``C`` may be left out for one channel).
        A loop that is named is written even if its length is 1.
    dtype
        uint8, uint16 or float32.
    channels
        Names or `Nd2Channel`, one per channel.
    pixel_size_um
        Pixel size; None writes an uncalibrated file.
    z_step_um
        Distance between planes.
    positions
        `Nd2Position` (or ``(x, y)`` / ``(x, y, z)``), one per position.
    position_valid
        One flag per *stored* position: a False adds an unticked point to the
        position list, of which no image exists.  Needs ``sum(flags) == sizes["P"]``
        and one entry of ``positions`` per flag.
    period_ms
        Time between two time points.
    periods
        Phases with different intervals; makes a non-equidistant time loop.  The
        counts must add up to ``sizes["T"]``.
    frame_interval_ms
        Time between two successive images of one time point.
    start
        Moment the acquisition started; a naive datetime is taken as UTC.
    compression
        None or ``"lossless"`` (zlib).
    bits_significant
        Camera bit depth, for example 12 in a uint16 file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sizes: Mapping[str, int],
        dtype: Any = np.uint16,
        *,
        channels: Sequence[str | Nd2Channel] | None = None,
        pixel_size_um: float | None = 0.65,
        z_step_um: float = 1.0,
        positions: Sequence[Nd2Position | Sequence[float]] | None = None,
        position_valid: Sequence[bool] | None = None,
        period_ms: float = 600_000.0,
        periods: Sequence[Nd2Period] | None = None,
        frame_interval_ms: float = 500.0,
        start: datetime | None = None,
        objective: str = "Plan Fluor 10x Ph1 DLL",
        magnification: float = 10.0,
        numerical_aperture: float = 0.3,
        compression: str | None = None,
        bits_significant: int | None = None,
        description: str | None = None,
    ) -> None:
        self.sizes = {axis: int(n) for axis, n in sizes.items()}
        unknown = set(self.sizes) - set(_LOOPS) - set("CYX")
        if unknown or not {"Y", "X"} <= set(self.sizes):
            raise ValueError(f"sizes must have Y and X, and only TPZCYX: {sizes}")
        if any(n < 1 for n in self.sizes.values()):
            raise ValueError(f"sizes must be positive: {sizes}")
        self.loops = [axis for axis in self.sizes if axis in _LOOPS]
        if list(self.sizes) != self.loops + [a for a in "CYX" if a in self.sizes]:
            raise ValueError(f"axes must be loops first, then C, Y, X: {list(sizes)}")

        self.dtype = np.dtype(dtype).newbyteorder("=")
        if self.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"dtype must be uint8, uint16 or float32: {dtype}")
        if compression not in (None, "lossless"):
            raise ValueError(f"compression must be None or 'lossless': {compression}")
        self.compression = compression
        bits = self.dtype.itemsize * 8
        self.bits_significant = bits_significant or bits
        if not 1 <= self.bits_significant <= bits:
            raise ValueError(f"bits_significant must be 1 to {bits}")

        n_channels = self.sizes.get("C", 1)
        if channels is None:
            channels = [f"Channel {i}" for i in range(n_channels)]
        self.channels = [Nd2Channel(c) if isinstance(c, str) else c for c in channels]
        if len(self.channels) != n_channels:
            raise ValueError(f"{len(self.channels)} channels given for C={n_channels}")

        self.position_valid, self.positions = _check_positions(self.sizes.get("P"), positions, position_valid)
        self.periods = list(periods) if periods else None
        if self.periods and sum(p.count for p in self.periods) != self.sizes.get("T"):
            raise ValueError("the counts of periods must add up to sizes['T']")

        self.pixel_size_um = pixel_size_um
        self.z_step_um = float(z_step_um)
        self.period_ms = float(period_ms)
        self.frame_interval_ms = float(frame_interval_ms)
        start = start or datetime(2024, 1, 1, 9, 0, 0, tzinfo=UTC)
        self.start = start if start.tzinfo else start.replace(tzinfo=UTC)
        self.objective = objective
        self.magnification = float(magnification)
        self.numerical_aperture = float(numerical_aperture)
        self.description = description

        height, width = self.sizes["Y"], self.sizes["X"]
        self._frame_shape = (n_channels, height, width)
        # every row is padded to a multiple of four bytes
        self._row_bytes = math.ceil(width * n_channels * self.dtype.itemsize / 4) * 4
        self.frame_count = math.prod(self.sizes[a] for a in self.loops)
        self._default_times = self._nominal_times()
        self._times: dict[int, float] = {}

        self._map: dict[bytes, tuple[int, int]] = {}
        self._file: BinaryIO | None = io.BufferedWriter(io.FileIO(path, "w"))
        self._write_signature()

    # ---- use -------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        elif self._file is not None:
            self._file.close()
            self._file = None

    def frame_index(self, **loop_position: int) -> int:
        """Sequence number of a frame, from its T, P and Z (0 where left out)."""
        index = 0
        for axis in self.loops:
            n, i = self.sizes[axis], loop_position.pop(axis, 0)
            if not 0 <= i < n:
                raise IndexError(f"{axis}={i} is outside 0..{n - 1}")
            index = index * n + i
        if any(loop_position.values()):
            raise IndexError(f"no such loop in this file: {loop_position}")
        return index

    def write(self, frame: np.ndarray, *, time_ms: float | None = None, **loop_position: int) -> None:
        """Write the frame at the given T, P, Z; see `write_frame`."""
        self.write_frame(self.frame_index(**loop_position), frame, time_ms)

    def write_frame(self, index: int, frame: np.ndarray, time_ms: float | None = None) -> None:
        """Write one frame, shape ``(C, Y, X)`` (``(Y, X)`` with one channel).

        ``time_ms`` is the time since the start; by default it follows from
        ``period_ms`` / ``periods`` and ``frame_interval_ms``.  Frames may come in any
        order.  Frames that are never written are missing from the file, as after an
        aborted acquisition.
        """
        if self._file is None:
            raise ValueError("the file is closed")
        if not 0 <= index < self.frame_count:
            raise IndexError(f"frame {index} is outside 0..{self.frame_count - 1}")
        if index in self._times:
            raise ValueError(f"frame {index} was already written")
        frame = np.asarray(frame)
        if frame.ndim == 2 and self._frame_shape[0] == 1:
            frame = frame[np.newaxis]
        if frame.shape != self._frame_shape:
            raise ValueError(f"frame must be {self._frame_shape}, not {frame.shape}")
        if frame.dtype != self.dtype:
            raise TypeError(f"frame must be {self.dtype}, not {frame.dtype}")
        if self.dtype.kind == "u" and int(frame.max()) >> self.bits_significant:
            # Nikon's own reader keeps only the significant bits
            raise ValueError(f"pixels need more than {self.bits_significant} bits")
        time = self._default_times[index] if time_ms is None else float(time_ms)
        if not self._times:
            self._write_front(time)
        self._times[index] = time

        n_channels, height, width = self._frame_shape
        rows = np.zeros((height, self._row_bytes), np.uint8)
        pixels = np.ascontiguousarray(np.moveaxis(frame, 0, -1), self.dtype)
        used = width * n_channels * self.dtype.itemsize
        rows[:, :used] = pixels.view(np.uint8).reshape(height, used)
        data = rows.tobytes()
        if self.compression:
            data = zlib.compress(data)
        self._chunk(
            f"ImageDataSeq|{index}!",
            struct.pack("<d", time) + data,
            name_length=_IMAGE_NAME_LENGTH,
        )

    def close(self) -> None:
        """Write the remaining metadata and the chunk map."""
        if self._file is None:
            return
        if not self._times:
            self._write_front(0.0)
        self._write_back()
        self._file.close()
        self._file = None

    # ---- chunks ----------------------------------------------------------------

    def _chunk(self, name: str, data: bytes, name_length: int | None = None) -> None:
        assert self._file is not None
        raw = name.encode()
        if name_length is None:
            total = _HEADER.size + len(raw) + _NAME_RESERVE + len(data)
            total = math.ceil(total / _ALIGN) * _ALIGN
            name_length = total - _HEADER.size - len(data)
        offset = self._file.tell()
        self._map[raw] = (offset, len(data))
        self._file.write(_HEADER.pack(_MAGIC, name_length, len(data)))
        self._file.write(raw.ljust(name_length, b"\0"))
        self._file.write(data)
        self._pad()

    def _pad(self) -> None:
        assert self._file is not None
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))

    def _write_signature(self) -> None:
        assert self._file is not None
        self._file.write(_HEADER.pack(_MAGIC, len(_FILE_SIGNATURE), 64))
        self._file.write(_FILE_SIGNATURE + b"Ver3.0".ljust(64, b"\0"))
        self._pad()

    def _write_map(self) -> None:
        assert self._file is not None
        offset = self._file.tell()
        body = b"".join(name + struct.pack("<QQ", *self._map[name]) for name in sorted(self._map, reverse=True))
        body += _MAP_SIGNATURE + struct.pack("<QQ", offset, 0)
        tail = _MAP_SIGNATURE + struct.pack("<Q", offset)
        head = _HEADER.size + len(_MAP_NAME)
        total = math.ceil((head + len(body) + len(tail)) / _ALIGN) * _ALIGN
        body = body.ljust(total - head - len(tail), b"\0") + tail
        self._file.write(_HEADER.pack(_MAGIC, len(_MAP_NAME), len(body)))
        self._file.write(_MAP_NAME + body)

    def _write_front(self, first_time: float) -> None:
        if self.loops:
            tree = self._experiment(self.loops)
            self._chunk("ImageMetadataLV!", encode_lv("SLxExperiment", tree))
        calibration = {
            "dCalibration": float(self.pixel_size_um or -1.0),
            "dAspect": 1.0,
            "bValid": self.pixel_size_um is not None,
            "sObjective": self.objective,
        }
        data = encode_lv("SLxCalibration", calibration)
        self._chunk("ImageCalibrationLV|0!", data)
        data = encode_lv("SLxPictureMetadata", self._picture_metadata(first_time))
        self._chunk("ImageMetadataSeqLV|0!", data)

    def _write_back(self) -> None:
        n = max(self._times, default=-1) + 1  # frames up to the last one written
        times = np.array([self._times.get(i, self._default_times[i]) for i in range(n)], np.float64)
        data = encode_lv("SLxImageTextInfo", self._text_info())
        self._chunk("ImageTextInfoLV!", data)

        places = [self._place(i) for i in range(n)]
        exposure = max(c.exposure_ms for c in self.channels)
        columns = [
            ("Camera_ExposureTime1", "Exposure Time", "ms", [exposure] * n),
            ("X", "X Coord", "µm", [p.x_um for p in places]),
            ("Y", "Y Coord", "µm", [p.y_um for p in places]),
            ("Z1", "Ti2 ZDrive", "µm", [p.z_um for p in places]),
        ]
        tags = {
            f"Tag{i}": {
                "ID": key,
                "Type": 3,  # double
                "Group": 0,
                "Size": n,
                "Desc": title,
                "Unit": unit,
            }
            for i, (key, title, unit, _) in enumerate(columns)
        }
        data = _encode_xml({"CustomTagDescription_v1.0": tags})
        self._chunk("CustomDataVar|CustomDataV2_0!", data)
        for key, _, _, values in columns:
            self._chunk(f"CustomData|{key}!", np.array(values, "<f8").tobytes())

        app = {"m_SWNameString": "write_nd2", "m_VersionString": "synthetic"}
        self._chunk("CustomDataVar|AppInfo_V1_0!", _encode_xml({"no_name": app}))
        self._chunk("CustomData|AcqTimesCache!", times.astype("<f8").tobytes())
        self._chunk("CustomData|AcqTimes2Cache!", np.zeros(n, "<f8").tobytes())
        self._chunk("CustomData|AcqFramesCache!", np.zeros(n, "<u4").tobytes())
        data = encode_lv("SLxImageAttributes", self._attributes(n))
        self._chunk("ImageAttributesLV!", data)
        self._write_map()

    # ---- metadata trees --------------------------------------------------------

    def _attributes(self, sequence_count: int) -> dict[str, Any]:
        n_channels, height, width = self._frame_shape
        bits = self.dtype.itemsize * 8
        return {
            "uiWidth": U32(width),
            "uiWidthBytes": U32(self._row_bytes),
            "uiHeight": U32(height),
            "uiComp": U32(n_channels),
            "uiBpcInMemory": bits,
            "uiBpcSignificant": self.bits_significant,
            "uiSequenceCount": U32(sequence_count),
            "uiTileWidth": U32(width),
            "uiTileHeight": U32(height),
            "eCompression": 0 if self.compression else 2,
            "dCompressionParam": 0.0,
            "ePixelType": 2 if self.dtype.kind == "f" else 1,
            "uiVirtualComponents": U32(n_channels),
        }

    def _experiment(self, loops: list[str]) -> dict[str, Any]:
        """Tree of nested loops; the innermost one is the channel ("spectral") loop."""
        axis = loops[0] if loops else "C"
        valid: list[bool] = []
        if axis == "T" and self.periods:
            kind, parameters = 8, self._uneven_time_loop(self.periods)
        elif axis == "T":
            n = self.sizes["T"]
            kind, parameters = 1, self._time_loop(n, self.period_ms, 0.0)
        elif axis == "P":
            kind, parameters, valid = 2, self._position_loop(), self.position_valid
        elif axis == "Z":
            kind, parameters = 4, self._z_loop()
        else:
            kind, parameters = 6, self._channel_loop()
            valid = [True] * len(self.channels)

        tree: dict[str, Any] = {
            "eType": U32(kind),
            "wsApplicationDesc": "",
            "wsUserDesc": "",
            "aMeasProbesBase64": "",
            "wsCameraName": "Synthetic Camera",
        }
        if valid:
            tree["pItemValid"] = bytes(bool(v) for v in valid)
        tree |= {
            "uLoopPars": parameters,
            "sAutoFocusBeforeLoop": _no_autofocus(),
            "sParallelExperiment": {"uiTaskCount": U32(0)},
            "wsCommandBeforeLoop": "",
            "wsCommandBeforeCapture": "",
            "wsCommandAfterCapture": "",
            "wsCommandAfterLoop": "",
            "bControlShutter": False,
            "bControlLight": False,
            "bUsePFS": False,
            "bUseHWSequencer": False,
            "bUseTiRecipe": False,
            "bUseIntenzityCorrection": False,
            "bKeepObject": False,
            "uiRepeatCount": U32(1),
            "uiNextLevelCount": U32(1 if loops else 0),
        }
        if loops:
            tree["ppNextLevelEx"] = [self._experiment(loops[1:])]
        return tree

    def _time_loop(self, n: int, period_ms: float, start_ms: float) -> dict[str, Any]:
        return {
            "uiCount": U32(n),
            "dStart": start_ms,
            "dPeriod": float(period_ms),
            "dDuration": float(period_ms) * n,
            "bDurationPref": False,
            "dMaxPeriodDiff": float(period_ms),
            "dMinPeriodDiff": float(period_ms),
            "dAvgPeriodDiff": float(period_ms),
            "sAutoFocusBeforeCapture": _no_autofocus(),
            "wsInterfaceName": "",
        }

    def _uneven_time_loop(self, periods: list[Nd2Period]) -> dict[str, Any]:
        phases, start_ms = [], 0.0
        for i, period in enumerate(periods):
            phase = self._time_loop(period.count, period.period_ms, start_ms)
            phase["sAutoFocusBeforePeriod"] = _no_autofocus()
            phase["uiLoopType"] = U32(0)
            phase["uiGroup"] = U32(i)
            phases.append(phase)
            start_ms += period.count * period.period_ms
        return {
            "uiCount": U32(sum(p.count for p in periods)),
            "uiPeriodCount": U32(len(periods)),
            "pPeriod": phases,
            "pPeriodValid": bytes([1] * len(periods)),
            "sAutoFocusBeforePeriod": _no_autofocus(),
            "sAutoFocusBeforeCapture": _no_autofocus(),
            "wsCommandBeforePeriod": "",
            "wsCommandAfterPeriod": "",
        }

    def _position_loop(self) -> dict[str, Any]:
        points = [
            {
                "dPosX": p.x_um,
                "dPosY": p.y_um,
                "dPosZ": p.z_um,
                "dPFSOffset": -1.0,
                "dPosName": p.name,
            }
            for p in self.positions
        ]
        return {
            "uiCount": U32(len(points)),
            "bRelativeXY": False,
            "dReferenceX": 0.0,
            "dReferenceY": 0.0,
            "bUseZ": True,
            "bSplitMultipoints": False,
            "bUseAFPlane": False,
            "bKeepPFSOn": False,
            "bRedefineAfterPFS": False,
            "bRedefineAfterAutoFocus": False,
            "sZDevice": "Ti2 ZDrive",
            "sAFBefore": _no_autofocus(),
            "Points": points,
        }

    def _z_loop(self) -> dict[str, Any]:
        half = (self.sizes["Z"] - 1) * self.z_step_um / 2
        return {
            "uiCount": U32(self.sizes["Z"]),
            "bAbsolute": False,
            "bTriggeredPiezo": False,
            "bZInverted": False,
            "dReferencePosition": 0.0,
            "dTIRFPosition": 0.0,
            "dTIRFPFSOffset": -1.0,
            "bTIRF": False,
            "dZHigh": half,
            "dZHome": 0.0,
            "dZLow": -half,
            "dZStep": self.z_step_um,
            "iType": 0,
            "wsCommandAfterCapture": "",
            "wsCommandBeforeCapture": "",
            "wsZDevice": "Ti2 ZDrive",
        }

    def _channel_loop(self) -> dict[str, Any]:
        point = {
            "pAutoFocus": _no_autofocus(),
            "wsCommandAfterCapture": "",
            "wsCommandBeforeCapture": "",
            "pZStackPos": 0,
            "pdOffset": 0.0,
        }
        return {
            "pPlanes": self._picture_planes(),
            "bMergeCameras": False,
            "bWaitForPFS": False,
            "bAskForFilter": False,
            "iOffsetReference": 0,
            "Points": [point] * len(self.channels),
        }

    def _picture_planes(self) -> dict[str, Any]:
        n = len(self.channels)
        planes, samples = {}, {}
        for i, channel in enumerate(self.channels):
            planes[f"a{i}"] = self._plane(i, channel)
            samples[f"a{i}"] = self._sample_setting(channel)
        return {
            "uiCount": U32(n),
            "uiCompCount": U32(n),
            "sPlaneNew": planes,
            "uiSampleCount": U32(n),
            "sSampleSetting": samples,
            "sDescription": "",
            "eRepresentation": U32(0),
            "iStimulationSettingsCount": 0,
            "sStimulationSetting": [],
        }

    def _plane(self, index: int, channel: Nd2Channel) -> dict[str, Any]:
        red, green, blue = channel.color
        color = U32(red | green << 8 | blue << 16)
        filter_ = {
            "m_sUserName": channel.name,
            "m_sName": channel.name,
            "m_ePlacement": U32(6),
            "m_eNature": U32(0),
            "m_eSpctType": U32(1),
            "m_uiColor": color,
            "m_ExcitationSpectrum": _spectrum(channel.excitation_nm),
            "m_EmissionSpectrum": _spectrum(channel.emission_nm),
            "m_MirrorSpectrum": _spectrum(None),
        }
        probe = {
            "m_sName": "",
            "m_uiColor": U32(0xFFFFFF),
            "m_ExcitationSpectrum": _spectrum(None),
            "m_EmissionSpectrum": _spectrum(None),
        }
        return {
            "uiCompCount": U32(1),
            "uiSampleIndex": U32(index),
            "uiModalityMask": U64(_MODALITY[channel.kind][0]),
            "pFluorescentProbe": probe,
            "pFilterPath": {
                "m_sDescr": "",
                "m_uiCount": U32(1),
                "m_pFilter": [filter_],
            },
            "dLampVoltage": 0.0,
            "dFadingCorr": 0.0,
            "uiColor": color,
            "sDescription": channel.name,
            "dAcqTime": 0.0,
            "dPinholeDiameter": -1.0,
            "iChannelSeriesIndex": -1,
            "iCapturedPlaneIndex": 0,
            "dObjCalibration1to1": 0.0,
            "sizeObjFullChip.cx": 0,
            "sizeObjFullChip.cy": 0,
        }

    def _sample_setting(self, channel: Nd2Channel) -> dict[str, Any]:
        return {
            "pCameraSetting": {
                "CameraUniqueName": "Synthetic Camera",
                "CameraUserName": "Synthetic Camera",
                "CameraFamilyName": "Synthetic",
                "PropertiesQuality": {"Exposure": float(channel.exposure_ms)},
            },
            "pDeviceSetting": {},
            "pObjectiveSetting": {
                "wsObjectiveName": self.objective,
                "wsObjectiveCode": "",
                "dObjectiveMag": self.magnification,
                "dObjectiveNA": self.numerical_aperture,
                "dRefractIndex": 1.0,
            },
            "uiOpticalConfigs": U32(1),
            "sOpticalConfigs": [{"uiOCTypeKey": U32(14), "sOpticalConfigName": channel.name}],
            "sSpecSettings": f"Exposure: {channel.exposure_ms:g} ms\r\nBinning: 1x1",
            "dExposureTime": float(channel.exposure_ms),
            "uiModeFQ": U32(2),
            "dScalingToIntensity": 0.0,
            "matCameraToStage": {
                "Columns": U32(2),
                "Rows": U32(2),
                "Data": struct.pack("<4d", 1.0, 0.0, 0.0, 1.0),
            },
            "dRelayLensZoom": 1.0,
            "dObjectiveToPinholeZoom": 1.0,
        }

    def _picture_metadata(self, first_time: float) -> dict[str, Any]:
        place = self._place(0)
        return {
            "dTimeMSec": first_time,
            "dTimeAbsolute": _julian_day(self.start),
            "eTimeSource": 0,
            "dXPos": place.x_um,
            "dYPos": place.y_um,
            "uiRow": U32(0),
            "uiCon20(L": U32(0),
            "dZPos": place.z_um,
            "bZPosAbsolute": True,
            "dAngle": 0.0,
            "sPicturePlanes": self._picture_planes(),
            "dTemperK": -1.0,
            "dCalibration": float(self.pixel_size_um or -1.0),
            "dCalibPrecision": 0.0,
            "dAspect": 1.0,
            "bCalibrated": self.pixel_size_um is not None,
            "wsObjectiveName": self.objective,
            "dObjectiveMag": self.magnification,
            "dObjectiveNA": self.numerical_aperture,
            "dRefractIndex1": 1.0,
            "dRefractIndex2": 1.0,
            "dPinholeRadius": 0.0,
            "dZoom": 1.0,
            "dProjectiveMag": -1.0,
            "uiPhysicalVarCount": U32(0),
            "pPhysicalVar": [],
            "wsCustomData": "",
            "ePictureXAxis": 0,
            "ePictureYAxis": 1,
            "dTimeAxisCalibration": -1.0,
            "dZAxisCalibration": -1.0,
            "dStgLgCT11": 1.0,
            "dStgLgCT12": 0.0,
            "dStgLgCT21": 0.0,
            "dStgLgCT22": 1.0,
            "baOpticalPathsCorrections": b"",
        }

    def _text_info(self) -> dict[str, str]:
        """Human-readable summary; some readers take the axis lengths from it."""
        names = {"T": "T", "P": "XY", "Z": "Z"}
        # NIS-Elements names the channels in front of the Z loop
        loops = [(a, f"{names[a]}({self.sizes[a]})") for a in self.loops]
        parts = [text for axis, text in loops if axis != "Z"]
        if len(self.channels) > 1:
            parts.append(f"λ({len(self.channels)})")
        parts += [text for axis, text in loops if axis == "Z"]

        lines = ["Metadata:"]
        if parts:
            lines.append("Dimensions: " + " x ".join(parts))
        lines.append("Camera Name: Synthetic Camera")
        lines.append(f"Numerical Aperture: {self.numerical_aperture:g}")
        lines.append("Refractive Index: 1")
        if len(self.channels) > 1:
            lines.append(f"Number of Picture Planes: {len(self.channels)}")
        for i, channel in enumerate(self.channels, 1):
            if len(self.channels) > 1:
                lines.append(f"Plane #{i}:")
            lines.append(f" Name: {channel.name}")
            lines.append(" Component Count: 1")
            lines.append(f" Modality: {_MODALITY[channel.kind][1]}")
            lines.append(f" Camera Settings:   Exposure: {channel.exposure_ms:g} ms")
            lines.append("  Binning: 1x1")
        if "T" in self.sizes:
            lines.append(f"Time Loop: {self.sizes['T']}")
            if self.periods:
                for i, p in enumerate(self.periods, 1):
                    lines.append(f"- Phase #{i}: {p.count} x {p.period_ms:g} ms")
            else:
                lines.append(f"- Equidistant (Period {self.period_ms:g} ms)")
        if "Z" in self.sizes:
            lines.append(f"Z Stack Loop: {self.sizes['Z']}")
            lines.append(f"- Step: {self.z_step_um:g} µm")
            lines.append("- Device: Ti2 ZDrive")

        s = self.start
        half_day = "AM" if s.hour < 12 else "PM"
        date = f"{s.month}/{s.day}/{s.year}  {s.hour % 12 or 12}:{s:%M:%S} {half_day}"
        items = {f"TextInfoItem_{i}": "" for i in range(14)}
        items["TextInfoItem_5"] = self.description or "\r\n".join(lines)
        items["TextInfoItem_6"] = "Synthetic Camera"
        items["TextInfoItem_9"] = date
        items["TextInfoItem_13"] = self.objective
        return items

    # ---- places and times ------------------------------------------------------

    def _indices(self, index: int) -> dict[str, int]:
        out = {}
        for axis in reversed(self.loops):
            index, out[axis] = divmod(index, self.sizes[axis])
        return out

    def _place(self, index: int) -> Nd2Position:
        if not self.positions:
            return Nd2Position()
        flags = self.position_valid or [True]
        valid = [p for p, ok in zip(self.positions, flags, strict=True) if ok]
        return valid[self._indices(index).get("P", 0)]

    def _nominal_times(self) -> list[float]:
        if self.periods:
            steps = [p.period_ms for p in self.periods for _ in range(p.count)]
        else:
            steps = [self.period_ms] * self.sizes.get("T", 1)
        starts = np.concatenate([[0.0], np.cumsum(steps)])
        times = []
        for index in range(self.frame_count):
            where = self._indices(index)
            time, outer, inner = starts[where.get("T", 0)], 0, 0
            seen_time = "T" not in self.loops
            for axis in self.loops:
                if axis == "T":
                    seen_time = True
                elif seen_time:  # runs once per time point
                    inner = inner * self.sizes[axis] + where[axis]
                else:  # the whole time loop runs once for each of these
                    outer = outer * self.sizes[axis] + where[axis]
            time += outer * starts[-1] + inner * self.frame_interval_ms
            times.append(float(time))
        return times


def _check_positions(
    count: int | None,
    positions: Sequence[Nd2Position | Sequence[float]] | None,
    valid: Sequence[bool] | None,
) -> tuple[list[bool], list[Nd2Position]]:
    if count is None:
        if positions is None or len(positions) == 0:
            return [], []
        if len(positions) > 1 or valid is not None:
            raise ValueError("several positions need P in sizes")
        count = 1
    flags = [bool(v) for v in valid] if valid is not None else [True] * count
    if sum(flags) != count:
        raise ValueError(f"{sum(flags)} valid positions given for P={count}")
    if positions is None:
        positions = [Nd2Position(1000.0 * i, -500.0 * i, 3000.0 + i) for i in range(len(flags))]
    out = []
    for point in positions:
        if isinstance(point, Nd2Position):
            out.append(point)
        else:
            x, y, z = (*point, 0.0)[:3]
            out.append(Nd2Position(x, y, z))
    if len(out) != len(flags):
        raise ValueError(f"{len(out)} positions given, {len(flags)} needed")
    return flags, out


def _no_autofocus() -> dict[str, Any]:
    return {
        "eType": U32(0),
        "dStep": 0.0,
        "dRange": 0.0,
        "dPrecision": 0.0,
        "dSpeed": 0.0,
        "dOffset": 0.0,
        "aFocusPlane": {"iDegree": 0, "uiValues": U32(0), "pCoeff": []},
        "uiFlags": U32(0),
        "iFocusCriterion": 0,
        "sZDrive": "",
        "bPiezoZTriggered": False,
        "wszOptConf": "",
        "wszPreferedAFChannel": "",
    }


def _spectrum(wavelength_nm: float | None) -> dict[str, Any]:
    if wavelength_nm is None:
        return {"uiCount": U32(0), "pPoint": {}, "bPoints": False}
    point = {"eType": U32(4), "dWavelength": float(wavelength_nm), "dTValue": 1.0}
    return {"uiCount": U32(1), "pPoint": {"Point0": point}, "bPoints": False}


def _julian_day(moment: datetime) -> float:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return _UNIX_EPOCH_JULIAN_DAY + since / timedelta(days=1)


def write_nd2(
    path: str | os.PathLike[str],
    data: np.ndarray,
    axes: str,
    *,
    frame_times_ms: Iterable[float] | None = None,
    **options: Any,
) -> Path:
    """Write a whole array.

    ``axes`` names the axes of ``data``, one letter each: any of ``TPZ`` in the order
    of nesting wanted in the file, then ``CYX`` (``C`` optional).  ``frame_times_ms``
    gives one time per frame, in file order.  Other options as for `Nd2Writer`.
    """
    data = np.asarray(data)
    if len(axes) != data.ndim or len(set(axes)) != len(axes):
        raise ValueError(f"axes {axes!r} do not fit an array of {data.ndim} dimensions")
    sizes = dict(zip(axes, data.shape, strict=True))
    with Nd2Writer(path, sizes, data.dtype, **options) as writer:
        inner = data.shape[len(writer.loops) :]
        frames = data.reshape((writer.frame_count, *inner))
        times = None if frame_times_ms is None else list(frame_times_ms)
        if times is not None and len(times) != writer.frame_count:
            raise ValueError(f"{len(times)} times for {writer.frame_count} frames")
        for i, frame in enumerate(frames):
            writer.write_frame(i, frame, None if times is None else times[i])
    return Path(path)
