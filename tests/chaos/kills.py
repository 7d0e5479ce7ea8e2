"""Runs that are killed at any moment, again and again, against runs that nobody disturbs."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyama_dask
from chaos.cases import CASES, Case
from chaos.compare import compare, left_to_do, outputs_in, what_a_reader_meets, wrong_records
from chaos.processes import LEAVING, Blow, Start
from chaos.table import Table

COLUMNS = ("movie, settings", "kills", "restarts", "arrays", "tables", "records", "differences")
GRACEFUL = {"term": signal.SIGTERM, "interrupt": signal.SIGINT}
DEADLY = {"driver": signal.SIGKILL, "group": signal.SIGKILL, "hup": signal.SIGHUP}
WORKER = ("worker", "starting worker", "server of workers")
RANDOM = ("driver", *WORKER, "group", "interrupt", "interrupt then kill", "term", "hup")
"""Kinds of kill that come from without, at random moments."""
ENDS = {0, 130, *(-number for number in GRACEFUL.values()), 1}
"""Exit statuses after a signal that asks; negative ones and 1 where it came before the run had begun."""


@dataclass(frozen=True)
class Kill:
    """One kill: of a kind from without at a random moment, or a blow from within at a chosen one."""

    kind: str
    blow: Blow | None = None
    at_once: bool = False
    """Whether the next start does not wait until the killed one's processes are gone."""


def aimed(moment: str, number: int = 1, action: str = "self") -> Kill:
    """A kill at a chosen moment."""
    return Kill(f"at {moment}", Blow(moment, number, action))


