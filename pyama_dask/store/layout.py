"""Arrays of a FOV: names, shapes, pixel types, chunks, shards and files; and which there are in ``images.zarr``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyama_dask.config.models import Config, Storage
from pyama_dask.errors import PlanError
from pyama_dask.kernels.tiles import grid_shape
from pyama_dask.store.compression import Compression
from pyama_dask.workflow.graph import Part, Role
from pyama_dask.workflow.task import Job

IMAGES = "images.zarr"
DOCUMENT = "zarr.json"
"""File that describes a group or an array."""
FULL_CHUNK, DISPLAY_CHUNK, BLOCK_CHUNK = 1024, 256, 256
"""Largest widths of chunks in pixels: at full size, for display, and with all frames of a block."""
USUAL_LEVEL: Mapping[str, int] = {"lz4": 5, "zstd": 1}
"""Level of each codec with ``storage.level: auto``."""
LARGEST_CHUNK = 2**31 - 1 - 16
"""Bytes that Blosc can compress at once."""
AXES = ("t", "y", "x")
Level = Literal[0, 1, "tiles"]
"""0: full resolution; 1: half as large, for display; tiles: the medians that a background is interpolated from."""


@dataclass(frozen=True)
class Tiles:
    """Geometry to rebuild a background from the medians of its tiles."""

    size: int
    """Width of a tile in pixels."""
    shape: tuple[int, int]
    """(H, W) of the background."""


@dataclass(frozen=True)
class ArraySpec:
    """A channel or product at one level: an array of ``images.zarr``, or one channel of an array of ``plate.zarr``."""

    group: str
    """Such as ``pc_ch_0``; empty for the arrays of an image in the plate."""
    role: Role
    level: Level
    shape: tuple[int, int, int]
    dtype: str
    block_frames: int
    codec: str
    tiles: Tiles | None = None
    stack: tuple[int, int] | None = None
    """Position among the channels of the array, and their number; None if the array has no axis of channels."""
    still: bool = False
    """True if the array has no axis of time, as there is one frame."""
    codec_level: int | None = None
    """Level of the codec; None for the usual one."""
    shuffled: bool = True
    """False to compress pixels in the order in which they are."""
    chunking: str = "auto"
    """``storage.chunks``; level 0 only."""
    store: str = IMAGES
    """Store in the FOV's folder, or in the plate."""
    stack_axis: str = "c"
    """Name of the axis that `stack` is a position on."""
    holds_labels: bool = False
    """True if a step of a user's own has made labels."""

    @property
    def path(self) -> str:
        """Path within the store."""
        return f"{self.group}/{self.level}".lstrip("/")

    @property
    def channel(self) -> int:
        """Index of the channel that it holds or is derived from."""
        return channel_of(self.group)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        return prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def is_raw(self) -> bool:
        """True if pixels are those of the movie."""
        return self.role in ("raw", "half_raw")

    @property
    def is_labels(self) -> bool:
        """True if pixels are labels or ids of tracks, not grey levels."""
        return self.holds_labels or self.role in ("labels", "tracks", "half_labels", "half_tracks")

    @property
    def is_tracked(self) -> bool:
        """True if pixels are ids of tracks."""
        return self.role in ("tracks", "half_tracks")

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(frames, h, w) of a chunk: equal parts of the frame, up to a limit; a whole block for the tiles' medians."""
        if self.level == "tiles":
            return (self.block_frames, *self.shape[1:])
        largest = DISPLAY_CHUNK if self.level else _largest_chunk(self.chunking, self.shape[1:])
        h, w = (max(1, -(-n // -(-n // largest))) if n else 1 for n in self.shape[1:])
        return (self.block_frames if self.is_deep else 1, h, w)

    @property
    def compression(self) -> Compression | None:
        """Settings of Blosc; None if chunks are not compressed.

        Raw pixels are shuffled by bits, because their noise is in a few low bits; all else is shuffled by bytes.
        """
        if self.codec == "none":
            return None
        noisy = not self.is_labels and self.dtype == "uint16"
        fits = "bitshuffle" if noisy else "shuffle" if np.dtype(self.dtype).itemsize > 1 else "noshuffle"
        level = USUAL_LEVEL[self.codec] if self.codec_level is None else self.codec_level
        return Compression(self.codec, level, fits if self.shuffled else "noshuffle")

    @property
    def is_deep(self) -> bool:
        """True if a chunk of pixels holds all frames of a block."""
        return self.level == 0 and self.chunking == "block"

    @property
    def shards(self) -> tuple[int, int, int] | None:
        """(block, H, W) of a shard: one block, with the frame rounded up to whole chunks; None for chunks alone."""
        if self.level == "tiles":
            return None
        h, w = (max(1, -(-n // c)) * c for n, c in zip(self.shape[1:], self.chunks[1:], strict=True))
        return (self.block_frames, h, w)

    def for_tracks(self, tracks: int) -> ArraySpec:
        """Spec for a number of tracks: tracked labels are uint16 if the ids fit, else uint32."""
        return replace(self, dtype="uint32") if self.is_tracked and tracks > np.iinfo(np.uint16).max else self

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the array."""
        return self.stored(AXES, self.stack_axis)

    def stored(self, of: tuple[Any, Any, Any], channel: Any) -> tuple[Any, ...]:
        """Values along the axes of the array, such as the sizes of a chunk, from those along t, y and x."""
        t, y, x = of
        return (*(() if self.still else (t,)), *(() if self.stack is None else (channel,)), y, x)

    def shard_file(self, images: Path, block: int) -> Path:
        """File of a block."""
        place = self.stored((block, 0, 0), self.stack and self.stack[0])
        return images / self.path / ".".join(map(str, ("c", *place)))


def _largest_chunk(chunking: str, shape: tuple[int, ...]) -> int:
    """Largest width of a chunk at full size, by ``storage.chunks``."""
    if chunking.startswith("tiles"):
        return int(chunking.rpartition(" ")[2])
    return {"auto": FULL_CHUNK, "frame": max(1, *shape), "block": BLOCK_CHUNK}[chunking]


def changed_form(storage: Storage) -> dict[str, Any]:
    """Settings of level, shuffling and chunks by which arrays at full size get other bytes than by default."""
    level = None if storage.level in ("auto", USUAL_LEVEL.get(storage.codec)) else storage.level
    shuffle = "off" if storage.shuffle == "off" and storage.codec != "none" else None
    chunks = None if storage.chunks in ("auto", f"tiles of {FULL_CHUNK}") else storage.chunks
    wanted = {"level": level, "shuffle": shuffle, "chunks": chunks}
    return {key: value for key, value in wanted.items() if value is not None}


def form_of(storage: Storage) -> dict[str, Any]:
    """Fields of `ArraySpec` that say how arrays at full size are stored, by name."""
    form = changed_form(storage)
    return {
        "codec": storage.codec, "codec_level": form.get("level"), "shuffled": "shuffle" not in form,
        "chunking": form.get("chunks", "auto"),
    }  # fmt: skip


def check_chunks(specs: Iterable[ArraySpec]) -> None:
    """Refuse chunks that are too large to compress.

    Raises
    ------
    PlanError
        If an array has such chunks.
    """
    for spec in specs:
        size = 4 if spec.is_tracked else np.dtype(spec.dtype).itemsize  # ids may turn out to need 4 bytes
        if spec.codec != "none" and prod(spec.chunks) * size > LARGEST_CHUNK:
            raise PlanError(
                f"{spec.path}: chunks of {' x '.join(map(str, spec.chunks))} pixels are too large to compress "
                "(2 GiB at most). Fix: set storage.chunks to auto, or lower storage.block_frames"
            )


def layout(job: Job, shape: tuple[int, int]) -> dict[str, ArraySpec]:
    """Arrays of a FOV by path.

    Parameters
    ----------
    job
        Its config decides which arrays there are.
    shape
        (H, W) of the FOV in pixels.
    """
    config, n_frames, block_frames = job.config, job.n_frames, job.block_frames
    if not config.has_seven:
        return {}
    pc, fl = channel_indices(config)
    half = shape[0] // 2, shape[1] // 2
    stored = form_of(config.storage)
    groups: dict[str, Role] = {raw_name("pc", pc): "raw"} if pc is not None else {}
    groups |= {raw_name("fl", channel): "raw" for channel in fl}
    backgrounds = []
    if pc is not None and not config.params.copy_only:
        groups |= {labels_name(pc): "labels", tracked_name(pc): "tracks"}
        backgrounds = [background_name(channel) for channel in fl]
    whole = (n_frames, *shape)
    specs = [ArraySpec(group, role, 0, whole, "uint16", block_frames, **stored) for group, role in groups.items()]
    for group in backgrounds:
        if config.storage.background == "full":
            specs.append(ArraySpec(group, "background", 0, whole, "float32", block_frames, **stored))
        tiles = Tiles(config.params.background_params["tile_size"], shape)
        grid = (n_frames, *grid_shape(shape, tiles.size))
        specs.append(ArraySpec(group, "background", "tiles", grid, "float64", block_frames, "lz4", tiles))
    if config.storage.display == "on":
        shown = (*groups, *backgrounds)
        specs += [ArraySpec(group, "display", 1, (n_frames, *half), "uint8", block_frames, "lz4") for group in shown]
    return {spec.path: spec for spec in specs}


def products(specs: Mapping[str, ArraySpec], part: Part) -> list[ArraySpec]:
    """Arrays whose shards a part writes."""
    return [spec for spec in specs.values() if spec.role in part.writes]


def channel_indices(config: Config) -> tuple[int | None, tuple[int, ...]]:
    """Indices of the phase channel and the fluorescence channels of a resolved config."""
    pc = config.channels.pc
    return (None if pc is None else int(pc.channel)), tuple(int(choice.channel) for choice in config.channels.fl)


def is_group(name: str) -> bool:
    """Check for the name of a group with a channel or product."""
    return re.fullmatch(r"(pc|fl|seg_labeled|seg_tracked|fl_background)_ch_\d+", name) is not None


def is_raw_group(name: str) -> bool:
    """Check for the name of a group with a channel of the movie."""
    return is_group(name) and name.startswith(("pc_ch_", "fl_ch_"))


def channel_of(group: str) -> int:
    """Index of the channel that a group holds or is derived from."""
    return int(group.rpartition("_")[2])


def raw_name(kind: Literal["pc", "fl"], channel: int) -> str:
    """Group of a raw channel."""
    return f"{kind}_ch_{channel}"


def labels_name(channel: int) -> str:
    """Group of the labels of single frames."""
    return f"seg_labeled_ch_{channel}"


def tracked_name(channel: int) -> str:
    """Group of the tracked labels."""
    return f"seg_tracked_ch_{channel}"


def background_name(channel: int) -> str:
    """Group of a fluorescence background."""
    return f"fl_background_ch_{channel}"
