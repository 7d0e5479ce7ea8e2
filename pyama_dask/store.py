"""Zarr on disk: which arrays a FOV has, creating them, and reading and writing whole blocks.

A shard holds one block of one array, so that every shard has exactly one writer. The driver creates the arrays (but the
one of tracked labels, see `create_images`); tasks open them and write each shard in one assignment.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorstore
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import MemoryStore

from pyama_dask.config import Config
from pyama_dask.errors import StoreError
from pyama_dask.files import write_bytes
from pyama_dask.tasks import Kind, Step

IMAGES = "images.zarr"
FULL_CHUNK, DISPLAY_CHUNK = 1024, 256
AXES = ("t", "y", "x")


@dataclass(frozen=True)
class ArraySpec:
    """One array of ``images.zarr``: a channel or product at one level."""

    group: str
    """Such as ``pc_ch_0``."""
    level: int
    """0: full resolution; 1: for display."""
    shape: tuple[int, int, int]
    dtype: str
    block_frames: int
    codec: str

    @property
    def path(self) -> str:
        """Path within the store."""
        return f"{self.group}/{self.level}"

    @property
    def is_labels(self) -> bool:
        """Whether pixels are labels, not grey levels."""
        return self.group.startswith("seg_")

    @property
    def is_tracked(self) -> bool:
        """Whether pixels are ids of tracks at full resolution."""
        return self.group.startswith("seg_tracked") and self.level == 0

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(1, h, w) of a chunk: even parts of the frame, none larger than the level allows."""
        largest = DISPLAY_CHUNK if self.level else FULL_CHUNK
        h, w = (max(1, -(-n // -(-n // largest))) if n else 1 for n in self.shape[1:])
        return (1, h, w)

    @property
    def shards(self) -> tuple[int, int, int]:
        """(block, H, W) of a shard: one block, with the frame rounded up to whole chunks."""
        h, w = (max(1, -(-n // c)) * c for n, c in zip(self.shape[1:], self.chunks[1:], strict=True))
        return (self.block_frames, h, w)

    def shard_file(self, images: Path, block: int) -> Path:
        """File of a block."""
        return images / self.path / f"c.{block}.0.0"


def layout(config: Config, shape: tuple[int, int], n_frames: int, block_frames: int) -> dict[str, ArraySpec]:
    """Arrays of one FOV by path, for a resolved config.

    Parameters
    ----------
    config
        Resolved config; decides which products there are.
    shape
        (H, W) of the FOV in pixels.
    n_frames, block_frames
        Frames of the movie, and of a block.
    """
    pc, fl = channel_indices(config)
    dtypes = {raw_name("pc", pc): "uint16"} if pc is not None else {}
    dtypes |= {raw_name("fl", channel): "uint16" for channel in fl}
    if pc is not None and not config.params.copy_only:
        dtypes |= {labels_name(pc): "uint16", tracked_name(pc): "uint16"}
        dtypes |= {background_name(channel): "float32" for channel in fl}
    specs = {}
    for group, dtype in dtypes.items():
        for level, size, pixel in ((0, shape, dtype), (1, (shape[0] // 2, shape[1] // 2), "uint8")):
            codec = "lz4" if level else config.storage.codec
            spec = ArraySpec(group, level, (n_frames, *size), pixel, block_frames, codec)
            specs[spec.path] = spec
    return specs


def products(specs: Mapping[str, ArraySpec], kind: Kind, step: Step) -> list[ArraySpec]:
    """Arrays whose shards a step of a task on a block writes."""
    if (kind, step) == ("finish", "cache"):
        return [spec for spec in specs.values() if spec.level == 1]
    groups = {
        ("ingest", "copy"): ("pc_ch_", "fl_ch_"),
        ("ingest", "segment"): ("seg_labeled_ch_",),
        ("ingest", "background"): ("fl_background_ch_",),
        ("finish", "track"): ("seg_tracked_ch_",),
    }.get((kind, step), ())
    return [spec for spec in specs.values() if spec.level == 0 and spec.group.startswith(groups)]


def channel_indices(config: Config) -> tuple[int | None, tuple[int, ...]]:
    """Indices of the phase channel and the fluorescence channels of a resolved config."""
    pc = config.channels.pc
    return (None if pc is None else int(pc.channel)), tuple(int(choice.channel) for choice in config.channels.fl)


def raw_name(kind: Literal["pc", "fl"], channel: int) -> str:
    """Group of a raw channel."""
    return f"{kind}_ch_{channel}"


def labels_name(channel: int) -> str:
    """Group of the labels of single frames."""
    return f"seg_labeled_ch_{channel}"


def tracked_name(channel: int) -> str:
    """Group of the labels that are the same over time."""
    return f"seg_tracked_ch_{channel}"


def background_name(channel: int) -> str:
    """Group of a fluorescence background."""
    return f"fl_background_ch_{channel}"


# --------------------------------------------------------------------------------------------- creation


def write_groups(
    images: Path, specs: Mapping[str, ArraySpec], *, scale: tuple[float, float | None], attributes: Mapping[str, Any]
) -> None:
    """Write the groups of a FOV.

    Parameters
    ----------
    images
        The store, ``fov_000/images.zarr``.
    specs
        Its arrays.
    scale
        Minutes between frames, and micrometres a pixel; None if that is not known.
    attributes
        Attributes of the root group.
    """
    write_group(images, attributes)
    raw = next(name for spec in specs.values() if not spec.is_labels and (name := spec.group))
    for spec in specs.values():
        if spec.level == 0:
            write_group(images / spec.group, ngff(spec, scale, raw))


def create_images(images: Path, specs: Mapping[str, ArraySpec]) -> None:
    """Create the arrays of a FOV; those that are there and as they should be are left alone.

    Tracked labels are left to the task that finds the tracks: how wide their ids must be is known then.
    """
    for spec in specs.values():
        if not spec.is_tracked:
            create_array(images, spec)


def create_array(images: Path, spec: ArraySpec) -> None:
    """Create one array, or replace it with all its data where it is another one."""
    document = images / spec.path / "zarr.json"
    wanted = _array_document(spec.shape, spec.chunks, spec.shards, spec.dtype, spec.codec)
    if not document.exists() or document.read_bytes() != wanted:
        shutil.rmtree(document.parent, ignore_errors=True)
        write_bytes(document, wanted)


def write_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Create a group, or replace its attributes where they differ."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    content, file = json.dumps(document, indent=1).encode(), path / "zarr.json"
    if not file.exists() or file.read_bytes() != content:
        write_bytes(file, content)


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a group or array."""
    attributes: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())["attributes"]
    return attributes


@lru_cache(maxsize=256)
def _array_document(
    shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...] | None, dtype: str, codec: str
) -> bytes:
    """``zarr.json`` of an array as zarr writes it; made in memory once, as FOVs differ in nothing here."""
    held: dict[str, Any] = {}
    zarr.create_array(
        MemoryStore(held), shape=shape, chunks=chunks, shards=shards, dtype=dtype, fill_value=0,
        compressors=compressors(codec, dtype), dimension_names=AXES if len(shape) == len(AXES) else None,
        chunk_key_encoding={"name": "default", "separator": "."},  # a file of a shard, not a folder an axis
    )  # fmt: skip
    return bytes(held["zarr.json"].to_bytes())


def compressors(codec: str, dtype: str) -> tuple[Any, ...]:
    """Compressors by the config's name of a codec."""
    size = np.dtype(dtype).itemsize
    if codec == "lz4":
        return (BloscCodec(cname="lz4", clevel=5, shuffle="shuffle" if size > 1 else "noshuffle", typesize=size),)
    return (ZstdCodec(level=1),) if codec == "zstd" else ()


def ngff(spec: ArraySpec, scale: tuple[float, float | None], raw: str) -> dict[str, Any]:
    """OME-NGFF 0.5 attributes of a channel's group; level 1 is left out, as it has other grey levels."""
    minutes, pixel = scale
    unit = {} if pixel is None else {"unit": "micrometer"}
    size = pixel or 1.0
    multiscale = {
        "name": spec.group,
        "axes": [
            {"name": "t", "type": "time", "unit": "minute"},
            {"name": "y", "type": "space"} | unit,
            {"name": "x", "type": "space"} | unit,
        ],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [minutes, size, size]}]}],
    }
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    if spec.is_labels:
        ome["image-label"] = {"version": "0.5", "source": {"image": f"../{raw}"}}
    return {"ome": ome}


# ------------------------------------------------------------------------------------- reading, writing


def open_array(images: Path, spec: ArraySpec) -> zarr.Array[Any]:
    """Open an array that exists.

    Raises
    ------
    StoreError
        If it does not exist.
    """
    try:
        # an all-zero shard must be a file too: a missing one means not done
        return zarr.open_array(images / spec.path, mode="r+").with_config({"write_empty_chunks": True})
    except FileNotFoundError as error:
        raise StoreError(f"{images / spec.path}: the array is gone; run again to make it anew") from error


def write_block(images: Path, spec: ArraySpec, start: int, data: np.ndarray) -> Path:
    """Write one block of an array and give its shard file.

    Raises
    ------
    StoreError
        If the data is not exactly one block, or has another pixel type: a shard has one writer, and nothing is cast.
    """
    block, rest = divmod(start, spec.block_frames)
    stop = min(start + spec.block_frames, spec.shape[0])
    array = open_array(images, spec)
    if rest or data.shape != (stop - start, *spec.shape[1:]) or data.dtype != array.dtype:
        raise StoreError(
            f"{images / spec.path}: {data.dtype} {data.shape} at frame {start} is not one block of "
            f"{array.dtype} {spec.block_frames} x {spec.shape[1:]}"
        )
    file = spec.shard_file(images, block)
    try:
        array[start:stop] = data
    except (ValueError, RuntimeError):  # zarr stumbles over a torn shard, though all of it is to be replaced
        file.unlink(missing_ok=True)
        array[start:stop] = data
    return file


def _opened(path: Path) -> tensorstore.TensorStore:
    """Open an array for reading with tensorstore, which reads shards at half of zarr-python's cost."""
    limits = {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}}
    source = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(source, context=tensorstore.Context(limits), open=True, read=True).result()


def read_block(images: Path, spec: ArraySpec, start: int, stop: int) -> np.ndarray:
    """Read the frames of one block.

    Raises
    ------
    StoreError
        If the block's shard is not there: Zarr would give zeros for it.
    """
    file = spec.shard_file(images, start // spec.block_frames)
    if not file.exists():
        raise StoreError(f"{file}: the shard is gone; 'pyama-dask run' with the step before makes it anew")
    try:
        return np.asarray(_opened(images / spec.path)[start:stop].read().result())
    except (ValueError, RuntimeError, OSError) as error:
        raise StoreError(f"{file}: the shard is damaged ({error}); remove it and run again") from error
