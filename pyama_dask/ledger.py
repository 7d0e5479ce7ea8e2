"""The ledger: an append-only record of what is done, that only the driver writes.

One JSON object a line. The first says which version wrote it; then ``done`` lines hold receipts, ``void`` lines take
steps back before their files are overwritten, ``failed`` lines hold reasons. A line counts when its newline is on disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pyama_dask.errors import OutputError
from pyama_dask.tasks import Receipt, Step, Task, fov_key

VERSION = 1


class Ledger:
    """What is recorded as done in an output directory.

    Use as a context manager to write to it; reading needs none.

    Parameters
    ----------
    path
        The file, ``.pyama_dask/ledger.jsonl``; need not exist.

    Raises
    ------
    OutputError
        If a newer version of the package wrote it, or it is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[Step, str]] = {}
        """Digest of every recorded step, by task key."""
        self.notes: dict[str, dict[str, int]] = {}
        self.warnings: dict[str, dict[Step, list[str]]] = {}
        """What every recorded step had to say, by task key."""
        self.files: dict[str, dict[str, tuple[int, int]]] = {}
        """Size and CRC-32C of every file that a task wrote, by task key and path."""
        self.failed: dict[str, str] = {}
        """Reason by key of the tasks that failed when they were last tried."""
        self.attempts: dict[str, int] = {}
        self.seconds: list[float] = []
        """How long every recorded task took."""
        self._of_fov: dict[str, set[str]] = {}
        self._file = -1
        for number, line in enumerate(_whole_lines(path), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise OutputError(
                    f"{path}, line {number}: is not a line of a ledger; move the file away to start the output anew"
                ) from error

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        content = self.path.read_bytes()
        os.ftruncate(self._file, content.rfind(b"\n") + 1)  # a torn last line never counted
        if b"\n" not in content:
            self._append({"ledger": VERSION})
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def has(self, key: str, step: Step, digest: str) -> bool:
        """Whether a step of a task is recorded as done with this digest."""
        return self.done.get(key, {}).get(step) == digest

    def record(self, *receipts: Receipt) -> None:
        """Record what tasks did; on disk when this returns."""
        if receipts:
            self._append(*({"done": vars(receipt)} for receipt in receipts))

    def void(self, steps: Mapping[str, Iterable[Step]]) -> None:
        """Take recorded steps back, by task key, as their files are about to be overwritten."""
        recorded = {key: [step for step in of if step in self.done.get(key, {})] for key, of in steps.items()}
        if taken := {key: of for key, of in recorded.items() if of}:
            self._append({"void": taken})

    def outdated(self, fov: int, tasks: Iterable[Task]) -> dict[str, set[Step]]:
        """Steps of a FOV, by task key, that are recorded with other settings than its tasks now have."""
        wanted = {task.key: task.digests for task in tasks}
        mine = self._of_fov.get(fov_key(fov), set())
        other = {key: {s for s, d in self.done[key].items() if wanted.get(key, {}).get(s) != d} for key in mine}
        return {key: steps for key, steps in other.items() if steps}

    def fail(self, key: str, reason: str) -> None:
        """Record a failed attempt at a task."""
        self._append({"failed": key, "reason": reason})

    def _append(self, *entries: Mapping[str, Any]) -> None:
        lines = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)
        before = os.fstat(self._file).st_size
        try:
            while lines:  # a full disk takes a part, and says no to the next
                lines = lines[os.write(self._file, lines) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "ledger" in entry:
            if entry["ledger"] > VERSION:
                raise OutputError(f"{self.path}: was written by a newer version of pyama_dask; use that one")
        elif "done" in entry:
            receipt = entry["done"]
            key = receipt["key"]
            self.done.setdefault(key, {}).update(receipt["digests"])
            self.notes.setdefault(key, {}).update(receipt["notes"])
            said = self.warnings.setdefault(key, {})
            said |= {step: [words for of, words in receipt["warnings"] if of == step] for step in receipt["digests"]}
            self.files.setdefault(key, {}).update({path: tuple(of) for path, of in receipt["files"].items()})
            self._of_fov.setdefault(key.split("-")[1], set()).add(key)
            self.seconds.append(receipt["seconds"])
            self.failed.pop(key, None)
            self.attempts.pop(key, None)
        elif "void" in entry:
            for key, steps in entry["void"].items():
                for step in steps:
                    self.done.get(key, {}).pop(step, None)
                    self.warnings.get(key, {}).pop(step, None)
        elif "failed" in entry:
            self.failed[entry["failed"]] = entry["reason"]
            self.attempts[entry["failed"]] = self.attempts.get(entry["failed"], 0) + 1
        else:
            raise KeyError("no kind of entry")


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
