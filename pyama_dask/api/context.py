"""Arguments of scripts: movie, output, channels, settings; and paths of the results per FOV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pyama_dask.api.image import MicroscopyImage
from pyama_dask.config.models import Params
from pyama_dask.errors import ConfigError
from pyama_dask.readers import Metadata, movie_stem, read_metadata


@dataclass
class MicroscopyMetadata:
    """A movie, as `load_microscopy_file` reads it or as a script describes it.

    It may be unpacked as newer scripts do: ``image, metadata = load_microscopy_file(path)``.
    """

    file_path: Path
    base_name: str
    n_fovs: int
    n_frames: int
    height: int
    width: int
    """Pixels of the first FOV."""
    file_type: str = ""
    """``nd2``, ``czi`` and so on."""
    n_channels: int | None = None
    timepoints: list[float] = field(default_factory=list)
    """Minutes of the frames of the first FOV; empty if the movie does not state them."""
    channel_names: list[str] = field(default_factory=list)
    dtype: str = ""
    """Pixel type of the first channel."""

    def __post_init__(self) -> None:
        self.file_path = Path(self.file_path)

    def __iter__(self) -> Iterator[MicroscopyImage | MicroscopyMetadata]:
        return iter((MicroscopyImage(self.file_path), self))

    @property
    def n_t(self) -> int:
        """Number of frames."""
        return self.n_frames

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the first FOV in pixels."""
        return self.height, self.width


@dataclass
class ChannelSelection:
    """A channel, and the features that are measured in it."""

    channel: int | str
    """Index or name."""
    features: Sequence[str] | None = None
    """Names of features; None for all that are known."""


@dataclass
class Channels:
    """The phase-contrast channel and the fluorescence channels, each as an index or a `ChannelSelection`."""

    pc: int | ChannelSelection | None = None
    fl: list[Any] = field(default_factory=list)


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

    @property
    def traces(self) -> Path | None:
        """The table of all channels, as newer scripts ask for it."""
        return next((path for channel, path in self.traces_csv if channel is None), None)


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
        self.params = {} if self.params is None else self.params  # kept if it is empty: other contexts may share it
        self.results_paths = {} if self.results_paths is None else self.results_paths

    @property
    def results(self) -> dict[int, ResultsPathsPerFOV]:
        """The same as `results_paths`, as newer scripts call it."""
        return self.results_paths


class ProcessingParams(dict[str, Any]):
    """Settings by name, also as attributes; those that are not set have the defaults of a config."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in Params.model_fields:
            return Params.model_fields[name].get_default(call_default_factory=True)
        raise AttributeError(f"{name!r} is neither set nor a setting of a config", name=name, obj=self)


@dataclass
class ProcessingConfig:
    """Channels and settings of a run; its output is an argument of the services."""

    channels: Channels | None = None
    """None to guess them from the movie's metadata; the run fills them in."""
    params: ProcessingParams = field(default_factory=ProcessingParams)
    """Settings, named as in `ProcessingContext`."""

    def __post_init__(self) -> None:
        self.params = ProcessingParams(self.params or {})


def context_of(given: ProcessingContext | ProcessingConfig | None, output_dir: str | Path | None) -> ProcessingContext:
    """Context of a service's run: settings in either form, for an output; settings and results stay the given ones.

    Raises
    ------
    ConfigError
        If there are no settings, or no output.
    """
    if isinstance(given, ProcessingContext):
        return given if output_dir is None else replace(given, output_dir=Path(output_dir))
    if not isinstance(given, ProcessingConfig):
        raise ConfigError(f"context: must be a ProcessingContext or a ProcessingConfig, not {type(given).__name__}")
    if output_dir is None:
        raise ConfigError("output_dir: is missing. Fix: give the folder for the results")
    return ProcessingContext(Path(output_dir), given.channels, params=given.params)


def load_microscopy_file(path: str | os.PathLike[str]) -> MicroscopyMetadata:
    """Read the metadata of a movie.

    Returns
    -------
    The metadata; unpacked, ``image, metadata = ...``, they are preceded by an image that reads single frames.

    Raises
    ------
    SourceError
        If the file cannot be read, or is in another format than its name says.
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
        if name in ("n_fovs", "n_frames", "height", "width", "n_channels") and of_movie[name] not in (value, None)
    ]
    if wrong:
        raise ConfigError(
            f"{given.file_path}: differs from its MicroscopyMetadata: {'; '.join(wrong)}. Fix: check that it is the "
            "right movie, then correct the metadata or use load_microscopy_file"
        )
    return read


def _described(read: Metadata) -> MicroscopyMetadata:
    height, width = read.fovs[0].shape
    channels = [channel.name for channel in read.channels]
    times = [] if read.times_min is None else read.times_min[0].tolist()
    return MicroscopyMetadata(
        read.path, movie_stem(read.path), len(read.fovs), read.n_frames, height, width,
        read.path.suffix.lower().removeprefix("."), len(channels), times, channels, read.channels[0].dtype,
    )  # fmt: skip


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
