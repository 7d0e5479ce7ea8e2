"""Settings by the names of OpenHCS, and the keys of a config that they stand for.

A field is None if the script does not set it. Settings without effect are listed in a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pyama_dask.errors import ConfigError, SettingsWarning

__all__ = ["GlobalPipelineConfig", "SettingsWarning"]


class Microscope(Enum):
    """Microscope that a plate comes from."""

    AUTO = "auto"
    IMAGEXPRESS = "imagexpress"
    OPERAPHENIX = "opera_phenix"


class Backend(Enum):
    """Place of images between steps."""

    AUTO = "auto"
    MEMORY = "memory"
    DISK = "disk"
    ZARR = "zarr"


class MaterializationBackend(Enum):
    """Place of images that are kept."""

    AUTO = "auto"
    DISK = "disk"
    ZARR = "zarr"


class ZarrCompressor(Enum):
    """Compressor of images."""

    BLOSC = "blosc"
    ZLIB = "zlib"
    LZ4 = "lz4"
    ZSTD = "zstd"
    NONE = "none"


class ZarrChunkStrategy(Enum):
    """Chunks of images."""

    AUTO = "auto"
    SINGLE = "single"
    FILE = "file"
    CUSTOM = "custom"


CODECS: Mapping[ZarrCompressor, str] = {
    ZarrCompressor.LZ4: "lz4", ZarrCompressor.BLOSC: "lz4", ZarrCompressor.ZSTD: "zstd", ZarrCompressor.ZLIB: "zstd",
    ZarrCompressor.NONE: "none",
}  # fmt: skip
CHUNKS: Mapping[ZarrChunkStrategy, str] = {
    ZarrChunkStrategy.SINGLE: "block", ZarrChunkStrategy.FILE: "frame", ZarrChunkStrategy.AUTO: "auto",
    ZarrChunkStrategy.CUSTOM: "auto",
}  # fmt: skip
HIGHEST_LEVEL = 9
FORMATS: Mapping[Microscope, str] = {Microscope.IMAGEXPRESS: "ImageXpress", Microscope.OPERAPHENIX: "Opera"}
"""Names that readers give to the formats of microscopes."""


def member(of: type[Enum], given: Any, where: str) -> Any:
    """Member of an enum by itself, its name or its value.

    Raises
    ------
    ConfigError
        If it is unknown; the message names the setting, `where`.
    """
    for one in of:
        if given is one or str(given).lower() in (str(one.value), one.name.lower()):
            return one
    raise ConfigError(f"{where}: {given!r} is unknown. Fix: use one of {', '.join(one.name for one in of)}")


def _as_members(settings: Any, where: str, **kinds: type[Enum]) -> None:
    """Replace names and values of enums in settings by the members."""
    for name, kind in kinds.items():
        if (given := getattr(settings, name)) is not None:
            object.__setattr__(settings, name, member(kind, given, f"{where}{name}"))


@dataclass(frozen=True)
class PathPlanningConfig:
    """Paths of results."""

    output_dir_suffix: str = "_outputs"
    """Ending of the output's name, after the name of the plate."""
    global_output_folder: str | Path | None = None
    """Folder of the output. If it is None, OpenHCS writes beside the plate. Here, the output is in the working
    directory then, which a warning says; if that is the folder that holds the plate, it is refused."""
    materialization_results_path: str | Path | None = None
    """No effect: tables are in the folders of the FOVs."""


@dataclass(frozen=True)
class VFSConfig:
    """Places of images."""

    intermediate_backend: Backend | None = None
    """MEMORY, or ZARR to store the images of every step."""
    materialization_backend: MaterializationBackend | None = None
    """ZARR; nothing else is written."""

    def __post_init__(self) -> None:
        _as_members(self, "vfs.", intermediate_backend=Backend, materialization_backend=MaterializationBackend)


@dataclass(frozen=True)
class ZarrConfig:
    """Form of stored images: ``storage`` of a config."""

    store_name: str | None = None
    """``images.zarr``; other names have no effect."""
    compressor: ZarrCompressor | None = None
    compression_level: int | None = None
    """Effort of the compressor, 1 to 9."""
    shuffle: bool | None = None
    chunk_strategy: ZarrChunkStrategy | None = None
    """SINGLE: one run of frames, in tiles; FILE: one frame."""
    ome_zarr_metadata: bool | None = None
    """True; OME-Zarr metadata are always written."""
    write_plate_metadata: bool | None = None
    """True for an OME-Zarr plate with the images of all wells; needs the seven steps."""

    def __post_init__(self) -> None:
        _as_members(self, "zarr.", compressor=ZarrCompressor, chunk_strategy=ZarrChunkStrategy)

    def keys(self) -> dict[str, Any]:
        """Keys of ``storage``."""
        found: dict[str, Any] = {}
        if self.compressor is not None:
            found["codec"] = CODECS[self.compressor]
        if found.get("codec") != "none":
            if self.compression_level is not None:
                found["level"] = min(max(self.compression_level, 1), HIGHEST_LEVEL)
            if self.shuffle is not None:
                found["shuffle"] = "on" if self.shuffle else "off"
        if self.chunk_strategy is not None:
            found["chunks"] = CHUNKS[self.chunk_strategy]
        return found

    def without_effect(self) -> Iterator[str]:
        """Yield messages about settings that have no effect, or another one."""
        if self.store_name not in (None, "images.zarr"):
            yield f"zarr.store_name ({self.store_name!r}): each FOV has the store images.zarr"
        if self.compressor in (ZarrCompressor.BLOSC, ZarrCompressor.ZLIB):
            yield f"zarr.compressor ({self.compressor.name}): {CODECS[self.compressor]} is used instead"
        level = self.compression_level
        if self.compressor is ZarrCompressor.NONE and level is not None:
            yield f"zarr.compression_level ({level}): nothing is compressed"
        elif level is not None and not 1 <= level <= HIGHEST_LEVEL:
            yield f"zarr.compression_level ({level}): levels are 1 to {HIGHEST_LEVEL}; the nearest one is used"
        if self.compressor is ZarrCompressor.NONE and self.shuffle:
            yield "zarr.shuffle (True): nothing is compressed"
        if self.chunk_strategy is ZarrChunkStrategy.CUSTOM:
            yield "zarr.chunk_strategy (CUSTOM): chunks are chosen automatically; 'storage.chunks' has other choices"
        if self.ome_zarr_metadata is False:
            yield "zarr.ome_zarr_metadata (False): they are always written"


