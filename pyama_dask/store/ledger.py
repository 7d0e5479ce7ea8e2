"""The ledger: an append-only record of what is done, that only the driver writes.

One JSON object per line, sealed by its CRC-32C as the last key. The first line holds the version; ``claim`` lines hold
names before they are created, ``done`` lines hold receipts, ``void`` lines take steps back before their files are
overwritten, ``kept`` lines hold new digests of steps whose results a change leaves as they are, ``failed`` lines hold
reasons, ``documents`` lines hold checksums of the files that the driver writes, a ``movie`` line names the movie, and a
``doubt`` line tells that the movie changed while it was read.
A line counts when its newline is on disk. A damaged line may have taken something back, so all files must then be
compared with their checksums (see `Ledger.damaged`). Version 1 had no seals: its lines are read as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import google_crc32c

from pyama_dask.errors import OutputError
from pyama_dask.files.atomic import beside, disk_error, open_file, write_bytes
from pyama_dask.workflow.failure import Failure
from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import Receipt, Task, parse_key

VERSION = 2
_SEALED = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"}')

Checksum = tuple[int, int]
"""Size in bytes and CRC-32C of a file."""


@dataclass(frozen=True)
class Cost:
    """Time, memory and place of a task."""

    key: str
    seconds: float
    memory: int
    """Peak of its worker in bytes."""
    spent: Mapping[Step, float]
    """Seconds by step."""
    begun: float = 0.0
    worker: str = ""
    run: str = ""
    """As in the receipt."""

    @property
    def end(self) -> float:
        """End in UTC seconds since 1970; meaningless if `begun` is 0."""
        return self.begun + self.seconds

    @classmethod
    def of(cls, receipt: Mapping[str, Any]) -> Self:
        """Read a recorded receipt."""
        spent = {step: float(seconds) for step, seconds in receipt.get("spent", {}).items()}
        begun, worker = float(receipt.get("begun", 0.0)), str(receipt.get("worker", ""))
        seconds, memory, run = float(receipt["seconds"]), int(receipt["peak_memory"]), str(receipt.get("run", ""))
        return cls(str(receipt["key"]), seconds, memory, spent, begun, worker, run)


class Ledger:
    """Record of the finished work in an output directory.

    Use as a context manager to write to it; reading needs none.

    Parameters
    ----------
    path
        The file, ``.pyama_dask/ledger.jsonl``; need not exist.
    check
        Called before anything is appended; raises when the output is not this run's any more.

    Raises
    ------
    OutputError
        If it cannot be read, or a newer version of the package wrote it.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.done: dict[str, dict[Step, str]] = {}
        """Digest of every recorded step, by task key."""
        self.notes: dict[str, dict[Step, dict[str, int]]] = {}
        """Counts of every recorded step, by task key."""
        self.warnings: dict[str, dict[Step, list[str]]] = {}
        """Warnings of every recorded step, by task key."""
        self.files: dict[str, dict[Step, dict[str, Checksum]]] = {}
        """Size and CRC-32C of every file that a recorded step wrote, by task key, and path in the output."""
        self.local: dict[str, dict[Step, str]] = {}
        """Digests of what recorded steps were made from, by task key, but for what is in `wide`; see `Task.local`."""
        self.wide: dict[str, dict[Step, str]] = {}
        """Digests of what these steps have read from wider parts, or from all blocks, by task key."""
        self.provides: dict[str, dict[Step, dict[str, list[str]]]] = {}
        """Digests, one per block, of what parts on blocks read from recorded steps of FOVs, by task key and part."""
        self.processors: dict[str, dict[Step, str]] = {}
        """Kinds of processors that made recorded steps whose results depend on it, by task key."""
        self.groups: dict[str, tuple[int, ...]] = {}
        """FOVs of recorded tasks of wells and plates, by task key."""
        self.failed: dict[str, Failure] = {}
        """Failures of the tasks whose failed steps were not done since, by key."""
        self.attempts: dict[str, int] = {}
        self.costs: list[Cost] = []
        """Costs of every recorded task, in the order in which they were done."""
        self.movie: dict[str, str] = {}
        """Of which movie: ``identity`` of its content, and ``first``, the identity it had when the output was begun."""
        self.documents: dict[str, tuple[Checksum, ...]] = {}
        """Checksums of the files that the driver writes, by path in the output: the latest, and the one before it.

        A document is recorded before it is written, so that after a crash the file may still be the one before.
        """
        self.frames_read: dict[str, list[int]] = {}
        """CRC-32C of every frame that a recorded task read from the movie, by task key; older versions have none."""
        self.doubts: dict[int, str] = {}
        """FOVs of which frames were read while the movie changed, and what happened, until a run finds it unchanged."""
        self.claimed: dict[str, set[str]] = {}
        """Names in the output that runs have created, or were about to, by their first part; see `claim`."""
        self.damaged: list[int] = []
        """Numbers of the lines that cannot be read."""
        self._is_sealed = False
        self.check = check
        self._of_fov: dict[int, set[str]] = {}
        self._failed_steps: dict[str, set[Step]] = {}
        self._file = -1
        self._lines = self._bytes = 0
        self.read_on()

    def read_on(self) -> int:
        """Read the lines that another process has appended since the last call, and return their number.

        For readers: one that writes has taken in its own lines. A ledger that was replaced must be opened again.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        lines = self._whole_lines(self._bytes) if self._file < 0 else []
        for number, line in enumerate(lines, self._lines + 1):
            try:
                self._take(self._entry(line))
            except (ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError):
                self.damaged.append(number)
        self._lines += len(lines)
        self._bytes += sum(len(line) + 1 for line in lines)
        return len(lines)

    def is_shorter(self) -> bool:
        """Check whether the file is shorter than what was read of it, so that it must be opened again."""
        return self.path.exists() and self.path.stat().st_size < self._bytes

    def _entry(self, line: bytes) -> dict[str, Any]:
        """Parse a line after checking its seal; lines without one are from version 1, and come before all others."""
        sealed = _SEALED.fullmatch(line)
        if sealed:
            self._is_sealed = True
        entry: dict[str, Any] = json.loads(line)
        if google_crc32c.value(sealed[1]) != int(sealed[2], 16) if sealed else self._is_sealed or _needs_seal(entry):
            raise ValueError("the seal is broken")
        return entry

    def _whole_lines(self, start: int = 0) -> list[bytes]:
        """Lines of the file from a byte on; a torn last one never counted."""
        try:
            if not self.path.exists():
                return []
            with open_file(self.path) as file:
                file.seek(start)
                return file.read().split(b"\n")[:-1]
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be read: {error.strerror}. Fix: check its permissions and the disk"
            ) from error

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            content = self.path.read_bytes()
            os.ftruncate(self._file, content.rfind(b"\n") + 1)
            if not self._is_sealed:
                self._append({"ledger": VERSION})
        except OSError as error:
            told = disk_error(error, self.path)
            raise told or OutputError(f"{self.path}: cannot be written to: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def remove_damaged_lines(self) -> None:
        """Remove the damaged lines after all files were compared; a copy of the damaged ledger is kept."""
        lines = (line for number, line in enumerate(self._whole_lines(), 1) if number not in self.damaged)
        kept = [line + b"\n" if _SEALED.fullmatch(line) else _line(json.loads(line)) for line in lines]
        shutil.copyfile(self.path, beside(self.path).with_suffix(".damaged"))
        write_bytes(self.path, b"".join([_line({"ledger": VERSION}), *kept]))
        replaced, self._file = self._file, os.open(self.path, os.O_RDWR | os.O_APPEND)
        os.close(replaced)
        self.damaged = []

    def has(self, key: str, step: Step, digest: str) -> bool:
        """Check whether a step of a task is recorded as done with this digest."""
        return self.done.get(key, {}).get(step) == digest

    def record(self, *receipts: Receipt) -> None:
        """Record what tasks did; on disk when this returns."""
        if receipts:
            self._append(*({"done": vars(receipt)} for receipt in receipts))

    def void(self, steps: Mapping[str, Iterable[Step]]) -> None:
        """Take recorded steps back, by task key, as their files are about to be overwritten, or are not as recorded."""
        recorded = {key: [step for step in of if step in self.done.get(key, {})] for key, of in steps.items()}
        if taken := {key: of for key, of in recorded.items() if of}:
            self._append({"void": taken})

    def keep(self, steps: Mapping[str, Mapping[Step, str]]) -> None:
        """Record new digests of recorded steps, by task key, whose results are the same for changed settings."""
        if steps:
            self._append({"kept": steps})

    def keys_of(self, fov: int) -> Collection[str]:
        """Keys of all tasks of a FOV that were ever recorded, and of its well and plate."""
        return self._of_fov.get(fov, set())

    def outdated(self, fov: int, tasks: Collection[Task]) -> dict[str, set[Step]]:
        """Steps of a FOV, by task key, that are recorded with other settings than its tasks now have."""
        wanted = {task.key: task.digests for task in tasks}
        mine = {key for key in self.keys_of(fov) if parse_key(key).fov == fov}
        for group, kind in [
            ({*task.group}, task.kind) for task in tasks if task.group
        ]:  # of which FOVs may have changed
            mine |= {key for key, of in self.groups.items() if parse_key(key).kind == kind and group.intersection(of)}
        other = {key: {s for s, d in self.done[key].items() if wanted.get(key, {}).get(s) != d} for key in mine}
        return {key: steps for key, steps in other.items() if steps}

    def has_fov(self, fov: int) -> bool:
        """Check whether anything was ever recorded as done for a FOV."""
        return fov in self._of_fov

    def claim(self, names: Iterable[str]) -> None:
        """Record names in the output that a run is about to create: they belong to it, whenever it ends."""
        if new := sorted(name for name in names if name not in self.claimed.get(_first(name), ())):
            self._append({"claim": new})

    def fail(self, task: Task, failure: Failure) -> None:
        """Record a failed attempt at a task."""
        why = {"cause": failure.cause, "reason": failure.reason}
        self._append({"failed": task.key, "steps": [*task.digests], **why})

    def writes(self, documents: Mapping[str, Checksum | None]) -> None:
        """Record files that the driver is about to write, or with None to remove, by path in the output."""
        changed = {
            path: checksum
            for path, checksum in documents.items()
            if (checksum,) != self.documents.get(path, (None,))[:1]
        }
        if changed:
            self._append({"documents": changed})

    def authors(self, paths: Collection[str]) -> dict[str, set[Step]]:
        """Steps by task key that are recorded to have written any of these files."""
        found: dict[str, set[Step]] = {}
        for key, steps in self.files.items():
            if mine := {step for step, files in steps.items() if not files.keys().isdisjoint(paths)}:
                found[key] = mine
        return found

    def belongs_to(self, identity: str, first: str) -> None:
        """Record of which movie the output is; see `movie`. There are no more doubts then."""
        if self.movie != (movie := {"identity": identity, "first": first}) or self.doubts:
            self._append({"movie": movie})

    def doubt(self, fovs: Iterable[int], reason: str) -> None:
        """Record FOVs of which frames were read from a movie that is another one when the run ends."""
        self._append({"doubt": [*fovs], "reason": reason})

    def _append(self, *entries: Mapping[str, Any]) -> None:
        """Append lines; on disk when this returns, all of them or none.

        Raises
        ------
        DiskError
            If the file system takes nothing more.
        """
        self.check()
        lines = b"".join(_line(entry) for entry in entries)
        before = os.fstat(self._file).st_size
        try:
            while lines:  # a full disk takes a part, and says no to the next
                lines = lines[os.write(self._file, lines) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise disk_error(error, self.path) or error from error
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        """Take in what a line says: nothing of it where it is not whole."""
        if "ledger" in entry:
            if int(entry["ledger"]) > VERSION:
                raise OutputError(f"{self.path}: was written by a newer version of pyama_dask. Fix: use that one")
        elif entry.keys() & {"done", "void", "kept", "failed"}:
            self._take_steps(entry)
        elif "documents" in entry:
            self._take_documents(entry["documents"])
        elif "claim" in entry:
            self._take_names([_inside(str(name)) for name in entry["claim"]])
        elif "movie" in entry:
            self.movie = {name: str(entry["movie"][name]) for name in ("identity", "first")}
            self.doubts = {}
        elif "doubt" in entry:
            self.doubts |= dict.fromkeys(map(int, entry["doubt"]), str(entry["reason"]))
        else:
            raise KeyError("no kind of entry")

    def _take_steps(self, entry: Mapping[str, Any]) -> None:
        """Take in what became of the steps of tasks."""
        if "done" in entry:
            self._take_receipt(entry["done"])
        elif "void" in entry:
            self._take_back(entry["void"])
        elif "kept" in entry:
            for key, step, digest in [
                (key, step, str(d)) for key, of in entry["kept"].items() for step, d in of.items()
            ]:
                if step in self.done.get(key, {}):
                    self.done[key][step] = digest
        else:
            key, failure, steps = str(entry["failed"]), Failure(entry["cause"], str(entry["reason"])), {*entry["steps"]}
            self.failed[key], self._failed_steps[key] = failure, steps
            self.attempts[key] = self.attempts.get(key, 0) + 1

    def _take_back(self, void: Mapping[str, Any]) -> None:
        for key, step in [(str(key), step) for key, steps in void.items() for step in [*steps]]:
            recorded = (self.done, self.warnings, self.files, self.notes, self.local, self.wide, self.provides)
            for held in (*recorded, self.processors):
                held.get(key, {}).pop(step, None)

    def _take_documents(self, documents: Mapping[str, Any]) -> None:
        read = {_inside(path): None if of is None else (int(of[0]), int(of[1])) for path, of in documents.items()}
        self._take_names(folder for path in read if (folder := path.rpartition("/")[0]))
        for path, checksum in read.items():
            if checksum is None:
                self.documents.pop(path, None)
            else:
                self.documents[path] = (checksum, *self.documents.get(path, ())[:1])

    def _take_names(self, names: Iterable[str]) -> None:
        for name in names:
            self.claimed.setdefault(_first(name), set()).add(name)

    def _take_receipt(self, receipt: Mapping[str, Any]) -> None:
        key, digests = str(receipt["key"]), dict(receipt["digests"])
        notes = {step: dict(counts) for step, counts in receipt["notes"].items()}
        files = {
            step: {_inside(path): (int(size), int(crc)) for path, (size, crc) in of.items()}
            for step, of in receipt["files"].items()
        }
        warnings = {step: [str(text) for of, text in receipt["warnings"] if of == step] for step in digests}
        local, wide, provides = (
            dict(receipt.get(name, {})) for name in ("local", "wide", "provides")
        )  # version 1 has none
        fov, cost = parse_key(key).fov, Cost.of(receipt)
        group = tuple(int(member) for member in receipt.get("group", ()))
        frames_read = [int(crc) for crc in receipt.get("frames_read", ())]
        self._take_names(_owner(path) for of in files.values() for path in of)
        self.done.setdefault(key, {}).update(digests)
        self.notes.setdefault(key, {}).update(notes)
        self.warnings.setdefault(key, {}).update(warnings)
        self.files.setdefault(key, {}).update(files)
        self.local.setdefault(key, {}).update(local)
        self.wide.setdefault(key, {}).update(wide)
        self.provides.setdefault(key, {}).update(provides)
        former = {step: kind for step, kind in self.processors.get(key, {}).items() if step not in digests}
        self.processors[key] = former | dict(receipt.get("processors", {}))
        if group:
            self.groups[key] = group
        for member in group or (fov,):
            self._of_fov.setdefault(member, set()).add(key)
        if frames_read:
            self.frames_read[key] = frames_read
        self.costs.append(cost)
        if self._failed_steps.get(key, set()) <= digests.keys():
            self.failed.pop(key, None)
            self.attempts.pop(key, None)


def _owner(path: str) -> str:
    """Name that a recorded file claims: the array of a shard, else its own."""
    folder, _, name = path.rpartition("/")
    return folder if name.startswith("c.") else path


def _first(name: str) -> str:
    return name.partition("/")[0]


def _line(entry: Mapping[str, Any]) -> bytes:
    """Encode an entry, and seal it with the checksum of all that stands before the seal."""
    content = json.dumps(entry, separators=(",", ":")).encode()[:-1]
    return content + b',"crc":"%08x"}\n' % google_crc32c.value(content)


def _needs_seal(entry: Mapping[str, Any]) -> bool:
    return "crc" in entry or entry.get("ledger", 1) != 1


def _inside(path: str) -> str:
    """Refuse a path that leads out of the output directory."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path}: leads out of the output directory")
    return path
