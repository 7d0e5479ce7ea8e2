"""Picture of held-back parts with the outlines of true and found cells."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pyama_dask.files.palette import ANNOTATED, FOUND, Picture, as_picture, draw, outlines
from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.calibrate import Judged, scores

SHOWN = 4
"""Largest number of parts in a picture."""
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


def _drawn(part: Judged, card: ModelCard) -> Picture:
    """(H, W, 3) frame with outlines."""
    picture = as_picture(part.frame)
    draw(picture, outlines(part.truth), ANNOTATED)
    draw(picture, outlines(part.found(card)), FOUND)
    return picture
