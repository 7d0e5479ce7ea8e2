"""Files that a command writes into a folder with other files: a manifest there records them with their checksums.

A recorded file that has not changed since may be replaced. All other files belong to the user and stay. The manifest is
written before the files are moved into place, so that every file of a killed command is recorded and the next command
can complete its work.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import PARTIAL, files_below, flush_below, folder_for, read_file, remove_below, write_bytes
from pyama_dask.files.checksums import checksum

MANIFEST = ".pyama_dask_files.json"
"""Name of the manifest of a folder."""
_ABOUT = "Files in this folder that pyama_dask has written, and may replace while they have these sizes and CRC-32Cs"
_STAGE = re.compile(re.escape(MANIFEST) + r"\.[0-9a-f]{12}" + re.escape(PARTIAL))
Content = tuple[int, int]
"""Size and CRC-32C."""
_NO_FILE: Content = (-1, 0)
"""Content of folders, links and other non-files."""


@dataclass(frozen=True)
class Entry:
    """A file that was written."""

    by: str
    """Name of the command that wrote it."""
    contents: tuple[Content, ...]
    """Its content; both old and new content while it is being replaced."""


@contextmanager
def writing_into(folder: Path, by: str, *, force: bool = False, replace_all: bool = False) -> Iterator[Path]:
    """Yield an empty folder whose files are moved into `folder` at the end of the block, once all are complete.

    Parameters
    ----------
    folder
        Created if necessary, and removed again if nothing is written.
    by
        Name of the command, for the manifest.
    force
        True to overwrite files that are not in the manifest or were changed since.
    replace_all
        True to remove unchanged files that `by` wrote earlier and does not write now.

    Raises
    ------
    OutputError
        If a file cannot be replaced; then nothing is written.
    """
    with folder_for(folder), _stage(folder) as stage:
        yield stage
        flush_below(stage)
        with _locked(folder):
            _place(stage, folder, by, force, replace_all)


def check_free(folder: Path, names: Iterable[str] | None = None, *, force: bool = False) -> None:
    """Check that no file would be replaced that is not in the folder's manifest or was changed since.

    Parameters
    ----------
    names
        Files to be written; None for all in the manifest.
    force
        True to allow overwriting them.

    Raises
    ------
    OutputError
        If a file cannot be replaced.
    """
    known = read_manifest(folder)
    there = {name: _content(folder, name) for name in (known if names is None else names)}
    _refuse(
        folder,
        {name: content for name, content in there.items() if content not in (None, *_contents(known, name))},
        force,
    )


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Entries of a folder's manifest, by path in the folder; empty if the manifest is missing or damaged."""
    try:
        files = json.loads(read_file(folder / MANIFEST))["files"]
        return {
            name: Entry(str(entry["by"]), tuple((int(size), int(crc)) for size, crc in entry["contents"]))
            for name, entry in files.items()
            if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        }
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _refuse(folder: Path, taken: Mapping[str, Content | None], force: bool) -> None:
    """Refuse to overwrite files; folders and links are refused even with `force`."""
    more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
    for name in sorted(taken, key=lambda name: (taken[name] != _NO_FILE, name)):
        if taken[name] == _NO_FILE:
            raise OutputError(f"{folder / name}{more}: is a folder or a link. Fix: move it, or choose another folder")
        if not force:
            raise OutputError(
                f"{folder / name}{more}: was not written by pyama_dask, or was changed since. "
                "Fix: move it, choose another folder, or overwrite it with --force (force=True)"
            )


def _place(stage: Path, folder: Path, by: str, force: bool, replace_all: bool) -> None:
    """Move all staged files into a folder and remove stale ones; the manifest always covers both."""
    known = read_manifest(folder)
    new = {file.relative_to(stage).as_posix(): checksum(file) for file in files_below(stage)}
    there = {name: _content(folder, name) for name in new}
    allowed = {name: (None, content, *_contents(known, name)) for name, content in new.items()}
    _refuse(folder, {name: content for name, content in there.items() if content not in allowed[name]}, force)
    stale = [name for name, entry in known.items() if replace_all and entry.by == by and name not in new]
    mine = {name for name, content in there.items() if content != new[name] or name in known}
    _record(folder, known | {name: Entry(by, (*_contents(known, name), new[name])) for name in mine})
    for name in sorted(new, key=lambda name: (-name.count("/"), name)):  # files that describe a folder come last
        if there[name] != new[name]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(folder / name)
    remove_below(folder, [name for name in stale if _content(folder, name) in known[name].contents])
    kept = {name: entry for name, entry in known.items() if name not in stale}
    _record(folder, kept | {name: Entry(by, (new[name],)) for name in mine})


def _contents(known: Mapping[str, Entry], name: str) -> tuple[Content, ...]:
    return known[name].contents if name in known else ()


def _content(folder: Path, name: str) -> Content | None:
    """Size and CRC-32C of a file in a folder; None if it is missing, `_NO_FILE` for anything but a file."""
    path = folder / name
    parents = list(path.parents)[: name.count("/")]
    if path.is_symlink() or any(parent.is_symlink() or parent.is_file() for parent in parents):
        return _NO_FILE
    return checksum(path) if path.is_file() else _NO_FILE if path.exists() else None


def _record(folder: Path, files: Mapping[str, Entry]) -> None:
    document = {
        "about": _ABOUT,
        "files": {name: {"by": files[name].by, "contents": files[name].contents} for name in sorted(files)},
    }
    content = json.dumps(document, indent=1).encode()
    path = folder / MANIFEST
    if not path.exists() or path.read_bytes() != content:
        write_bytes(path, content)


@contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """Temporary folder for new files; it stays locked, so that other commands see that it is in use."""
    stage = folder / f"{MANIFEST}.{uuid4().hex[:12]}{PARTIAL}"
    with ExitStack() as stack:
        with _locked(folder):
            _remove_leftovers(folder)
            stage.mkdir()
            stack.callback(shutil.rmtree, stage, ignore_errors=True)
            stack.enter_context(_locked(stage))
        yield stage


def _remove_leftovers(folder: Path) -> None:
    """Remove partial files of killed commands."""
    for path in folder.glob(f"{MANIFEST}.*"):
        if not _STAGE.fullmatch(path.name):
            continue
        if path.is_file():
            path.unlink()
            continue
        with suppress(OSError), _locked(path, wait=False):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock a folder, if the file system supports it; the kernel unlocks it when the process dies.

    Raises
    ------
    OSError
        If `wait` is False and the folder cannot be locked.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            if not wait:
                raise
        yield
    finally:
        os.close(opened)