@dataclass
class Chain:
    """One movie and settings: run under kills until nothing is left of them, and compared whenever a run completes.

    Parameters
    ----------
    case
        The movie and settings.
    folder
        For the movie, the outputs and what processes say.
    kills
        In their order; one that comes after the run's end is tried again on a fresh output.
    seed
        Of the random moments.
    """

    case: Case
    folder: Path
    kills: Iterable[Kill]
    seed: int = 0
    done: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self) -> Chain | None:
        """Do all of it; None where the movie is not at hand."""
        self.folder.mkdir(parents=True)
        movie = self.case.movie(self.folder)
        if movie is None:
            return None
        self.rng, self.output, self.kills = random.Random(self.seed), self.folder / "out", deque(self.kills)
        self.config = self.case.config(self.folder / "run.yaml", movie, self.output)
        with ThreadPoolExecutor() as self.watchers:
            self.watched: list[Future[None]] = []
            if not self._refer(movie):
                return self
            self._begin()
            self._disturb(deque(self.kills))
            for watched in self.watched:
                watched.result(3 * LEAVING)
        return self

    def row(self) -> tuple[object, ...]:
        """For the table."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.done.items()))
        found = self.compared
        return (self.case.name, f"{self.done.total()}: {kinds}", self.restarts, found["arrays"], found["tables"],
                found["records"], self.differing)  # fmt: skip

    def _refer(self, movie: Path) -> bool:
        """Make the reference, and learn how long a run takes and when it begins to write."""
        self.reference, self.earlier = self.folder / "reference", None
        config = self.case.config(self.folder / "reference.yaml", movie, self.reference)
        if self.case.before is not None:
            self.earlier = self.folder / "earlier"
            first = self.case.config(self.folder / "earlier.yaml", movie, self.earlier, self.case.before)
            if not self._undisturbed(first):
                return False
        if not self._undisturbed(config):
            return False
        reports = [output / ".pyama_dask" / "report.json" for output in outputs_in(self.reference)]
        lasted = sum(json.loads(report.read_bytes())["seconds"] for report in reports)
        self.began = max(0.0, self.duration - lasted)
        return True

    def _undisturbed(self, config: Path) -> bool:
        if all(kill.blow for kill in self.kills):  # how long it takes does not matter: in this process
            self.duration, report = 0.0, pyama_dask.run(config)
            return report.exit_status == 0
        start = Start(config, self.folder / "said")
        status = start.wait()
        self.duration = time.monotonic() - start.began
        if status != 0:
            self._problem(start, f"an undisturbed run ended with {status}: {start.error[-500:]}")
        start.end()
        return status == 0

    def _begin(self) -> None:
        """Have a fresh output."""
        shutil.rmtree(self.output, ignore_errors=True)
        if self.earlier:
            shutil.copytree(self.earlier, self.output)

    def _disturb(self, kills: deque[Kill]) -> None:
        late = 0
        while kills:
            kill = kills[0]
            start = Start(self.config, self.folder / "said", kill.blow)
            try:
                hit, status = self._strike(start, kill, 0.8**late)
            except BaseException:
                start.end()
                raise
            said = "struck" if hit else "not struck"
            print(f"{self.case.name}: {kill.kind}, {said}, ended with {status}", file=sys.stderr, flush=True)
            if hit:
                self.done[kill.kind] += 1
                kills.popleft()
            if status == 0:
                self._compare(start)
            late = 0 if hit else late + 1
            if late > 7:
                self._problem(start, f"{kill.kind} was never reached")
                kills.popleft()
                late = 0
            if not hit or status == 0:
                self._begin()  # the output is complete, or cannot be gone on with, which is a problem by now
            self.restarts += 1
        if self.output.exists():
            start = Start(self.config, self.folder / "said")
            self._ended(start, start.wait(), {0})
            self._compare(start)

    def _strike(self, start: Start, kill: Kill, sooner: float) -> tuple[bool, int | None]:
        """Kill a start; gives whether the kill came before its end, and its exit status."""
        if kill.blow:
            status = start.wait()
            hit = start.struck is not None
            killed = hit and (kill.blow.action == "group" or status != 0)
            self._ended(start, status, {-signal.SIGKILL} if killed else {0})
            return hit, status
        moment = self.rng.uniform(0.8 * self.began, self.duration) * sooner
        if kill.kind == "starting worker":
            moment = 0.0
        if (status := start.wait(moment)) is not None:
            self._ended(start, status, {0})
            self.duration = min(self.duration, time.monotonic() - start.began)
            return False, status
        sockets = start.sockets()
        if kill.kind in WORKER:
            hit = self._kill_worker(start, kill.kind)
            status = start.wait()
            self._ended(start, status, {0})
        elif kill.kind in DEADLY:
            hit = True
            start.send(DEADLY[kill.kind], group=kill.kind == "group")
            status = start.wait(LEAVING)
            number = DEADLY[kill.kind]
            self._ended(start, status, {-number, 130}, sockets, at_once=kill.at_once)
        else:
            hit = True
            start.send(GRACEFUL.get(kill.kind, signal.SIGINT), group=kill.kind.startswith("interrupt"))
            status = start.wait(self.rng.uniform(0, 1) if kill.kind == "interrupt then kill" else LEAVING)
            if status is None and kill.kind == "interrupt then kill":
                start.send(signal.SIGKILL, group=True)
                status = start.wait(LEAVING)
            self._ended(start, status, ENDS | {-signal.SIGKILL}, sockets)
        return hit, status

    def _kill_worker(self, start: Start, kind: str) -> bool:
        """Kill a worker as soon as there is one, or some seconds later, or their server; gives whether it was there."""
        while not start.workers():
            if start.wait(0.02) is not None:
                return False
        later = self.rng.uniform(0, 1) if kind == "starting worker" else 0.0
        if start.wait(later) is not None:
            return False
        return start.kill_one_of(start.servers() if kind == "server of workers" else start.workers(), self.rng)

    def _ended(
        self, start: Start, status: int | None, wanted: set[int], sockets: set[str] = frozenset(), at_once: bool = False
    ) -> None:
        """Check how a start has ended, that nothing of it is left, and what it has left behind."""
        if status is None:
            self._problem(start, "hangs")
            start.end()
        elif status not in wanted:
            self._problem(start, f"ended with {status}, not {sorted(wanted)}: {start.error[-800:]}")
        if "Traceback" in start.error and (status in (0, 3, 130) or "Stopping" in start.error):
            self._problem(start, f"ended with {status} and a traceback: {start.error[-800:]}")
        if at_once:
            self.watched.append(self.watchers.submit(self._leaves, start, sockets))
            return
        self._leaves(start, sockets)
        for output in outputs_in(self.output):
            for found in (*wrong_records(output), *what_a_reader_meets(output)):
                self._problem(start, found)

    def _leaves(self, start: Start, sockets: set[str]) -> None:
        for found in start.left(sockets):
            self._problem(start, found)

    def _compare(self, start: Start) -> None:
        """Compare an output that is complete."""
        compared, found = compare(self.output, self.reference)
        self.compared += compared
        self.differing += len(found)
        for difference in (*found, *left_to_do(self.config)):
            self._problem(start, difference)

    def _problem(self, start: Start, what: str) -> None:
        blow = f", {start.blow.moment}:{start.blow.number}:{start.blow.action}" if start.blow else ""
        self.problems.append(f"{self.case.name}, seed {self.seed}, start {self.restarts}{blow}: {what}")


# --------------------------------------------------------------------------------------------- the long form

SERIAL_MOMENTS = [
    aimed("lock"), aimed("config"), aimed("plan"), aimed("create", 3), aimed("shard", 3), aimed("table", 2),
    aimed("torn", 2), aimed("record"), aimed("ledger", 2), aimed("recorded"), aimed("cancel"), aimed("crop", 4),
    aimed("cells"), aimed("parts", 2), aimed("traces"), aimed("report"),
]  # fmt: skip
"""All moments of a run with crops, in about the order in which a run comes to them."""


def kinds(rng: random.Random, case: Case, number: int) -> list[Kill]:
    """Kills from without, of every kind in turn, in another order for every case."""
    of = [kind for kind in RANDOM if case.local or kind not in WORKER]
    rng.shuffle(of)
    return [Kill(kind, at_once=k % 2 == 0) for k, kind in enumerate((of * number)[:number])]


def schedule(case: Case, seed: int) -> Sequence[Kill]:
    """Kills of a case in the long form."""
    rng = random.Random(seed)
    if case.kills:
        return kinds(rng, case, case.kills)
    with_crops = "channels" not in case.changes and not case.changes.get("params.copy_only")
    with_crops &= case.changes.get("storage", {}).get("cells") != "off"
    blows: list[Kill] = []
    if case.before is not None:
        blows = [aimed("void"), aimed("discard", 2), aimed("create", 2), aimed("void"), aimed("shard", 2)]
    elif case.local:
        blows = [aimed("shard", 5), aimed("record", 3, "group"), aimed("shard", 4, "group"), aimed("torn", 3, "group")]
        blows += [aimed("crop", 3, "group"), aimed("cells")] * with_crops
    elif case.name == "small ND2, serial" or case.changes.get("storage.direct_io") == "on":
        blows = SERIAL_MOMENTS
    return [*blows, *kinds(rng, case, 3 if case.local else 4)]


def measure(folder: Path) -> Table:
    """Run all cases, two at a time; see `Chain`."""
    table = Table(COLUMNS)
    chains = [Chain(case, folder / f"case{k}", schedule(case, k), seed=k) for k, case in enumerate(CASES)]
    with ThreadPoolExecutor(2) as pool:
        for chain in pool.map(Chain.run, chains):
            if chain is not None:
                table.rows.append(chain.row())
                table.problems += chain.problems
    return table
