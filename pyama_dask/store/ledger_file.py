"""File of a ledger: lines that are sealed and appended, and read back by their places."""

from __future__ import annotations

import json
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import disk_error
from pyama_dask.files.regular import open_descriptor

VERSION = 2
AT_ONCE = 2**20
"""Bytes that are read at once."""
_SEALED = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"}')
Entry = Mapping[str, Any]


class LedgerFile:
    """JSON lines, each sealed by its CRC-32C as the last key; version 1 had no seals.

    It stays open, so that a line can be read again even if another process replaces the file.

    Parameters
    ----------
    path
        Need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        """Bytes of the whole lines that were read or written."""
        self.is_sealed = False
        """True once a sealed line was read: lines without a seal come before all others."""
        self._descriptor = -1
        self._close: Callable[[], object] = lambda: None

    def _use(self, descriptor: int) -> None:
        self._close()
        self._descriptor, self._close = descriptor, weakref.finalize(self, os.close, descriptor)

    def new_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield start and content of the whole lines after `end`, which follows; a torn last line never counted.

        Raises
        ------
        OutputError
            If the file cannot be read.
        """
        try:
            if self._descriptor < 0:
                if not self.path.exists():
                    return
                self._use(open_descriptor(self.path))
            rest = b""
            while read := os.pread(self._descriptor, AT_ONCE, self.end + len(rest)):
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    start, self.end = self.end, self.end + len(line) + 1
                    yield start, line
        except OSError as error:
            raise self._unreadable(error) from error

    def lines(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield start and content of the lines between a place and `end`."""
        place, rest = start, b""
        while place + len(rest) < self.end:
            at = place + len(rest)
            if not (read := self._read(at, min(self.end, at + AT_ONCE))):
                raise self._changed()
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                yield place, line
                place += len(line) + 1

    def entries_at(self, places: Sequence[int], kind: str = "") -> Iterator[Entry]:
        """Read entries again, by the starts and ends of their lines; of one kind if it is given, such as ``claim``.

        Raises
        ------
        OutputError
            If one is not there any more.
        """
        begins = f'{{"{kind}"'.encode() if kind else b""
        for start, stop in zip(places[::2], places[1::2], strict=True):
            line = self._read(start, stop)[:-1]
            if line.startswith(begins):
                try:
                    yield self.again(line)
                except ValueError as error:
                    raise self._changed() from error

    def parse(self, line: bytes) -> Entry:
        """Parse a line after checking its seal.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        self.is_sealed = self.is_sealed or bool(_SEALED.fullmatch(line))
        entry = self.again(line)
        if not _SEALED.fullmatch(line) and (self.is_sealed or _needs_seal(entry)):
            raise ValueError("the seal is missing")
        return entry

    @staticmethod
    def again(line: bytes) -> Entry:
        """Parse a line that was accepted before; a seal must match.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        entry: Entry = json.loads(line)
        if (sealed := _SEALED.fullmatch(line)) and google_crc32c.value(sealed[1]) != int(sealed[2], 16):
            raise ValueError("the seal is broken")
        return entry

    def open_to_write(self) -> None:
        """Open the file for appending; it is created where it is missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._use(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666))

    def cut(self) -> None:
        """Remove a torn last line."""
        os.ftruncate(self._descriptor, self.end)

    def append(self, lines: bytes) -> int:
        """Append whole lines; on disk when this returns, all of them or none. Return where they start.

        Raises
        ------
        DiskError
            If the file system takes nothing more.
        """
        before = os.fstat(self._descriptor).st_size
        try:
            while lines:  # a full disk takes a part, and says no to the next
                lines = lines[os.write(self._descriptor, lines) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise disk_error(error, self.path) or error from error
        self.end = os.fstat(self._descriptor).st_size
        return before

    def close(self) -> None:
        """Close the file for writing; reading opens it again."""
        self._close()
        self._descriptor = -1

    def _read(self, start: int, stop: int) -> bytes:
        try:
            if self._descriptor < 0:
                self._use(open_descriptor(self.path))
            return os.pread(self._descriptor, stop - start, start)
        except OSError as error:
            raise self._unreadable(error) from error

    def _changed(self) -> OutputError:
        return OutputError(
            f"{self.path}: was damaged or replaced while it was in use. Fix: try again; a run compares all files then"
        )

    def _unreadable(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be read: {error.strerror}. Fix: check its permissions and the disk")


def sealed(entry: Entry) -> bytes:
    """Line of an entry, sealed with the checksum of all that stands before the seal."""
    content = json.dumps(entry, separators=(",", ":")).encode()[:-1]
    return content + b',"crc":"%08x"}\n' % google_crc32c.value(content)


def repaired(lines: Iterable[bytes]) -> bytes:
    """Content of a ledger of the given lines, all of them sealed."""
    kept = [line + b"\n" if _SEALED.fullmatch(line) else sealed(json.loads(line)) for line in lines]
    return b"".join([sealed({"ledger": VERSION}), *kept])


def _needs_seal(entry: Entry) -> bool:
    return "crc" in entry or entry.get("ledger", 1) != 1
