"""Whole runs near the limit of the machine, start-up and all: ``make bench BENCH=limits``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import two_workers
from bench.commands import interpreters, run_command
from bench.memory import peak_memory
from bench.movies import given_or_drawn
from bench.spent import Spent, least, of_command
from bench.table import Row
from pyama_dask.launch.environment import WORKER_ENVIRONMENT
from pyama_dask.methods.onnx_model import shipped_models
from pyama_dask.readers import read_metadata

REPEATS = 2
ONE = {"fovs": "0", "frames": "0", "tracking_params": {"min_frames": 1}}
WHOLE = {"tracking_params": {"min_frames": 2}}
SEGMENTERS: dict[str, dict[str, Any]] = {"logstd": {}, "bright": {}, "unet": {"model": next(iter(shipped_models()))}}
"""Parameters by method."""
ALLOCATOR = {"GLIBC_TUNABLES": WORKER_ENVIRONMENT["GLIBC_TUNABLES"]}
"""Environment of workers, in which the serial run is measured, too."""
Found = Mapping[str, list[Spent]]
"""Costs of the repeats of each case, by its name."""


def cases() -> dict[str, dict[str, Any]]:
    """Sections of a config by the name of a case."""
    found: dict[str, dict[str, Any]] = {
        "serial": {"cluster": {"kind": "serial"}},
        "serial one": {"cluster": {"kind": "serial"}, "params": ONE},
    }
    for workers in (1, 2):
        found[f"whole {workers}"] = {"cluster": {"workers": workers}}
        found[f"one {workers}"] = {"cluster": {"workers": workers}, "params": ONE}
    for name, given in SEGMENTERS.items():
        chosen = {"segmentation_method": name, "segmentation_params": given}
        found[f"{name} one"] = {"cluster": {"workers": 1}, "params": ONE | chosen}
        found[f"{name} fov"] = {"cluster": {"workers": 1}, "params": WHOLE | chosen | {"fovs": "0"}}
    return found


def measure(directory: Path) -> list[Row]:
    """Rows of the table; figures of the checkout that ``BENCH_AGAINST`` names stand behind those of this one."""
    movie = given_or_drawn(directory, fovs=4, frames=16)
    costs, peaks = in_turns(directory, movie, cases(), REPEATS)
    metadata = read_metadata(movie)
    fovs, frames = len(metadata.fovs), metadata.n_frames
    return [
        *of_runs(costs, peaks, fovs * frames, "x".join(map(str, metadata.fovs[0].shape))),
        *of_segmenters(costs, frames),
        of_compilation(directory, movie, costs),
        *two_workers.measure(directory, movie),
    ]


def in_turns(
    directory: Path, movie: Path, runs: Mapping[str, dict[str, Any]], repeats: int
) -> tuple[list[Found], list[int]]:
    """Costs of all cases, and the peak memory of a worker in bytes, for each interpreter."""
    costs: list[defaultdict[str, list[Spent]]] = [defaultdict(list) for _ in interpreters()]
    peaks = [0 for _ in costs]
    for index, python in enumerate(interpreters()):  # compiles
        of_command(run_command(movie, directory / f"warm_{index}", python=python, params=ONE))
    for repeat in range(repeats):
        for case, sections in runs.items():
            for index, python in enumerate(interpreters()):
                output = directory / f"{case.replace(' ', '_')}_{index}_{repeat}"
                command = run_command(movie, output, python=python, **sections)
                costs[index][case].append(
                    of_command(command, environment=ALLOCATOR if case.startswith("serial") else None)
                )
                peaks[index] = max(peaks[index], peak_memory(output) if case == "whole 2" else 0)
    return [dict(found) for found in costs], peaks


def of_runs(costs: list[Found], peaks: list[int], frames: int, shape: str) -> list[Row]:
    """Rows on runs of the whole movie, and of one frame."""

    def row(figure: str, show: Callable[[Callable[[str], Spent]], str], target: str) -> Row:
        return figure, _all(costs, show), target

    def ms(spent: Callable[[str], Spent], workers: int) -> float:
        return (spent(f"whole {workers}").cpu - spent(f"one {workers}").cpu) / (frames - 1) * 1e3

    def both(cost: Spent) -> str:
        return f"{cost.cpu:.1f} s, {cost.wall:.1f} s"

    def frame(spent: Callable[[str], Spent]) -> str:
        return f"{ms(spent, 1):.0f} / {ms(spent, 2):.0f} ms"

    def faults(spent: Callable[[str], Spent]) -> str:
        return f"{(spent('serial').faults - spent('serial one').faults) / (frames - 1):.0f}"

    return [
        row(f"{frames} frames of {shape}, 2 workers: CPU, wall", lambda of: both(of("whole 2")), "13 s, 7.5 s"),
        row("the same, 1 worker", lambda of: both(of("whole 1")), ""),
        row("CPU of a frame, start-up apart, 1 / 2 workers", frame, "140 / 150 ms"),
        row("minor faults per frame, start-up apart, serial", faults, "700"),
        row("minor faults per frame, with start-up, 2 workers", lambda of: f"{of('whole 2').faults / frames:.0f}", ""),
        row("one frame, warm: CPU, wall", lambda of: both(of("one 2")), "4 s, 3 s"),
        ("peak memory of a worker", "; ".join(f"{peak / 2**20:.0f} MiB" for peak in peaks), "600 MiB"),
    ]


def of_segmenters(costs: list[Found], frames: int) -> list[Row]:
    """Rows on runs of one FOV with each segmenter."""
    rows = []
    for name in SEGMENTERS:

        def show(of: Callable[[str], Spent], name: str = name) -> str:
            return f"{(of(f'{name} fov').cpu - of(f'{name} one').cpu) / (frames - 1) * 1e3:.0f} ms"

        rows.append((f"CPU of a frame of one FOV with `{name}`, start-up apart, 1 worker", _all(costs, show), ""))
    return rows


def of_compilation(directory: Path, movie: Path, costs: list[Found]) -> Row:
    """Row on the first run of a fresh installation, of one frame, against a warm one."""
    cold, found = [], []
    for index, python in enumerate(interpreters()):
        command = run_command(movie, directory / f"cold_{index}", python=python, cluster={"workers": 2}, params=ONE)
        cold.append(of_command(command, environment={"NUMBA_CACHE_DIR": str(directory / f"numba_{index}")}))
        warm = least(costs[index]["one 2"])
        found.append(f"{cold[-1].wall - warm.wall:.1f} s, CPU {cold[-1].cpu - warm.cpu:.1f} s")
    return "compilation on a fresh machine, wall: first run on one frame, less a warm one", "; ".join(found), "20 s"


def _all(costs: list[Found], show: Callable[[Callable[[str], Spent]], str]) -> str:
    """Text of a figure for each interpreter."""
    return "; ".join(show(lambda case, found=found: least(found[case])) for found in costs)
