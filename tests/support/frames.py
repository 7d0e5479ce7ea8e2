"""Frames, labels and boxes that the kernel tests share, and hypothesis strategies over them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.uint8, np.uint16)
SHAPES = ((1, 1), (1, 17), (17, 1), (3, 5), (2, 2), (31, 45), (64, 64), (97, 53))


def top(dtype) -> int:
    return int(np.iinfo(dtype).max)


def noise(shape, dtype=np.uint16, seed=0):
    """Every grey level equally likely."""
    return np.random.default_rng(seed).integers(0, top(dtype), shape, dtype, endpoint=True)


def quiet(shape, dtype=np.uint16, seed=0):
    """A camera's frame without cells: a level, and a little noise."""
    level = top(dtype) // 4
    return np.random.default_rng(seed).normal(level, 2.0, shape).round().astype(dtype)


def flat(shape, dtype=np.uint16, seed=0):
    return np.full(shape, 7 + seed % 50, dtype)


def saturated(shape, dtype=np.uint16, seed=0):
    return np.full(shape, top(dtype), dtype)


def half_saturated(shape, dtype=np.uint16, seed=0):
    """Two thirds of the pixels at the limit of the camera."""
    return np.where(noise(shape, np.uint8, seed) > 85, top(dtype), noise(shape, dtype, seed + 1)).astype(dtype)


def checkerboard(shape, dtype=np.uint16, seed=0):
    y, x = np.indices(shape)
    return np.where((y // (1 + seed % 4) + x // (1 + seed % 4)) % 2, top(dtype), 0).astype(dtype)


def outlier(shape, dtype=np.uint16, seed=0):
    """A level, and one pixel at the limit of the camera."""
    frame = flat(shape, dtype, seed)
    frame[np.unravel_index(seed % frame.size, shape)] = top(dtype)
    return frame


def disks(shape, seed=0, count=None, radius=(4, 9)):
    """Mask of disks at random places; they may touch and leave the frame."""
    rng = np.random.default_rng(seed)
    h, w = shape
    y, x = np.indices(shape)
    mask = np.zeros(shape, bool)
    for _ in range(max(1, h * w // 600) if count is None else count):
        cy, cx, r = rng.integers(0, h), rng.integers(0, w), rng.integers(*radius)
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= r * r
    return mask


def blobs(shape, dtype=np.uint16, seed=0):
    """Textured disks, as cells in phase contrast, on a quiet background."""
    texture = np.random.default_rng(seed + 1).normal(0, top(dtype) / 12, shape)
    frame = quiet(shape, dtype, seed) + np.where(disks(shape, seed), texture, 0)
    return np.clip(frame, 0, top(dtype)).astype(dtype)


def all_cell(shape, dtype=np.uint16, seed=0):
    """Texture from border to border."""
    texture = np.random.default_rng(seed).normal(top(dtype) / 2, top(dtype) / 8, shape)
    return np.clip(texture, 0, top(dtype)).astype(dtype)


MAKERS = {
    f.__name__: f for f in (noise, quiet, flat, saturated, half_saturated, checkerboard, outlier, blobs, all_cell)
}


def specks(rows, columns, dtype=np.uint16):
    """Single bright pixels on black, far enough apart for rows * columns objects in a window of 3."""
    frame = np.zeros((4 * rows, 5 * columns), dtype)
    frame[1::4, 2::5] = 1000
    return frame


def label_image(shape, seed=0, count=12, background=0.4):
    """Labels 1..N without gaps: Voronoi cells, which touch, with background between and holes within.

    Cells may be in several parts, at borders, and of a single pixel.
    """
    rng = np.random.default_rng(seed)
    h, w = shape
    y, x = np.indices(shape)
    centre = rng.uniform(0, 1, (count, 2)) * (h, w)
    distance = (y - centre[:, 0, None, None]) ** 2 + (x - centre[:, 1, None, None]) ** 2
    labels = distance.argmin(0) + 1
    labels[distance.min(0) > (1 - background) * h * w / count] = 0
    labels[rng.uniform(size=shape) < 0.05] = 0
    return without_gaps(labels)


def without_gaps(labels):
    """The same objects, numbered 1..N in their old order."""
    kept = np.unique(labels[labels > 0])
    numbers = np.zeros(labels.max(initial=0) + 1, np.uint16)
    numbers[kept] = np.arange(1, kept.size + 1)
    return numbers[labels]


def mask(shape, seed=0, part=0.5):
    """Every pixel set with the same probability."""
    return np.random.default_rng(seed).uniform(size=shape) < part


def views(array):
    """The same pixels in memory laid out otherwise: transposed, strided, offset and reversed."""
    wide = np.zeros(tuple(2 * n + 1 for n in array.shape), array.dtype)
    wide[tuple(slice(1, None, 2) for _ in array.shape)] = array
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    return {
        "fortran": np.asfortranarray(array),
        "strided": wide[tuple(slice(1, None, 2) for _ in array.shape)],
        "reversed": np.ascontiguousarray(array[backwards])[backwards],
    }


# ------------------------------------------------------------------------------------------- strategies


def shapes(smallest=1, largest=48):
    side = st.integers(smallest, largest)
    return st.tuples(side, side)


mask_shapes = st.tuples(st.integers(1, 40), st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129])))
"""Also of widths at which words of 64 pixels end."""


seeds = st.integers(0, 2**16)


@st.composite
def frames(draw, smallest=1, largest=48, kinds=tuple(MAKERS)):
    """Frames of any kind, shape and dtype."""
    make = MAKERS[draw(st.sampled_from(kinds))]
    return make(draw(shapes(smallest, largest)), draw(st.sampled_from(DTYPES)), draw(seeds))


@st.composite
def box_sets(draw, largest=8, side=12):
    """(N, 4) boxes of at least one pixel on a small grid, so that overlaps and ties are frequent."""
    corner, size = st.integers(0, side), st.integers(1, side // 2)
    rows = draw(st.lists(st.tuples(corner, corner, size, size), max_size=largest))
    found = [(y, x, y + h, x + w) for y, x, h, w in rows]
    return np.array(found, np.int32).reshape(-1, 4)
