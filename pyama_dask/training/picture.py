"""Picture of held-back parts with the outlines of true and found cells."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.calibrate import Judged, scores

SHOWN = 4
"""Largest number of parts in a picture."""
TRUE, FOUND = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91)
"""Colours of outlines, distinguishable by colour-blind readers (Okabe and Ito 2008)."""
INCHES, DOTS, LETTERS = 7.0, 150, 14


def held_back_picture(judged: Sequence[Judged], card: ModelCard) -> bytes:
    """Draw up to `SHOWN` parts as a PNG: the frame, found outlines in blue over true ones in orange.

    Of more parts, those with cells are shown, at even steps from the worst to the best.
    """
    shown = _evenly(judged, card)
    figure = Figure(figsize=(INCHES * len(shown), INCHES), layout="constrained")
    for axes, part in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        score = scores([part], card)
        axes.imshow(_drawn(part, card), interpolation="none")
        axes.set_title(f"{Path(part.name).name}\nSEG {score['seg']:.2f}, F1 {score['f1']:.2f}", fontsize=LETTERS)
        axes.axis("off")
    figure.suptitle("Held back from training. Orange: annotated, blue: found", fontsize=LETTERS)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS, metadata={"Software": None})
    return file.getvalue()


def _evenly(judged: Sequence[Judged], card: ModelCard) -> Sequence[Judged]:
    """At most `SHOWN` parts."""
    if len(judged) <= SHOWN:
        return judged
    ranked = sorted((part for part in judged if part.truth.any()), key=lambda part: scores([part], card)["f1"])
    places = np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


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
