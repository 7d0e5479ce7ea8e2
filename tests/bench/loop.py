"""The steps of a run as a plain loop with scikit-image and zarr-python: ``python loop.py MOVIE OUTPUT``.

It is written as a careful scientist would write it for one movie: one process, one frame after the other, the fastest
exact function that scikit-image and SciPy have for each step. It imports nothing from pyama_dask, and computes the same
as a run with its defaults, a phase-contrast channel 0, a fluorescence channel 1, and ``min_frames: 2``.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nd2
import numpy as np
import pandas as pd
import zarr
from pylibCZIrw import czi as zeiss
from scipy import ndimage as ndi
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import linear_sum_assignment
from skimage.measure import label, regionprops_table
from skimage.morphology import disk, isotropic_dilation
from skimage.transform import downscale_local_mean
from zarr.codecs import BloscCodec

PHASE, FLUORESCENCE = 0, 1
WINDOW, BINS, DISK, ROUNDS = 3, 200, disk(3), 3
MIN_SIZE, MAX_SIZE = 50, 10_000
MIN_IOU, MIN_FRAMES, BORDER = 0.1, 2, 50
TILE, MARGIN, MIN_FREE = 100, 10, 0.05

seconds: defaultdict[str, float] = defaultdict(float)
"""Wall time by step."""


@contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] += time.perf_counter() - started


# ----------------------------------------------------------------------------------------------- movie


@contextmanager
def opened(movie: Path) -> Iterator[tuple[int, int, Callable[[int, int], np.ndarray]]]:
    """Number of FOVs and frames, and a function that reads the channels (C, H, W) of a FOV and frame."""
    if movie.suffix == ".nd2":
        with nd2.ND2File(movie) as file:
            places = {(at.get("P", 0), at.get("T", 0)): k for k, at in enumerate(file.loop_indices)}
            yield file.sizes.get("P", 1), file.sizes.get("T", 1), lambda fov, t: file.read_frame(places[fov, t])
    else:
        with zeiss.open_czi(str(movie)) as file:
            fovs = sorted(file.scenes_bounding_rectangle) or [None]
            frames = file.total_bounding_box["T"][1]

            def read(fov: int, t: int) -> np.ndarray:
                planes = [{"T": t, "C": channel} for channel in (PHASE, FLUORESCENCE)]
                return np.stack([file.read(plane=plane, scene=fovs[fov])[..., 0] for plane in planes])

            yield len(fovs), frames, read


# ---------------------------------------------------------------------------------------- segmentation


def log_std(frame: np.ndarray) -> np.ndarray:
    """Logarithm of the local standard deviation; 0 where the window is constant."""
    pixels = frame.astype(np.float64)
    variance = ndi.uniform_filter(pixels**2, WINDOW) - ndi.uniform_filter(pixels, WINDOW) ** 2
    flat = variance < 1e-4  # rounding errors: a window of integers that is not constant has at least 0.09
    return np.where(flat, 0.0, 0.5 * np.log(np.where(flat, 1.0, variance))).astype(np.float32)


def valley(values: np.ndarray) -> float:
    """Lowest point of the smoothed histogram between the mode of the background and that of the cells."""
    counts, edges = np.histogram(values, BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    smooth = ndi.gaussian_filter1d(counts.astype(np.float64), 2.0, mode="nearest")
    mode = int(smooth.argmax())
    peaks = [k for k in range(mode + 1, BINS - 1) if smooth[k - 1] < smooth[k] >= smooth[k + 1]]
    rises = [smooth[k] - smooth[mode : k + 1].min() for k in peaks]
    if peaks and max(rises) >= 0.05 * smooth[(peak := peaks[int(np.argmax(rises))])]:
        return float(centres[mode + smooth[mode : peak + 1].argmin()])
    top = float(centres[counts.argmax()])
    return top + 3 * float(values[values <= top].std(dtype=np.float64))


def keep_sizes(labels: np.ndarray, smallest: int, largest: float = np.inf) -> np.ndarray:
    """Labels of objects of a permitted area, numbered again from 1."""
    areas = np.bincount(labels.ravel())
    keep = (areas >= smallest) & (areas <= largest)
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.uint16)[labels]


def segment(frame: np.ndarray) -> np.ndarray:
    """Labels (H, W) of the cells of a phase-contrast frame."""
    texture = log_std(frame)
    mask = ndi.binary_dilation(texture > valley(texture), DISK, ROUNDS)
    mask = ndi.binary_erosion(mask, DISK, ROUNDS, border_value=1)
    mask = keep_sizes(label(mask, connectivity=1), MIN_SIZE) > 0
    mask = ndi.binary_fill_holes(mask)
    mask = ndi.binary_dilation(ndi.binary_erosion(mask, DISK, ROUNDS, border_value=1), DISK, ROUNDS)
    return keep_sizes(label(mask, connectivity=1), MIN_SIZE, MAX_SIZE)


# -------------------------------------------------------------------------------- tracking, background


def link(before: np.ndarray, ids: np.ndarray, now: np.ndarray, new: int) -> np.ndarray:
    """Track ids of boxes (N, 4) by their overlap with those of the frame before; new ones count from `new`."""
    found = np.zeros(len(now), np.int64)
    if len(before) and len(now):
        sides = np.minimum(before[:, None, 2:], now[:, 2:]) - np.maximum(before[:, None, :2], now[:, :2])
        both = np.clip(sides, 0, None).prod(-1)
        of_one, of_other = ((boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (before, now))
        iou = both / (of_one[:, None] + of_other - both)
        iou[iou < MIN_IOU] = 0
        rows, columns = linear_sum_assignment(1 - iou)
        good = iou[rows, columns] > 0
        found[columns[good]] = ids[rows[good]]
    fresh = found == 0
    found[fresh] = np.arange(new, new + fresh.sum())
    return found


def tile_medians(frame: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Medians of half-overlapping tiles, of pixels away from cells, NaN for too few of them; and the tiles' centres."""
    free = ~isotropic_dilation(labels > 0, MARGIN)
    rows, columns = (np.rint(np.linspace(0, n, 2 * (-(-n // TILE) + 1) - 1)).astype(int) for n in frame.shape)
    grid = np.full((len(rows) - 2, len(columns) - 2), np.nan)
    for i, j in np.ndindex(*grid.shape):
        tile = np.s_[rows[i] : rows[i + 2], columns[j] : columns[j + 2]]
        pixels = frame[tile][free[tile]]
        if pixels.size and pixels.size >= MIN_FREE * free[tile].size:
            grid[i, j] = np.median(pixels)
    return grid, [(edges[:-2] + edges[2:]) / 2 for edges in (rows, columns)]


def filled(grid: np.ndarray) -> np.ndarray:
    """Tiles without a median get the mean of their neighbours."""
    while np.isnan(grid).any() and not np.isnan(grid).all():
        known = np.isfinite(grid)
        sums, counts = (ndi.convolve(a * 1.0, np.ones((3, 3)), mode="constant") for a in (np.nan_to_num(grid), known))
        grid = np.where(known, grid, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    return grid


def extended(grid: np.ndarray, centres: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows extrapolated linearly to both borders of an image."""
    steps = np.diff(centres)
    first = grid[0] + (grid[0] - grid[1]) * centres[0] / steps[0]
    last = grid[-1] + (grid[-1] - grid[-2]) * (length - centres[-1]) / steps[-1]
    return np.concatenate([[first], grid, [last]]), np.array([0, *centres, length], float)


def background(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Bicubic spline (H, W) through the medians of tiles."""
    grid, (rows, columns) = tile_medians(frame, labels)
    grid = filled(grid)
    if np.isnan(grid).all():
        return np.full(frame.shape, np.nan, np.float32)
    height, width = frame.shape
    grid, rows = extended(grid, rows, height)
    transposed, columns = extended(grid.T, columns, width)
    spline = RectBivariateSpline(rows, columns, transposed.T)
    return spline(np.arange(height) + 0.5, np.arange(width) + 0.5).astype(np.float32)


# --------------------------------------------------------------------------------------------- results


def measure(labels: np.ndarray, corrected: np.ndarray) -> pd.DataFrame:
    """A row per cell of a frame: label, box, area, aspect ratio, mean and total intensity."""
    names = ("label", "bbox", "area", "axis_major_length", "axis_minor_length", "intensity_mean")
    rows = pd.DataFrame(regionprops_table(labels, corrected, properties=names))
    rows = rows.rename(columns={f"bbox-{k}": f"bbox_{name}" for k, name in enumerate(("y0", "x0", "y1", "x1"))})
    rows["aspect_ratio"] = rows.pop("axis_major_length") / rows.pop("axis_minor_length").replace(0, np.nan)
    rows["intensity_total"] = rows.intensity_mean * rows.area
    return rows


def selected(rows: pd.DataFrame, shape: tuple[int, int]) -> pd.DataFrame:
    """Rows of cells that are there in enough frames and never near the border."""
    seen = rows.groupby("cell")["frame"].transform("size")
    inside = (rows.bbox_y0 >= BORDER) & (rows.bbox_x0 >= BORDER)
    inside &= (rows.bbox_y1 <= shape[0] - BORDER) & (rows.bbox_x1 <= shape[1] - BORDER)
    return rows[(seen >= MIN_FRAMES) & inside.groupby(rows.cell).transform("all")].sort_values(["cell", "frame"])


def new_array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...]) -> zarr.Array:
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
    return group.create_array(name, shape=shape, chunks=chunk, dtype=dtype, compressors=[codec])


def write_display(group: zarr.Group, name: str) -> tuple[float, float]:
    """Write an array at half its size in 8 bits; gives the grey levels of its 1st and 99th percentile."""
    stack = group[name][:]
    if name in ("labels", "tracked"):
        low, high = 0.0, float(stack.max()) or 1.0
        small = stack[:, ::2, ::2]
    else:
        low, high = np.percentile(stack, [1, 99])
        small = downscale_local_mean(stack, (1, 2, 2))
    eight_bits = (np.clip((small - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    new_array(group, f"{name}_display", eight_bits.shape, "uint8", (1, *eight_bits.shape[1:]))[:] = eight_bits
    return float(low), float(high)


def write_crops(output: Path, images: zarr.Group, rows: pd.DataFrame, phase_levels: tuple[float, float]) -> None:
    """Write each cell in all frames, in a window as large as its largest box: phase, corrected fluorescence, mask."""
    cells, tracked = zarr.create_group(output), images["tracked"][:]
    corrected = images["fluorescence"][:] - images["background"][:]
    stacks = {"phase": images["phase"][:], "fluorescence": corrected}
    levels = {"phase": phase_levels, "fluorescence": np.percentile(corrected, [1, 99])}
    for cell, boxes in rows.groupby("cell"):
        size = ((boxes.bbox_y1 - boxes.bbox_y0).max(), (boxes.bbox_x1 - boxes.bbox_x0).max())
        crops = {name: np.zeros((len(tracked), *size), np.float32) for name in stacks}
        mask = np.zeros((len(tracked), *size), np.uint8)
        for box in boxes.itertuples():
            window = np.s_[box.frame, box.bbox_y0 : box.bbox_y1, box.bbox_x0 : box.bbox_x1]
            place = np.s_[box.frame, : box.bbox_y1 - box.bbox_y0, : box.bbox_x1 - box.bbox_x0]
            mask[place] = tracked[window] == cell
            for name, (low, high) in levels.items():
                crops[name][place] = np.clip((stacks[name][window] - low) / max(high - low, 1e-9), 0, 1)
        for name, crop in (*crops.items(), ("mask", mask)):
            new_array(cells, f"{name}/{cell}", crop.shape, str(crop.dtype), crop.shape)[:] = crop


ARRAYS = {"phase": "uint16", "fluorescence": "uint16", "labels": "uint16", "tracked": "uint16", "background": "float32"}
"""Types of the arrays of a FOV."""


def process(read: Callable[[int, int], np.ndarray], fov: int, frames: int, folder: Path) -> None:
    """All steps of a FOV, into a new folder."""
    images, shape = zarr.create_group(folder / "images.zarr"), read(fov, 0).shape[1:]
    arrays = {name: new_array(images, name, (frames, *shape), dtype, (1, *shape)) for name, dtype in ARRAYS.items()}
    boxes, ids, new, tables = np.empty((0, 4), int), np.empty(0, int), 1, []
    for t in range(frames):
        with timed("read"):
            planes = read(fov, t)
            phase, fluorescence = planes[PHASE], planes[FLUORESCENCE]
        with timed("segment"):
            labels = segment(phase)
        with timed("background"):
            plane = background(fluorescence, labels)
        with timed("measure"):
            rows = measure(labels, fluorescence - plane)
        with timed("track"):
            now = rows[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy(int)
            ids = link(boxes, ids, now, new)
            boxes, new = now, max([new, *(ids + 1)])
            tracked = np.array([0, *ids], np.uint16)[labels]
        tables.append(rows.assign(fov=fov, frame=t, cell=ids))
        with timed("write"):
            for name, pixels in zip(ARRAYS, (phase, fluorescence, labels, tracked, plane), strict=True):
                arrays[name][t] = pixels
    rows = selected(pd.concat(tables, ignore_index=True), shape)
    with timed("display"):
        levels = {name: write_display(images, name) for name in ARRAYS}
    with timed("crops"):
        write_crops(folder / "cells.zarr", images, rows, levels["phase"])
    rows["position_x"], rows["position_y"] = (rows.bbox_x0 + rows.bbox_x1) / 2, (rows.bbox_y0 + rows.bbox_y1) / 2
    rows.drop(columns="label").to_csv(folder / "traces.csv", index=False)


def main() -> None:
    movie, output = map(Path, sys.argv[1:])
    with opened(movie) as (fovs, frames, read):
        for fov in range(fovs):
            process(read, fov, frames, output / f"fov_{fov:03d}")
    print(", ".join(f"{step} {taken:.1f} s" for step, taken in seconds.items()))


if __name__ == "__main__":
    main()
