"""What is cut out of a FOV: the same for the blocks that cut and for the task that puts together."""

from __future__ import annotations

import numpy as np

from pyama_dask.kernels import crops
from pyama_dask.steps.context import CORRECTED, Bench
from pyama_dask.store.layout import channel_of


def cells_to_cut(bench: Bench) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids, boxes to cut (N, T, 4), frames seen (N, T), and window sizes (N, 2) of the kept cells."""
    box = crops.padded_boxes(bench.cells["boxes"], bench.params.crop_padding, bench.task.shape)
    valid = bench.cells["valid"]
    return bench.cells["ids"], box, valid, crops.window_shapes(box, valid)


def crop_scale(bench: Bench, group: str) -> crops.Scale:
    """How the crops of a raw channel are scaled: fluorescence by its levels above background."""
    channel = channel_of(group)
    name = group if channel == bench.pc else f"{CORRECTED}_ch_{channel}"
    return crops.Scale.between(*bench.windows[name].tolist())
