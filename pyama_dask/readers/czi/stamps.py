"""Time stamps in a CZI file that pylibCZIrw does not read: those of single planes, and lists in attachments.

From ZEISS's description of the format: every segment has a header of 32 bytes. The first segment holds the offset of
the attachment directory. Attachment entries have 128 bytes, subblock entries 32 plus 20 per
dimension. An attachment with stamps is two int32 (bytes, count) followed by float64 seconds. A subblock has a copy of
its entry followed by XML, to which ZEN writes the acquisition time of the plane.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pyama_dask.files.threads import Threads
from pyama_dask.readers.czi.directory import entry_size, read_entries

Array = npt.NDArray[np.float64]

_SEGMENT_HEAD = 32
_ATTACHMENTS = struct.Struct("<72x q")
_COUNT = struct.Struct("<i 252x")
_ENTRY = struct.Struct("<12x q 28x 80s")
_ATTACHMENT_HEAD = 256
_STAMPS = struct.Struct("<ii")

_BLOCK_SIZES = struct.Struct("<i 12x")
_RECORDED = re.compile(rb"<AcquisitionTime>\s*([^<]+?)\s*</AcquisitionTime>")

READ_AT_ONCE = 4096
"""Bytes that usually cover the header of a subblock and its XML."""
LARGEST_XML = 2**20
"""Largest bytes of a subblock's XML that are searched; usually it has fewer than 1000."""
PROBES = 32
"""Number of planes read first: if none of them has a time, the others are not read."""
THREADS = 16
"""Concurrent reads, because a shared file system may take some milliseconds for each."""
LONGEST_S = 200.0
"""Time limit in seconds for reading the times of planes in the driver, which reports it; workers do not read them."""


def read_stamps(path: Path, name: str) -> tuple[float, ...]:
    """Read the time stamps in an attachment of a CZI file.

    Returns
    -------
    Seconds, one per time point; empty if the file has no such attachment.
    """
    with path.open("rb") as file:
        place = _find(file, name)
        if place <= 0:
            return ()
        file.seek(place + _SEGMENT_HEAD + _ATTACHMENT_HEAD)
        _, count = _unpack(file, _STAMPS)
        data = file.read(8 * max(count, 0))
        return struct.unpack(f"<{len(data) // 8}d", data[: len(data) // 8 * 8])


def read_plane_times(path: Path, blocks: npt.NDArray[np.int64], longest_s: float = LONGEST_S) -> Array | None:
    """Read the acquisition times of planes.

    Parameters
    ----------
    path
        The CZI file.
    blocks
        Directory indices of subblocks, in any shape; -1 for none.
    longest_s
        Time limit in seconds.

    Returns
    -------
    Seconds since 1970 in the shape of `blocks`, NaN where a plane has no time; None if no plane has one.

    Raises
    ------
    TimeoutError
        If reading takes longer than `longest_s`.
    """
    seconds = np.full(blocks.size, np.nan)
    wanted = np.flatnonzero(blocks.ravel() >= 0)
    with path.open("rb") as file:
        places = read_entries(file).places[blocks.ravel()[wanted]]
        end = time.monotonic() + longest_s

        def read(chosen: npt.NDArray[np.intp]) -> None:
            for k in chosen.tolist():
                if time.monotonic() > end:
                    raise TimeoutError
                seconds[wanted[k]] = _recorded_at(file.fileno(), int(places[k]))

        read(np.unique(np.linspace(0, len(wanted) - 1, PROBES).astype(int)) if len(wanted) else wanted)
        if np.isnan(seconds).all():
            return None
        with Threads(THREADS, "stamps") as threads:
            list(threads.map(read, (np.arange(k, len(wanted), THREADS) for k in range(THREADS))))
    return seconds.reshape(blocks.shape)


def stamps_of_frames(
    listed: Sequence[float], scenes: int, start: int, frames: int, interval_s: float | None
) -> Array | None:
    """Assign a list of stamps to scenes and frames.

    Parameters
    ----------
    listed
        Seconds.
    scenes
        Number of scenes.
    start, frames
        First time index in the file (above 0 in an excerpt of a longer movie), and number of frames.
    interval_s
        Nominal interval in seconds; None if unknown.

    Returns
    -------
    (S, T) seconds, NaN beyond the end of the list; None if the order is ambiguous.
    """
    seconds = np.array(listed, np.float64)
    if scenes == 1 or len(seconds) <= max(start + frames, scenes):
        first = 0 if len(seconds) == frames else start
        row = np.full(frames, np.nan)
        row[: max(len(seconds) - first, 0)] = seconds[first : first + frames]
        return np.tile(row, (scenes, 1))
    options = [np.tile(seconds[start : start + frames], (scenes, 1))]
    points, rest = divmod(len(seconds), scenes)
    first = 0 if points == frames else start
    if not rest and points >= first + frames:
        options.append(seconds.reshape(points, scenes)[first : first + frames].T)
        options.append(seconds.reshape(scenes, points)[:, first : first + frames])
    even = [option for option in options if _is_even(option, interval_s)]
    return even[0] if len(even) == 1 else None


def _is_even(seconds: Array, interval_s: float | None) -> bool:
    """True if most steps between frames equal the nominal interval, or their own median."""
    steps = np.diff(seconds, axis=1)
    usual = interval_s or np.median(steps)
    return bool(np.mean(np.abs(steps - usual) <= 0.2 * usual) >= 0.75) if steps.size else False


def _find(file: BinaryIO, name: str) -> int:
    file.seek(_SEGMENT_HEAD)
    (directory,) = _unpack(file, _ATTACHMENTS)
    if directory <= 0:
        return 0
    file.seek(directory + _SEGMENT_HEAD)
    (count,) = _unpack(file, _COUNT)
    for _ in range(count):
        place, label = _unpack(file, _ENTRY)
        if label.rstrip(b"\0") == name.encode():
            return int(place)
    return 0


def _recorded_at(descriptor: int, place: int) -> float:
    """Seconds since 1970; NaN if the subblock has no time or is damaged."""
    try:
        data = os.pread(descriptor, READ_AT_ONCE, place + _SEGMENT_HEAD)
        (size,) = _BLOCK_SIZES.unpack_from(data)
        head = max(256, _BLOCK_SIZES.size + entry_size(data, _BLOCK_SIZES.size))
        end = head + min(max(size, 0), LARGEST_XML)
        if end > len(data):
            data = os.pread(descriptor, end, place + _SEGMENT_HEAD)
        match = _RECORDED.search(data, head, end)
        moment = datetime.fromisoformat(match[1].decode()) if match else None
    except (ValueError, struct.error):
        return np.nan
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() if moment else np.nan


def _unpack(file: BinaryIO, layout: struct.Struct) -> tuple[Any, ...]:
    return layout.unpack(file.read(layout.size))
