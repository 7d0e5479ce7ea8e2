"""Frames of synthetic cells in contact, with their labels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


def touching_cells(seed=0, shape=(320, 320), spacing=44, radius=24):
    """Textured domes of about 45 pixels in diameter, most of which touch: (H, W) uint16 frame, int32 labels."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(spacing / 2, n, spacing) for n in shape)
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    centres = centres[rng.random(len(centres)) < 0.6] + rng.normal(0, spacing / 10, (1, 2))
    centres = centres + rng.normal(0, spacing / 9, centres.shape)
    pixels = np.stack(np.indices(shape), -1).reshape(-1, 2)
    distance, nearest = (found.reshape(shape) for found in cKDTree(centres).query(pixels))
    labels = np.where(distance < radius, nearest + 1, 0).astype(np.int32)
    border = np.zeros(shape, bool)
    for axis in (0, 1):
        border |= labels != np.roll(labels, 1, axis)
    depth = np.minimum(ndimage.distance_transform_edt(~border), 12)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, shape), 1.2) * 300
    frame = 3000 + (labels > 0) * (40 * depth + texture) + rng.normal(0, 8, shape)
    return frame.round().astype(np.uint16), labels
