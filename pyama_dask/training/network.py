"""Small U-Net of 67,000 weights in JAX: parameters, forward pass, loss.

The input is reduced fourfold by moving 4 x 4 pixels into channels, which makes a frame cheap on one core; maps leave
the network at half the frame's resolution.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CHANNELS = (16, 24, 32, 32)
"""Channels of the levels, from fine to coarse."""
FOLD = 4
"""Side of the square of pixels that becomes channels."""
MAPS = 3
"""Foreground logit, touch logit, distance."""
EPSILON = 1e-5
"""Number that batch normalisation adds to the variance."""
MOMENTUM = 0.9
"""Part of the running statistics that a step keeps."""

Values = dict[str, dict[str, Any]]


class Weights(NamedTuple):
    """Weights of a network by layer.

    Parameters
    ----------
    learned
        Kernels ``w``, scales ``g`` and offsets ``b``.
    running
        Means ``m`` and variances ``v`` of batch normalisation.
    """

    learned: Values
    running: Values


def initial_weights(rng: np.random.Generator) -> Weights:
    """Draw the weights at the start of a training (He et al. 2015, doi:10.1109/ICCV.2015.123)."""
    learned: Values = {}
    running: Values = {}
    for name, side, inputs, outputs, normalised in layers():
        gain = 2 if normalised else 1
        kernel = rng.normal(0, math.sqrt(gain / (side * side * inputs)), (side, side, inputs, outputs))
        learned[name] = {"w": kernel.astype(np.float32), "b": np.zeros(outputs, np.float32)}
        if normalised:
            learned[name]["g"] = np.ones(outputs, np.float32)
            running[name] = {"m": np.zeros(outputs, np.float32), "v": np.ones(outputs, np.float32)}
    return Weights(learned, running)


def layers() -> list[tuple[str, int, int, int, bool]]:
    """Convolutions: name, side of the kernel, channels in and out, and True with batch normalisation."""
    found = []
    inputs = FOLD * FOLD
    for level, channels in enumerate(CHANNELS):
        found += [(f"down{level}a", 3, inputs, channels, True), (f"down{level}b", 3, channels, channels, True)]
        inputs = channels
    for level in range(len(CHANNELS) - 1):
        found += [
            (f"up{level}", 1, CHANNELS[level + 1], CHANNELS[level], False),
            (f"merge{level}", 3, CHANNELS[level], CHANNELS[level], True),
        ]
    return [*found, ("head", 1, CHANNELS[0], MAPS * (FOLD // 2) ** 2, False)]


def forward(weights: Weights, frames: Any) -> tuple[Any, Values]:
    """Compute maps in training mode: batch normalisation by the statistics of the batch.

    Parameters
    ----------
    weights
        Of the network.
    frames
        (N, H, W) float32, with sides that are multiples of 32.

    Returns
    -------
    (N, 3, H / 2, W / 2) maps, and the new running statistics.
    """
    running: Values = {}

    def block(name: str, x: Any) -> Any:
        x = _convolved(x, weights.learned[name]["w"])
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        old = weights.running[name]
        running[name] = {
            "m": MOMENTUM * old["m"] + (1 - MOMENTUM) * mean,
            "v": MOMENTUM * old["v"] + (1 - MOMENTUM) * variance,
        }
        scale = jax.lax.rsqrt(variance + EPSILON) * weights.learned[name]["g"]
        return jax.nn.relu((x - mean) * scale + weights.learned[name]["b"])

    def linear(name: str, x: Any) -> Any:
        return _convolved(x, weights.learned[name]["w"]) + weights.learned[name]["b"]

    x = _space_to_channels(frames[..., None])
    skipped = []
    for level in range(len(CHANNELS)):
        x = block(f"down{level}b", block(f"down{level}a", _pooled(x) if level else x))
        skipped.append(x)
    for level in range(len(CHANNELS) - 2, -1, -1):
        x = block(f"merge{level}", _enlarged(linear(f"up{level}", x)) + skipped[level])
    return _channels_to_maps(linear("head", x)), running


def loss(learned: Values, running: Values, frames: Any, maps: Any, known: Any) -> tuple[Any, Values]:
    """Loss of a batch, over annotated pixels, and the new running statistics.

    Cross entropy and half a Dice loss for the foreground, weighted cross entropy for touches, weighted absolute error
    for distances.

    Parameters
    ----------
    learned, running
        As in `Weights`.
    frames, maps, known
        As in `augment.Batch`.
    """
    found, running = forward(Weights(learned, running), frames)
    pixels = known.sum() + 1
    foreground = maps[:, 0]
    probability = jax.nn.sigmoid(found[:, 0])
    both = (probability * foreground * known).sum()
    dice = 1 - (2 * both + 1) / (((probability + foreground) * known).sum() + 1)
    cells = (_cross_entropy(found[:, 0], foreground) * known).sum() / pixels
    touches = (_cross_entropy(found[:, 1], maps[:, 1]) * (1 + 4 * maps[:, 1]) * known).sum() / pixels
    distances = (jnp.abs(found[:, 2] - maps[:, 2]) * (1 + 2 * foreground) * known).sum() / pixels
    return cells + 0.5 * dice + touches + 2 * distances, running


def _cross_entropy(logit: Any, truth: Any) -> Any:
    return jnp.maximum(logit, 0) - logit * truth + jnp.log1p(jnp.exp(-jnp.abs(logit)))


def _convolved(x: Any, kernel: Any) -> Any:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _space_to_channels(x: Any) -> Any:
    n, h, w, _ = x.shape
    parts = x.reshape(n, h // FOLD, FOLD, w // FOLD, FOLD)
    return parts.transpose(0, 1, 3, 2, 4).reshape(n, h // FOLD, w // FOLD, FOLD * FOLD)


def _pooled(x: Any) -> Any:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def _enlarged(x: Any) -> Any:
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


def _channels_to_maps(x: Any) -> Any:
    n, h, w, _ = x.shape
    side = FOLD // 2
    parts = x.reshape(n, h, w, MAPS, side, side)
    return parts.transpose(0, 3, 1, 4, 2, 5).reshape(n, MAPS, h * side, w * side)
