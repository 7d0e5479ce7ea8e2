"""Head of a TIFF file of MetaMorph or MetaXpress: size, pixel type, and the properties of its plane.

Plates have tens of thousands of files, so a head is read with one or two accesses to the file. Properties are XML in
the image description ("MetaSeries"), which may lie anywhere in the file; in older files, they are in the tags of the
STK format, and `tifffile` reads them.
"""

from __future__ import annotations

import html
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pyama_dask.files.atomic import open_file
from pyama_dask.files.regular import open_descriptor

START = 16384
"""Bytes that are read at once; the directory and the description of a plane take half of them."""
_LONGEST = 2**20
"""Bytes of an image description that are read; real ones have 7000."""
_DAMAGES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WIDTH, _HEIGHT, _BITS, _TEXT, _SAMPLES, _FORMAT, _STK = 256, 257, 258, 270, 277, 339, 33628
_SHORT = 3
_KINDS = {1: "uint", 2: "int", 3: "float"}
_UNITS_UM = {"um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}


@dataclass(frozen=True)
class Head:
    """Size, pixel type and properties of the first plane of a file."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    dtype: str
    """NumPy name of the pixel type."""
    samples: int
    """Values per pixel; 3 for colours."""
    text: bytes
    """Image description."""
    stk: Mapping[str, str] | None = None
    """Properties from the tags of the STK format, under the names of MetaSeries; None for other files."""

    @property
    def is_metamorph(self) -> bool:
        """True if the file was written by MetaMorph or MetaXpress."""
        return self.stk is not None or (b"<MetaData>" in self.text and b"<PlaneInfo>" in self.text)

    def value(self, name: str) -> str | None:
        """Value of a property; None if it is absent or empty."""
        if self.stk is not None:
            return self.stk.get(name)
        start = self.text.find(b'id="%s"' % name.encode())
        start = self.text.find(b'value="', start) + 7 if start >= 0 else -1
        stop = self.text.find(b'"', start)
        return html.unescape(self.text[start:stop].decode(errors="replace")) or None if 7 <= start <= stop else None

    def number(self, name: str) -> float | None:
        """Value of a property that is a finite number; None if it is not."""
        try:
            number = float(self.value(name) or "nan")
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    @property
    def seconds(self) -> float:
        """Local time at which the plane was acquired, in seconds from some day; NaN if unknown."""
        text = self.value("acquisition-time-local") or ""
        try:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8])).toordinal()
            return day * 86400 + int(text[9:11]) * 3600 + int(text[12:14]) * 60 + float(text[15:])
        except ValueError:
            return math.nan

    @property
    def pixel_size_um(self) -> float | None:
        """Size of a pixel; None if the microscope was not calibrated."""
        unit = _UNITS_UM.get((self.value("spatial-calibration-units") or "").lower())
        size = self.number("spatial-calibration-x")
        if unit is None or size is None or size <= 0 or self.value("spatial-calibration-state") == "off":
            return None
        return size * unit

    def pair(self, first: str, second: str) -> tuple[float, float] | None:
        """Two numbers, such as x and y of a position; None if one of them is absent."""
        x, y = self.number(first), self.number(second)
        return None if x is None or y is None else (x, y)


def read_head(path: Path) -> Head | None:
    """Read the head of a file; None if the file cannot be read, or is not a TIFF file."""
    try:
        opened = open_descriptor(path)
        try:
            head = _read(opened)
        finally:
            os.close(opened)
        return _read_by_tifffile(path) if head is None else head
    except _DAMAGES:
        return None


def _read(opened: int) -> Head | None:
    """Head of a classic TIFF file; None if only `tifffile` can read its properties."""
    block, start = os.pread(opened, START, 0), 0
    order = _ORDERS.get(block[:4])
    if order is None:
        return None
    (place,) = struct.unpack_from(order + "I", block, 4)
    if place + START // 2 > len(block) == START:
        block, start = os.pread(opened, START, place), place
    tags = _tags(block, place - start, order)
    text_at, length = tags.get(_TEXT, (0, 0))
    if _STK in tags or length <= 4:
        return None
    text = block[text_at - start : text_at - start + length] if text_at >= start else b""
    if len(text) < length:
        text = os.pread(opened, min(length, _LONGEST), text_at)
    if len(text) < min(length, _LONGEST):
        raise ValueError("the file is cut off within its properties")
    samples, kind = (tags.get(tag, (1, 1))[0] for tag in (_SAMPLES, _FORMAT))
    if samples > 1:  # these values do not fit their tags
        return None
    dtype = f"{_KINDS[kind]}{tags[_BITS][0]}"
    return Head((tags[_HEIGHT][0], tags[_WIDTH][0]), dtype, samples, text)


def _tags(block: bytes, place: int, order: str) -> dict[int, tuple[int, int]]:
    """Value, or the place of the values, and their count, by the number of the tag."""
    (count,) = struct.unpack_from(order + "H", block, place)
    entries = struct.iter_unpack(order + "HHII", block[place + 2 : place + 2 + 12 * count])
    # Short values stand in the first two of four bytes.
    shift = 16 if order == ">" else 0
    return {
        tag: ((value >> shift) & 0xFFFF if kind == _SHORT and number == 1 else value, number)
        for tag, kind, number, value in entries
    }


def _read_by_tifffile(path: Path) -> Head:
    with open_file(path) as opened, tifffile.TiffFile(opened) as file:
        page = file.pages.first
        if page.dtype is None:
            raise ValueError("unknown pixel type")
        shape = (int(page.imagelength), int(page.imagewidth))
        stk = _stk_properties(file.stk_metadata) if file.is_stk else None
        text = page.description.encode(errors="replace")
        return Head(shape, np.dtype(page.dtype).newbyteorder("=").name, int(page.samplesperpixel), text, stk)


def _stk_properties(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Properties of the first plane under the names of MetaSeries."""
    tags = tags or {}
    found = {
        "acquisition-time-local": _first_time(tags),
        "image-name": tags.get("Name"),
        "spatial-calibration-state": "on" if tags.get("SpatialCalibration") else "off",
        "spatial-calibration-x": tags.get("XCalibration"),
        "spatial-calibration-units": tags.get("CalibrationUnits"),
        "wavelength": tags.get("wavelength"),
    }
    stage = np.ravel(tags.get("StagePosition", ()))
    if len(stage) >= 2:
        found |= {"stage-position-x": stage[0], "stage-position-y": stage[1]}
    return {name: str(value) for name, value in found.items() if value is not None}


def _first_time(tags: Mapping[str, Any]) -> str | None:
    created = tags.get("DatetimeCreated")
    when = tags.get("CreateTime") if created is None else created.astype("datetime64[us]")[0].item()
    return None if when is None else f"{when:%Y%m%d %H:%M:%S.%f}"
