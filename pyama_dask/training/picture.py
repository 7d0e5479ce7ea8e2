"""Picture of held-back parts with the outlines of true and found cells."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.calibrate import Judged, scores

SHOWN = 4
"""Largest number of parts in a picture."""
TRUE, FOUND = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91)
"""Colours of outlines, distinguishable by colour-blind readers (Okabe and Ito 2008)."""
INCHES, DOTS = 7.0, 150


def held_back_picture(judged: Sequence[Judged], card: ModelCard) -> bytes:
    """Draw up to `SHOWN` parts as a PNG: the frame, found outlines in blue over true ones in orange."""
    shown = judged[:SHOWN]
    figure = Figure(figsize=(INCHES * len(shown), INCHES), layout="constrained")
    for axes, part in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        score = scores([part], card)
        axes.imshow(_drawn(part, card), interpolation="none")
        axes.set_title(f"{part.name}: SEG {score['seg']:.2f}, F1 {score['f1']:.2f}", fontsize=9)
        axes.axis("off")
    figure.suptitle("Held back from training. Orange: annotated, blue: found", fontsize=10)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS, metadata={"Software": None})
    return file.getvalue()


def _drawn(part: Judged, card: ModelCard) -> npt.NDArray[np.float32]:
    """(H, W, 3) frame from black to white at its 1st and 99th percentile, with outlines."""
    low, high = np.percentile(part.frame, [1, 99])
    grey = np.clip((part.frame - low) / max(high - low, 1e-6), 0, 1)
    picture = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
    picture[outlines(part.truth)] = TRUE
    picture[outlines(part.found(card))] = FOUND
    return picture


def outlines(labels: np.ndarray) -> npt.NDArray[np.bool_]:
    """(H, W) mask of the pixels of cells that have another label above, below, left or right."""
    border = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        differs = np.diff(labels.astype(np.int64), axis=axis) != 0
        before: list[tuple[int, int]] = [(0, 0), (0, 0)]
        after = list(before)
        before[axis], after[axis] = (0, 1), (1, 0)
        border |= np.pad(differs, before) | np.pad(differs, after)
    return border & (labels > 0)
