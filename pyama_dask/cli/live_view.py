"""A run in text: bars of steps, a grid of all FOVs, speed, workers, failures; for terminals and plain output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from pyama_dask.config.units import as_ranges, duration, many, printable
from pyama_dask.files.palette import SERIES
from pyama_dask.runs.live_words import brief_text, speed_text, state_text
from pyama_dask.runs.snapshot import Cell, FovState, Snapshot, WorkerProgress, cells_of

DONE, WORKING, FAILED = SERIES[2], SERIES[4], SERIES[5]
"""Green, sky blue and vermillion."""
STYLES: dict[FovState, str] = {
    "done": DONE, "in work": WORKING, "partial": WORKING, "failed": f"bold {FAILED}", "to do": "dim",
}  # fmt: skip
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇", "123456789"
"""Characters of FOVs in work, by the share of their tasks that is done."""


class View:
    """Describes snapshots in lines of a certain width.

    Parameters
    ----------
    width
        Columns.
    rows
        Rows for the grid of FOVs, and for each list.
    ascii_only
        True if the output cannot show block characters.
    """

    def __init__(self, width: int, rows: int, *, ascii_only: bool = False) -> None:
        self._width, self._rows = width, rows
        self._full, self._empty = ("#", ".") if ascii_only else ("█", "░")
        self._done, self._to_do = ("#", ".") if ascii_only else ("█", "·")
        self._levels = ASCII_LEVELS if ascii_only else LEVELS

    def describe(self, snapshot: Snapshot) -> Text:
        """All that is known of a run, as lines."""
        parts = (
            self._head(snapshot), self._steps(snapshot), self._fovs(snapshot), self._workers(snapshot),
            self._messages(snapshot),
        )  # fmt: skip
        filled = [list(lines) for lines in parts]
        return Text("\n\n").join(Text("\n").join(lines) for lines in filled if lines)

    def describe_all(self, snapshots: Sequence[Snapshot]) -> Text:
        """Runs of several movies: a line for each, then those at work in full, as far as there is room."""
        width = min(max(len(one.output.name) for one in snapshots) + 2, max(14, self._width // 3))
        lines = [self._line(one, width) for one in snapshots]
        failures = [f"{one.output.name}: {failed.place}{failed.reason}" for one in snapshots for failed in one.failures]
        lines += [Text(printable(line), FAILED) for line in self._cut(failures)]
        at_work = [self.describe(one) for one in snapshots if one.is_active]
        return Text("\n\n").join([Text("\n").join(lines), *at_work])

    def _line(self, snapshot: Snapshot, width: int) -> Text:
        """State of one of several movies."""
        name = printable(snapshot.output.name)
        words = f" {int(snapshot.share * 100):>3} %  {brief_text(snapshot)}"
        line = Text(f"{name if len(name) < width else f'{name[: width - 3]}..':<{width}}")
        return line.append_text(self._bar(snapshot.share, max(10, self._width - width - len(words)))).append(words)

    # ------------------------------------------------------------------------------------------ whole run

    def _head(self, snapshot: Snapshot) -> Iterator[Text]:
        yield Text(printable(str(snapshot.output)), "bold").append(f": {state_text(snapshot)}", "not bold")
        if not snapshot.tasks:
            return
        counts = f"  {snapshot.tasks_done} of {many(snapshot.tasks, 'task')}, {int(snapshot.share * 100)} %"
        bar = self._bar(snapshot.share, max(10, self._width - 14 - len(counts)))
        yield Text(f"{'whole run':<14}").append_text(bar).append(counts)
        if speed := speed_text(snapshot):
            yield Text(f"{'':<14}{speed}")

    def _bar(self, share: float, width: int) -> Text:
        filled = int(share * width)
        return Text(self._full * filled, STYLES["done"]).append(self._empty * (width - filled), "dim")

    # ---------------------------------------------------------------------------------------------- steps

    def _steps(self, snapshot: Snapshot) -> Iterator[Text]:
        digits = max((len(str(step.frames)) for step in snapshot.steps), default=0)
        label = min(max((len(step.label) + 2 for step in snapshot.steps), default=0), max(14, self._width // 3))
        label = max(label, 14)
        for step in snapshot.steps:
            counts = f"  {step.frames_done:>{digits}} of {step.frames} frames"
            cost = f"{duration(step.seconds):>14}{step.memory / 2**20:>7.0f} MiB" if step.memory else ""
            bar = self._bar(step.frames_done / step.frames, max(5, self._width - label - len(counts) - 25))
            name = printable(step.label)
            name = name if len(name) < label else f"{name[: label - 3]}.. "
            yield Text(f"{name:<{label}}").append_text(bar).append(counts).append(cost, "dim")

    # ----------------------------------------------------------------------------------------------- FOVs

    def _fovs(self, snapshot: Snapshot) -> Iterator[Text]:
        if not snapshot.fovs:
            return
        label = len(str(snapshot.fovs[-1].fov)) + 2
        across = max(10, (self._width - label) // 11 * 10)
        across = next((n for n in (100, 50) if n <= across), across)
        cells = cells_of(snapshot.fovs, across * self._rows)
        counts = ", ".join(f"{n} {state}" for state, n in snapshot.fov_counts.items())
        each = f"; each character is {cells[0].size} FOVs" if cells[0].size > 1 else ""
        yield Text("FOVs", "bold").append(f": {counts}{each}", "not bold")
        for start in range(0, len(cells), across):
            line = Text(f"{cells[start].first:>{label - 1}} ")
            for k, cell in enumerate(cells[start : start + across]):
                line.append(" " if k and k % 10 == 0 else "").append(self._character(cell), STYLES[cell.state])
            yield line

    def _character(self, cell: Cell) -> str:
        if cell.state == "failed":
            return "x"
        if cell.state in ("done", "to do"):
            return self._done if cell.state == "done" else self._to_do
        return self._levels[min(int(cell.done * len(self._levels)), len(self._levels) - 1)]

    # ------------------------------------------------------------------------------------------- workers

    def _workers(self, snapshot: Snapshot) -> Iterator[Text]:
        if snapshot.jobs:
            yield Text(printable(snapshot.jobs))
        hosts: dict[str, list[WorkerProgress]] = {}
        for worker in snapshot.workers:
            hosts.setdefault(worker.worker.rpartition("/")[0], []).append(worker)
        for host, workers in list(hosts.items())[: self._rows]:
            yield Text(printable(f"{host}: {_work_of(workers, snapshot)}"))
        if len(hosts) > self._rows:
            yield Text(f"... and {len(hosts) - self._rows} more machines")

    # ------------------------------------------------------------------------------------------ messages

    def _messages(self, snapshot: Snapshot) -> Iterator[Text]:
        for alarm in snapshot.alarms[-2:]:
            yield Text(printable(f"ALARM: {alarm}"), f"bold {FAILED}")
        tried = ", or tried again" if snapshot.is_active else ""
        lines = [f"failed{tried} ({one.cause}): {one.place}{one.reason}" for one in snapshot.failures]
        yield from (Text(printable(line), FAILED) for line in self._cut(lines))
        yield from (Text(printable(f"warning: {warning}")) for warning in self._cut(snapshot.warnings))
        if not snapshot.is_active and snapshot.tasks_done < snapshot.tasks:
            left = [fov.fov for fov in snapshot.fovs if fov.state in ("partial", "to do")]
            of = f"unfinished: FOV {as_ranges(left)}; " if left else ""
            yield Text(printable(f"{of}resume with the command that started the run: pyama-dask run RUN.YAML"))

    def _cut(self, lines: Sequence[str]) -> list[str]:
        more = len(lines) - self._rows
        return [*lines] if more <= 0 else [*lines[: self._rows], f"... and {more} more"]


def _work_of(workers: Sequence[WorkerProgress], snapshot: Snapshot) -> str:
    """Work of all workers of a machine, in words."""
    tasks, busy = sum(worker.tasks for worker in workers), sum(worker.busy for worker in workers) / len(workers)
    gpus = sum(worker.has_gpu for worker in workers)
    of_them = f" ({gpus} with a GPU)" if gpus else ""
    done = f"{many(len(workers), 'worker')}{of_them}, {many(tasks, 'task')}"
    if not snapshot.is_active:
        return done
    last = duration(max(0.0, snapshot.at - max(worker.last for worker in workers)))
    return f"{done}, {100 * busy:.0f} % busy, last task {last} ago"
