"""Layers of a FOV for napari, as plain tuples: images read frame by frame, labels, and tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyama_dask.analysis.fov import Fov, Image
from pyama_dask.analysis.lazy_images import readable
from pyama_dask.analysis.output import Output, open_output
from pyama_dask.errors import OutputError
from pyama_dask.files.palette import LIGHT, grey_range
from pyama_dask.napari.cells import Cells, cells_of
from pyama_dask.napari.places import Place
from pyama_dask.store.arrays import read_attributes
from pyama_dask.store.layout import IMAGES, background_name, channel_of, is_raw_group

LayerData = tuple[Any, dict[str, Any], str]
"""Data, keyword arguments and kind of a layer."""
OURS = "pyama_dask"
"""Key of the metadata of layers that are made here: folder of the FOV, and group."""
Colormap = Callable[[npt.NDArray[np.float64]], Any]
"""Makes a colormap of napari from (N, 4) colours."""
MOST_PLANES = 8
"""Largest number of planes of an image that all get a layer beside those of the FOV."""
SAMPLED = 500
"""Rows and columns of a frame, about, that contrast limits are found from."""
NAMES = {"#00FF00": "green", "#FF00FF": "magenta", "#00FFFF": "cyan", "#FFFF00": "yellow"}
"""Colormaps of napari, by the colour of a channel."""


def napari_colormap(colours: npt.NDArray[np.float64]) -> Any:
    """Colormap of napari with these colours at equal distances."""
    from napari.utils import Colormap  # noqa: PLC0415  (only where napari runs)

    return Colormap(np.repeat(colours, 2, axis=0) if len(colours) == 1 else colours, name="cells")


def layers_at(place: Place, colormap: Colormap = napari_colormap) -> list[LayerData]:
    """Layers of an output, a FOV or a channel; of an output, its first FOV with traces.

    Parameters
    ----------
    place
        What to open.
    colormap
        Makes the colormap of tracks.

    Raises
    ------
    OutputError
        If there is nothing to show.
    """
    fov = first_fov(open_output(place.output)) if place.fov is None else Fov(place.fov)
    return group_layers(fov, place.group) if place.group else fov_layers(fov, colormap)


def first_fov(output: Output) -> Fov:
    """First FOV with traces; the first one if none has.

    Raises
    ------
    OutputError
        If no FOV has been started.
    """
    fovs = [output[fov] for fov in output.fovs]
    if not fovs:
        raise OutputError(f"{output.directory}: has no FOV yet. Fix: wait until the run has begun one")
    return next((fov for fov in fovs if any(fov.directory.glob("*_traces.csv"))), fovs[0])


def fov_layers(fov: Fov, colormap: Colormap = napari_colormap) -> list[LayerData]:
    """All layers of a FOV: phase, fluorescence, labels and tracks; those for special purposes are hidden."""
    found = [layer for group in _in_order(fov.channels) for layer in _image_layers(fov, group)]
    cells = cells_of(fov)
    found += [_labels_layer(fov, group, cells) for group in fov.channels if group.startswith("seg_")]
    found += [layer for name in fov.pipeline_images for layer in _by_plane(_pipeline_layer(fov, name))]
    if not found:
        raise OutputError(f"{fov.directory}: holds no image yet. Fix: wait until the run has begun it")
    return [*found, *([] if cells is None else [_tracks_layer(fov, cells, colormap)])]


def group_layers(fov: Fov, group: str) -> list[LayerData]:
    """Layer of one channel or product, visible."""
    if "/" in group:
        data, shown, kind = _pipeline_layer(fov, group)
    elif group.startswith("seg_"):
        data, shown, kind = _labels_layer(fov, group, cells_of(fov))
    else:
        data, shown, kind = next(_image_layers(fov, group))
    return [(data, shown | {"visible": True}, kind)]


def _pipeline_layer(fov: Fov, name: str) -> LayerData:
    """Layer of an image of a pipeline, which may have planes; hidden."""
    image = fov.image(name)
    common = _common(fov, image, name, "") | {"visible": False}
    if image.is_labels:
        return image.data, common | {"opacity": 0.5}, "labels"
    limits = _sampled(fov.directory, image, (0.5, 99.8))
    return image.data, common | {"contrast_limits": limits, "colormap": "gray", "blending": "additive"}, "image"


def _by_plane(layer: LayerData) -> Iterator[LayerData]:
    """Layers (T, H, W) of the planes of a layer; of many planes, that of the middle one.

    napari counts axes from the last one, so that beside a layer (T, Z, H, W), it would take the time of all others for
    z. Opened alone, an image keeps its planes.
    """
    data, shown, kind = layer
    if data.ndim == 3:
        yield layer
        return
    planes = data.shape[1]
    for z in range(planes) if planes <= MOST_PLANES else [planes // 2]:
        of_plane = {key: (shown[key][0], *shown[key][2:]) for key in ("scale", "units", "axis_labels")}
        yield data[:, z], shown | of_plane | {"name": f"{shown['name']} z {z} of 0-{planes - 1}"}, kind


def _in_order(groups: tuple[str, ...]) -> list[str]:
    """Image groups from the bottom to the top: phase, backgrounds, fluorescence."""
    kinds = ("pc_ch_", "fl_background_ch_", "fl_ch_")
    return [group for kind in kinds for group in groups if group.startswith(kind)]


def _image_layers(fov: Fov, group: str) -> Iterator[LayerData]:
    """Layer of a channel, and of fluorescence also that without its background, which is the one that is visible."""
    image, look = fov.image(group), _look(fov, group)
    phase, light = group.startswith("pc_"), group.startswith("fl_ch_")
    has_background = light and background_name(channel_of(group)) in fov.channels
    colour = f"#{look.get('color', LIGHT[0].removeprefix('#'))}"
    shown = {
        "contrast_limits": _limits(fov.directory, image, look),
        "colormap": NAMES.get(colour, "green") if light else "gray",
        "blending": "translucent_no_depth" if phase else "additive",
        "visible": phase or (light and not has_background),
    }
    yield image.data, _common(fov, image, group, look.get("label", "")) | shown, "image"
    if has_background:
        corrected = fov.corrected(group)
        shown |= {"contrast_limits": _sampled(fov.directory, corrected, (50, 99.8)), "visible": True}
        data = corrected.data.astype(np.float32)
        yield data, _common(fov, corrected, corrected.name, look.get("label", "")) | shown, "image"


def _labels_layer(fov: Fov, group: str, cells: Cells | None) -> LayerData:
    image, tracked = fov.image(group), group.startswith("seg_tracked")
    shown: dict[str, Any] = {"opacity": 0.5, "visible": tracked}
    if tracked and cells is not None:
        shown |= {"colormap": cells.label_colours(), "features": cells.table()}
    return image.data, _common(fov, image, group, "cells" if tracked else "objects") | shown, "labels"


def _tracks_layer(fov: Fov, cells: Cells, colormap: Colormap) -> LayerData:
    raw = fov.image(next(group for group in fov.channels if is_raw_group(group)))
    shown = {
        "features": cells.track_features(),
        "graph": cells.graph(),
        "color_by": "rank",
        "colormaps_dict": {"rank": colormap(cells.colours)},
        "tail_length": 20,
    }
    common = _common(fov, raw, "tracks", "")
    del common["cache"]
    return cells.points(), common | shown, "tracks"


def _common(fov: Fov, image: Image, group: str, label: str) -> dict[str, Any]:
    """Arguments of every layer. Without a cache, memory does not grow from frame to frame."""
    return {
        "name": _place_in_plate(fov) + (f"{group}: {label}" if label else group),
        "scale": tuple(image.scale[axis] for axis in image.axes),
        "units": tuple(image.units.get(axis) or "pixel" for axis in image.axes),
        "axis_labels": image.axes,
        "metadata": {OURS: {"fov": str(fov.directory), "group": group}},
        "cache": False,
    }


def _place_in_plate(fov: Fov) -> str:
    """Well and site, in front of the names of layers; empty for FOVs outside of wells."""
    return f"{fov.attributes['name']} " if fov.attributes.get("well") else ""


def _look(fov: Fov, group: str) -> dict[str, Any]:
    """Name, colour and grey levels of a channel from its metadata; outputs of older versions have none."""
    with readable(fov.directory / IMAGES / group):
        ome = read_attributes(fov.directory / IMAGES / group).get("ome", {})
        return dict(next(iter(ome.get("omero", {}).get("channels", [])), {}))


def _limits(place: Path, image: Image, look: dict[str, Any]) -> tuple[float, float]:
    """Grey levels to show as black and white: the stored ones, or percentiles."""
    window = look.get("window", {})
    if "start" in window and "end" in window:
        return window["start"], window["end"]
    return _sampled(place, image, (0.5, 99.8))


def _sampled(place: Path, image: Image, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of a part of the pixels of the first, the middle and the last frame."""
    last = image.data.shape[0] - 1
    step = max(1, min(image.data.shape[-2:]) // SAMPLED)
    with readable(place):
        frames = [np.asarray(image.data[frame])[..., ::step, ::step].copy() for frame in sorted({0, last // 2, last})]
    return grey_range([frame[np.isfinite(frame)].reshape(1, -1) for frame in frames], percentiles)
