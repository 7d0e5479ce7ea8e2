"""Runs whose disk is full, or becomes read-only, at any moment: they must end in words, lose nothing, and go on.

The disk is a small tmpfs in a mount namespace of its own, which needs the right to make one: `unshare -rm`. All mounts
are gone when the process in it ends.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.cases import CASES, Case
from chaos.compare import compare, left_to_do, wrong_records
from chaos.processes import HANGS, Blow, Start
from chaos.table import Table

COLUMNS = (
    "disk",
    "ended with",
    "after the disk was full",
    "records found right",
    "arrays, tables, records",
    "differences",
)
NAMESPACE = ["unshare", "--map-root-user", "--mount"]
ENDING = 30.0
"""Seconds within which a run must have ended after its disk was full."""
PLENTY = 2**29
"""Bytes of a disk on which everything fits."""
AMOUNT = r"\d(\.\d+)? ?([KMGT]i?)?B\b|\d bytes"


@dataclass(frozen=True)
class Trouble:
    """What happens to the disk.

    Parameters
    ----------
    name
        For the table.
    blow
        What takes the space, or the right to write, at a chosen moment; None where it is small from the beginning.
    share
        How large the disk is, as a share of what the finished output takes.
    free
        Bytes that are free at the beginning; None for all.
    """

    name: str
    blow: Blow | None = None
    share: float = 8.0
    free: int | None = None

    @property
    def harmless(self) -> bool:
        """Whether all results are there by then: only the report of the run is missing."""
        return self.blow is not None and self.blow.moment == "report"

    @property
    def refused(self) -> bool:
        """Whether the run can be seen to not fit before it starts."""
        return self.share <= 0.1 or self.free is not None


def full_at(moment: str, number: int = 1) -> Trouble:
    """A disk that somebody else fills at a chosen moment."""
    return Trouble(f"full at {moment} {number}", Blow(moment, number, "fill"))


def read_only_at(moment: str, number: int = 1) -> Trouble:
    """A disk that becomes read-only at a chosen moment."""
    return Trouble(f"read-only at {moment} {number}", Blow(moment, number, "readonly"))


FULL = Trouble("full before the start", free=0)
SHORT = [FULL, full_at("shard", 4)]
LONG = [
    FULL,
    *(Trouble(f"{share:.0%} of what is needed", share=share) for share in (0.05, 0.3, 0.5, 0.7, 0.85, 0.95)),
    full_at("config"), full_at("create", 3), full_at("shard"), full_at("shard", 9), full_at("table", 2),
    full_at("ledger", 2), full_at("record", 4), full_at("crop", 3), full_at("cells"), full_at("traces"),
    full_at("report"),
    read_only_at("create", 3), read_only_at("shard", 4), read_only_at("ledger", 3), read_only_at("crop", 3),
]  # fmt: skip


# ------------------------------------------------------------------------------------------- in a namespace


def unavailable() -> str | None:
    """Why no small disk can be made here; None where it can."""
    if shutil.which(NAMESPACE[0]) is None:
        return "there is no 'unshare' here"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            [*NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    return f"no file system may be mounted here: {tried.stderr.strip()}" if tried.returncode else None


def measure(folder: Path, which: str = "long") -> Table:
    """Do all troubles in a mount namespace; an empty table with a word where that is not allowed."""
    if why := unavailable():
        return Table(COLUMNS, [(f"skipped: {why}", *[""] * (len(COLUMNS) - 1))])
    command = [*NAMESPACE, sys.executable, "-m", "chaos.disk", str(folder), which]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = subprocess.run(command, stdout=subprocess.PIPE, env=dict(os.environ) | {"PYTHONPATH": path}, check=False)
    if told.returncode:
        return Table(COLUMNS, [], [f"the harness itself ended with {told.returncode}"])
    return Table(**json.loads(told.stdout))


# --------------------------------------------------------------------------------------------- in it


class Disk:
    """A tmpfs, mounted at a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def mount(self, size: int) -> None:
        """Begin with an empty disk."""
        _mount("-t", "tmpfs", "-o", f"size={-(-size // 4096) * 4096}", "tmpfs", self.path)

    def unmount(self) -> None:
        """Forget it."""
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def make_space(self) -> None:
        """Make it large, empty but for the output, and writable."""
        while Path("/proc/self/mounts").read_text().count(f" {self.path} ") > 1:
            self.unmount()
        _mount("-o", f"remount,rw,size={PLENTY}", self.path)
        (self.path / "filler").unlink(missing_ok=True)

    def leave(self, free: int) -> None:
        """Take all the space but so many bytes."""
        with (self.path / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.path).free - free))


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def taken(output: Path) -> int:
    """Bytes that a directory takes on a disk with blocks of 4 KiB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in output.rglob("*") if path.is_file())


class Trials:
    """One movie and settings on a troubled disk, again and again."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder, self.table = case, folder, Table(COLUMNS)
        folder.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(folder / "disk")
        movie = case.movie(folder)
        assert movie is not None
        self.movie, self.output, self.reference = movie, self.disk.path / "out", folder / "reference"
        self.config = case.config(folder / "run.yaml", movie, self.output)
        self._go(Start(case.config(folder / "reference.yaml", movie, self.reference), folder / "said"), "reference")
        self.needed = taken(self.reference)

    def run(self, troubles: Iterable[Trouble]) -> Table:
        """Do one after the other."""
        for trouble in troubles:
            self.disk.mount(int(self.needed * trouble.share))
            try:
                self._try(trouble)
            finally:
                with suppress(subprocess.CalledProcessError):
                    while Path("/proc/self/mounts").read_text().count(f" {self.disk.path} "):
                        self.disk.unmount()
        return self.table

    def _try(self, trouble: Trouble) -> None:
        if trouble.free is not None:
            self.disk.leave(trouble.free)
        start = Start(self.config, self.folder / "said", trouble.blow, mount=self.disk.path)
        status, lasted = self._wait(start)
        for found in self._said(trouble, start, status):
            self._problem(trouble, found)
        if lasted > ENDING:
            self._problem(trouble, f"took {lasted:.0f} s to end after the disk was full")
        records = self._records(trouble)
        for found in start.left(set()):
            self._problem(trouble, found)
        start.end()
        self.disk.make_space()
        self._go(Start(self.config, self.folder / "said"), trouble.name)
        compared, different = compare(self.output, self.reference)
        for found in (*different, *left_to_do(self.config)):
            self._problem(trouble, found)
        counts = ", ".join(str(compared[kind]) for kind in ("arrays", "tables", "records"))
        self.table.rows.append((trouble.name, str(status), f"{lasted:.1f} s", records, counts, len(different)))
        print(f"disk: {trouble.name}: ended with {status}", file=sys.stderr, flush=True)

    def _wait(self, start: Start) -> tuple[int | None, float]:
        """Exit status, and the seconds since the disk was full; of a disk that is too small, since nothing changed."""
        status = start.wait(HANGS)
        ended = time.time()
        if start.struck:
            return status, ended - start.struck
        changed = [path.stat().st_mtime for path in self.output.glob("**/*") if path.name not in ("log.txt", "lock")]
        return status, ended - max(changed, default=ended)

    def _said(self, trouble: Trouble, start: Start, status: int | None) -> list[str]:
        """What is not as it must be in how a run ended."""
        wanted = 0 if trouble.harmless else 2 if trouble.refused else 4
        messages = [line for line in start.error.splitlines() if line.startswith("pyama-dask: ")]
        found = [] if status == wanted else [f"ended with {status}, not {wanted}"]
        if trouble.blow and start.struck is None:
            found.append("the moment was never reached")
        if len(messages) != (not trouble.harmless):
            found.append(f"{len(messages)} messages")
        elif trouble.harmless:
            pass
        elif str(self.output) not in messages[0]:
            found.append(f"the message does not name {self.output}: {messages[0]}")
        elif "read-only" not in trouble.name and not re.search(AMOUNT, messages[0]):
            found.append(f"the message does not say how much is needed and free: {messages[0]}")
        if "Traceback" in start.error:
            found.append("a traceback")
        return [f"{what}; it said: {start.error[-600:]!r}" for what in found[:1]] + found[1:]

    def _records(self, trouble: Trouble) -> str:
        if not self.output.exists():
            return "none"
        wrong = wrong_records(self.output)
        for found in wrong:
            self._problem(trouble, found)
        return "some are wrong" if wrong else "all"

    def _go(self, start: Start, what: str) -> None:
        status = start.wait()
        if status != 0:
            self.table.problems.append(f"{what}: with space, it ended with {status}: {start.error[-500:]}")
        start.end()

    def _problem(self, trouble: Trouble, what: str) -> None:
        self.table.problems.append(f"{self.case.name}, {trouble.name}: {what}")


def main() -> None:
    """Do the troubles that are asked for, in a folder; print the table as JSON."""
    folder, which = Path(sys.argv[1]), sys.argv[2]
    serial, local = (next(case for case in CASES if case.local is wanted) for wanted in (False, True))
    direct = next(case for case in CASES if case.changes.get("storage.direct_io") == "on")
    tables = []
    if which == "short":
        tables.append(Trials(direct, folder / "serial").run(SHORT))
    else:
        few = random.Random(0).sample(LONG, 6)
        tables += [Trials(case, folder / "serial" / str(k)).run(LONG) for k, case in enumerate((serial, direct))]
        tables.append(Trials(local, folder / "local").run(few))
    rows = [row for table in tables for row in table.rows]
    problems = [problem for table in tables for problem in table.problems]
    print(json.dumps({"columns": COLUMNS, "rows": rows, "problems": problems}))


if __name__ == "__main__":
    main()
