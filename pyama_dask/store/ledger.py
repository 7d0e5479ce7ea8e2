"""The ledger: an append-only record of what is done, that only the driver writes.

One JSON object per line, sealed by its CRC-32C as the last key. The first line holds the version; ``claim`` lines hold
names before they are created, ``done`` lines hold receipts, ``void`` lines take steps back before their files are
overwritten, ``kept`` lines hold new digests of steps whose results a change leaves as they are, ``failed`` lines hold
reasons, ``documents`` lines hold checksums of the files that the driver writes, a ``movie`` line names the movie, and a
``doubt`` line tells that the movie changed while it was read.
A line counts when its newline is on disk. A damaged line may have taken something back, so all files must then be
compared with their checksums (see `Ledger.damaged`). Version 1 had no seals: its lines are read as they are.

What is recorded of a FOV is read back from its lines when it is asked for, so that memory does not grow with the number
of FOVs: a ledger holds the places of its lines, and the records of a few FOVs.
"""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import beside, disk_error, write_bytes
from pyama_dask.store.ledger_file import VERSION, Entry, LedgerFile, repaired, sealed
from pyama_dask.store.records import (
    Checksum,
    Cost,
    Documents,
    FovRecords,
    Record,
    first,
    folders_of,
    fov_of_path,
    inside,
    is_kept,
    owners,
    take_documents,
)
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Receipt, Task, parse_key

RECENT = 32
"""FOVs whose records are held after they were asked for."""


