"""Where the traces of an output are: the tables of its FOVs, of a run of this program or of an older one."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.overrides import load_overrides
from pyama_dask.analysis.pyama_files import read_processing_config, read_processing_results
from pyama_dask.analysis.tables import FEATURE, MINUTES, inspected, read_columns, read_traces_csv
from pyama_dask.config.units import as_ranges, quoted
from pyama_dask.errors import PyamaError, TableError
from pyama_dask.files.atomic import MISSING, fault, read_file
from pyama_dask.runs.status import LEDGER, read_status, recorded_traces
from pyama_dask.store.layout import IMAGES, is_group
from pyama_dask.store.ledger import Ledger
from pyama_dask.store.trace_csv import BASE_COLUMNS
from pyama_dask.workflow.task import WORK, fov_name

if TYPE_CHECKING:
    import pandas as pd

RESULTS = "processing_results.yaml"
"""File by which older programs say what an output holds."""


@dataclass(frozen=True)
class TraceFile:
    """A table of traces of a FOV."""

    path: Path
    """What is read."""
    channel: int | None = None
    """Of its features; None where they say it themselves."""
    original: Path | None = None
    """What `path` is an inspected copy of."""

    @classmethod
    def of(cls, path: Path, channel: int | None = None) -> TraceFile:
        """Take the copy that a person has gone through, if there is one."""
        taken = inspected(path)
        return cls(taken, channel, path if path != taken and path.exists() else None)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, as they are when it is read."""
        if self.channel is None:
            return tuple(read_columns(self.path))
        return tuple(read_traces_csv(self.path, channel=self.channel).columns)


