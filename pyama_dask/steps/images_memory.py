"""Memory of the images of pipelines in a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pyama_dask.steps.demand import Demand, is_of_stacks
from pyama_dask.steps.flow import MOVIE, Flow, Image
from pyama_dask.workflow.graph import Held

WORKSPACE = 1.0
"""Arrays that a function holds while it works, relative to what it gets and gives."""
FLOAT = 4
"""Bytes of a number of the type in which functions compute, at least."""
FREED = 2.5
"""Freed bytes per pixel of a frame that the allocator does not return."""


def with_images(held: Held, flow: Flow, images: Sequence[Image], *, stored: bool = False) -> Held:
    """Memory of a part that gets images of pipelines, or stores them.

    Parameters
    ----------
    held
        Memory of the part itself.
    flow
        What is made from what.
    images
        Images that it asks for.
    stored
        True if it writes them.
    """
    demand, made = Demand(flow), _held_for(images, stored=stored)
    kept = [image for image in made if _is_kept(image, demand)]
    calls = [image for image in made if is_of_stacks(image.step)]
    around = sum(map(size_of, kept)) + max((_call(image, kept) for image in calls), default=0.0)
    frame = FREED + max(map(size_of, images)) if stored else 0.0  # compressed
    if stored:
        frame += sum(size_of(image) for image in images if not is_of_stacks(image.step))
    single = [image for image in made if not is_of_stacks(image.step)]
    once = sum(map(size_of, single)) + max((_call(image, ()) for image in single if image.step), default=0.0)
    reach = max((image.reach + demand.margin(image) for image in calls), default=0)
    return replace(held, made=frame, made_around=around, around=2 * reach, made_once=once)


def loaded(images: Iterable[Image]) -> float:
    """Bytes per pixel of the frames and labels of the seven steps that a task reads for images."""
    groups = {of.group: size_of(of) for image in images for of in image.upstream() if of.group}
    return sum(groups.values())


def _held_for(images: Iterable[Image], *, stored: bool) -> list[Image]:
    """Images, and all that a task makes and reads for them, each once."""
    found: dict[object, Image] = {}
    for image in images:
        for of in image.in_task(stored=stored):
            found.setdefault((MOVIE, of.name) if of.origin == MOVIE else id(of), of)
    return [*found.values()]


def size_of(image: Image) -> float:
    """Bytes per pixel of a frame."""
    return float(np.dtype(image.dtype).itemsize * max(1, image.planes))


def _is_kept(image: Image, demand: Demand) -> bool:
    """Check whether a task keeps the frames of an image for its batch."""
    if demand.only_by_stack(image):
        return False
    if is_of_stacks(image.step):
        return True
    return (image.step is not None or image.origin == MOVIE) and demand.again(image, inside=True)


def _call(image: Image, kept: Sequence[Image]) -> float:
    """Bytes per pixel of a frame that a call holds beside what is kept: what it gets, and its workspace."""
    given = sum(size_of(of) for of in image.of if of not in kept)
    widest = max([FLOAT * max([1, *(of.planes for of in image.of)]), size_of(image), *map(size_of, image.of)])
    is_lazy = image.step is not None and image.step.found is not None and image.step.found.array == "dask"
    joined = size_of(image) if image.planes and is_lazy else 0.0  # all planes, when they are computed
    return given + WORKSPACE * widest + joined
