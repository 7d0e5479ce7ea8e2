"""``python -m bench.codecs``: what it costs to write and read each kind of array, by codec and shard length.

CPU of one core in ms for a frame of 2048 x 2048, and how much smaller it gets. New files each time, as in a run: frame
by frame, past the page cache where a run would do that, and into memory that is used again; beside it, zarr-python.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from support.shards import write_block

from bench.kernels import frame_of_200_cells
from bench.runs import write_with_zarr
from bench.spent import spent
from pyama_dask.files.paged import direct_works
from pyama_dask.kernels.background import background
from pyama_dask.kernels.segmentation import segment
from pyama_dask.store import arrays
from pyama_dask.store.layout import ArraySpec
from pyama_dask.store.shards import ShardReader

FRAMES, REPEATS = 12, 5
CODECS = ("lz4", "zstd", "none")


def products() -> Iterator[tuple[ArraySpec, np.ndarray]]:
    """Arrays of a block, and what is in them: the same frame shifted from one to the next."""
    phase, fluorescence = frame_of_200_cells()
    labels = segment(phase)
    for group, role, frame in (
        ("pc_ch_0", "raw", phase),
        ("fl_ch_1", "raw", fluorescence),
        ("seg_labeled_ch_0", "labels", labels),
        ("fl_background_ch_1", "background", background(fluorescence, labels)),
    ):
        stack = np.stack([np.roll(frame, 31 * k, axis=0) for k in range(FRAMES)])
        yield ArraySpec(group, role, 0, stack.shape, stack.dtype.name, FRAMES, "lz4"), stack


@cache
def is_direct() -> bool:
    """True if runs in the temporary folder would write shards past the page cache."""
    return direct_works(Path(tempfile.gettempdir()))


def write_by_frame(images: Path, spec: ArraySpec, start: int, data: np.ndarray) -> Path:
    """Write the block that begins at a frame as a task does, and give its file."""
    return write_block(images, spec, start, data, spec.chunks[0], direct=is_direct() and spec.shards is not None)


def read_by_frame(images: Path, spec: ArraySpec, start: int, out: np.ndarray) -> Iterator[np.ndarray]:
    """Read the block that begins at a frame as a task does, into `out` (frames of a chunk, H, W) again and again."""
    direct = is_direct() and spec.shards is not None
    with closing(ShardReader(images, spec, start // spec.block_frames, direct=direct)) as reader:
        for first in range(0, min(spec.block_frames, spec.shape[0] - start), len(out)):
            reader.read(first, out)
            yield out


def measured(spec: ArraySpec, data: np.ndarray, write: Callable[..., object]) -> tuple[float, float, float]:
    """CPU in ms a frame to write and to read, and how many times smaller it is on disk."""
    writing, reading, size = [], [], 0
    frames = np.empty((spec.chunks[0], *spec.shape[1:]), spec.dtype)
    for _ in range(REPEATS):
        images = Path(tempfile.mkdtemp(prefix="pyama-codecs-"))
        arrays.create_array(images, spec)
        starts = range(0, FRAMES, spec.block_frames)
        with spent() as written:
            for start in starts:
                write(images, spec, start, data[start : start + spec.block_frames])
        with spent() as read:
            for start in starts:
                for _ in read_by_frame(images, spec, start, frames):
                    pass
        size = sum(file.stat().st_size for file in (images / spec.path).glob("c.*"))
        writing.append(written.cpu)
        reading.append(read.cpu)
    return min(writing) / FRAMES * 1e3, min(reading) / FRAMES * 1e3, data.nbytes / size


def print_tables() -> None:
    """Print two tables: by codec, and by length of the shards."""
    everything = list(products())
    print(f"direct transfers: {'on' if is_direct() else 'off'}\n")
    print("| array | codec | write, zarr-python | write | read | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for spec, data in everything:
        for codec in CODECS:
            one = replace(spec, codec=codec)
            plain, _, _ = measured(one, data, write_with_zarr)
            write, read, smaller = measured(one, data, write_by_frame)
            print(f"| {spec.group} | {codec} | {plain:.1f} | {write:.1f} | {read:.1f} | {smaller:.2f} |", flush=True)
    print("\n| frames per shard | " + " | ".join(f"write {spec.group}" for spec, _ in everything) + " |")
    print("| --- |" + " --- |" * len(everything))
    for length in (1, 3, 6, 12):
        found = [measured(replace(spec, block_frames=length), data, write_by_frame)[0] for spec, data in everything]
        print(f"| {length} | " + " | ".join(f"{ms:.1f}" for ms in found) + " |", flush=True)


def main() -> None:
    """Measure in a temporary folder, and remove all files at the end only."""
    with tempfile.TemporaryDirectory(prefix="pyama-codecs-") as tempfile.tempdir:
        print_tables()


if __name__ == "__main__":
    main()
