"""Simulated cells of one FOV: positions, shapes and expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from scipy.spatial import KDTree

Floats = npt.NDArray[np.float64]
Textures = npt.NDArray[np.float32]

RADIUS = 22.0
"""Largest radius of a cell in pixels (lobes reach 1 or 2 further)."""
GAP = 28.0
"""Least distance between two cells in pixels, so that neither halos nor mask closing join them."""
CLEARANCE = 10.0
"""Pixels between a cell and the border margin, because a phase-contrast mask includes the halo."""
TEXELS = 96
"""Width of a texture; it covers -1.1 to 1.1 in units of the cell's radius."""
TEXTURES = 4
"""Number of textures that a cell blends over time."""


@dataclass(frozen=True, eq=False)
class Cells:
    """N cells over T frames; a longer movie begins with the same frames."""

    centres: Floats
    """(T, N, 2) y and x of the centres in pixels, 0 being the outer edge of the first pixel."""
    axes: Floats
    """(T, N, 2) half axes in pixels."""
    angles: Floats
    """(T, N) angle of the first axis in radians."""
    lobes: Floats
    """(N, 2, 2) strength and phase of the third and fourth harmonic of the outline."""
    blends: Floats
    """(T, N, TEXTURES) weight of each texture."""


@dataclass(frozen=True, eq=False)
class Looks:
    """Inner structure of N cells."""

    nuclei: Floats
    """(N, 2) centre of the nucleus in units of the cell's radius."""
    textures: Textures
    """(N, TEXTURES, TEXELS, TEXELS) with mean 0 and standard deviation 1."""


def simulate(
    rng: np.random.Generator,
    *,
    n_frames: int,
    n_cells: int,
    shape: tuple[int, int],
    border_margin: int,
) -> Cells:
    """Simulate cells that wander without touching, some at the border and the rest off its margin.

    Parameters
    ----------
    rng
        Source of randomness; the same state yields the same cells.
    n_frames, n_cells
        Numbers T of frames and N of cells.
    shape
        (H, W) of a frame in pixels.
    border_margin
        Width in pixels of the margin at the border.

    Raises
    ------
    ValueError
        If the cells do not fit.
    """
    time = np.arange(n_frames)[:, None]
    half = rng.uniform([16.5, 14.5], [21.0, 18.0], (n_cells, 2))
    swell = 1 + 0.05 * _waves(rng, time, n_cells, 2)
    angles = rng.uniform(0, np.pi, n_cells) + 0.4 * _waves(rng, time, n_cells, 1)[..., 0]
    lobes = np.stack([rng.uniform(0.02, 0.06, (n_cells, 2)), rng.uniform(0, 2 * np.pi, (n_cells, 2))], -1)
    blends = _waves(rng, time, n_cells, TEXTURES, rate=(0.1, 0.35))
    blends /= np.sqrt(np.square(blends).sum(-1, keepdims=True))
    centres = _wander(rng, n_frames, n_cells, shape, border_margin)
    return Cells(centres, half * swell, angles, lobes, blends)


def expression(rng: np.random.Generator, n_cells: int, minutes: Floats) -> Floats:
    """Total fluorescence (T, N) in grey levels: it rises after an onset and slowly decays.

    The curve of one dose of mRNA: protein is made while the mRNA lasts, and both decay exponentially
    (Leonhardt et al., Nanomedicine 2014, 10:679). Some autofluorescence is present from the start.

    Parameters
    ----------
    rng
        Source of randomness.
    n_cells
        Number N of cells.
    minutes
        (T,) times of the frames.
    """
    onset = rng.uniform(10, 120, n_cells)
    rise, decay = rng.uniform(60, 160, n_cells), rng.uniform(700, 2500, n_cells)
    amplitude = 6e5 * rng.lognormal(0, 0.5, n_cells)
    autofluorescence = rng.uniform(2e4, 4e4, n_cells)
    since = np.clip(minutes[:, None] - onset, 0, None)
    totals: Floats = autofluorescence + amplitude * (np.exp(-since / decay) - np.exp(-since / rise))
    return totals


def _waves(
    rng: np.random.Generator,
    time: npt.NDArray[np.int_],
    n_cells: int,
    n: int,
    rate: tuple[float, float] = (0.04, 0.16),
) -> Floats:
    """(T, N, n) slow waves between -1 and 1; the rate is in radians per frame."""
    rates, phases = rng.uniform(*rate, (n_cells, n)), rng.uniform(0, 2 * np.pi, (n_cells, n))
    waves: Floats = np.cos(rates * time[..., None] + phases)
    return waves


