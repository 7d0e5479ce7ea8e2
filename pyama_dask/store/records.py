"""Records of FOVs: what the lines of a ledger say of the steps of their tasks, of their names and their documents."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from pyama_dask.workflow.graph import Step
from pyama_dask.workflow.task import WORK, fov_name, parse_key

Checksum = tuple[int, int]
"""Size in bytes and CRC-32C of a file."""
Documents = dict[str, tuple[Checksum, ...]]
"""Checksums of the files that the driver writes, by path in the output: the latest, and the one before it.

A document is recorded before it is written, so that after a crash the file may still be the one before.
"""
_FOLDER = re.compile(r"fov_(\d{3,})")


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


@dataclass(slots=True)
class Record:
    """Recorded steps of a task."""

    done: dict[Step, str] = field(default_factory=dict)
    """Digest of every recorded step."""
    notes: dict[Step, dict[str, int]] = field(default_factory=dict)
    """Counts of every recorded step."""
    warnings: dict[Step, list[str]] = field(default_factory=dict)
    """Warnings of every recorded step."""
    files: dict[Step, dict[str, Checksum]] = field(default_factory=dict)
    """Size and CRC-32C of every file that a recorded step wrote, by path in the output."""
    local: dict[Step, str] = field(default_factory=dict)
    """Digests of what recorded steps were made from, but for what is in `wide`; see `Task.local`."""
    wide: dict[Step, str] = field(default_factory=dict)
    """Digests of what these steps have read from wider parts, or from all blocks."""
    provides: dict[Step, dict[str, list[str]]] = field(default_factory=dict)
    """Digests, one per block, of what parts on blocks read from recorded steps of FOVs, by name of the part."""
    processors: dict[Step, str] = field(default_factory=dict)
    """Kinds of processors that made recorded steps whose results depend on it."""
    frames_read: list[int] = field(default_factory=list)
    """CRC-32C of every frame that the task read from the movie; older versions have none."""

    @classmethod
    def of(cls, receipt: Mapping[str, Any]) -> Self:
        """Read a recorded receipt; one of version 1 lacks some of its items."""
        digests = dict(receipt["digests"])
        notes = {step: dict(counts) for step, counts in receipt["notes"].items()}
        files = {
            step: {inside(path): (int(size), int(crc)) for path, (size, crc) in of.items()}
            for step, of in receipt["files"].items()
        }
        warnings = {step: [str(text) for of, text in receipt["warnings"] if of == step] for step in digests}
        local, wide, provides, processors = (
            dict(receipt.get(name, {})) for name in ("local", "wide", "provides", "processors")
        )
        frames_read = [int(crc) for crc in receipt.get("frames_read", ())]
        return cls(digests, notes, warnings, files, local, wide, provides, processors, frames_read)

    @property
    def paths(self) -> Iterator[str]:
        """Files that its steps wrote, by path in the output."""
        return (path for of in self.files.values() for path in of)

    def authors(self, paths: Collection[str]) -> set[Step]:
        """Steps that wrote any of these files."""
        return {step for step, files in self.files.items() if not files.keys().isdisjoint(paths)}

    def update(self, later: Record) -> None:
        """Take in a later receipt of the task."""
        for step in self.processors.keys() & later.done:
            del self.processors[step]
        for mine, new in zip(self._by_step, later._by_step, strict=True):
            mine.update(new)
        self.frames_read = later.frames_read or self.frames_read

    def take_back(self, steps: Iterable[Step]) -> None:
        """Forget steps."""
        for step in steps:
            for of in self._by_step:
                of.pop(step, None)

    @property
    def _by_step(self) -> tuple[dict[Step, Any], ...]:
        return (
            self.done, self.notes, self.warnings, self.files, self.local, self.wide, self.provides, self.processors
        )  # fmt: skip


class FovRecords:
    """Records of a FOV."""

    def __init__(self) -> None:
        self.tasks: dict[str, Record] = {}
        """Records by task key; those of a well or plate are in those of its last FOV."""
        self.documents: Documents = {}
        self._names: set[str] = set()
        self._written: list[Iterable[str]] = []
        """Files of receipts whose names are not among the names yet: these are seldom asked for, and take long."""
        self._folder = ""

    @property
    def names(self) -> set[str]:
        """Names in its folder that runs have created, or were about to, by path in the output."""
        self._names |= {name for files in self._written for name in owners(files) if first(name) == self._folder}
        self._written.clear()
        return self._names

    def take(self, fov: int, entry: Mapping[str, Any], record: Record | None = None) -> None:
        """Take in what an entry of the ledger says of a FOV; the entry may be about others, too.

        `record` is that of its receipt, if it is known.
        """
        self._folder = fov_name(fov)
        if "done" in entry:
            key, record = str(entry["done"]["key"]), record or Record.of(entry["done"])
            self._written += record.files.values()
            if parse_key(key).fov == fov and self.tasks.setdefault(key, record) is not record:
                self.tasks[key].update(record)
        for key, steps in entry.get("void", {}).items():
            if key in self.tasks:
                self.tasks[key].take_back(steps)
        for key, digests in entry.get("kept", {}).items():
            if key in self.tasks:
                done = self.tasks[key].done
                done.update({step: str(digest) for step, digest in digests.items() if step in done})
        self._names |= {name for name in entry.get("claim", ()) if fov_of_path(name) == fov}
        mine = {path: of for path, of in entry.get("documents", {}).items() if fov_of_path(path) == fov}
        self._names |= folders_of(mine)
        take_documents(self.documents, mine)


def take_documents(known: Documents, written: Mapping[str, Sequence[int] | None]) -> None:
    """Take in checksums of documents; None for a removed one."""
    for path, of in written.items():
        if of is None:
            known.pop(path, None)
        else:
            known[path] = ((int(of[0]), int(of[1])), *known.get(path, ())[:1])


def owners(paths: Iterable[str]) -> set[str]:
    """Names that recorded files claim: the arrays of shards, else their own."""
    names = set[str]()
    for path in paths:
        folder, _, name = path.rpartition("/")
        names.add(folder if name.startswith("c.") else path)
    return names


def folders_of(paths: Iterable[str]) -> set[str]:
    """Folders of documents, which belong to a run like them."""
    return {folder for path in paths if (folder := path.rpartition("/")[0])}


def first(name: str) -> str:
    """First part of a path."""
    return name.partition("/")[0]


def fov_of_path(path: str) -> int | None:
    """FOV in whose folder a path is; None for others."""
    return _fov_of_folder(first(path))


@lru_cache(maxsize=2**10)
def _fov_of_folder(name: str) -> int | None:
    found = _FOLDER.fullmatch(name)
    return int(found[1]) if found and fov_name(int(found[1])) == name else None


def is_kept(name: str) -> bool:
    """Check whether a name is asked for: what is in `WORK` is a run's own anyway."""
    return first(name) != WORK


def inside(path: str) -> str:
    """Refuse a path that leads out of the output directory."""
    if path.startswith("/") or (".." in path and ".." in path.split("/")):
        raise ValueError(f"{path}: leads out of the output directory")
    return path
