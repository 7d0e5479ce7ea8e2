"""Arguments of scripts (movie, output, channels, settings) and paths of the results per FOV."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata, movie_stem, read_metadata


@dataclass
class MicroscopyMetadata:
    """A movie, as `load_microscopy_file` reads it or as a script describes it."""

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
    """Paths of the results of a FOV, each with its channel: Zarr arrays (T, H, W) and one CSV."""

    pc: tuple[int, Path] | None = None
    """Raw phase contrast."""
    fl: list[tuple[int, Path]] = field(default_factory=list)
    """Raw fluorescence."""
    seg: tuple[int, Path] | None = None
    """Labels per frame; a pixel above 0 belongs to a cell."""
    seg_labeled: tuple[int, Path] | None = None
    """Tracked labels, the same for a cell in all frames."""
    fl_corrected: list[tuple[int, Path]] = field(default_factory=list)
    """Empty unless a service fills it: background-corrected frames are not stored."""
    traces_csv: list[tuple[int | None, Path]] = field(default_factory=list)
    """One table of all channels; its channel is None."""
    fl_background: list[tuple[int, Path]] = field(default_factory=list)
    """Background of the fluorescence, in grey levels."""


@dataclass
class ProcessingContext:
    """Settings of a run, and its results."""

    output_dir: Path
    channels: Channels | None = None
    """None to guess them from the movie's metadata; the run fills them in."""
    results_paths: dict[int, ResultsPathsPerFOV] = field(default_factory=dict)
    """Paths by FOV; the run adds the FOVs that it completes."""
    params: dict[str, Any] = field(default_factory=dict)
    """Settings, named as in the older API or as in ``params`` of a config."""
    time_units: str | None = None
    """Time units of the traces; always minutes."""

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.params, self.results_paths = self.params or {}, self.results_paths or {}


def load_microscopy_file(path: str | os.PathLike[str]) -> MicroscopyMetadata:
    """Read the metadata of a movie.

    Raises
    ------
    SourceError
        If the file cannot be read as ND2 or CZI.
    """
    return _described(read_metadata(path))


def as_in_file(given: MicroscopyMetadata) -> Metadata:
    """Read the metadata of a movie, and compare them with the description of the script.

    Raises
    ------
    ConfigError
        If the movie has other FOVs, frames or pixels than the script says.
    SourceError
        If the movie cannot be read.
    """
    read = read_metadata(given.file_path)
    of_movie = asdict(given)
    wrong = [
        f"{name} is {value}, not {of_movie[name]}"
        for name, value in asdict(_described(read)).items()
        if name not in ("file_path", "base_name") and value != of_movie[name]
    ]
    if wrong:
        raise ConfigError(
            f"{given.file_path}: differs from its MicroscopyMetadata: {'; '.join(wrong)}. Fix: check that it is the "
            "right movie, then correct the metadata or use load_microscopy_file"
        )
    return read


def _described(read: Metadata) -> MicroscopyMetadata:
    height, width = read.fovs[0].shape
    return MicroscopyMetadata(read.path, movie_stem(read.path), len(read.fovs), read.n_frames, height, width)


def fov_range(n_fovs: int, fov_start: int | None, fov_end: int | None) -> range:
    """Range of FOVs, the last one included; None or -1 for the first or last FOV of the movie.

    Raises
    ------
    ConfigError
        If a FOV does not exist, or the range runs backwards.
    """
    first = 0 if fov_start is None or fov_start == -1 else fov_start
    last = n_fovs - 1 if fov_end is None or fov_end == -1 else fov_end
    if not 0 <= first <= last < n_fovs:
        raise ConfigError(
            f"fov_start={fov_start}, fov_end={fov_end}: not a range within FOVs 0-{n_fovs - 1}. Fix: give the first "
            "and the last FOV (included), or None for all"
        )
    return range(first, last + 1)
