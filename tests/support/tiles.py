"""Tiles of a synthetic well, cut at fractional positions that are exactly known.

The well is a sum of waves and of Gaussian spots, which can be drawn at any position without interpolation.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

GENERATOR = Path(__file__).parents[3] / "shared" / "tools" / "plate_scene.py"
REAL_PLATES = Path(__file__).parents[3] / "shared" / "data" / "plates"


class Tiles:
    """Overlapping tiles of one well, as a microscope would take them.

    Attributes
    ----------
    truth, stage
        (N, 2) y, x of the tiles' corners in pixels, and what the stage states.
    images
        Tiles in phase contrast: fine texture, cells with a bright halo, noise and shading.
    """

    def __init__(
        self,
        grid=(3, 3),
        shape=(96, 128),
        overlap=0.25,
        *,
        stage_error=4.0,
        shading=0.3,
        noise=90.0,
        seed=0,
        at=None,
        cells=None,
    ):
        rng = np.random.default_rng(seed)
        self.shape = shape
        step = np.array(shape) * (1 - overlap)
        nominal = np.indices(grid).reshape(2, -1).T * step
        self.truth = nominal + rng.uniform(-3, 3, nominal.shape) if at is None else np.asarray(at, float)
        error = rng.normal(0, stage_error / 2.2, self.truth.shape).clip(-stage_error, stage_error)
        self.stage = self.truth + error
        self._waves = rng.uniform(-0.7, 0.7, (2, 200)), rng.uniform(0, 2 * np.pi, 200)
        size = self.truth.max(0) + shape
        self.cells = rng.uniform(0, size, (int(size.prod() // 11000) + 1, 2)) if cells is None else np.asarray(cells)
        light = 1 - shading * sum(np.meshgrid(*(np.linspace(-1, 1, n) ** 2 for n in shape), indexing="ij")) / 2
        seen = [self._draw(corner) * light + rng.normal(0, noise, shape) for corner in self.truth]
        self.images = [np.rint(image).astype(np.uint16) for image in seen]

    def spots(self):
        """Tiles in fluorescence: cells as bright spots on a dark ground."""
        rng, found = np.random.default_rng(7), []
        for corner in self.truth:
            along_y, along_x = self._cells(corner, 7.0)
            found.append(np.rint(300 + 3000 * along_y @ along_x.T + rng.normal(0, 9, self.shape)).astype(np.uint16))
        return found

    def _cells(self, corner, width):
        """Gaussian profiles of all cells along y (H, N) and x (W, N) of a tile."""
        axes = (at + np.arange(n) for at, n in zip(corner, self.shape, strict=True))
        return [np.exp(-(((v[:, None] - self.cells[:, k]) / width) ** 2)) for k, v in enumerate(axes)]

    def _draw(self, corner):
        y, x = (at + np.arange(n) for at, n in zip(corner, self.shape, strict=True))
        (ky, kx), phase = self._waves
        down, across = np.exp(1j * (np.outer(y, ky) + phase)), np.exp(1j * np.outer(kx, x))
        image = 12000 + 200 * np.sqrt(2 / len(phase)) * (down @ across).real
        for width, height in ((11.0, 3200), (9.0, -4500)):  # a dark body in a bright halo
            along_y, along_x = self._cells(corner, width)
            image += height * along_y @ along_x.T
        return image


def generator():
    """Module `plate_scene` that draws plates; the test is skipped where it is not beside this checkout."""
    if not GENERATOR.exists():
        pytest.skip("the generator of plates is not beside this checkout")
    spec = importlib.util.spec_from_file_location("plate_scene", GENERATOR)
    module = sys.modules.setdefault("plate_scene", importlib.util.module_from_spec(spec))
    if not hasattr(module, "Scene"):
        spec.loader.exec_module(module)
    return module


def generated(**scene):
    """Tiles of the first well of a generated plate, their true corners, and the well."""
    scenes = generator()
    well = scenes.Well(scenes.Scene(wells=("B02",), channels=("Phase",), **scene), 0)
    canvas = well.draw(0, 0, 0)
    images = [well.site(scenes.Plane("B02", tile.site, 0, 0, 0), tile, canvas) for tile in well.tiles]
    return images, np.array([(tile.y, tile.x) for tile in well.tiles], float), well
