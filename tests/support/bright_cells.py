"""A made movie of compact bright cells of about 165 pixels, some in contact, with their true masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

AREA = 165.0
"""Mean area of a cell in pixels."""


def bright_movie(
    shape: tuple[int, int] = (256, 256),
    frames: int = 1,
    cells: int = 60,
    contacts: float = 0.4,
    seed: int = 0,
    dtype: type = np.uint16,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames and true labels of cells that move at random.

    Parameters
    ----------
    shape
        (H, W) of a frame.
    frames
        Number of frames.
    cells
        Cells that are placed; fewer where they do not fit.
    contacts
        Part of the cells that are placed beside another one, which they touch.
    seed
        Of the random numbers.
    dtype
        uint8 or uint16.

    Returns
    -------
    (T, H, W) frames, and (T, H, W) uint16 labels of which each is the same cell in all frames.
    """
    rng = np.random.default_rng(seed)
    radii = np.sqrt(AREA / np.pi * rng.lognormal(0, 0.2, cells))
    places = _placed(rng, shape, radii, contacts)
    radii = radii[: len(places)]
    stretch, angle = rng.uniform(1, 1.25, len(places)), rng.uniform(0, np.pi, len(places))
    brightness = rng.lognormal(0, 0.35, len(places))
    y, x = np.indices(shape)
    shading = 400 + 80 * np.cos(y / shape[0] * 2) + 60 * np.sin(x / shape[1] * 3)
    movie, labels = np.empty((frames, *shape), dtype), np.empty((frames, *shape), np.uint16)
    for t in range(frames):
        light, labels[t] = _drawn(shape, places, radii, stretch, angle, brightness)
        grey = shading + 900 * ndi.gaussian_filter(light, 1.0) + rng.normal(0, 8, shape)
        movie[t] = np.clip(grey / (16 if dtype == np.uint8 else 1), 0, np.iinfo(dtype).max).round()
        places = _moved(rng, places, radii, shape)
        angle = angle + rng.normal(0, 0.15, len(places))
    return movie, labels


def _placed(rng: np.random.Generator, shape: tuple[int, int], radii: np.ndarray, contacts: float) -> np.ndarray:
    """Centres, of which some lie at the sum of the radii from another one, and the others further apart."""
    places, count = np.empty((len(radii), 2)), 0
    for radius in radii:
        touches = count > 0 and rng.uniform() < contacts
        for _ in range(200):
            if touches:
                k, angle = rng.integers(count), rng.uniform(0, 2 * np.pi)
                place = places[k] + (radii[k] + radius) * np.array([np.sin(angle), np.cos(angle)])
            else:
                place = rng.uniform(0, 1, 2) * shape
            room = np.hypot(*(places[:count] - place).T) - radius - radii[:count] * (0.99 if touches else 1.3)
            if (room >= 0).all() and (place >= 0).all() and (place < shape).all():
                places[count] = place
                count += 1
                break
        else:
            break
    return places[:count]


def _moved(rng: np.random.Generator, places: np.ndarray, radii: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centres a frame later: a random step, and apart where two cells would overlap."""
    places = places + rng.normal(0, 0.8, places.shape)
    for _ in range(3):
        apart = places[:, None] - places
        distance = np.hypot(*apart.transpose(2, 0, 1)) + np.eye(len(places)) * 1e9
        overlap = np.maximum(radii[:, None] + radii - distance, 0)
        places = places + (apart * (overlap / (2 * distance))[..., None]).sum(1)
    return np.clip(places, 0, np.array(shape) - 1.0)


def _drawn(
    shape: tuple[int, int],
    places: np.ndarray,
    radii: np.ndarray,
    stretch: np.ndarray,
    angle: np.ndarray,
    brightness: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Light of the cells, as domes over ellipses, and labels; where two overlap, a pixel is that of the nearer one."""
    light, labels, best = np.zeros(shape), np.zeros(shape, np.uint16), np.full(shape, 1.0)
    for k, (cy, cx) in enumerate(places):
        reach = int(radii[k] * 1.3) + 2
        window = np.s_[
            max(int(cy) - reach, 0) : int(cy) + reach + 1,
            max(int(cx) - reach, 0) : int(cx) + reach + 1,
        ]
        y, x = np.broadcast_arrays(np.arange(shape[0])[window[0], None] - cy, np.arange(shape[1])[None, window[1]] - cx)
        along = (np.cos(angle[k]) * x + np.sin(angle[k]) * y) / np.sqrt(stretch[k])
        across = (np.cos(angle[k]) * y - np.sin(angle[k]) * x) * np.sqrt(stretch[k])
        distance = np.hypot(along, across) / radii[k]
        mine = distance < best[window]
        labels[window][mine] = k + 1
        best[window][mine] = distance[mine]
        light[window] = np.where(
            mine, brightness[k] * (0.25 + 0.75 * np.sqrt(1 - np.minimum(distance, 1) ** 2)), light[window]
        )
    return light, labels
