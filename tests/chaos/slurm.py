"""Runs on a real Slurm whose jobs are killed, whose driver is killed and whose controller goes away.

``make chaos-slurm`` is the long form; ends with status 1 when anything is lost or wrong, or takes longer than it may.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support import slurm
from support.movies import as_czi, config, differences, pixels, products, put_in_wells, write_config

import pyama_dask
from chaos.cases import PIPELINES
from chaos.compare import wrong_records
from chaos.processes import Start
from chaos.table import Table, print_tables
from pyama_dask.runs.status import LEDGER

COLUMNS = ("on Slurm, 4 nodes", "what was done to it", "seconds", "tasks", "attempts", "replaced within", "differences")
JOBS = {
    "kind": "slurm", "cores": 1, "memory": "1500MiB", "walltime": "00:10:00", "interface": "lo",
    "dashboard": "127.0.0.1:0", "directives": ["--requeue"],
}  # fmt: skip
REPLACED = 15.0
"""Seconds within which a job that was lost must have been submitted anew."""
PATIENCE = 900.0
"""Seconds after which a run is taken to hang."""
PLUGIN = '''
import os, subprocess, sys, time

def wait(frame):
    """Take some time; once, where a file says so, take more memory than the job has, in a process of its own."""
    time.sleep({seconds})
    try:
        os.remove({hog!r})
    except OSError:
        return frame
    subprocess.Popen([sys.executable, "-c", "import time; x = bytearray(3 << 30); time.sleep(60)"])
    time.sleep(30)
    return frame
'''


@dataclass
class Night:
    """A movie, its undisturbed results, and a run on a queue of which things are done to.

    Parameters
    ----------
    name
        For the table.
    folder
        For the movie, the outputs, and what processes say.
    queue
        The Slurm that it runs on.
    movie
        Of `support.movies.pixels`.
    changes
        Of the config.
    seconds
        That each frame takes longer.
    wells
        Of the FOVs; none if it is empty.
    """

    name: str
    folder: Path
    queue: slurm.Slurm
    movie: Mapping[str, Any]
    changes: Mapping[str, Any]
    seconds: float = 0.0
    wells: Sequence[str] = ()
    done: Counter[str] = field(default_factory=Counter)
    replaced: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the movie and the reference."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hog, self.output = self.folder / "hog", self.folder / "out"
        movie = as_czi(self.folder / "movie.czi", pixels(**self.movie))
        if self.wells:
            put_in_wells(movie, self.wells)
        plugin = self.folder / "slow.py"
        plugin.write_text(PLUGIN.format(seconds=0.0, hog=str(self.hog)))
        with_plugin = {"params.preprocess": [f"{plugin}:wait"]}
        serial = {name: value for name, value in self.changes.items() if name != "cluster"}
        self.reference = self.folder / "reference"
        assert pyama_dask.run(config(movie, self.reference, with_plugin | serial)).exit_status == 0
        plugin.write_text(PLUGIN.format(seconds=self.seconds, hog=str(self.hog)))
        self.config = write_config(
            self.folder / "run.yaml", config(movie, self.output, with_plugin | dict(self.changes))
        )

    def start(self) -> Start:
        """Start the driver."""
        return Start(self.config, self.folder / "said")

    def jobs(self, *states: str) -> list[int]:
        """Numbers of its jobs."""
        return sorted(map(int, self.queue.jobs(*states)))

    def strike(self, kind: str, how: Callable[[str], None], start: Start) -> None:
        """Do something to a random job that runs, and see how long it takes until another one is submitted."""
        until = time.monotonic() + 60
        while not (running := self.jobs("RUNNING")):
            if start.process.poll() is not None or time.monotonic() > until:
                return
            time.sleep(0.2)
        last = self.jobs()[-1]
        job = str(self.rng.choice(running))
        how(job)
        began = time.monotonic()
        self.done[kind] += 1
        while set(running) <= set(self.jobs("RUNNING", "COMPLETING")) and start.process.poll() is None:
            time.sleep(0.2)  # a queue lets a job leave
        gone = time.monotonic()
        if kind in ("requeue", "node down"):
            return  # the job is the run's still, and begins again by itself
        while start.process.poll() is None:
            if self.jobs() and self.jobs()[-1] > last:
                self.replaced.append(time.monotonic() - gone)
                break
            if time.monotonic() - gone > 3 * REPLACED:
                self.problem(f"{kind}: job {job} was not replaced within {time.monotonic() - began:.0f} s")
                break
            time.sleep(0.2)

    def finish(self, start: Start) -> None:
        """Wait for the end, and hold all that is there against the reference."""
        status = start.wait(PATIENCE)
        if status != 0:
            self.problem(f"the run ended with {status}: {start.error[-1500:]}")
        start.end()
        self.compare()
        self.nothing_left()

    def compare(self) -> None:
        """Compare the output with the reference."""
        self.differing = differences(products(self.output), products(self.reference))
        for found in (*self.differing, *wrong_records(self.output)):
            self.problem(f"differs: {found}")

    def nothing_left(self, seconds: float = 20.0) -> None:
        """See that no job is left."""
        until = time.monotonic() + seconds
        while self.queue.jobs() and time.monotonic() < until:
            time.sleep(0.2)
        if left := self.queue.jobs():
            self.problem(f"jobs are left: {left}")

    def counts(self) -> tuple[int, int]:
        """Tasks, and attempts at them, by the ledger."""
        lines = [json.loads(line) for line in (self.output / LEDGER).read_text().splitlines()]
        done = [line["done"]["key"] for line in lines if "done" in line]
        return len(set(done)), len(done) + sum("failed" in line for line in lines)

    def problem(self, what: str) -> None:
        """Note what is not as it must be."""
        self.problems.append(f"{self.name}: {what}")

    def row(self, seconds: float) -> tuple[object, ...]:
        """For the table."""
        what = ", ".join(f"{number} {kind}" for kind, number in sorted(self.done.items())) or "nothing"
        tasks, attempts = self.counts()
        longest = f"{max(self.replaced):.1f} s ({len(self.replaced)} jobs)" if self.replaced else ""
        return self.name, what, f"{seconds:.0f}", tasks, attempts, longest, len(self.differing)

    rng = random.Random(0)


# ------------------------------------------------------------------------------------------------- nights


def disturbed(night: Night, kills: int, drivers: int, outages: int) -> tuple[object, ...]:
    """Kill jobs in every way there is, the driver, and the controller."""
    night.prepare()
    queue, began = night.queue, time.monotonic()
    ways: dict[str, Callable[[str], None]] = {
        "scancel": lambda job: queue.ask("scancel", job) and None,
        "scancel --signal=KILL": lambda job: queue.ask("scancel", "--full", "--signal=KILL", job) and None,
        "memory": lambda _: night.hog.touch(),
        "walltime": lambda job: queue.ask("scontrol", "update", f"JobId={job}", "TimeLimit=00:00:01") and None,
        "node down": lambda job: node_down(queue, job),
        "requeue": lambda job: queue.ask("scontrol", "requeue", job) and None,
    }
    order = [kind for _ in range(kills) for kind in ways][:kills]
    start = night.start()
    for number, kind in enumerate(order):
        if start.process.poll() is not None:
            night.problem(f"the run ended after {number} of {kills} kills")
            break
        time.sleep(night.rng.uniform(1, 4))
        night.strike(kind, ways[kind], start)
        if number in spread(kills, drivers):
            start.send(signal.SIGKILL)
            start.wait(10)
            night.done["driver killed"] += 1
            night.nothing_left()
            start = night.start()
        if number in spread(kills, outages, 0.7):
            queue.stop_controller()
            night.done["controller away"] += 1
            time.sleep(20)
            queue.start_controller()
    night.finish(start)
    return night.row(time.monotonic() - began)


def spread(of: int, count: int, first: float = 0.3) -> set[int]:
    """Moments in the middle of so many."""
    return {int(of * (first + 0.3 * k)) for k in range(count)}


def node_down(queue: slurm.Slurm, job: str) -> None:
    """Have the node of a job fail, and come back."""
    node = queue.ask("squeue", "--noheader", "--format=%N", "--jobs", job).strip()
    queue.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=chaos")
    time.sleep(1)
    queue.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")


def short_lived(night: Night) -> tuple[object, ...]:
    """Jobs that live about five tasks long."""
    night.prepare()
    began = time.monotonic()
    night.finish(night.start())
    tasks, attempts = night.counts()
    log = (night.output / ".pyama_dask" / "log.txt").read_text()
    night.done["jobs that reached their walltime"] = len(re.findall(r"job \d+ ended: walltime", log))
    if attempts > 1.3 * tasks:
        night.problem(f"{attempts} attempts at {tasks} tasks")
    return night.row(time.monotonic() - began)


def one_allocation(night: Night) -> tuple[object, ...]:
    """Scheduler, driver and workers in one job."""
    night.prepare()
    began = time.monotonic()
    program = Path(sys.executable).with_name("pyama-dask")
    script = night.folder / "job.sh"
    script.write_text(f"#!/bin/bash\nsrun --kill-on-bad-exit=1 {program} run {night.config}\n")
    said = night.folder / "said.txt"
    night.queue.ask("sbatch", "--ntasks=4", "--mem-per-cpu=1200M", "--time=10", f"--output={said}", str(script))
    night.nothing_left(PATIENCE)
    if "Finished after" not in said.read_text():
        night.problem(f"the job said: {said.read_text()[-1500:]}")
    night.compare()
    return night.row(time.monotonic() - began)


def measure(folder: Path, queue: slurm.Slurm) -> Table:
    """All nights of the long form."""
    table = Table(COLUMNS)
    large = {"fovs": 12, "frames": 60, "shape": (256, 256), "cells": 8}
    small = {"fovs": 2, "frames": 10, "shape": (200, 240), "cells": 6}
    four, blocks = {"cluster": JOBS | {"jobs": 4}}, {"storage.block_frames": 5}
    nights: list[tuple[Callable[[Night], tuple[object, ...]], Night]] = [
        (
            lambda night: disturbed(night, 18, 2, 1),
            Night("12 FOVs, 4 jobs", folder / "chaos", queue, large, blocks | four, 1.5),
        ),
        (
            lambda night: disturbed(night, 4, 0, 0),
            Night(
                "4 FOVs, 2 jobs of 2 processes", folder / "two", queue, large | {"fovs": 4},
                blocks | {"cluster": JOBS | {"jobs": 2, "cores": 2, "memory": "2500MiB"}}, 0.6,
            ),
        ),
        (
            lambda night: disturbed(night, 4, 1, 0),
            Night(
                "plate of 6 wells, three pipelines, 4 jobs", folder / "plate", queue, large | {"fovs": 8, "frames": 20},
                blocks | four | {"pipelines": PIPELINES}, 1.0, ["A1", "A1", "A2", "A3", "B1", "B1", "B2", "B3"],
            ),
        ),
        (
            short_lived,
            Night(
                "jobs that live five tasks long", folder / "short", queue, small | {"fovs": 12},
                {"storage.block_frames": 5, "cluster": JOBS | {"jobs": 4, "walltime": "00:01:00"}}, 1.4,
            ),
        ),
        (
            one_allocation,
            Night("one allocation of 4 processes", folder / "one", queue, small,
                  {"cluster": {"kind": "runner", "interface": "lo", "dashboard": "127.0.0.1:0"}}),
        ),
    ]  # fmt: skip
    for do, night in nights:
        print(f"{night.name} ...", file=sys.stderr, flush=True)
        row = do(night)
        if night.replaced and max(night.replaced) > REPLACED:
            night.problem(f"a lost job was submitted anew after {max(night.replaced):.1f} s only")
        table.rows.append(row)
        table.problems += night.problems
        shutil.rmtree(night.folder, ignore_errors=True)
    return table


def main() -> None:
    """Do all nights; print the table."""
    if why := slurm.unavailable():
        sys.exit(why)
    with tempfile.TemporaryDirectory(prefix="pyama-slurm-") as folder:
        Path(folder).chmod(0o755)
        (own := Path(folder) / "slurm").mkdir()
        with slurm.running(own) as queue, patch.dict("os.environ", queue.environment):
            table = measure(Path(folder), queue)
    print_tables([table])
    sys.exit(bool(table.problems))


if __name__ == "__main__":
    main()
