"""Files that are either complete or absent, and checksums of their contents."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pyama_dask.errors import DiskError, OutputError, PyamaError
from pyama_dask.files.regular import open_descriptor

PARTIAL = ".partial"
"""Suffix of files that are being written; a leftover one comes from a killed process."""
TEMPORARY = len(f".{'0' * 12}{PARTIAL}")
"""Bytes that a file name gains while the file is written."""
_TEMPORARY = re.compile(r".+\.[0-9a-f]{12}" + re.escape(PARTIAL), re.DOTALL)
"""Pattern of the names that `beside` returns."""
SHORT = 32
"""Characters of a name that fits with the ending of a temporary file on every file system."""
SPARE = 64
"""Bytes of a path that are reserved for temporary file names."""
TAKES_NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""Errors of a file system that is full, over quota or read-only, and of files over the size limit."""
NO_SECOND_NAMES = {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of file systems on which a file has one name only, or no further one."""

COMPLETE = "2-"
"""Prefix of every `content_digest`; digests of older versions have none."""

_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if os.name == "posix" else None
"""Linux flushes a file system in one call, which takes a third of the time of flushing thousands of files."""


def beside(path: Path) -> Path:
    """Unique temporary path in the same folder."""
    ending = f".{uuid4().hex[:12]}{PARTIAL}"
    short = len(path.name) < SHORT
    return path.with_name(
        (path.name if short else shortened(path.name, longest_name(path.parent) - len(ending))) + ending
    )


def remove_partial(folder: Path, names: str = "*") -> None:
    """Remove partial files that killed processes have left in a folder; no process may be writing there.

    Parameters
    ----------
    names
        Pattern of the names of the complete files.
    """
    for leftover in folder.glob(f"{names}.*{PARTIAL}"):
        if not _TEMPORARY.fullmatch(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def remove_below(folder: Path, names: Iterable[str]) -> None:
    """Remove files by their path in a folder, then the folders that are empty without them, including `folder`.

    Missing files are skipped.
    """
    emptied = set[Path]()
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        emptied.update(list(path.parents)[: name.count("/") + 1])
    for parent in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it still contains other files
            parent.rmdir()


def longest_name(folder: Path) -> int:
    """Largest number of bytes of a file name on a folder's file system; the folder need not exist."""
    return _limit(folder, "PC_NAME_MAX", 255)


def _limit(folder: Path, name: str, usual: int) -> int:
    exists = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110  (a name may be too long)
    try:
        limit = os.pathconf(exists, name)
    except (OSError, ValueError):
        return usual
    return limit if limit > 0 else usual


def shortened(name: str, longest: int) -> str:
    """Shorten a name to `longest` bytes; a digest distinguishes it from others with the same start."""
    raw = os.fsencode(name)
    if len(raw) <= longest:
        return name
    ending = f"-{hashlib.blake2b(raw, digest_size=6).hexdigest()}"
    return raw[: longest - len(ending)].decode(errors="ignore") + ending


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Check that names and paths of files do not exceed the file system's limits, also while they are written.

    Parameters
    ----------
    folder
        Folder of the files; it need not exist.
    names
        Paths of the files in the folder.

    Raises
    ------
    OutputError
        If one is too long; the message says by how much.
    """
    name_limit, path_limit = longest_name(folder), _limit(folder, "PC_PATH_MAX", 4096) - 1 - SPARE
    for name in names:
        path = os.fsencode(folder.absolute() / name)
        part = max(path.split(b"/"), key=len)
        if len(part) > name_limit:
            raise OutputError(
                f"{os.fsdecode(part)}: the name has {len(part)} bytes, but the file system of {folder} takes "
                f"{name_limit}. Fix: use a shorter name"
            )
        if len(path) > path_limit:
            raise OutputError(
                f"{folder / name}: the path has {len(path)} bytes, but the file system takes {path_limit}. "
                "Fix: choose a folder with a shorter path"
            )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; at the end of the block its file is flushed and replaces `path`.

    The replacement is atomic: even after a power failure, either the old or the new file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def give_second_name(file: Path, path: Path) -> bool:
    """Let `path` be the same file as `file`, so that the content is stored once; copy it where that is impossible.

    The replacement is atomic, as in `replacing`. A file that is replaced under one of its names keeps its old content
    under the other.

    Returns
    -------
    True if the file has two names, False if it was copied, as the file system cannot do that.
    """
    if path.exists() and path.samefile(file):  # to rename one name of a file to the other does nothing
        return True
    with replacing(path) as temporary:
        try:
            os.link(file, temporary)
        except OSError as error:
            if error.errno not in NO_SECOND_NAMES:
                raise
            shutil.copyfile(file, temporary)
            return False
    return True


def flush(path: Path) -> None:
    """Wait until a written file is on the disk."""
    file = os.open(path, os.O_RDWR)  # some systems do not flush a file opened read-only
    try:
        os.fsync(file)
    finally:
        os.close(file)


def flush_below(directory: Path) -> None:
    """Wait until all files below a directory are on the disk, in one call where the system can."""
    if _SYNCFS is None:
        for file in files_below(directory):
            flush(file)
        return
    opened = os.open(directory, os.O_RDONLY)
    try:
        if _SYNCFS(opened):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    finally:
        os.close(opened)


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe or a device; see `open_descriptor`.
    """
    return open(path, "rb", opener=lambda name, _: open_descriptor(name))


def read_file(path: str | Path) -> bytes:
    """Read a complete regular file; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files, each atomically; all are flushed before the first is replaced, which takes half of the time."""
    written = dict[Path, Path]()
    try:
        for path, content in contents.items():
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            written[path] = beside(path)
            written[path].write_bytes(content)
        for temporary in written.values():
            flush(temporary)
        for path, temporary in written.items():
            temporary.replace(path)
    except BaseException:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
        raise


def disk_error(error: BaseException, output: Path) -> DiskError | None:
    """`DiskError` if an exception means that the file system is full, over quota or read-only, else None.

    Parameters
    ----------
    error
        Exception of a write, or one raised because of it.
    output
        Output directory, for the message; a file outside it is named instead.

    Returns
    -------
    Error that ends a run; None for other exceptions, which may concern a single file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DiskError):
            return cause
        if isinstance(cause, OSError) and (number := cause.errno) in TAKES_NO_MORE:
            file = cause.filename
            named = Path(file) if isinstance(file, str) else output
            elsewhere = named.is_absolute() and not named.is_relative_to(output.parent)  # `rmtree` gives bare names
            place = named if elsewhere else output
            return DiskError(f"{place}: cannot be written to any more: {os.strerror(number)}")
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def writable(place: Path) -> Iterator[None]:
    """Turn an error of the file system within the block into a message for users.

    Raises
    ------
    DiskError
        If the file system is full, over a quota, or read-only.
    OutputError
        If something else is wrong with `place`, or with a file named in the exception.
    """
    try:
        yield
    except PyamaError:  # some are OSErrors
        raise
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise  # of the network, such as Dask's, and not of a file
        where = error.filename if isinstance(error.filename, str) else place
        raise disk_error(error, place) or OutputError(
            f"{where}: {error.strerror or error}. Fix: check its permissions and the disk, or choose another folder"
        ) from error


def files_below(directory: Path) -> Iterator[Path]:
    """Files in a directory and its subdirectories."""
    for folder, _, names in os.walk(directory):
        yield from (Path(folder, name) for name in names)


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Create a folder with its parents for the block; of these, empty ones are removed at the end."""
    made = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the first one that is not empty
            for place in made:
                place.rmdir()


def content_digest(path: Path) -> str:
    """Digest of a file's complete content."""
    with path.open("rb") as file:
        return COMPLETE + hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def has_content(path: Path, recorded: str) -> bool:
    """True if a file's content has a recorded digest, which an older version may have computed with `identity`."""
    return recorded == (content_digest(path) if recorded.startswith(COMPLETE) else identity(path))


def identity(path: Path, samples: int = 64, width: int = 65536) -> str:
    """Digest of samples of a file, used by older versions to tell movies and tables apart.

    The digest covers the size, the first and last bytes, and samples in between. It ignores name and dates, so that a
    moved or copied file keeps its digest.

    Parameters
    ----------
    path
        The file.
    samples
        Number of samples, at least 2.
    width
        Bytes per sample.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        for k in range(samples):
            file.seek(max(0, size - width) * k // (samples - 1))
            digest.update(file.read(width))
    return digest.hexdigest()
