"""Files that are written from start to end and read in large pieces, with or without the system's page cache.

Pixels that go through the page cache cost a copy and new pages, which takes more time than compressing them on virtual
machines. With `direct`, whole pages go between the disk and memory that is used again (``O_DIRECT``). Where a file
system refuses that, when a file is opened or later, the file is written or read through the cache.
"""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock

import psutil

from pyama_dask.files.atomic import beside
from pyama_dask.files.checksums import extended
from pyama_dask.files.regular import open_descriptor
from pyama_dask.files.threads import Threads

PAGE = 4096
"""Bytes of a page; memory, places and lengths of direct transfers are multiples of it."""
BUFFER = 4 * 2**20
"""Bytes that are written at once."""
STEP = 2**20
"""Memory for reading grows in steps of this many bytes."""
SPARE = 24 * BUFFER
"""Bytes of buffers that are kept for later files."""
LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "jfs"}
"""File systems of local disks that can transfer pages directly."""
_DIRECT: int = getattr(os, "O_DIRECT", 0)
_REFUSED = {errno.EINVAL, errno.EOPNOTSUPP}
"""Errors of file systems that cannot transfer pages directly."""
_spare: list[mmap.mmap] = []
_lock = Lock()


def direct_works(folder: Path, *, anywhere: bool = False) -> bool:
    """Try whether files in a folder can be written and read past the page cache.

    Parameters
    ----------
    folder
        An existing folder, in which a page is written, read and removed.
    anywhere
        True to try it on network and other file systems too; otherwise, these are False.
    """
    if not _DIRECT or not (anywhere or file_system(folder) in LOCAL):
        return False
    path, content = beside(folder / "direct"), os.urandom(PAGE)
    buffer = _take(PAGE)
    page = memoryview(buffer)[:PAGE]
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _DIRECT, 0o600)
        try:
            page[:] = content
            written = os.pwrite(file, page, 0)
            page[:] = bytes(PAGE)
            return written == os.preadv(file, [page], 0) == PAGE and page == content
        finally:
            os.close(file)
    except OSError:
        return False
    finally:
        _give_back(buffer)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def file_system(folder: Path) -> str:
    """Type of the file system of a folder, such as ``ext4`` or ``nfs4``; '' if the system does not tell."""
    place = folder.resolve()
    with suppress(OSError, RuntimeError):
        mounts = {Path(of.mountpoint): of.fstype for of in psutil.disk_partitions(all=True)}
        return next((mounts[at] for at in (place, *place.parents) if at in mounts), "")
    return ""


# ------------------------------------------------------------------------------------------------ memory


def _take(size: int) -> mmap.mmap:
    """Memory of at least `size` bytes that begins on a page; used before, if there is some."""
    with _lock:
        if fits := [k for k, buffer in enumerate(_spare) if len(buffer) >= size]:
            return _spare.pop(min(fits, key=lambda k: len(_spare[k])))
    length = -(-size // STEP) * STEP
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, length)
    buffer = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):  # a fork would copy pages that the disk is reading or writing
        with suppress(AttributeError, OSError):  # a system without it
            buffer.madvise(getattr(mmap, advice))
    return buffer


def _give_back(buffer: mmap.mmap) -> None:
    with _lock:
        _spare.append(buffer)
        while sum(map(len, _spare)) > SPARE:
            del _spare[0]


@lru_cache(maxsize=1)
def _threads() -> Threads:
    """Threads that wait for the disk while this one computes: one writes, the other reads."""
    return Threads(2, "disk")


def _after_fork() -> None:
    """Start threads again in a forked process, which has none, and leave it no memory that it would share."""
    global _lock  # noqa: PLW0603
    _lock = Lock()
    _spare.clear()
    _threads.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _opened(path: Path, flags: int, *, direct: bool) -> int:
    """Descriptor of a file, past the page cache if that is wanted and the file system can do it."""
    if direct and _DIRECT:
        try:
            return os.open(path, flags | _DIRECT, 0o666)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            if flags & os.O_EXCL:  # some systems make the file before they refuse
                path.unlink(missing_ok=True)
    return os.open(path, flags, 0o666)


def _through_cache(file: int) -> bool:
    """Let the rest of a file go through the page cache; False if it did already."""
    if not _DIRECT:
        return False
    import fcntl  # noqa: PLC0415  (not on Windows, where there is no direct transfer)

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~_DIRECT)
    return bool(flags & _DIRECT)


# ----------------------------------------------------------------------------------------------- writing


