"""Where the traces of an output are: the tables of its FOVs, of a run of this program or of an older one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pyama_dask.analysis.find_traces import Frames, _stored_shape, find_sources, known_frames
from pyama_dask.analysis.overrides import load_overrides
from pyama_dask.analysis.trace_files import read_attributes
from pyama_dask.config.units import as_ranges, quoted
from pyama_dask.store.layout import IMAGES

if TYPE_CHECKING:
    import pandas as pd


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
