"""Files that a command writes into a folder that may hold other files: they are recorded there with their checksums.

A recorded file that has not changed since may be replaced. Anything else belongs to the user and stays. The record is
written before the files take their places, so that a killed command leaves no file without an owner: the next one
completes what it began.
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
from pyama_dask.files.atomic import (
    PARTIAL,
    checksum,
    files_below,
    flush_below,
    folder_for,
    read_file,
    remove_below,
    write_bytes,
)

MANIFEST = ".pyama_dask_files.json"
"""Record in a folder of the files that were written there."""
_ABOUT = "Files in this folder that pyama_dask has written, and may replace while they have these sizes and CRC-32Cs"
_STAGE = re.compile(re.escape(MANIFEST) + r"\.[0-9a-f]{12}" + re.escape(PARTIAL))
Content = tuple[int, int]
"""Size and CRC-32C."""
_NO_FILE: Content = (-1, 0)
"""Of a folder, a link and the like."""


@dataclass(frozen=True)
class Entry:
    """A file that was written."""

    by: str
    """The command."""
    contents: tuple[Content, ...]
    """Its content; while it is being replaced, the old and the new one."""


@contextmanager
def writing_into(folder: Path, by: str, *, force: bool = False, replace_all: bool = False) -> Iterator[Path]:
    """Yield an empty folder whose files are moved into `folder` at the end of the block, when all of them are complete.

    Parameters
    ----------
    folder
        Created if necessary, and removed again if nothing is written.
    by
        Name of the command, for the record.
    force
        Whether to overwrite files that are not recorded, or were changed since.
    replace_all
        Whether to remove the files that `by` wrote earlier and does not write now, unless they were changed since.

    Raises
    ------
    OutputError
        If a file is in the way; nothing is written then.
    """
    with folder_for(folder), _stage(folder) as stage:
        yield stage
        flush_below(stage)
        with _locked(folder):
            _place(stage, folder, by, force, replace_all)


def check_free(folder: Path, names: Iterable[str] | None = None, *, force: bool = False) -> None:
    """Refuse to replace files that are not recorded in a folder, or were changed since.

    Parameters
    ----------
    names
        Files that are about to be written; None for all that are recorded.
    force
        Whether they are to be overwritten anyway.

    Raises
    ------
    OutputError
        If one is in the way.
    """
    known = read_manifest(folder)
    there = {name: _content(folder, name) for name in (known if names is None else names)}
    _refuse(
        folder, {name: found for name, found in there.items() if found not in (None, *_contents(known, name))}, force
    )


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Files that are recorded in a folder, by path in it; empty if the record is missing or damaged."""
    try:
        files = json.loads(read_file(folder / MANIFEST))["files"]
        return {
            name: Entry(str(of["by"]), tuple((int(size), int(crc)) for size, crc in of["contents"]))
            for name, of in files.items()
            if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        }
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _refuse(folder: Path, taken: Mapping[str, Content | None], force: bool) -> None:
    """Refuse to overwrite files; what is no file is not overwritten by force either."""
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
    """Move all files of a folder to another one, and remove those of before; the record always covers both."""
    known = read_manifest(folder)
    new = {file.relative_to(stage).as_posix(): checksum(file) for file in files_below(stage)}
    there = {name: _content(folder, name) for name in new}
    allowed = {name: (None, content, *_contents(known, name)) for name, content in new.items()}
    _refuse(folder, {name: found for name, found in there.items() if found not in allowed[name]}, force)
    stale = [name for name, of in known.items() if replace_all and of.by == by and name not in new]
    mine = {name for name, found in there.items() if found != new[name] or name in known}
    _record(folder, known | {name: Entry(by, (*_contents(known, name), new[name])) for name in mine})
    for name in sorted(new, key=lambda name: (-name.count("/"), name)):  # what describes a folder comes last
        if there[name] != new[name]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(folder / name)
    remove_below(folder, [name for name in stale if _content(folder, name) in known[name].contents])
    kept = {name: of for name, of in known.items() if name not in stale}
    _record(folder, kept | {name: Entry(by, (new[name],)) for name in mine})


def _contents(known: Mapping[str, Entry], name: str) -> tuple[Content, ...]:
    return known[name].contents if name in known else ()


def _content(folder: Path, name: str) -> Content | None:
    """Size and CRC-32C of a file in a folder; None if nothing is there, `_NO_FILE` for anything else."""
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
    """Folder for files that are being written; it stays locked, so that other commands see that it is in use."""
    stage = folder / f"{MANIFEST}.{uuid4().hex[:12]}{PARTIAL}"
    with ExitStack() as stack:
        with _locked(folder):
            _remove_leftovers(folder)
            stage.mkdir()
            stack.callback(shutil.rmtree, stage, ignore_errors=True)
            stack.enter_context(_locked(stage))
        yield stage


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed commands were writing."""
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
    """Lock a folder as far as the file system can; the kernel unlocks it when the process dies.

    Raises
    ------
    OSError
        If it cannot be locked, unless `wait`: then locks that do not exist are done without.
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
