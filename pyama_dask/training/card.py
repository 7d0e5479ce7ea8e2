"""Facts about a model that are known before it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import pyama_dask
from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.annotated import Annotated

SMALLEST, LARGEST = 40.0, 70.0
"""Range of the median diameter of cells in pixels that needs no resizing."""
TARGET = 53.0
"""Diameter of cells in pixels to which others are resized."""
LARGEST_ZOOM = 8.0
"""Limit of the zoom of tiny cells, for which frames would become too large."""


def first_card(annotated: Sequence[Annotated], given: ModelCard, seed: int) -> ModelCard:
    """Card with the facts that are known before the training, and the zoom for cells of this size.

    Parameters
    ----------
    given
        Facts by the user, such as the name; a pixel size overrides those of the frames.
    """
    diameter = float(np.median(np.concatenate([one.diameters for one in annotated])))
    zoom = 1.0 if SMALLEST <= diameter <= LARGEST else min(round(TARGET / diameter, 2), LARGEST_ZOOM)
    sizes = {one.pixel_size_um for one in annotated}
    cells = sum(one.diameters.size for one in annotated)
    facts = {
        "pixel_size_um": given.pixel_size_um or (sizes.pop() if len(sizes) == 1 else None),
        "trained_on": given.trained_on or f"{len(annotated)} annotated frames with {cells} cells",
        "cell_diameter": round(diameter * zoom, 1),
        "zoom": zoom,
        "seed": seed,
        "images": len(annotated),
        "program": pyama_dask.__version__,
    }
    return given.model_copy(update=facts)
