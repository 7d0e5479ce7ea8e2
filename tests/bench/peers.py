"""``make bench-peers``: a run, a loop with scikit-image, and PyAMA, taking turns on one movie."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.spent import ONE_THREAD, CommandError, Spent, busy, least, of_command

if TYPE_CHECKING:  # numpy counts threads when it is imported
    from bench.agreement import Agreement, Results

REPEATS, WORKERS = 2, 2
NOTE = (
    "All programs took turns on {}. Start-up is included, and is most of the time of a run of few frames: compare with "
    "the targets on 64 frames (FULL=1)."
)
PYAMA = "PyAMA"
TARGETS = {"cpu": 20, "wall": 18}
"""Of PyAMA against a run of 64 frames of 2048 x 2048."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Program:
    """A program that processes a movie."""

    name: str
    command: Callable[[Path, Path], Sequence[str | Path]]
    """Command for a movie and a new output."""
    results: Callable[[Path], Results]
    """Reads an output."""


def programs(pyama: Path | None, workers: int) -> list[Program]:
    """Programs to compare; the first is this one."""
    from bench import agreement

    found = [
        Program(f"pyama_dask, {workers} workers", lambda *at: _run(*at, workers), agreement.of_run),
        Program("scikit-image loop, 1 process", lambda *at: [sys.executable, HERE / "loop.py", *at], agreement.of_loop),
    ]
    if pyama:
        command = [interpreter_of(pyama), HERE / "run_pyama.py", pyama]
        name = f"{PYAMA}, {workers} threads"
        found.append(Program(name, lambda *at: [*command, *at, str(workers)], agreement.of_pyama))
    return found


def _run(movie: Path, output: Path, workers: int) -> Sequence[str | Path]:
    from bench.commands import run_command

    return run_command(movie, output, cluster={"workers": workers})


def interpreter_of(pyama: Path) -> Path:
    """Interpreter with PyAMA's packages: ``PYAMA_PYTHON``, that of ``.venv`` in the checkout, or this one."""
    if given := os.environ.get("PYAMA_PYTHON"):
        return Path(given)
    inside = pyama / ".venv" / "bin" / "python"
    return inside if inside.exists() else Path(sys.executable)


def measure(movie: Path, compared: Sequence[Program], folder: Path, repeats: int) -> list[Spent]:
    """Least cost of each program, which take turns; output `folder/INDEX_0` of each is kept."""
    costs: list[list[Spent]] = [[] for _ in compared]
    of_command(compared[0].command(movie, folder / "warm"))  # compiles, and reads the movie into the page cache
    for repeat in range(repeats):
        for index, program in enumerate(compared):
            print(f"{program.name}, {repeat + 1} of {repeats} ...", file=sys.stderr, flush=True)
            costs[index].append(of_command(program.command(movie, folder / f"{index}_{repeat}")))
    return [least(each) for each in costs]


def table(names: Sequence[str], costs: Sequence[Spent], agreements: Sequence[Agreement]) -> list[Sequence[str]]:
    """Rows of text: a figure, its value for the run, and that of each other program."""
    ours, *others = costs
    rows: list[Sequence[str]] = [("", *names)]
    for figure, key in (("CPU time, user + system", "cpu"), ("wall time", "wall")):
        mine = getattr(ours, key)
        texts = [f"{mine:.1f} s"]
        for name, cost in zip(names[1:], others, strict=True):
            target = f" (target {TARGETS[key]})" if name.startswith(PYAMA) else ""
            texts.append(f"{getattr(cost, key):.1f} s, {getattr(cost, key) / mine:.1f} times{target}")
        rows.append((figure, *texts))
    rows.append(("peak memory, PSS of all processes", *(f"{cost.memory / 2**20:.0f} MiB" for cost in costs)))
    for figure, key, form in (
        ("pixels with equal foreground", "foreground", "{:.3%}"),
        ("mean IoU of objects with the best of the other", "iou", "{:.4f}"),
        ("objects with an IoU of at least 0.5", "found", "{:.1%}"),
        ("rows of traces with a row within 5 pixels", "matched", "{:.1%}"),
        ("correlation of total intensities", "correlation", "{:.6f}"),
        ("median relative difference of total intensities", "difference", "{:.1e}"),
        ("traces that are one trace in the other", "whole", "{:.1%}"),
    ):
        found = [getattr(agreement, key) for agreement in agreements]
        rows.append((figure, "", *("no rows" if math.isnan(value) else form.format(value) for value in found)))
    return rows


def compare_programs(movie: Path, compared: Sequence[Program], folder: Path, repeats: int) -> list[Sequence[str]]:
    """Rows of the table for a movie; outputs are new folders in `folder`."""
    from bench.agreement import compare
    from pyama_dask.readers import read_metadata

    metadata = read_metadata(movie)
    costs = measure(movie, compared, folder, repeats)
    ours, *others = (program.results(folder / f"{index}_0") for index, program in enumerate(compared))
    agreements = [compare(ours, other, len(metadata.fovs), metadata.n_frames) for other in others]
    return table([program.name for program in compared], costs, agreements)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--pyama", type=Path, help="checkout of PyAMA; without it, PyAMA is left out")
    parser.add_argument("--full", action="store_true", help="4 FOVs x 16 frames, not 2 x 4")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs of each program [default: %(default)s]")
    given = parser.parse_args(arguments)
    noise = busy()
    os.environ.update(ONE_THREAD)  # before numpy is imported
    from bench.movies import given_or_drawn
    from bench.run_pyama import ApiError, source_of
    from bench.table import machine

    try:
        if given.pyama:
            source_of(given.pyama)
        with tempfile.TemporaryDirectory(prefix="pyama-bench-") as folder:
            movie = given_or_drawn(Path(folder), *((4, 16) if given.full else (2, 4)))
            compared = programs(given.pyama and given.pyama.absolute(), WORKERS)
            rows = compare_programs(movie, compared, Path(folder), given.repeats)
    except (ApiError, CommandError) as error:
        sys.exit(str(error))
    print("\n\n".join(filter(None, (machine(), noise, NOTE.format(movie.name)))), end="\n\n")
    for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]):
        print("| " + " | ".join(row) + " |")
    if not given.pyama:
        print("\nPyAMA was left out. Fix: name a checkout, PYAMA=/path/to/pyama")


if __name__ == "__main__":
    main()
