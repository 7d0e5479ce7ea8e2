"""Cells by a small network: frames are flattened, an ONNX model draws maps, and the maps are decoded.

A model has one float32 input (N, 1, H, W) of any H and W that are multiples of 32, and one float32 output: three maps
at half resolution as in `kernels.cell_maps.decode`, or one map of the foreground, as logits or probabilities, at the
full resolution, a half or a quarter.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pyama_dask.config.units import FileName, Length, Whole
from pyama_dask.errors import ConfigError, MethodWarning
from pyama_dask.kernels.cell_maps import decode, decode_mask, without_gaps
from pyama_dask.kernels.flatten import flatten
from pyama_dask.kernels.losses import LEAST_LOSS
from pyama_dask.kernels.resize import nearest
from pyama_dask.kernels.resize import zoom as resized
from pyama_dask.methods.device import has_gpu
from pyama_dask.methods.network import Network, open_network
from pyama_dask.methods.onnx_model import (
    CUDA,
    SHIPPED,
    ModelCard,
    check_providers,
    cuda_problem,
    find_model,
    model_digest,
)

DEFAULT = "adherent-phase-10x"
"""Model that is used if none is named."""
SMALLEST_ZOOM, LARGEST_ZOOM = 0.05, 16.0
ALIKE = 1.25
"""Pixel sizes that differ by less than this factor need no remark."""
PIXEL_BYTES = 34
"""Bytes that a model of this package holds per pixel of its input; measured with onnxruntime 1.32."""
FIXED_BYTES = 40 * 2**20
"""Bytes that onnxruntime holds in a worker."""
TOGETHER = 4
"""Frames that go through the network at once on a GPU."""
TOGETHER_BYTES = 12
"""Bytes that a worker holds per pixel of the input for each further one of them: flattened frame, maps, labels."""
FILE_COPIES = 4
"""Bytes that a worker holds per byte of the model's file."""


def segment_unet(
    frame: np.ndarray,
    *,
    model: Annotated[
        FileName, Field(min_length=1, description="name of a model of this package, or path of an .onnx file")
    ] = DEFAULT,
    zoom: Annotated[
        float | None,
        Field(ge=SMALLEST_ZOOM, le=LARGEST_ZOOM, description="factor by which frames are resized; null: what fits"),
    ] = None,
    cell_diameter: Annotated[
        Length | None,
        Field(description="typical diameter of a cell: pixels, or micrometres such as '35 um'; chooses the zoom"),
    ] = None,
    depth: Annotated[
        float | None, Field(ge=0, le=2, description="depth of the valley between two cells; null: the model's")
    ] = None,
    touch: Annotated[
        float | None, Field(ge=0, le=4, description="weight of the map of contacts; null: the model's")
    ] = None,
    smallest: Annotated[
        Whole | None, Field(description="resized pixels: smaller objects are dropped; null: the model's")
    ] = None,
    providers: Annotated[
        tuple[str, ...], Field(description="execution providers of onnxruntime, such as CUDAExecutionProvider")
    ] = (),
    content: Annotated[
        str, Field(description="digest that the model's file must have; found when a run is planned")
    ] = "",
) -> npt.NDArray[np.uint16]:
    """Segment the cells of one frame by a network, or of several frames.

    Parameters
    ----------
    frame
        (H, W) uint8 or uint16, or (N, H, W) of several frames, which go through the network together on a GPU.
    model
        Name of a model of this package, or path of an ONNX file.
    zoom
        Factor by which the frame is resized for the network.
    cell_diameter
        Typical diameter of a cell in pixels of the frame, from which the zoom follows if none is given. Without both,
        it follows from the pixel sizes of movie and model when a run is planned, and is the model's own elsewhere.
    depth, touch, smallest
        Settings of `kernels.cell_maps.decode`; None for those of the model.
    providers
        Execution providers that are tried before the CPU; by default that of CUDA, on a worker that owns a GPU.
    content
        Digest of the model's file; '' for any.

    Returns
    -------
    (H, W) labels: 0 is background, cells are 1..N; (N, H, W) of several frames.

    Warns
    -----
    MethodWarning
        If most of the foreground is dropped, in objects that are too small.

    Raises
    ------
    ConfigError
        If there is no such model, it cannot be used, or it changed.
    ValueError
        If the network returns values that are not finite.
    OverflowError
        If the frame has more than 65535 objects.
    """
    chosen = tuple(providers) or ((CUDA,) if has_gpu() and not cuda_problem() else ())
    opened = find_model(model), chosen, content
    network = open_network(*opened)
    card = network.card
    factor = scale(card, given=zoom, cell_diameter=cell_diameter, pixel_size_um=None)
    flats = [flatten(resized(one, factor)) for one in (frame if frame.ndim == 3 else frame[None])]
    shape, found = frame.shape[-2:], list[npt.NDArray[np.uint16]]()
    for flat, maps in zip(flats, _maps(network, flats, *opened), strict=True):
        labels = _decoded(network, maps, flat.shape, depth, touch, smallest)
        found.append(without_gaps(nearest(labels, shape)) if labels.shape != shape else labels)
    return np.stack(found) if frame.ndim == 3 else found[0]


