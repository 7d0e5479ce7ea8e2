"""Sources of an output's traces: the tables of its FOVs, from this program or an older one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pyama_dask.analysis.find_traces import Frames, _stored_shape, find_sources, known_frames
from pyama_dask.analysis.overrides import Overrides, load_overrides
from pyama_dask.analysis.trace_files import attributes_of
from pyama_dask.config.fov_selection import FovPlace
from pyama_dask.config.units import as_ranges, quoted
from pyama_dask.store.layout import IMAGES
from pyama_dask.store.trace_csv import PLACE_COLUMNS, TRACK_COLUMNS, place_of

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 0.01
"""Relative difference below which frame intervals are equal."""


class Sources:
    """Traces of an output, with manual overrides applied.

    Parameters
    ----------
    output
        Output directory of a run or an older program.
    good
        YAML file of overrides; by default ``good.yaml`` in the output, if it exists.
    filled
        False to leave out rows of frames in which the tracker has filled a gap.
    movie
        Name of the movie among several, for the column ``movie`` and for warnings; '' for a single output.
    warnings
        List for warnings, which several outputs may share.

    Raises
    ------
    OutputError
        If `output` is not the output of a run.
    ConfigError, TableError
        If a file that describes the output is invalid.
    """

    def __init__(
        self, output: Path, good: Path | None = None, *, filled: bool = True, movie: str = "",
        warnings: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.output, self._filled, self.movie = output, filled, movie
        self.fovs = find_sources(output)
        self.overrides = load_overrides(output, good)
        self.shared = Overrides()
        """Overrides for several outputs, which are applied after those of this one."""
        self.warnings: list[str] = [] if warnings is None else warnings
        self.say(self.overrides.unknown_fovs(self.fovs))
        self.cells_set: set[tuple[int, int]] = set()
        """FOV and cell of the overridden rows that were read."""

    @cached_property
    def frames(self) -> Frames:
        """Metadata of the images of all FOVs."""
        return known_frames(self.output)

    def problem(self, fov: int) -> str | None:
        """Reason why a FOV has no usable traces; None if it has."""
        if fov not in self.fovs:
            return f"is not in the output, which has {as_ranges(sorted(self.fovs))}"
        return self.fovs[fov].problem

    def reasons(self, fovs: Iterable[int]) -> Iterator[str]:
        """Reasons why FOVs are left out, grouped by reason."""
        return grouped((fov, problem) for fov in fovs if (problem := self.problem(fov)))

    def usable(self, fovs: Iterable[int]) -> list[int]:
        """FOVs with usable traces, among the given ones."""
        return [fov for fov in fovs if self.problem(fov) is None]

    def features(self, fovs: Iterable[int]) -> list[str]:
        """Feature columns of some FOVs, in order of appearance."""
        return list(dict.fromkeys(name for fov in self.usable(fovs) for name in self.fovs[fov].features))

    def track_columns(self, fovs: Iterable[int]) -> list[str]:
        """Columns of `TRACK_COLUMNS` that some FOVs have."""
        there = {name for fov in self.usable(fovs) for name in self.fovs[fov].columns}
        left = TRACK_COLUMNS if self._filled else TRACK_COLUMNS[1:]
        return [name for name in left if name in there]

    @property
    def places(self) -> list[FovPlace]:
        """Name, well and site of every FOV, as far as they are known."""
        return [source.place or FovPlace(fov, "") for fov, source in self.fovs.items()]

    @property
    def wells(self) -> list[str]:
        """Wells of the FOVs, each once."""
        return list(dict.fromkeys(place.well for place in self.places if place.well is not None))

    def place(self, fov: int) -> dict[str, Any]:
        """Well and site of a FOV; empty outside of wells."""
        place = self.fovs[fov].place
        return place_of(place.well, place.site) if place else {}

    def place_columns(self, fovs: Iterable[int]) -> list[str]:
        """Columns of `PLACE_COLUMNS` that some FOVs have."""
        there = {name for fov in self.usable(fovs) for name in (*self.fovs[fov].columns, *self.place(fov))}
        return [name for name in PLACE_COLUMNS if name in there]

    def read(self, fov: int) -> pd.DataFrame:
        """Traces of a FOV, in minutes and with overrides applied; each warning is issued once."""
        table, warnings = self.fovs[fov].read()
        table = table.assign(**{name: value for name, value in self.place(fov).items() if name not in table})
        if self.movie:
            table = table.assign(movie=self.movie)
        if not self._filled:
            table = without_filled(table)
        applied = self.overrides.apply(table, fov)
        own, applied = applied, self.shared.apply(applied.table, fov)
        warnings = [f"FOV {fov}: {what}" for what in warnings] + own.warnings + applied.warnings
        if table.empty:
            warnings.append(f"FOV {fov}: has no cells")
        elif not applied.table["good"].any():
            warnings.append(f"FOV {fov}: none of its rows is good")
        self.say(warnings)
        self.cells_set.update((fov, cell) for cell in own.cells | applied.cells)
        return applied.table

    def shape(self, fov: int) -> tuple[int, int] | None:
        """(H, W) of a FOV's images in pixels; None if unknown."""
        return self.frames.shapes.get(fov) or _stored_shape(self.fovs[fov].directory / IMAGES)

    def pixel_size(self, fov: int) -> float | None:
        """Micrometres per pixel; None if unknown."""
        images = self.fovs[fov].directory / IMAGES
        if self.frames.pixel_size_um is not None or not (images / "zarr.json").exists():
            return self.frames.pixel_size_um
        return attributes_of(images).get("pixel_size_um") or None

    def interval(self, fovs: Iterable[int]) -> float | None:
        """Median time between frames in the first of some FOVs that states its times, in minutes; None if unknown."""
        for images in (self.fovs[fov].directory / IMAGES for fov in self.usable(fovs)):
            times: list[float] = attributes_of(images).get("times_min", []) if (images / "zarr.json").exists() else []
            if steps := [after - before for before, after in pairwise(times) if after > before]:
                return median(steps)
        return None

    def channel_of(self, column: str) -> str:
        """Name of the channel of a feature column such as ``area_ch_0`` in the movie; '' if unknown."""
        number = int(column.rpartition("_ch_")[2])
        return self.frames.channels[number] if number < len(self.frames.channels) else ""

    def say(self, warnings: Iterable[str]) -> None:
        """Add new warnings; those of one movie among several name it."""
        named = dict.fromkeys(f"{self.movie}: {warning}" if self.movie else warning for warning in warnings)
        self.warnings += [warning for warning in named if warning not in self.warnings]

    def look(self, fovs: Iterable[int]) -> Iterator[str]:
        """Notes on unexpected columns of usable FOVs; reads table headers only."""
        return grouped(self._look(self.usable(fovs)))

    def _look(self, fovs: Sequence[int]) -> Iterator[tuple[int, str]]:
        features = self.features(fovs)
        for fov in fovs:
            source = self.fovs[fov]
            yield from ((fov, note) for note in source.notes)
            for column in [name for name in features if name not in source.columns]:
                yield fov, f"lacks {column}, which other FOVs have"
            for column in source.others:
                files = ", ".join(file.path.name for file in source.files if column in file.columns)
                yield fov, f"column {quoted(column)} of {files} is not a feature and is left out"


def without_filled(table: pd.DataFrame) -> pd.DataFrame:
    """Traces without rows of filled gaps, and without the column that marks them."""
    if "filled" not in table or table["filled"].dtype.kind != "b":
        return table
    return table[~table["filled"]].drop(columns="filled").reset_index(drop=True)


def grouped(messages: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Format messages per FOV; equal messages share a line."""
    fovs = defaultdict[str, list[int]](list)
    for fov, words in messages:
        fovs[words].append(fov)
    return (f"FOV {as_ranges(of)}: {words}" for words, of in fovs.items())
