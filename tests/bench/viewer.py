"""Memory of napari while it steps through a long movie: ``xvfb-run -a env PYTHONPATH=tests python -m bench.viewer``.

It needs what ``make look`` installs. A subprocess measures, as the run that makes the output leaves its memory in
this one; with the folder of a long output as argument, only that. The figures are in docs/viewing.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

FRAMES, SIZE, MADE = 180, 2048, 12
"""Frames and pixels of the movie, and frames that are processed: the others are copies of their shards."""


def make_output(folder: Path) -> Path:
    """Output of a FOV of `FRAMES` frames."""
    from support.movies import config

    import pyama_dask
    from pyama_dask.demo.movie import make_movie

    make_movie(folder, fovs=1, frames=MADE, shape=(SIZE, SIZE), cells=200)
    output = folder / "results"
    pyama_dask.run(config(folder / "movie.czi", output, {"storage.block_frames": MADE}))
    return output


def lengthen(images: Path) -> None:
    """Repeat the only block of every array."""
    for array in images.glob("*/[01t]*"):
        text = (array / "zarr.json").read_text()
        (array / "zarr.json").write_text(text.replace(f"{MADE},", f"{FRAMES},", 1))
        for block in range(1, FRAMES // MADE):
            shutil.copy(array / "c.0.0.0", array / f"c.{block}.0.0")


def measure(output: Path) -> None:
    """Open the FOV, show every frame, and print the largest memory."""
    import napari
    from napari.layers import Layer
    from qtpy.QtWidgets import QApplication

    process, viewer = psutil.Process(), napari.Viewer()
    QApplication.processEvents()
    print(f"{process.memory_info().rss / 2**20:.0f} MiB for an empty window", flush=True)
    from pyama_dask.napari.start import layers_to_view, save_memory

    save_memory()
    images = output / "fov_000/images.zarr"
    for path in (images / "pc_ch_0", images / "seg_tracked_ch_0"):
        viewer.add_layer(Layer.create(*layers_to_view(path, None)[0]))
    _step(viewer, process, "image and labels")
    viewer.layers.clear()
    from pyama_dask.napari.widget import CellsWidget

    for layer in layers_to_view(output, 0):
        viewer.add_layer(Layer.create(*layer))
    viewer.window.add_dock_widget(CellsWidget(viewer), name="Cells")
    _step(viewer, process, "all layers and the panel")
    viewer.close()


def _step(viewer: Any, process: psutil.Process, what: str) -> None:
    """Show every frame, and print the largest memory."""
    from qtpy.QtWidgets import QApplication

    sizes, began = [], time.perf_counter()
    for frame in range(FRAMES):
        viewer.dims.set_point(0, frame * float(viewer.layers[0].scale[0]))
        QApplication.processEvents()
        sizes.append(process.memory_info().rss / 2**20)
    seconds = (time.perf_counter() - began) / FRAMES
    memory = f"{np.max(sizes):.0f} MiB at most, {sizes[0]:.0f} at first, {sizes[-1]:.0f} in the end"
    print(f"{what}, {FRAMES} frames: {memory}; {seconds:.2f} s a frame", flush=True)


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"):
        os.environ.setdefault(name, "1")
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="pyama-viewer-") as name:
            made = make_output(Path(name))
            lengthen(made / "fov_000/images.zarr")
            subprocess.run([sys.executable, "-m", "bench.viewer", made], check=True)
