"""Comparison of an output's files with its ledger: missing, cut off, or damaged files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pyama_dask.errors import CancelledError
from pyama_dask.files.atomic import writable
from pyama_dask.files.checksums import MISSING, fault
from pyama_dask.plan.resume import derived_from
from pyama_dask.runs.output_dir import graph_of_output
from pyama_dask.runs.ownership import unrecorded_images
from pyama_dask.runs.source_check import MovieCheck, check_movie, read_again
from pyama_dask.runs.status import LEDGER, read_plan
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.lock import locked
from pyama_dask.workflow.graph import Graph, Step
from pyama_dask.workflow.task import WORK, parse_key


@dataclass(frozen=True)
class Fault:
    """A file that differs from its record."""

    path: str
    """In the output."""
    what: str
    key: str | None = None
    """Task that wrote it, and whose step must run again; None for a document of the driver."""
    step: Step | None = None


def find_faults(
    output: Path, ledger: Ledger, keys: Iterable[str] | None = None, *, deep: bool = False,
    cancel: threading.Event | None = None,
) -> list[Fault]:  # fmt: skip
    """Compare files with the ledger.

    Parts of crops may be missing, as they are removed when the crops are done; existing ones must match.

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
    faults, graph = [], graph_of_output(output)
    for key, record in ledger.tasks() if keys is None else ((key, ledger.task(key)) for key in keys):
        if cancel is not None and cancel.is_set():
            raise CancelledError(f"{output}: the comparison was cancelled. Fix: run again, it starts over")
        for step in record.done:
            for path, recorded in record.files.get(step, {}).items():
                what = fault(output / path, recorded, deep=deep)
                if what is not None and not (what == MISSING and graph.is_temporary(parse_key(key).kind, step)):
                    faults.append(Fault(path, what, key, step))
    return faults


def find_document_faults(output: Path, ledger: Ledger) -> list[Fault]:
    """Compare the files that the driver writes with their recorded checksums; they are small, so always by content."""
    faults = []
    for path, accepted in ledger.documents():
        found = [fault(output / path, recorded, deep=True) for recorded in accepted]
        if all(found):
            faults.append(Fault(path, str(found[0])))
    return faults


def take_back(ledger: Ledger, faults: Iterable[Fault], graph: Graph) -> None:
    """Void steps with faulty files, so that the next run repeats them.

    Results derived from a damaged file may be wrong and are voided, too; a missing file cannot have been read.
    """
    missing, damaged = dict[str, set[Step]](), dict[str, set[Step]]()
    for found in faults:
        if found.key is not None and found.step is not None:
            (missing if found.what == MISSING else damaged).setdefault(found.key, set()).add(found.step)
    invalid = derived_from(damaged, ledger, graph)
    ledger.void({key: missing.get(key, set()) | invalid.get(key, set()) for key in {**missing, **invalid}})


def check_damage(output: Path, ledger: Ledger, cancel: threading.Event) -> list[str]:
    """Compare all files with a ledger that has damaged lines, because a lost line may have voided a result.

    Parameters
    ----------
    output
        The output directory.
    ledger
        Its ledger.
    cancel
        Set it to stop early.

    Returns
    -------
    Warnings: what was found and voided.
    """
    if not ledger.damaged:
        return []
    faults = find_faults(output, ledger, deep=True, cancel=cancel)
    take_back(ledger, faults, graph_of_output(output))
    warning = (
        f"{ledger.path}: {len(ledger.damaged)} of its lines could not be read, the first is line {ledger.damaged[0]}. "
        f"All files were compared with their checksums; {len(faults)} differ and are regenerated"
    )
    ledger.remove_damaged_lines()
    return [warning]


@dataclass(frozen=True)
class Verification:
    """Result of the comparison of an output with its ledger."""

    files: int
    """Number of recorded files."""
    faults: tuple[Fault, ...]
    deep: bool
    """True if their contents were compared, too."""
    unreadable_lines: int
    """Of the ledger."""
    taken_back: bool
    """True if the next run regenerates faulty files; False if the output is not writable."""
    movie: MovieCheck | None = None
    """Comparison with the movie, if it was read again."""
    unrecorded: tuple[str, ...] = ()
    """Stores of images that the ledger does not list, because it has lost lines, by path in the output."""

    @property
    def is_good(self) -> bool:
        """True if everything that was compared is as recorded."""
        found = self.faults or self.unreadable_lines or self.unrecorded
        return not found and (self.movie is None or self.movie.is_good)


def verify(
    output: Path, ledger: Ledger, *, deep: bool = False, take: bool = True, cancel: threading.Event | None = None
) -> Verification:
    """Compare an output with its ledger, and void files that differ, so that the next run regenerates them.

    Parameters
    ----------
    ledger
        Open for writing in an output that this process has locked; read only, if nothing is to be taken back.
    deep
        Whether to compare checksums of contents, not only sizes; always, when lines of the ledger cannot be read.
    take
        Whether to take back what is at fault.
    cancel
        Set it to end this early.
    """
    lines = len(ledger.damaged)
    files = sum(1 for _ in ledger.documents()) + sum(1 for _, record in ledger.tasks() for _ in record.paths)
    deep = deep or lines > 0
    faults = (*find_document_faults(output, ledger), *find_faults(output, ledger, deep=deep, cancel=cancel))
    if take:
        take_back(ledger, faults, graph_of_output(output))
    if take and lines:
        ledger.remove_damaged_lines()
    return Verification(files, faults, deep, lines, take)


def verify_output(
    output: Path, *, deep: bool = False, source: bool = False, movie: Path | None = None,
    cancel: threading.Event | None = None,
) -> Verification:  # fmt: skip
    """Compare the files of an output with its ledger; the next run regenerates files that differ.

    Parameters
    ----------
    output
        Output directory of a run.
    deep
        Whether to read every file and compare checksums, not only sizes.
    source
        Whether to read the frames of the movie again, and compare them with what was read.
    movie
        The movie, if it is not any more where the last run read it.
    cancel
        Set it to end this early.

    Raises
    ------
    OutputError
        If it is no output of a run, or a run is writing to it.
    SourceError
        If the movie is to be read and cannot be opened.
    CancelledError
        If it was ended early.
    """
    if not (output / LEDGER).exists():
        read_plan(output)  # says that this is not an output

    def verified(ledger: Ledger, take: bool) -> Verification:
        compared = check_movie(output, ledger, movie, cancel=cancel) if source else None
        found = verify(output, ledger, deep=deep, take=take, cancel=cancel)
        if take and compared:
            read_again(ledger, compared.to_read_again, graph_of_output(output))
        return replace(found, movie=compared, unrecorded=tuple(unrecorded_images(output, ledger)))

    if not os.access(output / WORK, os.W_OK):
        return verified(Ledger(output / LEDGER), False)
    with writable(output), locked(output) as lock, Ledger(output / LEDGER, lock.check) as ledger:
        return verified(ledger, True)
