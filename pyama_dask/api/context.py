"""What scripts hand over: which movie it is, where results go, which channels; and where the results of a FOV are."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata, read_metadata


@dataclass
class MicroscopyMetadata:
    """A movie, as `load_microscopy_file` finds it, or as a script says that it is."""

    file_path: Path
    base_name: str
    n_fovs: int
    n_frames: int
    height: int
    width: int
    """Pixels of the first FOV."""

    def __post_init__(self) -> None:
        self.file_path = Path(self.file_path)


@dataclass
class Channels:
    """Indices of the phase-contrast channel and of the fluorescence channels."""

    pc: int | None = None
    fl: list[int] = field(default_factory=list)


@dataclass
class ResultsPathsPerFOV:
    """Where the results of a FOV are: Zarr arrays (T, H, W), and one CSV; each with its channel."""

    pc: tuple[int, Path] | None = None
    """Raw phase contrast."""
    fl: list[tuple[int, Path]] = field(default_factory=list)
    """Raw fluorescence."""
    seg: tuple[int, Path] | None = None
    """Labels of single frames; a pixel above 0 is in a cell."""
    seg_labeled: tuple[int, Path] | None = None
    """Labels that are the same over time."""
    fl_corrected: list[tuple[int, Path]] = field(default_factory=list)
    """Empty, unless a service of a script fills it: frames without their background are not stored."""
    traces_csv: list[tuple[int | None, Path]] = field(default_factory=list)
    """One table of all channels, which is given as None."""
    fl_background: list[tuple[int, Path]] = field(default_factory=list)
    """Background of the fluorescence, in grey levels."""


@dataclass
class ProcessingContext:
    """Settings of a run, and what came of it."""

    output_dir: Path
    channels: Channels | None = None
    """None to have them guessed from the movie's metadata; the run fills them in."""
    results_paths: dict[int, ResultsPathsPerFOV] = field(default_factory=dict)
    """By FOV; the run fills in those that it has completed."""
    params: dict[str, Any] = field(default_factory=dict)
    """Settings by the names of the older API, or by those of ``params`` in a config."""
    time_units: str | None = None
    """Of the traces; always minutes."""

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.params, self.results_paths = self.params or {}, self.results_paths or {}


def load_microscopy_file(path: str | os.PathLike[str]) -> MicroscopyMetadata:
    """Read what a movie holds.

    Raises
    ------
    SourceError
        If it cannot be read as ND2 or CZI.
    """
    return _described(read_metadata(path))


def as_in_file(given: MicroscopyMetadata) -> Metadata:
    """Read the metadata of a movie, and hold what a script says of it against them.

    Raises
    ------
    ConfigError
        If the movie has other FOVs or frames than the script says.
    SourceError
        If it cannot be read.
    """
    read = read_metadata(given.file_path)
    said = asdict(given)
    wrong = [
        f"{name} is {value}, not {said[name]}"
        for name, value in asdict(_described(read)).items()
        if name not in ("file_path", "base_name") and value != said[name]
    ]
    if wrong:
        raise ConfigError(
            f"{given.file_path}: is not as its MicroscopyMetadata say: {'; '.join(wrong)}. Correct them, or use "
            "load_microscopy_file; or is it another movie than it should be?"
        )
    return read


def _described(read: Metadata) -> MicroscopyMetadata:
    height, width = read.fovs[0].shape
    return MicroscopyMetadata(read.path, read.path.stem, len(read.fovs), read.n_frames, height, width)


def fov_range(n_fovs: int, fov_start: int | None, fov_end: int | None) -> range:
    """Numbers of the FOVs from one to another, which is included; None or -1 for the first or the last of the movie.

    Raises
    ------
    ConfigError
        If there is no such FOV, or the range runs backwards.
    """
    first = 0 if fov_start is None or fov_start == -1 else fov_start
    last = n_fovs - 1 if fov_end is None or fov_end == -1 else fov_end
    if not 0 <= first <= last < n_fovs:
        raise ConfigError(
            f"fov_start={fov_start}, fov_end={fov_end}: is no range of FOVs 0-{n_fovs - 1}; give the first and the "
            "last one, which is included, or None for all"
        )
    return range(first, last + 1)
