"""``python -m bench.forms``: bytes and CPU of each form in which ``storage`` can write an array, on one core.

A made block of 2048 x 2048 pixels, and one of 512 x 512 with real phase contrast where the shared data are there. CPU
in ms per frame, minima of repeats, new files each time: to write, to read, and to read all frames of 100 x 100 pixels.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.codecs import products, read_by_frame, write_by_frame
from bench.spent import spent
from bench.tracking import COMPOSITE
from pyama_dask.kernels.background import background
from pyama_dask.kernels.segmentation import segment
from pyama_dask.readers import open_reader
from pyama_dask.store import arrays
from pyama_dask.store.layout import ArraySpec

REPEATS, SIDE = 3, 100
FORMS: dict[str, dict[str, Any]] = {
    f"{codec} {level}": {"codec": codec, "codec_level": level}
    for codec, levels in (("lz4", (1, 5, 9)), ("zstd", (1, 3, 6)))
    for level in levels
}
FORMS |= {f"{codec}, shuffle: off": {"codec": codec, "shuffled": False} for codec in ("lz4", "zstd")}
FORMS |= {
    f"{codec}, chunks: {chunks}": {"codec": codec, "chunking": chunks}
    for codec in ("lz4", "zstd", "none")
    for chunks in ("frame", "tiles of 256", "block")
}
ROLES = ("raw", "raw", "labels", "background")


def composite() -> Iterator[tuple[ArraySpec, np.ndarray]]:
    """Arrays of a block of a movie of 512 x 512 pixels: real phase contrast, and drawn fluorescence."""
    with open_reader(COMPOSITE.parent / "t98g.nd2") as reader:
        frames = np.stack([reader.read_frame(0, t) for t in range(reader.metadata.n_frames)])
    labels = np.stack([segment(frame[0]) for frame in frames])
    back = np.stack([background(frame[1], of) for frame, of in zip(frames, labels, strict=True)])
    groups = ("pc_ch_0", "fl_ch_1", "seg_labeled_ch_0", "fl_background_ch_1")
    for group, role, stack in zip(groups, ROLES, (frames[:, 0], frames[:, 1], labels, back), strict=True):
        yield ArraySpec(group, role, 0, stack.shape, stack.dtype.name, len(stack), "lz4"), stack


def measured(spec: ArraySpec, data: np.ndarray) -> tuple[float, float, float, float]:
    """CPU in ms per frame to write, to read all, and to read traces; and KiB per frame."""
    cpu, size, middle = list[list[float]](), 0, [n // 2 - SIDE // 2 for n in spec.shape[1:]]
    frames = np.empty((spec.chunks[0], *spec.shape[1:]), spec.dtype)
    for _ in range(REPEATS):
        images = Path(tempfile.mkdtemp(prefix="pyama-forms-"))
        arrays.create_array(images, spec)
        with spent() as written:
            file = write_by_frame(images, spec, 0, data)
        with spent() as read:
            for _ in read_by_frame(images, spec, 0, frames):
                pass
        assert np.array_equal(frames, data[-len(frames) :])
        opened = arrays._opened(images / spec.path)
        with spent() as traced:
            for _ in range(4):
                opened[(slice(None), *(slice(at, at + SIDE) for at in middle))].read().result()
        size = file.stat().st_size
        cpu.append([written.cpu, read.cpu, traced.cpu / 4])
    write, read_all, trace = (min(of) / len(data) * 1e3 for of in zip(*cpu, strict=True))
    return write, read_all, trace, size / len(data) / 1024


def print_tables() -> None:
    """Print a table per movie; of forms whose names contain one of the arguments, if there are any."""
    wanted = sys.argv[1:] or [""]
    movies = ({"512 x 512, real phase": composite} if COMPOSITE.exists() else {}) | {"2048 x 2048, made": products}
    for name, blocks in movies.items():
        held = list(blocks())
        print(f"\n{name}: write / read / traces in ms, KiB per frame")
        print("| form | " + " | ".join(spec.group for spec, _ in held) + " |\n| --- |" + " --- |" * len(held))
        for form, changes in ((form, of) for form, of in FORMS.items() if any(word in form for word in wanted)):
            cells = (measured(replace(spec, **changes), data) for spec, data in held)
            shown = (f"{w:.2f} / {r:.2f} / {t:.3f}, {size:.0f}" for w, r, t, size in cells)
            print(f"| {form} | " + " | ".join(shown) + " |", flush=True)


def main() -> None:
    """Measure in a temporary folder, and remove all files at the end only."""
    with tempfile.TemporaryDirectory(prefix="pyama-forms-") as tempfile.tempdir:
        print_tables()


if __name__ == "__main__":
    main()