@dataclass(frozen=True)
class GlobalPipelineConfig:
    """Settings of a plate's run."""

    num_workers: int | None = None
    """Worker processes on this machine; 1: this process; None: one per core."""
    path_planning: PathPlanningConfig = field(default_factory=PathPlanningConfig)
    vfs: VFSConfig = field(default_factory=VFSConfig)
    zarr: ZarrConfig = field(default_factory=ZarrConfig)
    microscope: Microscope = Microscope.AUTO
    use_threading: bool | None = None
    """No effect: workers are processes."""
    well_filter: Sequence[str] | str | None = None
    """Wells to process; None for all."""
    pyama: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a config of pyama_dask, such as ``{"params": {"frames": "0-9"}}``, which come before all others; without
    ``output`` and ``pipelines``."""

    def __post_init__(self) -> None:
        _as_members(self, "", microscope=Microscope)
        for key, fix in {"output": "set path_planning", "pipelines": "compile them"}.items():
            if key in self.pyama:
                raise ConfigError(f"pyama: {key!r} cannot be set here. Fix: {fix}")

    def without_effect(self, *, has_seven: bool) -> list[str]:
        """Messages about settings that have no effect, each of which begins with the setting.

        Parameters
        ----------
        has_seven
            True if the seven steps are among the pipelines.
        """
        found = list(self.zarr.without_effect())
        if self.path_planning.materialization_results_path is not None:
            given = str(self.path_planning.materialization_results_path)
            found.append(
                f"path_planning.materialization_results_path ({given!r}): tables are in the folders of the FOVs"
            )
        if self.vfs.intermediate_backend is Backend.DISK:
            found.append("vfs.intermediate_backend (DISK): images of all steps are stored as Zarr")
        if self.vfs.materialization_backend is MaterializationBackend.DISK:
            found.append("vfs.materialization_backend (DISK): images are stored as Zarr")
        if self.use_threading:
            found.append("use_threading (True): workers are processes")
        if self.zarr.write_plate_metadata and not has_seven:
            found.append("zarr.write_plate_metadata (True): a plate is written with the seven steps only")
        return found + list(self._replaced())

    def _replaced(self) -> Iterator[str]:
        """Yield messages about settings instead of which those of `pyama` count."""
        if self.num_workers is not None and self.pyama.get("cluster"):
            yield f"num_workers ({self.num_workers}): 'cluster' of pyama says where the work runs"
        if self.well_filter and "wells" in self.pyama.get("params", {}):
            yield f"well_filter ({self.well_filter!r}): 'params.wells' of pyama counts instead"
        for key in sorted(self.zarr.keys().keys() & self.pyama.get("storage", {}).keys()):
            yield f"zarr ({key}): 'storage.{key}' of pyama counts instead"

    @property
    def stores_all(self) -> bool:
        """True if the images of all steps are stored."""
        return self.vfs.intermediate_backend in (Backend.DISK, Backend.ZARR)

    def output_of(self, plate: Path) -> Path:
        """Output of a plate's run.

        Raises
        ------
        ConfigError
            If no folder is set, and the working directory is the folder that holds the plate.
        """
        folder, name = self.path_planning.global_output_folder, f"{plate.name}{self.path_planning.output_dir_suffix}"
        if folder is not None:
            return Path(folder).expanduser().absolute() / name
        if Path.cwd().resolve() in (plate.resolve().parent, plate.parent.resolve()):
            raise ConfigError(
                f"path_planning.global_output_folder: is not set, and the working directory, {Path.cwd()}, holds the "
                "plate, beside which nothing is written. Fix: set it to a folder for results"
            )
        return Path.cwd() / name

    def cluster(self, workers: int | None = None) -> dict[str, Any]:
        """``cluster`` of a config, for a number of workers; None for that of these settings.

        Raises
        ------
        ConfigError
            If the number is below 1.
        """
        count = self.num_workers if workers is None else workers
        if count is None:
            return {"kind": "local"}
        if not isinstance(count, int) or count < 1:
            name = "num_workers" if workers is None else "max_workers"
            raise ConfigError(f"{name}: must be 1 or more, not {count!r}. Fix: correct it, or leave it out")
        return {"kind": "serial"} if count == 1 else {"kind": "local", "workers": count}


PipelineConfig = GlobalPipelineConfig
"""The same settings by an older name."""
