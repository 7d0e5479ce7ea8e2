"""Steps of a user's own, as tests put them into pipelines."""

from typing import Annotated

import dask.array as da
import numpy as np
import pandas as pd

from pyama_dask.kernels.image_types import Axes, Frame, Labels, LabelStack, Planes, Stack
from pyama_dask.kernels.segmentation import segment


def brighter(frame: Frame, *, by: int = 10) -> Frame:
    """Add grey levels."""
    return (frame + np.uint16(by)).astype(frame.dtype)


def mean_of_three(stack: Stack) -> Stack:
    """Mean of each frame with its neighbours; the first and last frame count twice."""
    padded = np.pad(stack.astype(np.float32), ((1, 1), (0, 0), (0, 0)), mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)


def mean_and_difference(stack: Stack) -> dict[str, Stack]:
    """Mean of each frame with its neighbours, and the difference to it."""
    mean = mean_of_three(stack)
    return {"mean": mean, "difference": stack - mean}


def bright_pixels(frame: Frame, *, above: int = 120) -> Labels:
    """Mask of bright pixels, as labels."""
    return (frame > above).astype(np.uint16)


def deepest(planes: Planes) -> Frame:
    """Minimum of all planes."""
    return planes.min(axis=0)


def light_in_cells(images: dict[str, Frame]) -> pd.DataFrame:
    """Largest grey level of each cell."""
    pixels, cells = images["GFP"], images["tracked"]
    ids = np.unique(cells[cells > 0]).astype(np.int64)
    return pd.DataFrame({"cell": ids, "largest": np.array([pixels[cells == k].max() for k in ids], np.int64)})


def last_frames(traces: pd.DataFrame) -> pd.DataFrame:
    """Last frame of each cell."""
    return traces.groupby("cell", as_index=False)["frame"].max()


def cells_of_well(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Number of cells of each FOV of a well."""
    return pd.DataFrame({"fov": [*tables], "cells": [table["cell"].nunique() for table in tables.values()]})


def age(traces: pd.DataFrame) -> pd.DataFrame:
    """Frames since the first one of each cell."""
    ages = traces["frame"] - traces.groupby("cell")["frame"].transform("min")
    return pd.DataFrame({"age": ages, "state": np.where(ages > 2, "old", "young")})


def every_other(frame: Frame) -> Frame:
    """Every other pixel, in a way that no plan knows of."""
    return np.ascontiguousarray(frame[::2, ::2])


def inverted(frame: Frame) -> Frame:
    """Grey levels upside down."""
    return np.iinfo(frame.dtype).max - frame


def of_shape(frame: np.ndarray, *, shape: list[int]) -> np.ndarray:
    """Segmenter that finds a cell, but only in frames of the expected shape."""
    if list(frame.shape) != shape:
        raise AttributeError(f"a frame of {frame.shape}")
    labels = np.zeros(frame.shape, np.uint16)
    labels[40:60, 40:60] = 1
    return labels


def cell_of_first_pixel(frame: Frame) -> pd.DataFrame:
    """Grey level of the first pixel, as if it were that of cell 1."""
    return pd.DataFrame({"cell": np.array([1]), "first": np.array([int(frame[0, 0])])})


def picky(frame: Frame, *, refused: int) -> Frame:
    """Refuse the frame with this sum of grey levels."""
    if int(frame.sum(dtype=np.int64)) == refused:
        raise ValueError("not this one")
    return frame


def lazily_doubled(frame: Annotated[da.Array, Axes("yx")]) -> Annotated[da.Array, Axes("yx")]:
    """Add a frame to itself, as a Dask array."""
    return frame + frame


def refuses_large_frames(frame: Frame) -> Frame:
    """The frame itself, if it is one of those on which steps are tried."""
    if frame.shape == (150, 170) and frame.std() > 0:
        raise ValueError("too bright")
    return frame


def stack_light(images: dict[str, Stack]) -> pd.DataFrame:
    """Mean grey level of the last image in each frame and the frames beside it."""
    *_, last = images.values()
    return pd.DataFrame({"frame": range(len(last)), "light": mean_of_three(last).mean((1, 2))})


def halves(frame: Frame) -> dict[str, Frame]:
    """Dark and bright pixels, each with 0 for the others."""
    bright = frame > 200
    return {"dark": frame * ~bright, "bright": frame * bright}


def large_ones(cells: Labels, *, above: int = 0) -> Labels:
    """Labels of the objects with more pixels; the numbers of the others are left out."""
    areas = np.bincount(cells.ravel())
    return np.where(areas[cells] > above, cells, 0).astype(cells.dtype)


def upper(cells: Labels) -> Frame:
    """1 in the upper half of each object."""
    rows = np.arange(len(cells))[:, None]
    middle = np.array(
        [rows[(cells == k).any(axis=1)].mean() if (cells == k).any() else 0 for k in range(cells.max() + 1)]
    )
    return ((cells > 0) & (rows < middle[cells])).astype(np.float32)


def halved(images: dict[str, Frame]) -> Labels:
    """Two labels for each object, the first one for its upper half."""
    cells, above = images["labels"].astype(np.int64), images["upper"] > 0
    return np.where(cells > 0, 10 * cells - above, 0)


def negative(cells: Labels) -> Labels:
    """Labels with one below 0, in frames as large as those of movies."""
    return cells.astype(np.int32) - (cells.size > 10000)


def coarse(cells: Labels) -> Labels:
    """Every other pixel."""
    return np.ascontiguousarray(cells[::2, ::2])


def kept_stack(cells: LabelStack) -> LabelStack:
    """Labels as they are."""
    return cells.copy()


def found_large_halves(frame: np.ndarray, *, above: int) -> np.ndarray:
    """Segmenter that finds halves of large objects: what `large_ones`, `upper` and `halved` make of those of logstd."""
    cells = large_ones(segment(frame, morph_iterations=1), above=above)
    return halved({"labels": cells, "upper": upper(cells)})


def several(frames: np.ndarray) -> np.ndarray:
    """Segmenter that takes two frames at once, and finds what logstd does."""
    return np.stack([segment(frame, morph_iterations=1) for frame in frames])


several.batch = 2