segment_unet.batch_on_gpu = TOGETHER  # type: ignore[attr-defined]


def _decoded(
    network: Network, maps: npt.NDArray[np.float32], shape: tuple[int, int],
    depth: float | None, touch: float | None, smallest: int | None,
) -> npt.NDArray[np.uint16]:  # fmt: skip
    """(H, W) labels of a flattened frame of this shape, by its maps; settings that are None are the model's."""
    card = network.card
    depth = card.depth if depth is None else depth
    smallest = card.smallest if smallest is None else smallest
    if len(maps) == 1:
        labels = decode_mask(maps[0], shape, depth=depth, smallest=smallest, factor=network.factor)
    else:
        touch = card.touch if touch is None else touch
        labels = decode(maps, shape, depth=depth, touch=touch, smallest=smallest)
    _warn_of_losses(maps[0][: -(-shape[0] // network.factor), : -(-shape[1] // network.factor)], labels)
    return labels


KEPT_MAPS = 8
"""Frames whose maps are kept in `maps_kept`."""
_KEPT: ContextVar[dict[tuple[object, ...], npt.NDArray[np.float32]] | None] = ContextVar("kept_maps", default=None)


@contextmanager
def maps_kept() -> Iterator[None]:
    """Keep the maps of the last frames, so that other limits on the same frame need no other run of the network."""
    before = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(before)


def _maps(
    network: Network, flats: Sequence[npt.NDArray[np.float32]], *opened: object
) -> Sequence[npt.NDArray[np.float32]]:
    """Maps of flattened frames by a network, which is known by how it was opened."""
    kept = _KEPT.get()
    return network.maps_of(flats) if kept is None else [_kept_maps(kept, network, flat, *opened) for flat in flats]


def _kept_maps(
    kept: dict[tuple[object, ...], npt.NDArray[np.float32]], network: Network, flat: npt.NDArray[np.float32],
    *opened: object,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Maps of a flattened frame, kept from before or for later."""
    key = (*opened, flat.shape, hashlib.blake2b(flat.tobytes(), digest_size=16).digest())
    found = kept.pop(key, None)
    kept[key] = network.maps(flat) if found is None else found
    if len(kept) > KEPT_MAPS:
        del kept[next(iter(kept))]
    return kept[key].copy()


def _warn_of_losses(inside: npt.NDArray[np.float32], labels: np.ndarray) -> None:
    """Warn if most of the foreground is in no label, as it is in objects that are too small."""
    found, foreground = (np.count_nonzero(of > 0) / of.size for of in (labels, inside))
    if foreground > max(LEAST_LOSS, 2 * found):
        warnings.warn(
            "most of the area that the network takes for cells was dropped, as smaller than 'smallest'. "
            "Fix: with 'pyama-dask preview', try a larger zoom or depth, or a smaller 'smallest'",
            MethodWarning,
            stacklevel=4,
        )


def scale(
    card: ModelCard, *, given: float | None, cell_diameter: float | str | None, pixel_size_um: float | None
) -> float:
    """Factor by which frames are resized for a model.

    Parameters
    ----------
    card
        Of the model.
    given
        Factor from the config; it takes precedence.
    cell_diameter
        Typical diameter of a cell in pixels of the movie.
    pixel_size_um
        Micrometres per pixel of the movie; None if unknown.

    Raises
    ------
    ConfigError
        If a diameter is given and the model states none, or the factor is out of limits.
    """
    if given is not None:
        return given
    factor, origin = card.zoom, "the model's zoom"
    if cell_diameter is not None:
        if card.cell_diameter is None:
            raise ConfigError(
                f"cell_diameter: the model {card.name} does not state that of its cells. Fix: give 'zoom'"
            )
        if isinstance(cell_diameter, str):
            raise ConfigError("cell_diameter: must be in pixels here. Fix: leave out the unit")
        factor, origin = card.cell_diameter / cell_diameter, "cell_diameter"
    elif pixel_size_um is not None and card.pixel_size_um is not None:
        factor, origin = card.zoom * pixel_size_um / card.pixel_size_um, "the pixel sizes of movie and model"
    if not SMALLEST_ZOOM <= factor <= LARGEST_ZOOM:
        raise ConfigError(
            f"{origin}: frames would be resized by {factor:.3g}; possible are {SMALLEST_ZOOM:g} to {LARGEST_ZOOM:g}. "
            "Fix: give 'zoom', or another cell_diameter"
        )
    return factor


# ------------------------------------------------------------------------------------------- plans of runs


def fitted(given: Mapping[str, Any], pixel_size_um: float | None) -> dict[str, Any]:
    """Write out what the model decides: its path and content, zoom and thresholds.

    Parameters
    ----------
    given
        Parameters of `segment_unet`, lengths in pixels.
    pixel_size_um
        Micrometres per pixel of the movie; None if unknown.

    Raises
    ------
    ConfigError
        If the model cannot be used; see `open_network`.
    """
    path = find_model(given["model"])
    check_providers(given["providers"])
    content = model_digest(path)
    if given["content"] not in ("", content):
        raise ConfigError(f"content: {path} has {content}, not {given['content']}. Fix: remove 'content'")
    card = open_network(path, content=content).card
    factor = scale(card, given=given["zoom"], cell_diameter=given["cell_diameter"], pixel_size_um=pixel_size_um)
    found = {
        name: getattr(card, name) if given[name] is None else given[name] for name in ("depth", "touch", "smallest")
    }
    where = given["model"] if path.parent == SHIPPED else str(path)
    return {**given, **found, "model": where, "content": content, "zoom": factor, "cell_diameter": None}


def remarks(given: Mapping[str, Any], pixel_size_um: float | None, channel_kind: str) -> list[str]:
    """Compare a model with a movie.

    Parameters
    ----------
    given
        Parameters from the config, as the user gave them.
    pixel_size_um
        Micrometres per pixel of the movie; None if unknown.
    channel_kind
        Kind of the channel in which cells are found: ``phase``, ``fluorescence`` or ``other``.

    Returns
    -------
    Warnings for the user.
    """
    path = find_model(given.get("model", DEFAULT))
    card, found = open_network(path, content=model_digest(path)).card, []
    if card.channel in ("phase", "fluorescence") and channel_kind not in ("other", card.channel):
        found.append(f"the model {card.name} is for {card.channel} images, but the channel is {channel_kind}")
    if given.get("zoom") is None and given.get("cell_diameter") is None:
        if pixel_size_um is None or card.pixel_size_um is None:
            whose = "movie" if pixel_size_um is None else "model"
            found.append(
                f"the {whose} states no pixel size, so frames are resized by the model's zoom, {card.zoom:g}. "
                "Fix: give cell_diameter or zoom if its cells have another size"
            )
        elif not 1 / ALIKE < pixel_size_um / card.pixel_size_um < ALIKE:
            factor = card.zoom * pixel_size_um / card.pixel_size_um
            found.append(
                f"the model {card.name} is for pixels of {card.pixel_size_um:g} um; those of the movie have "
                f"{pixel_size_um:g} um, so frames are resized by {factor:.3g}"
            )
    return [f"params.segmentation_params: {remark}" for remark in found]


def result_parameters(resolved_params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that labels depend on: the model counts by its content, wherever it is."""
    return {name: value for name, value in resolved_params.items() if name != "model"}


def held_memory(resolved_params: Mapping[str, Any], frames: int = 1) -> tuple[float, int]:
    """Bytes that a worker holds per pixel of a frame, with some frames at once, and those that do not depend on it."""
    factor = float(resolved_params["zoom"] or 1.0)
    path = find_model(resolved_params["model"])
    pixel_bytes = PIXEL_BYTES + TOGETHER_BYTES * (frames - 1)
    return pixel_bytes * max(factor, 0.1) ** 2, FIXED_BYTES + FILE_COPIES * path.stat().st_size
