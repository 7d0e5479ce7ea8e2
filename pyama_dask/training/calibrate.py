"""Judgement of networks on what they were not trained on, and choice of the thresholds that fit it best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from pyama_dask.kernels.cell_maps import decode
from pyama_dask.kernels.flatten import flatten
from pyama_dask.kernels.resize import nearest, zoom
from pyama_dask.kernels.scores import Match, count, match, seg
from pyama_dask.methods.network import Network, open_network
from pyama_dask.methods.onnx_model import ModelCard, model_digest
from pyama_dask.training.annotated import Annotated
from pyama_dask.training.held_back import Held

FACTORS = (1.0, 0.8, 1.25)
"""Zooms that are tried, as multiples of the zoom of the training."""
TRIED: Mapping[str, Sequence[float]] = {
    "depth": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
    "touch": (0.0, 0.15, 0.3, 0.5),
}
"""Thresholds that are tried."""
AREAS = (0.0, 0.02, 0.05, 0.1)
"""Smallest areas that are tried, as fractions of a typical cell's."""
DEVIATION = 0.5
"""Largest standard deviation of the score of one cell; by it, a mean over cells may be off by chance."""


@dataclass(frozen=True)
class Judged:
    """Part of a frame, and the maps of a network that was not trained on it.

    Parameters
    ----------
    name
        Name of the frame.
    frame
        (H, W) grey levels of the part.
    truth
        (H, W) labels of the part, 0 where not annotated.
    known
        (H, W) mask of the annotated pixels.
    labels
        Function that decodes labels (H, W) of the part from a card.
    """

    name: str
    frame: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]
    labels: Callable[[ModelCard], npt.NDArray[np.uint16]]

    def found(self, card: ModelCard) -> npt.NDArray[np.uint16]:
        """Labels of the part, without pixels that are not annotated."""
        return np.where(self.known, self.labels(card), np.uint16(0))


def network_input(frame: np.ndarray, factor: float) -> npt.NDArray[np.float32]:
    """Frame as a network takes it: resized, then flattened."""
    return flatten(zoom(frame, factor))


def open_written(model: bytes) -> Network:
    """Open an ONNX file that is not on disk yet."""
    with TemporaryDirectory(prefix="pyama_dask-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model)
        return open_network(path, content=model_digest(path))


def judge(network: Network, annotated: Annotated, held: Held, card: ModelCard) -> Judged:
    """Compute the maps of a held-back part at all zooms that are tried.

    Parameters
    ----------
    network
        Network that was not trained on the part.
    annotated, held
        Frame, and the part of it.
    card
        Card with the zoom of the training.
    """
    shape = (annotated.frame.shape[0], annotated.frame.shape[1])
    maps = {}
    for factor in FACTORS:
        frame = network_input(annotated.frame, card.zoom * factor)
        maps[card.zoom * factor] = (network.maps(frame), frame.shape)

    def labels(card: ModelCard) -> npt.NDArray[np.uint16]:
        of, size = maps[card.zoom]
        found = decode(of, size, depth=card.depth, touch=card.touch, smallest=card.smallest)
        return np.asarray(nearest(found, shape)[held.region])

    known = annotated.labels[held.region]
    return Judged(annotated.name, annotated.frame[held.region], np.maximum(known, 0), known >= 0, labels)


def scores(judged: Sequence[Judged], card: ModelCard) -> dict[str, float]:
    """Scores by name, over the objects of all parts: ``seg``, ``f1`` and ``found_per_true``."""
    matches = [match(one.truth, one.found(card)) for one in judged]
    counts = count(matches)
    return {"seg": seg(matches), "f1": counts.f1, "found_per_true": counts.found_per_true}


def calibrate(judged: Sequence[Judged], card: ModelCard) -> ModelCard:
    """Choose depth, touch and smallest area, then the zoom, by the mean of SEG and F1, where this is clearly better.

    Parameters
    ----------
    judged
        All held-back parts.
    card
        Card with the zoom of the training.

    Returns
    -------
    The card with these, and with the scores that they reach.
    """
    best = _better(judged, card, _best(judged, card))
    for factor in FACTORS[1:]:
        changes = {"zoom": card.zoom * factor, "smallest": round(best.smallest * factor**2)}
        if card.cell_diameter is not None:
            changes["cell_diameter"] = card.cell_diameter * factor
        best = _better(judged, best, _best(judged, best.model_copy(update=changes)))
    return best.model_copy(update={"held_back": scores(judged, best)})


def _better(judged: Sequence[Judged], card: ModelCard, other: ModelCard) -> ModelCard:
    """The other card if it is better by more than the standard error of a mean over the cells that were held back."""
    cells = sum(np.unique(one.truth[one.truth > 0]).size for one in judged)
    return other if _value(judged, other) > _value(judged, card) + DEVIATION / np.sqrt(max(cells, 1)) else card


def _best(judged: Sequence[Judged], card: ModelCard) -> ModelCard:
    """Card with the best thresholds at its zoom; equal ones stay as they are."""
    tried = [card.model_copy(update={"depth": d, "touch": t}) for d in TRIED["depth"] for t in TRIED["touch"]]
    card = max([card, *tried], key=lambda one: _value(judged, one))
    area = np.pi / 4 * (card.cell_diameter or 0) ** 2
    sizes = [card.model_copy(update={"smallest": round(share * area)}) for share in AREAS]
    return max([card, *sizes], key=lambda one: _value(judged, one))


def _value(judged: Sequence[Judged], card: ModelCard) -> float:
    matches: list[Match] = [match(one.truth, one.found(card)) for one in judged]
    return (seg(matches) + count(matches).f1) / 2