def looks(rng: np.random.Generator, n_cells: int) -> Looks:
    """Granular cytoplasm around a smooth nucleus with two dark nucleoli."""
    nuclei = rng.uniform(-0.25, 0.25, (n_cells, 2))
    noise = rng.standard_normal((n_cells, TEXTURES, TEXELS, TEXELS), np.float32)
    granules = _standard(ndi.gaussian_filter(noise, (0, 0, 2.8, 2.8)))
    folds = _standard(ndi.gaussian_filter(noise[:, :, ::-1], (0, 0, 7, 7)))
    axis = np.linspace(-1.1, 1.1, TEXELS)
    y, x = axis[:, None] - nuclei[:, :1, None], axis - nuclei[:, 1:, None]
    nucleus = 1 / (1 + np.exp((np.hypot(y, x) - 0.4) / 0.03))
    dots = rng.uniform(-0.2, 0.2, (2, 2, n_cells, 1, 1))
    nucleoli = np.exp(-(np.square(y - dots[0]) + np.square(x - dots[1])) / 0.008).sum(0)
    cytoplasm = (granules + 0.4 * np.square(granules) + 0.6 * folds) * (1 - 0.7 * nucleus[:, None])
    return Looks(nuclei, _standard(cytoplasm + 0.5 * nucleus[:, None] - 2.5 * nucleoli[:, None]))


def _standard(images: npt.NDArray[np.floating]) -> Textures:
    """Images with mean 0 and standard deviation 1."""
    images = images - images.mean((-2, -1), keepdims=True)
    textures: Textures = (images / images.std((-2, -1), keepdims=True)).astype(np.float32)
    return textures


def _wander(rng: np.random.Generator, n_frames: int, n_cells: int, shape: tuple[int, int], margin: int) -> Floats:
    """(T, N, 2) centres on a random walk with correlated steps."""
    size = np.array(shape, float)
    inset = margin + RADIUS + CLEARANCE
    inner = size - 2 * inset
    share = 1.3 * (inner + RADIUS).prod() / size.prod() if (inner >= 0).all() else 0.0
    at_border = np.arange(n_cells) >= round(n_cells * min(share, 1.0))
    centres = rng.uniform(np.where(at_border[:, None], 0, inset), np.where(at_border[:, None], size, size - inset))
    centres = _settle(centres, at_border, size, margin, rounds=2000)
    if _crowding(centres)[1].max(initial=0) > 1:
        raise ValueError(
            f"{n_cells} cells do not fit a FOV of {shape} with a border margin of {margin}. Fix: use fewer cells"
        )
    walk = np.empty((n_frames, n_cells, 2))
    step = 1.8 * rng.standard_normal((n_cells, 2))
    for t in range(n_frames):
        walk[t] = centres
        step = 0.8 * step + 0.6 * 1.8 * rng.standard_normal((n_cells, 2))
        centres = _settle(centres + step, at_border, size, margin, rounds=200)
    return walk


def _crowding(centres: Floats) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Pairs (P, 2) of cells that are too close, overlap in pixels, and direction (P, 2) from second to first."""
    pairs = KDTree(centres).query_pairs(2 * RADIUS + GAP, output_type="ndarray")
    apart = centres[pairs[:, 0]] - centres[pairs[:, 1]]
    distance = np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 1e-9)
    return pairs, 2 * RADIUS + GAP - distance, apart / distance[:, None]


def _settle(centres: Floats, at_border: npt.NDArray[np.bool_], size: Floats, margin: int, rounds: int) -> Floats:
    """Push cells apart and back into their regions until they no longer crowd."""
    for _ in range(rounds):
        centres = _confine(centres, at_border, size, margin)
        pairs, overlap, direction = _crowding(centres)
        if overlap.max(initial=0) < 0.1:
            break
        push = 0.4 * overlap[:, None] * direction
        np.add.at(centres, pairs[:, 0], push)
        np.subtract.at(centres, pairs[:, 1], push)
    return _confine(centres, at_border, size, margin)


def _confine(centres: Floats, at_border: npt.NDArray[np.bool_], size: Floats, margin: int) -> Floats:
    """Keep border cells reaching into the margin, and the others off it."""
    inset = margin + RADIUS + CLEARANCE
    inside = np.clip(centres, inset, np.maximum(size - inset, inset))
    outer = np.clip(centres, 0, size)
    # Depth below the four sides: if even the smallest is too large, the cell moves back to that side.
    depths = np.concatenate([outer, size - outer], 1)
    nearest = depths.argmin(1)
    rows = np.arange(len(outer))
    excess = np.clip(depths[rows, nearest] - (margin + 8), 0, None)
    outer[rows, nearest % 2] -= np.where(nearest < 2, excess, -excess)
    return np.where(at_border[:, None], outer, inside)