class Ledger:
    """Record of the finished work in an output directory.

    Use as a context manager to write to it; reading needs none.

    Parameters
    ----------
    path
        The file, ``.pyama_dask/ledger.jsonl``; need not exist.
    check
        Called before anything is appended; raises when the output is not this run's any more.
    recent
        Number of FOVs whose records are held after they were asked for; None for all. Others are read again.

    Raises
    ------
    OutputError
        If it cannot be read, or a newer version of the package wrote it.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None, recent: int | None = RECENT) -> None:
        self.path, self.check, self._most = path, check, recent
        self._begin()
        self.read_on()

    def _begin(self) -> None:
        """Begin with an empty record."""
        self.receipts = 0
        """Number of recorded receipts."""
        self.groups: dict[str, tuple[int, ...]] = {}
        """FOVs of recorded tasks of wells and plates, by task key."""
        self.failed: dict[str, Failure] = {}
        """Failures of the tasks whose failed steps were not done since, by key."""
        self.attempts: dict[str, int] = {}
        self.movie: dict[str, str] = {}
        """Of which movie: ``identity`` of its content, and ``first``, the identity it had when the output was begun."""
        self.doubts: dict[int, str] = {}
        """FOVs of which frames were read while the movie changed, and what happened, until a run finds it unchanged."""
        self.processors: set[str] = set()
        """Kinds of processors that any receipt names; below, steps."""
        self.steps: set[Step] = set()
        self.damaged: list[int] = []
        """Numbers of the lines that cannot be read."""
        self._file, self._is_open = LedgerFile(self.path), False
        self._lines, self._damaged_at = 0, set[int]()
        self._places: dict[int, array[int]] = {}
        """Start and end of each line about a FOV."""
        self._done: set[int] = set()
        """FOVs with a recorded task; of a well or plate, the last one, which has its record."""
        self._of_groups: dict[int, set[str]] = {}
        """Keys of recorded tasks of wells and plates, by each of their FOVs."""
        self._failed_steps: dict[str, set[Step]] = {}
        self._names: dict[str, set[str]] = {}
        """Claimed names outside of the folders of FOVs, by their first part; below, documents there."""
        self._documents: Documents = {}
        self._known = WeakValueDictionary[int, FovRecords]()
        self._recent: dict[int, FovRecords] = {}
        self._latest = -1, FovRecords()

    # --------------------------------------------------------------------------------------- file

    def read_on(self) -> int:
        """Read the lines that another process has appended since the last call, and return their number.

        For readers: one that writes has taken in its own lines. A ledger that was replaced must be opened again.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        before = self._lines
        for start, line in () if self._is_open else self._file.new_lines():
            self._lines += 1
            try:
                self._take(self._file.parse(line), start, start + len(line) + 1)
            except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError):
                self.damaged.append(self._lines)
                self._damaged_at.add(start)
        return self._lines - before

    def is_shorter(self) -> bool:
        """Check whether the file is shorter than what was read of it, so that it must be opened again."""
        return self.path.exists() and self.path.stat().st_size < self._file.end

    def __enter__(self) -> Self:
        try:
            self._file.open_to_write()
            self.read_on()
            self._file.cut()
            self._is_open = True
            if not self._file.is_sealed:
                self._append({"ledger": VERSION})
        except OSError as error:
            told = disk_error(error, self.path)
            raise told or OutputError(f"{self.path}: cannot be written to: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._file.close()

    def remove_damaged_lines(self) -> None:
        """Remove the damaged lines after all files were compared; a copy of the damaged ledger is kept."""
        content = repaired(line for start, line in self._file.lines() if start not in self._damaged_at)
        shutil.copyfile(self.path, beside(self.path).with_suffix(".damaged"))
        write_bytes(self.path, content)
        self._file.close()
        self._begin()
        self.read_on()
        self._file.open_to_write()
        self._is_open = True

    def _append(self, *entries: Entry) -> None:
        """Append lines; on disk when this returns, all of them or none.

        Raises
        ------
        DiskError
            If the file system takes nothing more.
        """
        self.check()
        lines = [sealed(entry) for entry in entries]
        start = self._file.append(b"".join(lines))
        for entry, line in zip(entries, lines, strict=True):
            self._take(entry, start, start + len(line))
            start += len(line)
            self._lines += 1

    # ------------------------------------------------------------------------------------ records

    def of_fov(self, fov: int) -> FovRecords:
        """Records of a FOV; they follow what is recorded later, for as long as they are held."""
        if self._latest[0] == fov:
            return self._latest[1]
        if (records := self._known.get(fov)) is None:
            records = FovRecords()
            for entry in self._file.entries_at(self._places.get(fov, ())):
                records.take(fov, entry)
            self._known[fov] = records
        self._recent.pop(fov, None)
        self._recent[fov] = records
        if self._most is not None and len(self._recent) > self._most:
            del self._recent[next(iter(self._recent))]
        self._latest = fov, records
        return records

    def task(self, key: str) -> Record:
        """Record of a task; an empty one if nothing is recorded."""
        return self.of_fov(parse_key(key).fov).tasks.get(key) or Record()

    def tasks(self) -> Iterator[tuple[str, Record]]:
        """Yield keys and records of all tasks, FOV by FOV."""
        for fov in sorted(self._done):
            yield from list(self.of_fov(fov).tasks.items())

    @property
    def end(self) -> int:
        """Place in the file after all that is recorded by now; see `costs`."""
        return self._file.end

    def costs(self, after: int = 0) -> Iterator[Cost]:
        """Yield the costs of the tasks that are recorded after a place in the file, in the order of their receipts."""
        for start, line in self._file.lines(after):
            if b'"done"' in line[:10] and start not in self._damaged_at:
                with suppress(ValueError):  # damaged since: the next run notices, and does the task again
                    yield Cost.of(self._file.again(line)["done"])

    def has(self, key: str, step: Step, digest: str) -> bool:
        """Check whether a step of a task is recorded as done with this digest."""
        return self.task(key).done.get(step) == digest

    def keys_of(self, fov: int) -> Collection[str]:
        """Keys of all tasks of a FOV that were ever recorded, and of its well and plate."""
        return self.of_fov(fov).tasks.keys() | self._of_groups.get(fov, set())

    def has_fov(self, fov: int) -> bool:
        """Check whether anything was ever recorded as done for a FOV."""
        return fov in self._done or fov in self._of_groups

    def outdated(self, fov: int, tasks: Collection[Task]) -> dict[str, set[Step]]:
        """Steps of a FOV, by task key, that are recorded with other settings than its tasks now have."""
        wanted = {task.key: task.digests for task in tasks}
        mine = {key for key in self.keys_of(fov) if parse_key(key).fov == fov}
        groups = [({*task.group}, task.kind) for task in tasks if task.group]  # whose FOVs may have changed
        for group, kind in groups:
            mine |= {key for key, of in self.groups.items() if parse_key(key).kind == kind and group.intersection(of)}
        other = {key: {s for s, d in self.task(key).done.items() if wanted.get(key, {}).get(s) != d} for key in mine}
        return {key: steps for key, steps in other.items() if steps}

    def authors(self, paths: Collection[str]) -> dict[str, set[Step]]:
        """Steps by task key that are recorded to have written any of these files."""
        return {key: steps for key, record in self.tasks() if (steps := record.authors(paths))}

    def claimed(self, folder: str) -> Collection[str]:
        """Names in a folder of the output that runs have created, or were about to; see `claim`.

        `WORK` is a run's own anyway, so that what is there is not among them.
        """
        fov = fov_of_path(folder)
        return self._names.get(folder, set()) if fov is None else self.of_fov(fov).names

    def claims(self, fov: int) -> set[str]:
        """Those of the claimed names in the folder of a FOV for which no receipt needs to be read: often all."""
        entries = self._file.entries_at(self._places.get(fov, ()), "claim")
        return {name for entry in entries for name in entry["claim"] if fov_of_path(name) == fov}

    def checksums(self, document: str) -> tuple[Checksum, ...]:
        """Checksums that a document of the driver may have, see `Documents`; empty if it is not recorded."""
        return self._documents_beside(document).get(document, ())

    def documents(self, folder: str = "") -> Iterator[tuple[str, tuple[Checksum, ...]]]:
        """Yield paths and checksums of the documents in a folder of the output, or of all."""
        beside = list(self._documents_beside(folder).items())
        yield from ((path, of) for path, of in beside if not folder or first(path) == folder)
        for fov in () if folder else sorted(self._places):
            yield from list(self.of_fov(fov).documents.items())

    def _documents_beside(self, path: str) -> Documents:
        fov = fov_of_path(path)
        return self._documents if fov is None else self.of_fov(fov).documents

    # ------------------------------------------------------------------------------------ entries

    def record(self, *receipts: Receipt) -> None:
        """Record what tasks did; on disk when this returns."""
        if receipts:
            self._append(*({"done": vars(receipt)} for receipt in receipts))

    def void(self, steps: Mapping[str, Iterable[Step]]) -> None:
        """Take recorded steps back, by task key, as their files are about to be overwritten, or are not as recorded."""
        recorded = {key: [step for step in of if step in self.task(key).done] for key, of in steps.items()}
        if taken := {key: of for key, of in recorded.items() if of}:
            self._append({"void": taken})

    def keep(self, steps: Mapping[str, Mapping[Step, str]]) -> None:
        """Record new digests of recorded steps, by task key, whose results are the same for changed settings."""
        if steps:
            self._append({"kept": steps})

    def claim(self, names: Iterable[str]) -> None:
        """Record names in the output that a run is about to create: they belong to it, whenever it ends."""
        if new := sorted(name for name in names if name not in self.claimed(first(name))):
            self._append({"claim": new})

    def fail(self, task: Task, failure: Failure) -> None:
        """Record a failed attempt at a task."""
        why = {"cause": failure.cause, "reason": failure.reason}
        self._append({"failed": task.key, "steps": [*task.digests], **why})

    def writes(self, documents: Mapping[str, Checksum | None]) -> None:
        """Record files that the driver is about to write, or with None to remove, by path in the output."""
        changed = {path: of for path, of in documents.items() if (of,) != (self.checksums(path) or (None,))[:1]}
        if changed:
            self._append({"documents": changed})

    def belongs_to(self, identity: str, first: str) -> None:
        """Record of which movie the output is; see `movie`. There are no more doubts then."""
        if self.movie != (movie := {"identity": identity, "first": first}) or self.doubts:
            self._append({"movie": movie})

    def doubt(self, fovs: Iterable[int], reason: str) -> None:
        """Record FOVs of which frames were read from a movie that is another one when the run ends."""
        self._append({"doubt": [*fovs], "reason": reason})

    # ---------------------------------------------------------------------------------- taking in

    def _take(self, entry: Entry, start: int, stop: int) -> None:
        """Take in the entry of a line: nothing of it where it is not whole."""
        if "ledger" in entry:
            if int(entry["ledger"]) > VERSION:
                raise OutputError(f"{self.path}: was written by a newer version of pyama_dask. Fix: use that one")
        elif "done" in entry:
            self._take_receipt(entry, start, stop)
        elif "void" in entry:
            self._take_change({str(key): {*of} for key, of in entry["void"].items()}, entry, start, stop)
        elif "kept" in entry:
            self._take_change({str(key): dict(of) for key, of in entry["kept"].items()}, entry, start, stop)
        elif "failed" in entry:
            self._take_failure(str(entry["failed"]), Failure(entry["cause"], str(entry["reason"])), {*entry["steps"]})
        elif "documents" in entry:
            self._take_documents(entry, start, stop)
        elif "claim" in entry:
            self._note(self._take_names([inside(str(name)) for name in entry["claim"]]), entry, start, stop)
        else:
            self._take_movie(entry)

    def _take_movie(self, entry: Entry) -> None:
        if "movie" in entry:
            self.movie = {name: str(entry["movie"][name]) for name in ("identity", "first")}
            self.doubts = {}
        elif "doubt" in entry:
            self.doubts |= dict.fromkeys(map(int, entry["doubt"]), str(entry["reason"]))
        else:
            raise KeyError("no kind of entry")

    def _take_failure(self, key: str, failure: Failure, steps: set[Step]) -> None:
        self.failed[key], self._failed_steps[key] = failure, steps
        self.attempts[key] = self.attempts.get(key, 0) + 1

    def _take_change(self, steps: Mapping[str, object], entry: Entry, start: int, stop: int) -> None:
        """Take in that recorded steps are void or kept, by task key; nothing changes where nothing is recorded."""
        self._note({parse_key(key).fov for key in steps} & self._done, entry, start, stop)

    def _take_receipt(self, entry: Entry, start: int, stop: int) -> None:
        receipt = entry["done"]
        record, cost = Record.of(receipt), Cost.of(receipt)
        fov, group = parse_key(cost.key).fov, tuple(int(member) for member in receipt.get("group", ()))
        kinds = set(record.processors.values())
        self._done.add(fov)
        self._note({fov} | self._take_names(owners(record.paths)), entry, start, stop, record)
        self.receipts += 1
        self.processors |= kinds
        self.steps.update(record.done, record.files)
        if group:
            self.groups[cost.key] = group
        for member in group:
            self._of_groups.setdefault(member, set()).add(cost.key)
        if self._failed_steps.get(cost.key, set()) <= record.done.keys():
            self.failed.pop(cost.key, None)
            self.attempts.pop(cost.key, None)

    def _take_documents(self, entry: Entry, start: int, stop: int) -> None:
        read = {inside(path): of for path, of in entry["documents"].items()}
        take_documents({}, read)  # an error here takes in nothing
        fovs = self._take_names(folders_of(read)) | {fov for path in read if (fov := fov_of_path(path)) is not None}
        take_documents(self._documents, {path: of for path, of in read.items() if fov_of_path(path) is None})
        self._note(fovs, entry, start, stop)

    def _take_names(self, names: Iterable[str]) -> set[int]:
        """Claim names outside of the folders of FOVs, and return the FOVs of the others."""
        fovs = set[int]()
        for name in filter(is_kept, names):
            if (fov := fov_of_path(name)) is None:
                self._names.setdefault(first(name), set()).add(name)
            else:
                fovs.add(fov)
        return fovs

    def _note(self, fovs: Iterable[int], entry: Entry, start: int, stop: int, record: Record | None = None) -> None:
        """Note the place of an entry for the FOVs that it is about."""
        for fov in fovs:
            self._places.setdefault(fov, array("Q")).extend((start, stop))
            if (records := self._known.get(fov)) is not None:
                records.take(fov, entry, record)