@dataclass(frozen=True)
class Source:
    """The traces of a FOV, or why there are none to go on with."""

    fov: int
    directory: Path
    """Of the FOV, whether it is there or not."""
    files: tuple[TraceFile, ...] = ()
    """One of all channels, or one a channel."""
    problem: str | None = None
    """Why its traces cannot be used."""
    notes: tuple[str, ...] = ()
    """What is to be said of them though they can."""
    interval: float | None = None
    """Minutes between frames, for tables without times, where no images say them."""
    units: float = 1.0
    """Minutes of a unit of the tables' times."""
    remedy: str = "add the column"
    """What to do about times that are nowhere."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of all of its tables."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.columns))

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of features."""
        return tuple(name for name in self.columns if FEATURE.fullmatch(name))

    @property
    def others(self) -> tuple[str, ...]:
        """Columns that are neither features, nor those of all traces."""
        return tuple(name for name in self.columns if name not in (*BASE_COLUMNS, *self.features))

    def read(self) -> tuple[pd.DataFrame, list[str]]:
        """Read its traces as one table, with times in minutes, and what is to be said of inspected copies.

        Raises
        ------
        TableError
            If a table cannot be read, is of another FOV, or says something else than another one of the FOV.
        """
        tables, said = [], []
        for file in self.files:
            table = self._read(file)
            tables.append((file.path, table))
            if file.original and not _same_cells(table, self._in_minutes(read_traces_csv(file.original, minutes=0))):
                said.append(
                    f"{file.path.name} has rows that the traces have not, which were made anew since; look through "
                    "them again"
                )
        return (tables[0][1] if len(tables) == 1 else joined(tables)), said

    def _read(self, file: TraceFile) -> pd.DataFrame:
        has_times = "time" in file.columns
        table = read_traces_csv(file.path, channel=file.channel, minutes=None if has_times else self._times(file))
        if not (table["fov"] == self.fov).all():
            raise TableError(f"{file.path}: has rows of another FOV than {self.fov}; put it where it belongs")
        return self._in_minutes(table) if has_times else table

    def _in_minutes(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(time=table["time"] * self.units) if self.units != 1 else table

    def _times(self, file: TraceFile) -> dict[int, float] | float:
        """Minutes of the frames, for traces that do not say them."""
        images = self.directory / IMAGES
        try:
            return dict(enumerate(read_attributes(images)["times_min"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            if self.interval is not None:
                return self.interval
            raise TableError(
                f"{file.path}: has no column 'time', and {images} does not say the times of the frames either; "
                f"{self.remedy}"
            ) from error


def read_attributes(images: Path) -> dict[str, Any]:
    """Attributes of a group or array of a store."""
    from pyama_dask.store import arrays  # noqa: PLC0415  (it loads zarr, which hardly any merge needs)

    return arrays.read_attributes(images)


def _same_cells(table: pd.DataFrame, original: pd.DataFrame) -> bool:
    """Whether a copy has no rows but those of what it was copied from."""
    key = ["cell", "frame" if "frame" in table and "frame" in original else "time"]
    return set(table[key].itertuples(index=False, name=None)) <= set(original[key].itertuples(index=False, name=None))


def joined(tables: Sequence[tuple[Path, pd.DataFrame]]) -> pd.DataFrame:
    """Put the tables of the channels of a FOV side by side, row by row of the same cell and frame.

    What more than one of them says must be the same; a row is good if it is so in each that has it.

    Raises
    ------
    TableError
        If two say something else of the same row, or they have neither frames nor times in common.
    """
    import pandas as pd  # noqa: PLC0415

    last = next((name for name in ("frame", "time") if all(name in table for _, table in tables)), None)
    if last is None:
        raise TableError(
            f"{tables[0][0]}: has no column in common with {tables[1][0].name}, 'frame' or 'time'; add one"
        )
    key = ["fov", "cell", last]
    rows = pd.concat([table[key] for _, table in tables]).drop_duplicates().sort_values(key)
    index = pd.MultiIndex.from_frame(rows)
    columns: dict[Any, pd.Series[Any]] = {"good": pd.Series(True, index)}
    for path, table in tables:
        placed = table.drop(columns="good").set_index(key).reindex(index)
        columns["good"] &= table.set_index(key)["good"].reindex(index, fill_value=True)
        for name in placed:
            before = columns.setdefault(name, placed[name])
            columns[name] = before.where(before.notna(), _agreeing(before, placed[name], path))
    table = pd.DataFrame(columns).reset_index()
    order = [*(name for name in BASE_COLUMNS if name in table), *(name for name in table if name not in BASE_COLUMNS)]
    return table[order]


def _agreeing(before: pd.Series[Any], values: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """Values of a column, none of which is another than what was said before."""
    differ = before.notna() & values.notna() & (before != values)
    if differ.any():
        (_, cell, when), name = differ.index[int(differ.to_numpy().argmax())], values.name
        raise TableError(
            f"{path}: cell {cell}, {differ.index.names[2]} {when:g}: {name} is {values[differ].iloc[0]}, but "
            f"{before[differ].iloc[0]} in another table of the FOV; tables of one FOV must agree on what both have"
        )
    return values


# ---------------------------------------------------------------------------------------- of an output


class Sources:
    """The traces of an output, as a person wants them: with what was said of them by hand.

    Parameters
    ----------
    output
        Output directory of a run, or of an older program.
    good
        YAML of overrides; ``good.yaml`` in the output unless it is named.

    Raises
    ------
    OutputError
        If `output` is none.
    ConfigError, TableError
        If a file that says what it holds is not valid.
    """

    def __init__(self, output: Path, good: Path | None = None) -> None:
        self.output = output
        self.fovs = find_sources(output)
        self.overrides = load_overrides(output, good)
        self.warnings = list(self.overrides.unknown_fovs(self.fovs))
        self.cells_set: set[tuple[int, int]] = set()
        """FOV and cell of what was read and an override has set."""

    @cached_property
    def frames(self) -> Frames:
        """What is known of the images of all FOVs."""
        return known_frames(self.output)

    def problem(self, fov: int) -> str | None:
        """Why a FOV has no traces that can be used."""
        if fov not in self.fovs:
            return f"the output has no such FOV, but {as_ranges(sorted(self.fovs))}"
        return self.fovs[fov].problem

    def reasons(self, fovs: Iterable[int]) -> Iterator[str]:
        """Why FOVs are left out, those of one reason together."""
        return grouped((fov, problem) for fov in fovs if (problem := self.problem(fov)))

    def usable(self, fovs: Iterable[int]) -> list[int]:
        """Those of some FOVs whose traces can be used."""
        return [fov for fov in fovs if self.problem(fov) is None]

    def features(self, fovs: Iterable[int]) -> list[str]:
        """Columns of features of some FOVs, as they come."""
        return list(dict.fromkeys(name for fov in self.usable(fovs) for name in self.fovs[fov].features))

    def read(self, fov: int) -> pd.DataFrame:
        """Traces of a FOV, in minutes and with the overrides; what looks wrong about them is said once."""
        table, said = self.fovs[fov].read()
        applied = self.overrides.apply(table, fov)
        said = [f"FOV {fov}: {what}" for what in said] + applied.warnings
        if table.empty:
            said.append(f"FOV {fov}: has no cells")
        elif not applied.table["good"].any():
            said.append(f"FOV {fov}: none of its rows is good")
        self.say(said)
        self.cells_set.update((fov, cell) for cell in applied.cells)
        return applied.table

    def shape(self, fov: int) -> tuple[int, int] | None:
        """(H, W) of the images of a FOV in pixels, as far as it is known."""
        return self.frames.shapes.get(fov) or _stored_shape(self.fovs[fov].directory / IMAGES)

    def pixel_size(self, fov: int) -> float | None:
        """Micrometres a pixel, as far as it is known."""
        images = self.fovs[fov].directory / IMAGES
        if self.frames.pixel_size_um is not None or not (images / "zarr.json").exists():
            return self.frames.pixel_size_um
        return read_attributes(images).get("pixel_size_um") or None

    def say(self, warnings: Iterable[str]) -> None:
        """Add warnings that are not there yet."""
        self.warnings += [warning for warning in dict.fromkeys(warnings) if warning not in self.warnings]

    def look(self, fovs: Iterable[int]) -> Iterator[str]:
        """Words for what is not as one would expect of some FOVs whose traces can be used; reads no more than heads."""
        return grouped(self._look(self.usable(fovs)))

    def _look(self, fovs: Sequence[int]) -> Iterator[tuple[int, str]]:
        features = self.features(fovs)
        for fov in fovs:
            source = self.fovs[fov]
            yield from ((fov, note) for note in source.notes)
            for column in [name for name in features if name not in source.columns]:
                yield fov, f"without {column}, which other FOVs have"
            for column in source.others:
                files = ", ".join(file.path.name for file in source.files if column in file.columns)
                yield fov, f"column {quoted(column)} of {files} is no feature, and left out"


def grouped(said: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Put what is said of FOVs into words, those of which the same is said together."""
    fovs = defaultdict[str, list[int]](list)
    for fov, words in said:
        fovs[words].append(fov)
    return (f"FOV {as_ranges(of)}: {words}" for words, of in fovs.items())


def find_sources(output: Path) -> dict[int, Source]:
    """Find the traces of all FOVs: of a run, of what an older program lists, or of a folder with tables only.

    Raises
    ------
    OutputError
        If there is nothing of the kind.
    """
    if (output / WORK).exists():
        found = _of_run(output)
    elif (output / RESULTS).exists():
        found = _of_older(output)
    else:
        found = _of_tables(output) or _of_run(output)  # which says that there is none
    return {source.fov: source for source in found}


def _of_run(output: Path) -> list[Source]:
    states, ledger = read_status(output)["fovs"], Ledger(output / LEDGER)
    return [_of_fov(output, state, ledger) for state in states]


def _of_fov(output: Path, state: Mapping[str, Any], ledger: Ledger) -> Source:
    """Traces of a FOV of a run, by how it stands."""
    fov, left = state["fov"], state["left"]
    directory = output / fov_name(fov)
    if state["status"] == "failed" and ("extract" in left or not left):
        return Source(fov, directory, problem=f"failed: {state['reason']}")
    if "extract" in left:
        problem = f"is {state['status']} (left: {', '.join(left)}); run it to the end, then try again"
        return Source(fov, directory, problem=problem)
    recorded = recorded_traces(ledger, fov)
    found = MISSING if recorded is None else fault(output / recorded[0], recorded[1], deep=True)
    if recorded is None or found == MISSING:
        return Source(fov, directory, problem="its traces CSV is missing. Fix: run 'pyama-dask verify', then run again")
    remedy = "to restore it, run 'pyama-dask verify --deep', then run again"
    notes = [f"its traces CSV is not as the run wrote it: {found}; {remedy}"] if found else []
    if state["other_frames"]:
        notes.append(f"processed from frames {state['other_frames']}, and not those of the last run")
    elif state["other_settings"]:
        notes.append("processed with other settings than the last run")
    notes += [f"has its traces, but is not complete (left: {', '.join(left)})"] if left else []
    return Source(fov, directory, (TraceFile.of(output / recorded[0]),), notes=tuple(notes))


def _of_older(output: Path) -> list[Source]:
    """Traces that a `RESULTS` lists."""
    path = output / RESULTS
    results = read_processing_results(path)
    interval, units = results.params.get("frame_interval"), results.time_units or "min"
    is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
    if interval is not None and not (is_number and 0 < interval < float("inf")):
        raise TableError(f"{path}: params.frame_interval: must be minutes, such as 10, not {quoted(interval)}")
    if str(units).lower() not in MINUTES:
        raise TableError(f"{path}: time_units: {quoted(units)} is not known; known are ms, s, min, h, d")
    remedy = f"say the minutes between frames as 'frame_interval' of 'params' in {path}, or add the column"
    found = []
    for fov in results.files:
        files = [TraceFile.of(file, channel) for channel, file in results.originals(fov)]
        gone = [file.path.name for file in files if not file.path.exists()]
        problem = f"{RESULTS} lists no traces of it" if not files else f"{', '.join(gone)}: not there" if gone else None
        found.append(
            Source(
                fov, output / fov_name(fov), tuple(files), problem, interval=interval,
                units=MINUTES[str(units).lower()], remedy=remedy,
            )
        )  # fmt: skip
    return found


def _of_tables(output: Path) -> list[Source]:
    """Traces of folders that are called as those of a run, of which nothing else is known."""
    by_folder = defaultdict[Path, list[Path]](list)
    for path in sorted(output.glob("fov_*/*_traces.csv")):
        if re.fullmatch(r"fov_\d{1,9}", path.parent.name):
            by_folder[path.parent].append(path)
    return [
        Source(int(folder.name[4:]), folder, (TraceFile.of(paths[0]),)) for folder, paths in sorted(by_folder.items())
    ]


# ------------------------------------------------------------------------------- what images are like


@dataclass(frozen=True)
class Frames:
    """What is known of the images that traces were measured in."""

    shapes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """(H, W) in pixels by FOV."""
    pixel_size_um: float | None = None


def known_frames(output: Path) -> Frames:
    """Sizes of the images, as far as the config of the run tells."""
    try:
        metadata = read_processing_config(output / "processing_config.yaml")["metadata"]
        shapes = {fov["fov"]: (int(fov["shape"][0]), int(fov["shape"][1])) for fov in metadata["fovs"]}
        size = metadata.get("pixel_size_um")
        return Frames(shapes, float(size) if size else None)
    except (PyamaError, LookupError, TypeError, ValueError, AttributeError):  # none, or of an older program
        return Frames()


def _stored_shape(images: Path) -> tuple[int, int] | None:
    """(H, W) of the first array at full resolution that a FOV has."""
    for document in sorted(images.glob("*/0/zarr.json")):
        if not is_group(document.parents[1].name):
            continue
        try:
            _, height, width = json.loads(read_file(document))["shape"]
        except (OSError, ValueError, LookupError, TypeError):  # damaged; the next one may not be
            continue
        return int(height), int(width)
    return None
