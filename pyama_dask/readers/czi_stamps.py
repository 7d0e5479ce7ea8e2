"""Time stamps that a CZI file holds as an attachment, which pylibCZIrw does not read.

Layout after ZEISS' description of the format: every segment has a head of 32 bytes. The one at the start of
the file says where the directory of attachments is, and its entries of 128 bytes say where each of them is.
Stamps are two int32 (bytes, count) and then float64 seconds.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_SEGMENT_HEAD = 32
_DIRECTORY_PLACE = struct.Struct("<72x q")
_COUNT = struct.Struct("<i 252x")
_ENTRY = struct.Struct("<12x q 28x 80s")
_ATTACHMENT_HEAD = 256
_STAMPS = struct.Struct("<ii")


def read_stamps(path: Path, name: str) -> tuple[float, ...]:
    """Read the stamps in an attachment of a CZI file.

    Returns
    -------
    Seconds, one per time point; empty where the file has no such attachment.
    """
    with path.open("rb") as file:
        place = _find(file, name)
        if place <= 0:
            return ()
        file.seek(place + _SEGMENT_HEAD + _ATTACHMENT_HEAD)
        _, count = _unpack(file, _STAMPS)
        data = file.read(8 * max(count, 0))
        return struct.unpack(f"<{len(data) // 8}d", data[: len(data) // 8 * 8])


def _find(file: BinaryIO, name: str) -> int:
    file.seek(_SEGMENT_HEAD)
    (directory,) = _unpack(file, _DIRECTORY_PLACE)
    if directory <= 0:
        return 0
    file.seek(directory + _SEGMENT_HEAD)
    (count,) = _unpack(file, _COUNT)
    for _ in range(count):
        place, label = _unpack(file, _ENTRY)
        if label.rstrip(b"\0") == name.encode():
            return int(place)
    return 0


def _unpack(file: BinaryIO, layout: struct.Struct) -> tuple[Any, ...]:
    return layout.unpack(file.read(layout.size))
