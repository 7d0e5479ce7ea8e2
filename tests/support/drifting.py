"""Frames of a scene that is drawn at any position without interpolation, so that shifts are exactly known."""

from __future__ import annotations

import numpy as np


class Scene:
    """Phase contrast: fine texture, cells with a bright halo, shading that stays with the camera, and noise."""

    def __init__(self, shape, *, reach=0.0, texture=200.0, noise=90.0, seed=0):
        """Cells lie up to `reach` pixels beyond the borders of a frame that has not moved."""
        self.shape, self.noise = shape, noise
        self.random = np.random.default_rng(seed)
        self._waves = self.random.uniform(-0.7, 0.7, (2, 80)), self.random.uniform(0, 2 * np.pi, 80)
        self._amplitude = texture * np.sqrt(2 / 80)
        low, high = np.full(2, -30.0 - reach), np.array(shape) + 30.0 + reach
        self.cells = self.random.uniform(low, high, (int((high - low).prod() / 3000), 2))
        y, x = (np.linspace(-1, 1, n) ** 2 for n in shape)
        self._light = 1 - 0.3 * (y[:, None] + x) / 2

    def frame(self, shift=(0.0, 0.0), *, light=1.0, tilt=0.0, moved=0.0):
        """(H, W) uint16 with all content moved by y, x, and each cell by a random step of its own."""
        if moved:
            self.cells = self.cells + self.random.normal(0, moved, self.cells.shape)
        y, x = (np.arange(n) - by for n, by in zip(self.shape, shift, strict=True))
        (ky, kx), phase = self._waves
        image = 12000 + self._amplitude * (np.exp(1j * (np.outer(y, ky) + phase)) @ np.exp(1j * np.outer(kx, x))).real
        ends = np.array([[y[0], x[0]], [y[-1], x[-1]]])
        near = self.cells[((self.cells > ends[0] - 40) & (self.cells < ends[1] + 40)).all(1)]
        for width, height in ((11.0, 3200.0), (9.0, -4500.0)):
            spots = [np.exp(-(((v[:, None] - near[:, k]) / width) ** 2)) for k, v in enumerate((y, x))]
            image += height * spots[0] @ spots[1].T
        seen = image * self._light * light * (1 + tilt * np.linspace(-1, 1, self.shape[1]))
        return np.clip(seen + self.random.normal(0, self.noise, self.shape), 0, 65535).round().astype(np.uint16)
