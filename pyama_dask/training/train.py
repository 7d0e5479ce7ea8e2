"""Training of a model on annotated frames: judged on what was held back, then trained on all of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyama_dask.kernels.resize import nearest
from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training.annotated import Annotated
from pyama_dask.training.augment import Example
from pyama_dask.training.calibrate import Judged, calibrate, judge, network_input, open_written
from pyama_dask.training.card import first_card
from pyama_dask.training.held_back import folds
from pyama_dask.training.network import Weights
from pyama_dask.training.onnx_file import onnx_model, with_card
from pyama_dask.training.optimise import optimise

JUDGED = 0.35
"""Part of all steps that networks take that are judged on what was held back."""
STEP_SECONDS = 0.165
"""Seconds of one core per step, by which minutes become steps; measured with 8 crops of 256 x 256 pixels."""
COMPILED = 20.0
"""Seconds for compiling, judging and choosing thresholds."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Parameters
    ----------
    minutes
        Limit of the time on one core.
    steps
        Number of steps; by default as many as fit the minutes on a core of today.
    seed
        Seed of weights, crops and held-back frames: equal seeds give equal models on one machine.
    card
        Facts for the model: name, description, licence, channel, pixel size.
    """

    minutes: float = 8.0
    steps: int | None = None
    seed: int = 0
    card: ModelCard = field(default_factory=ModelCard)

    @property
    def planned(self) -> int:
        """Number of steps."""
        return self.steps or max(int(self.seconds / STEP_SECONDS), 30)

    @property
    def seconds(self) -> float:
        """Time for all steps."""
        return max(60 * self.minutes - COMPILED, 30 * self.minutes)


@dataclass(frozen=True)
class Progress:
    """State of a training.

    Parameters
    ----------
    phase
        Name of the network that is trained: ``held back 1 of 2`` or ``all frames``.
    step, steps
        Steps done and planned, of all networks.
    loss
        Mean loss of the last steps.
    """

    phase: str
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Parameters
    ----------
    model
        The ONNX file.
    card
        Facts about it; `ModelCard.held_back` is empty if it was not judged.
    judged
        Held-back parts, for a picture.
    complete
        False if the training was cancelled.
    """

    model: bytes
    card: ModelCard
    judged: Sequence[Judged]
    complete: bool


def train(
    annotated: Sequence[Annotated],
    settings: Settings,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.process_time,
) -> Trained:
    """Train a model.

    First, networks are trained without some of the frames, and judged on them: this gives the scores and the
    thresholds. Then a network is trained on all frames.

    Parameters
    ----------
    annotated
        Frames with labels.
    settings
        Time or steps, seed, and facts for the model.
    progress
        Called after each step.
    is_cancelled
        Function that returns True to stop; the best network so far is kept.
    clock
        Seconds, which limit the training.
    """
    run = _Run(settings, progress, is_cancelled, clock)
    card = first_card(annotated, settings.card, settings.seed)
    examples = [_example(one, card.zoom) for one in annotated]
    judged: list[Judged] = []
    parts = folds(examples, [one.name for one in annotated], np.random.default_rng([settings.seed, 1]))
    for k, fold in enumerate(parts):
        weights = run.network(fold.examples, f"held back {k + 1} of {len(parts)}", JUDGED / len(parts))
        network = open_written(with_card(onnx_model(weights), card))
        judged += [] if is_cancelled() else [judge(network, annotated[held.index], held, card) for held in fold.held]
    if judged and not is_cancelled():
        card = calibrate(judged, card)
    weights = run.network(examples, "all frames", 1 - JUDGED if parts else 1.0)
    card = card.model_copy(update={"steps": run.steps})
    return Trained(with_card(onnx_model(weights), card), card, judged if card.held_back else [], not is_cancelled())


class _Run:
    """Networks of one training: counts steps and time, and keeps the best weights for an early end."""

    def __init__(self, settings: Settings, progress: Any, is_cancelled: Any, clock: Any) -> None:
        self._settings, self._progress, self._is_cancelled, self._clock = settings, progress, is_cancelled, clock
        self._done = self._networks = 0
        self._best: tuple[int, Weights] | None = None
        self.steps = 0
        """Steps of the network that is kept."""

    def network(self, examples: Sequence[Example], phase: str, share: float) -> Weights:
        """Train a network with a share of all steps; after a cancellation, return the one that took most steps."""
        steps = max(round(share * self._settings.planned), 1)
        limit, start, losses = share * self._settings.seconds, self._clock(), deque[float](maxlen=50)
        taken = 0

        def report(step: int, loss: float) -> float:
            nonlocal taken
            taken = step
            losses.append(loss)
            self._done += 1
            self._progress(Progress(phase, self._done, self._settings.planned, float(np.mean(losses))))
            return 1.0 if self._is_cancelled() else max(step / steps, (self._clock() - start) / limit)

        if self._best is None or not self._is_cancelled():
            weights = optimise(examples, (self._settings.seed, self._networks), report)
            self._networks += 1
            if self._best is None or not self._is_cancelled() or taken > self._best[0]:
                self._best = taken, weights
        self.steps, weights = self._best
        return weights


def _example(annotated: Annotated, zoom: float) -> Example:
    """Annotated frame at the scale of the network."""
    frame = network_input(annotated.frame, zoom)
    return Example(frame, nearest(annotated.labels, (frame.shape[0], frame.shape[1])))