class AppendedFile:
    """File that grows by appending, beside its place, where it appears when it is complete and on the disk.

    Parameters
    ----------
    path
        Where the file is to be; one that is there is replaced.
    direct
        True to write past the page cache, if the file system can do it.
    """

    def __init__(self, path: Path, *, direct: bool) -> None:
        self.path, self._beside = path, beside(path)
        self._buffer, self._filled, self._at, self._crc = _take(BUFFER), 0, 0, 0  # before there is a file to remove
        self._file = _opened(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, direct=direct)
        self._pending: Future[mmap.mmap] | None = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._at + self._filled

    def append(self, content: bytes | memoryview) -> None:
        """Add bytes at the end.

        Raises
        ------
        OSError
            If these, or bytes before them, cannot be written. The file can then only be dropped.
        """
        self._crc = extended(self._crc, content)
        view = memoryview(content)
        while view:
            n = min(BUFFER - self._filled, len(view))
            self._buffer[self._filled : self._filled + n] = view[:n]
            self._filled, view = self._filled + n, view[n:]
            if self._filled == BUFFER:
                self._hand_over()

    def _hand_over(self) -> None:
        """Have a full buffer written while another one is filled."""
        self._wait()
        self._pending = _threads().submit(self._write_all, self._buffer, self._at)
        self._buffer, self._at, self._filled = _take(BUFFER), self._at + BUFFER, 0

    def _write_all(self, buffer: mmap.mmap, at: int) -> mmap.mmap:
        self._write(memoryview(buffer)[:BUFFER], at)
        return buffer

    def _write(self, view: memoryview, at: int) -> None:
        while view:
            try:
                n = os.pwrite(self._file, view, at)
            except OSError as error:
                if error.errno not in _REFUSED or not _through_cache(self._file):
                    raise
                continue
            at, view = at + n, view[n:]

    def _wait(self) -> None:
        if self._pending is not None:
            _give_back(self._pending.result())  # if it has failed, so does all that follows, as bytes are missing
            self._pending = None

    def finish(self) -> tuple[int, int]:
        """Flush the file to the disk, put it in its place, and return its size and CRC-32C.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._wait()
        pages = self._filled - self._filled % PAGE
        view = memoryview(self._buffer)
        self._write(view[:pages], self._at)
        if pages < self._filled:
            _through_cache(self._file)  # a part of a page
            self._write(view[pages : self._filled], self._at + pages)
        os.fsync(self._file)
        self._beside.replace(self.path)
        self._close()
        return self.size, self._crc

    def drop(self) -> None:
        """Remove what was written; does nothing after `finish`."""
        if self._file >= 0:
            with suppress(OSError):
                self._wait()
            self._close()
            self._beside.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, -1
        _give_back(self._buffer)
        os.close(file)


# ----------------------------------------------------------------------------------------------- reading


class PagedFile:
    """File that is read in pieces, mostly one after the other.

    Parameters
    ----------
    path
        The file.
    direct
        True to read past the page cache, if the file system can do it.
    """

    def __init__(self, path: Path, *, direct: bool) -> None:
        os.close(open_descriptor(path))  # a regular file
        self.path, self._file = path, _opened(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0), direct=direct)
        self.size = os.fstat(self._file).st_size
        self._buffers: list[mmap.mmap] = []
        self._ahead: tuple[int, int, Future[tuple[mmap.mmap, memoryview]]] | None = None
        self._crc, self._crc_at = 0, 0

    def read(self, at: int, length: int, *, then: tuple[int, int] | None = None) -> memoryview:
        """Read bytes; they are there until the next call.

        Parameters
        ----------
        at, length
            Which bytes.
        then
            Place and length of those that will be asked for next; they are read in the meantime.

        Raises
        ------
        OSError
            If the file cannot be read.
        EOFError
            If it ends before.
        """
        while self._buffers:
            _give_back(self._buffers.pop())
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[:2] != (at, length):
            self._forget(ahead)
            ahead = None
        buffer, found = ahead[2].result() if ahead else self._fetch(at, length)
        if then is not None:
            self._ahead = *then, _threads().submit(self._fetch, *then)
        self._buffers.append(buffer)
        if at == self._crc_at:
            self._crc, self._crc_at = extended(self._crc, found), at + length
        return found

    def _fetch(self, at: int, length: int) -> tuple[mmap.mmap, memoryview]:
        first = at - at % PAGE
        stop = at + length - first
        buffer = _take(-(-stop // PAGE) * PAGE)
        view, got = memoryview(buffer)[: -(-stop // PAGE) * PAGE], 0
        while got < stop:
            try:
                n = os.preadv(self._file, [view[got:]], first + got)
            except OSError as error:
                if error.errno not in _REFUSED or not _through_cache(self._file):
                    raise
                continue
            if not n:
                raise EOFError(f"it ends after {first + got} bytes")
            got += n
        return buffer, view[at - first : stop]

    def checksum(self) -> tuple[int, int]:
        """Size and CRC-32C of the whole file; what was not read from the start on is read now."""
        while self._crc_at < self.size:
            self.read(self._crc_at, min(BUFFER, self.size - self._crc_at))
        return self.size, self._crc

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            self._forget(self._ahead)
            self._ahead = None
            os.close(self._file)
            self._file = -1
            while self._buffers:
                _give_back(self._buffers.pop())

    @staticmethod
    def _forget(ahead: tuple[int, int, Future[tuple[mmap.mmap, memoryview]]] | None) -> None:
        """Wait for bytes that were read ahead, and are not wanted."""
        if ahead is not None and ahead[2].exception() is None:
            _give_back(ahead[2].result()[0])
