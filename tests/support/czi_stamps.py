"""Time stamps in CZI files where ZEN writes them and pylibCZIrw does not: an attachment, or beside each plane."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

HEAD = struct.Struct("<16sqq")
START = datetime(2024, 1, 1, 9, tzinfo=UTC)


def attach_stamps(path: Path, seconds: Sequence[float]) -> None:
    """Append the attachment TimeStamps."""
    content = bytearray(path.read_bytes())
    place = len(content)
    entry = struct.pack("<2s10xqi16s8s80s", b"A1", place, 0, bytes(16), b"CZTIMS", b"TimeStamps")
    stamps = struct.pack(f"<ii{len(seconds)}d", 8 * len(seconds), len(seconds), *seconds)
    data = struct.pack("<i12x128s112x", len(stamps), entry) + stamps
    content += HEAD.pack(b"ZISRAWATTACH", len(data), len(data)) + data
    content[104:112] = struct.pack("<q", len(content))
    directory = struct.pack("<i252x", 1) + entry
    content += HEAD.pack(b"ZISRAWATTDIR", len(directory), len(directory)) + directory
    path.write_bytes(content)


def put_plane_times(path: Path, seconds: Callable[[Mapping[str, int]], float | str | None]) -> None:
    """Write into the metadata of each plane when it was recorded.

    Parameters
    ----------
    path
        File to rewrite.
    seconds
        Called with the indices of each plane: seconds since the start, a text to write in place of the time, or None.
    """
    raw, out, moved = path.read_bytes(), bytearray(), {}
    for at, name, data, used in _segments(raw):
        moved[at] = len(out)
        if name == b"ZISRAWSUBBLOCK":
            block = _with_metadata(data, _xml(seconds(_indices(data, 16))))
            padding = bytes(-len(block) % 32)
            out += HEAD.pack(name, len(block) + len(padding), len(block)) + block + padding
        else:
            out += HEAD.pack(name, len(data), used) + data
    for place in _pointers(out):
        (old,) = struct.unpack_from("<q", out, place)
        if old:
            struct.pack_into("<q", out, place, moved[old])
    path.write_bytes(out)


def _xml(when: float | str | None) -> bytes:
    if when is None:
        return b"<METADATA />"
    text = when if isinstance(when, str) else f"{START + timedelta(seconds=when):%Y-%m-%dT%H:%M:%S.%f}0Z"
    return f"<METADATA><Tags><AcquisitionTime>{text}</AcquisitionTime></Tags></METADATA>".encode()


def _with_metadata(data: bytes, xml: bytes) -> bytes:
    old, attached, pixels = struct.unpack_from("<iiq", data)
    head = max(256, 16 + _entry_length(data, 16))
    rest = data[head + old : head + old + pixels + attached]
    return struct.pack("<iiq", len(xml), attached, pixels) + data[16:head] + xml + rest


def _pointers(content: bytes) -> Iterator[int]:
    """Places of the numbers that say where segments are."""
    for at, name, data, _ in list(_segments(content)):
        if name == b"ZISRAWFILE":
            yield from (at + 32 + place for place in (52, 60, 72))
        elif name == b"ZISRAWSUBBLOCK":
            yield at + 32 + 16 + 6
        elif name == b"ZISRAWDIRECTORY":
            place = 128
            for _ in range(struct.unpack_from("<i", data)[0]):
                yield at + 32 + place + 6
                place += _entry_length(data, place)


def _segments(content: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    at = 0
    while at + HEAD.size <= len(content):
        name, allocated, used = HEAD.unpack_from(content, at)
        yield at, name.rstrip(b"\0"), bytes(content[at + 32 : at + 32 + allocated]), used
        at += 32 + allocated


def _entry_length(data: bytes, at: int) -> int:
    return 32 + 20 * int(struct.unpack_from("<i", data, at + 28)[0])


def _indices(data: bytes, at: int) -> dict[str, int]:
    starts = range(at + 32, at + _entry_length(data, at), 20)
    return {data[k : k + 4].rstrip(b"\0").decode(): struct.unpack_from("<i", data, k + 4)[0] for k in starts}
