"""Start of napari with an output, from the command line."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from pyama_dask.analysis.output import open_output
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.napari.layers import Colormap, LayerData, layers_at, napari_colormap
from pyama_dask.napari.places import Place, place_of

INSTALL = "pip install 'pyama-dask[napari]'"
MALLOC = {-1: 2**17, -3: 2**17, -8: 1}
"""Options of glibc's `mallopt`: bytes from which memory is trimmed and mapped by itself, and number of arenas."""


def layers_to_view(path: Path, fov: int | str | None, colormap: Colormap = napari_colormap) -> list[LayerData]:
    """Layers of an output, a FOV or a channel.

    Parameters
    ----------
    path
        Its folder.
    fov
        FOV of an output, by number or name; None for the first one with traces.
    colormap
        As for `layers_at`.

    Raises
    ------
    OutputError
        If the folder is something else, or the output has no such FOV.
    """
    return layers_at(place_to_view(path, fov), colormap)


def place_to_view(path: Path, fov: int | str | None) -> Place:
    """Find the output, FOV or channel to show; parameters and errors as for `layers_to_view`."""
    place = place_of(path)
    if place is None and not path.exists():
        raise OutputError(f"{path}: no such folder. Fix: check the path")
    if place is None:
        raise OutputError(
            f"{path}: is not an output of pyama_dask, nor a FOV, a channel or a plate in one. Fix: pass the output of "
            "a run"
        )
    if fov is not None:
        if place.fov is not None:
            raise OutputError(f"{path}: is not a whole output. Fix: leave out --fov, or pass the output of a run")
        place = Place(place.output, open_output(place.output)[fov].directory)
    return place


def check_napari() -> None:
    """Check that napari is installed, and that there is a screen.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    if find_spec("napari") is None or not any(find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        raise ConfigError(f"napari is not installed here. Fix: {INSTALL}")
    if sys.platform.startswith("linux") and "QT_QPA_PLATFORM" not in os.environ and not _has_screen():
        raise ConfigError(
            "there is no display for napari. Fix: run this on a computer with a screen, or connect with 'ssh -X'"
        )


def _has_screen() -> bool:
    """True if a display answers; Qt would end the program if none does."""
    if "WAYLAND_DISPLAY" in os.environ:
        return True
    if not os.environ.get("DISPLAY"):
        return False
    library = ctypes.util.find_library("X11")
    if library is None:
        return True  # Qt brings its own
    x11 = ctypes.CDLL(library)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)


def save_memory() -> None:
    """Have this process keep little memory: arrays that are freed go back to the system at once.

    Frames are read in the thread that shows them. Without a scheduler by name, Dask would import all of distributed.
    """
    import dask  # noqa: PLC0415  (only before napari starts)

    dask.config.set(scheduler="synchronous")
    libc = ctypes.CDLL(None)
    if sys.platform.startswith("linux") and hasattr(libc, "mallopt"):
        for option, value in MALLOC.items():
            libc.mallopt(option, value)


def view(path: Path, fov: int | str | None = None) -> None:
    """Show an output in napari, with the widget for its cells; returns when the window is closed.

    Parameters
    ----------
    path
        Folder of an output, a FOV or a channel.
    fov
        FOV of an output, by number or name; None for the first one with traces.

    Raises
    ------
    ConfigError
        If napari or a display is missing.
    OutputError
        If there is nothing to show.
    """
    place = place_to_view(path, fov)
    check_napari()
    save_memory()
    layers = layers_at(place)
    import napari  # noqa: PLC0415  (it need not be there)
    from napari.layers import Layer  # noqa: PLC0415

    from pyama_dask.napari.widget import CellsWidget  # noqa: PLC0415

    viewer = napari.Viewer(title=f"{path.name} - pyama_dask")
    for layer in layers:
        viewer.add_layer(Layer.create(*layer))
    viewer.window.add_dock_widget(CellsWidget(viewer), name="Cells")
    napari.run()
