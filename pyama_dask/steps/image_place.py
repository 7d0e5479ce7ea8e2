"""Places of the pixels of a pipeline's images in the frames of the movie: their size, and the centre of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod, sqrt

from pyama_dask.config.models import Config
from pyama_dask.readers import Metadata
from pyama_dask.readers.base import FovInfo
from pyama_dask.steps.flow import Image, flow_of

Shape = tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """Place of an image, in pixels of the movie."""

    shape: Shape
    """(H, W) of the image in its own pixels."""
    pixel: float | None = 1.0
    """Width of a pixel; None if a function changes the size of frames in a way that is not known."""
    centre: tuple[float, float] | None = (0.0, 0.0)
    """y, x of the image's centre from that of the frame; None if it is not known."""


def placed(image: Image, movie: Shape) -> Placed:
    """Find the place of an image.

    Parameters
    ----------
    image
        Any image of a flow.
    movie
        (H, W) of the FOV's frames in the movie.
    """
    if image.step is None:
        return placed(image.lies_on, movie) if image.lies_on else Placed(movie)
    before, shape = placed(image.of[0], movie), image.shape(movie)
    if shape == before.shape and image.step.do not in ("crop", "resample"):
        return before
    if before.pixel is None or before.centre is None or image.step.do not in ("crop", "resample"):
        return Placed(shape, None, None)
    if image.step.do == "crop":
        corner = image.step.params["top"], image.step.params["left"]
        moved = [at + n / 2 - was / 2 for at, n, was in zip(corner, shape, before.shape, strict=True)]
        return Placed(shape, before.pixel, _sum(before.centre, before.pixel, moved))
    return _resampled(before, shape, float(image.step.params["factor"]))


def _resampled(before: Placed, shape: Shape, factor: float) -> Placed:
    """Place after `resample`: whole squares may reach beyond the frame, else both cover the same area."""
    assert before.pixel is not None
    assert before.centre is not None
    times = round(1 / factor)
    if times > 1 and shape == tuple(-(-n // times) for n in before.shape) and abs(1 / factor - times) < 1e-6 * times:
        beyond = [(n * times - was) / 2 for n, was in zip(shape, before.shape, strict=True)]
        return Placed(shape, before.pixel * times, _sum(before.centre, before.pixel, beyond))
    return Placed(shape, before.pixel * sqrt(prod(before.shape) / prod(shape)), before.centre)


def _sum(centre: tuple[float, float], pixel: float, moved: list[float]) -> tuple[float, float]:
    y, x = (at + pixel * by for at, by in zip(centre, moved, strict=True))
    return y, x


def pixel_size(image: Image | None, metadata: Metadata, movie: Shape) -> float | None:
    """Micrometres per pixel of an image; None if the movie is not calibrated, or a step makes it unknown."""
    found = Placed(movie) if image is None else placed(image, movie)
    return None if metadata.pixel_size_um is None or found.pixel is None else metadata.pixel_size_um * found.pixel


def frames_of(step: str, config: Config, metadata: Metadata) -> Metadata:
    """Metadata of a movie whose frames are those that one of the seven steps gets of the first chosen channel.

    Parameters
    ----------
    step
        One of the seven: ``copy`` for the frames that are stored as raw ones, ``segment`` for those where cells are
        found.
    config
        Resolved.
    metadata
        Of the movie.

    Returns
    -------
    The metadata with other sizes, positions, pixel size and pixel types (of grey levels as they are stored); itself if
    no step comes before.
    """
    images = flow_of(config).seen.get(step, {}) if config.pipelines else {}
    first = next(iter(images.values()), None)
    if first is None or not any(of.step for image in images.values() for of in (image, image.lies_on) if of):
        return metadata
    fovs = [_moved(info, placed(first, info.shape), metadata.pixel_size_um) for info in metadata.fovs]
    channels = [
        replace(of, dtype="uint8" if images[str(k)].dtype == "uint8" else "uint16") if str(k) in images else of
        for k, of in enumerate(metadata.channels)
    ]
    size = pixel_size(first, metadata, metadata.fovs[0].shape)
    return replace(metadata, fovs=tuple(fovs), channels=tuple(channels), pixel_size_um=size)


def resizing_step(config: Config, metadata: Metadata) -> str | None:
    """Name of the step of a user's own that leaves the seven steps without a pixel size; None if none does."""
    if metadata.pixel_size_um is None or frames_of("segment", config, metadata).pixel_size_um is not None:
        return None
    shape = metadata.fovs[0].shape
    for image in flow_of(config).seen["segment"].values():
        above = [of for of in (image.lies_on or image).upstream() if of.step and placed(of, shape).pixel is None]
        if above:
            return above[-1].made_by
    return None


def _moved(info: FovInfo, to: Placed, pixel_size_um: float | None) -> FovInfo:
    """FOV with the size and the position of what is left of its frames."""
    position = info.position_um
    if to.centre != (0.0, 0.0) and position is not None:
        is_known = to.centre is not None and pixel_size_um is not None
        y, x = to.centre or (0.0, 0.0)
        by = pixel_size_um or 0.0
        position = (position[0] + x * by, position[1] + y * by) if is_known else None
    return replace(info, shape=to.shape, position_um=position)
