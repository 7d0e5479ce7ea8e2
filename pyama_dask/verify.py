"""The ledger's word, held against the files: what is missing, cut off, or not what was written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

from pyama_dask.errors import CancelledError
from pyama_dask.files import checksum, files_below
from pyama_dask.ledger import Ledger
from pyama_dask.scratch import is_part
from pyama_dask.tasks import Step

MISSING = "is missing"


@dataclass(frozen=True)
class Fault:
    """A file that is not as it was recorded."""

    path: str
    """In the output."""
    what: str
    key: str
    """Of the task that wrote it, whose step must be done again."""
    step: Step


def find_faults(
    output: Path, ledger: Ledger, keys: Iterable[str] | None = None, *, deep: bool = False,
    cancel: threading.Event | None = None,
) -> list[Fault]:  # fmt: skip
    """Hold files against the ledger.

    Parts of crops may be gone, as they are removed when the crops are done; one that is there must be right.

    Parameters
    ----------
    output
        Output directory.
    ledger
        What is recorded of it.
    keys
        Of the tasks whose files are looked at; None for all.
    deep
        Whether to read every file and compare checksums, not only sizes.
    cancel
        Set it to end this early.

    Raises
    ------
    CancelledError
        If it was ended early.
    """
    faults = []
    for key in list(ledger.done) if keys is None else keys:
        if cancel is not None and cancel.is_set():
            raise CancelledError(f"{output}: was not compared to the end; the next run begins anew with that")
        for step in ledger.done.get(key, {}):
            for path, recorded in ledger.files.get(key, {}).get(step, {}).items():
                what = _fault(output / path, recorded, deep)
                if what is not None and not (what == MISSING and is_part(path)):
                    faults.append(Fault(path, what, key, step))
    return faults


def _fault(file: Path, recorded: tuple[int, int], deep: bool) -> str | None:
    """What is wrong with a file or directory, of which size and CRC-32C are recorded."""
    try:
        size = size_of(file)
        if size != recorded[0]:
            return f"has {size} of {recorded[0]} bytes"
        return "is not what was written: its checksum is another one" if deep and checksum(file) != recorded else None
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    state = os.stat(path)  # noqa: PTH116  (a large output has a quarter of a million)
    if S_ISDIR(state.st_mode):
        return sum(os.stat(file).st_size for file in files_below(path))  # noqa: PTH116
    return state.st_size


def take_back(ledger: Ledger, faults: Iterable[Fault]) -> None:
    """Record that steps whose files are at fault are not done, so that the next run does them again."""
    steps: dict[str, set[Step]] = {}
    for fault in faults:
        steps.setdefault(fault.key, set()).add(fault.step)
    ledger.void(steps)


def check_damage(output: Path, ledger: Ledger, cancel: threading.Event) -> list[str]:
    """Hold all files against a ledger of which some lines cannot be read: one may have taken something back.

    Returns
    -------
    Warnings: what was found, and taken back.
    """
    if not ledger.damaged:
        return []
    faults = find_faults(output, ledger, deep=True, cancel=cancel)
    take_back(ledger, faults)
    said = (
        f"{ledger.path}: {len(ledger.damaged)} of its lines could not be read, the first is line {ledger.damaged[0]}; "
        f"all files were compared with their checksums, and {len(faults)} that are not as recorded are made anew"
    )
    ledger.mend()
    return [said]


@dataclass(frozen=True)
class Verification:
    """How the files of an output were found."""

    files: int
    """That are recorded."""
    faults: tuple[Fault, ...]
    deep: bool
    """Whether their contents were read, too."""
    unreadable_lines: int
    """Of the ledger."""
    taken_back: bool
    """Whether the next run makes anew what is at fault; not where the output cannot be written to."""


def verify(output: Path, ledger: Ledger, *, deep: bool = False, take: bool = True) -> Verification:
    """Hold an output against its ledger, and take back what is not as recorded, so that the next run does it again.

    Parameters
    ----------
    ledger
        Open for writing in an output that this process has locked; read only, if nothing is to be taken back.
    deep
        Whether to compare checksums of contents, not only sizes; always, when lines of the ledger cannot be read.
    take
        Whether to take back what is at fault.
    """
    lines = len(ledger.damaged)
    files = sum(len(of) for steps in ledger.files.values() for of in steps.values())
    deep = deep or lines > 0
    faults = tuple(find_faults(output, ledger, deep=deep))
    if take:
        take_back(ledger, faults)
    if take and lines:
        ledger.mend()
    return Verification(files, faults, deep, lines, take)
