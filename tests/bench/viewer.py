"""Memory of napari while it steps through a long movie: ``xvfb-run -a env PYTHONPATH=tests python -m bench.viewer``.

It needs what ``make look`` installs. The figures are in docs/viewing.md.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from support.movies import config

import pyama_dask
from pyama_dask.demo.movie import make_movie

FRAMES, SIZE, MADE = 180, 2048, 12
"""Frames and pixels of the movie, and frames that are processed: the others are copies of their shards."""


def make_output(folder: Path) -> Path:
    """Output of a FOV of `FRAMES` frames."""
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

    from pyama_dask.napari.start import layers_to_view
    from pyama_dask.napari.widget import CellsWidget

    process, viewer = psutil.Process(), napari.Viewer()
    for layer in layers_to_view(output, 0):
        viewer.add_layer(Layer.create(*layer))
    viewer.window.add_dock_widget(CellsWidget(viewer), name="Cells")
    sizes, began = [], time.perf_counter()
    for frame in range(FRAMES):
        viewer.dims.set_point(0, frame * float(viewer.layers[0].scale[0]))
        QApplication.processEvents()
        sizes.append(process.memory_info().rss / 2**20)
    seconds = (time.perf_counter() - began) / FRAMES
    visible = [layer.name for layer in viewer.layers if layer.visible]
    shape = viewer.layers[0].data.shape
    print(f"{shape}: {', '.join(visible)}")
    print(
        f"{np.max(sizes):.0f} MiB at most, {sizes[0]:.0f} at first, {sizes[-1]:.0f} in the end; {seconds:.2f} s a frame"
    )
    viewer.close()


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "BLOSC_NTHREADS"):
        os.environ.setdefault(name, "1")
    with tempfile.TemporaryDirectory(prefix="pyama-viewer-") as name:
        made = Path(sys.argv[1]) if len(sys.argv) > 1 else make_output(Path(name))
        if len(sys.argv) <= 1:
            lengthen(made / "fov_000/images.zarr")
        measure(made)
