"""Random crops of annotated frames, changed as other microscopes and other days would change them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pyama_dask.kernels.training_crops import learned_maps, warp

STEP = 16
"""Pixels between the places of cells that crops are centred on."""


@dataclass(frozen=True)
class Example:
    """An annotated frame at the scale of the network.

    Parameters
    ----------
    frame
        (H, W) float32, flattened.
    labels
        (H, W) int32: 0 is background, cells are 1 and more, -1 is not annotated.
    """

    frame: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    places: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        places = np.argwhere(self.labels[::STEP, ::STEP] > 0) * STEP
        object.__setattr__(self, "places", places if len(places) else np.argwhere(self.labels > 0)[:1])


@dataclass(frozen=True)
class Batch:
    """Crops for one step of training.

    Parameters
    ----------
    frames
        (N, S, S) float32.
    maps
        (N, 3, S / 2, S / 2) float32: foreground, touch, distance.
    known
        (N, S / 2, S / 2) float32: 1 where annotated, otherwise 0.
    """

    frames: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
    known: npt.NDArray[np.float32]


def random_batch(rng: np.random.Generator, examples: Sequence[Example], size: int, count: int) -> Batch:
    """Draw crops from examples chosen at random.

    Parameters
    ----------
    rng
        Source of all random numbers.
    examples
        Frames to crop.
    size
        Side S of the crops in pixels; even.
    count
        Number N of crops.
    """
    crops = [random_crop(rng, examples[int(rng.integers(len(examples)))], size) for _ in range(count)]
    frames, labels = zip(*crops, strict=True)
    return Batch(
        np.stack(frames),
        np.stack([learned_maps(found) for found in labels]),
        np.stack([found >= 0 for found in labels]).astype(np.float32),
    )


def random_crop(
    rng: np.random.Generator, example: Example, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Draw a crop of an example.

    Parameters
    ----------
    rng, example, size
        As for `random_batch`.

    Returns
    -------
    (S, S) warped frame with changed grey values, and its (S / 2, S / 2) labels.
    """
    crop, labels = warp(example.frame, example.labels, random_matrix(rng, example, size), size)
    crop *= math.exp(rng.normal(0, 0.3))
    crop += rng.normal(0, 0.1)
    if rng.random() < 0.3:
        crop = ndimage.gaussian_filter(crop, rng.uniform(0.4, 1.5), truncate=2.5)
    if rng.random() < 0.3:
        crop += rng.uniform(0, 0.15) * rng.standard_normal(crop.shape, np.float32)
    if rng.random() < 0.3:
        ramp = np.arange(size, dtype=np.float32) / size - 0.5
        crop += rng.normal(0, 0.4) * ramp[:, None] + rng.normal(0, 0.4) * ramp
    return crop.astype(np.float32, copy=False), labels


def random_matrix(rng: np.random.Generator, example: Example, size: int) -> npt.NDArray[np.float64]:
    """Draw an affine map: rotation, flip, zoom and stretching, about a cell or about any place.

    Parameters
    ----------
    rng, example, size
        As for `random_batch`.

    Returns
    -------
    (2, 3) matrix for `kernels.training_crops.warp`.
    """
    zoom = math.exp(rng.uniform(math.log(0.6), math.log(1.8)))
    stretch, flip, angle = math.exp(rng.normal(0, 0.1)), rng.choice([-1, 1]), rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle) * flip], [math.sin(angle), math.cos(angle) * flip]])
    linear = turn * np.array([[stretch], [1.0]]) / zoom
    centre: Any = rng.uniform(0, example.frame.shape)
    if rng.random() < 0.5 and len(example.places):
        centre = example.places[rng.integers(len(example.places))]
    shift = centre[::-1] - linear @ np.array([size / 2, size / 2])
    return np.column_stack([linear, shift])
