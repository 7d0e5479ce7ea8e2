"""Optimisation of the network's weights: AdamW (Loshchilov and Hutter 2019) with averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
import optax

from pyama_dask.training.augment import Example, random_batch
from pyama_dask.training.network import Weights, initial_weights, loss

CROP = 256
"""Side of the crops in pixels."""
BATCH = 8
"""Crops per step."""
RATE = 4e-3
"""Learning rate after the warm-up."""
WARM_UP, WARM_PART = 50, 0.1
"""Steps, or part of the training if this is shorter, until the learning rate is reached."""
DECAY = 1e-3
"""Weight decay."""
AVERAGED = 0.995
"""Part of the averaged weights that a step keeps."""

Report = Callable[[int, float], float]
"""Function that gets the steps so far and the loss, and returns the progress from 0 to 1.

Progress sets the learning rate; 1 ends the training.
"""


def optimise(examples: Sequence[Example], seed: Sequence[int], report: Report) -> Weights:
    """Train a network on examples until `report` returns 1.

    Parameters
    ----------
    examples
        Annotated frames to learn from.
    seed
        Seed of the weights and of all crops.
    report
        Called after each step; it sets the learning rate and ends the training.

    Returns
    -------
    Averaged weights.
    """
    rng = np.random.default_rng(seed)
    weights = initial_weights(rng)
    averaged = weights
    moments = _optimiser().init(weights.learned)
    steps, progress = 0, 0.0
    while progress < 1:
        batch = random_batch(rng, examples, CROP, BATCH)
        rate = learning_rate(steps, progress)
        kept = min(AVERAGED, (1 + steps) / (10 + steps))
        weights, averaged, moments, value = _step()(
            weights, averaged, moments, batch.frames, batch.maps, batch.known, rate, kept
        )
        steps += 1
        progress = report(steps, float(value))
    return _on_host(averaged)


def learning_rate(steps: int, progress: float) -> float:
    """Learning rate: warm-up, then a cosine to 0."""
    warm = min(max((steps + 1) / WARM_UP, progress / WARM_PART), 1.0)
    return RATE * warm * 0.5 * (1 + math.cos(math.pi * progress))


def _optimiser() -> Any:
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(DECAY))


@cache
def _step() -> Any:
    """Compiled function of one step."""

    @jax.jit
    def step(weights: Weights, averaged: Weights, moments: Any, *rest: Any) -> Any:
        *batch, rate, kept = rest
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, running), slopes = gradient(weights.learned, weights.running, *batch)
        updates, moments = _optimiser().update(slopes, moments, weights.learned)
        learned = jax.tree.map(lambda old, change: old - rate * change, weights.learned, updates)
        weights = Weights(learned, running)
        averaged = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, averaged, weights)
        return weights, averaged, moments, value

    return step


def _on_host(weights: Weights) -> Weights:
    found: Weights = jax.tree.map(np.asarray, weights)
    return found
