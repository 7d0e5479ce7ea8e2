"""Frames that a task on a block holds at once."""

from __future__ import annotations

from pyama_dask.config.models import Config
from pyama_dask.methods.device import needs_of
from pyama_dask.methods.registry import find_method
from pyama_dask.steps.demand import is_of_stacks
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.standard import finds_cells, is_deep, needs_gpu


def frames_together(config: Config, frames: int) -> int:
    """Frames of a batch of a resolved config, for blocks of `frames`: one, unless functions take several.

    Functions of stacks get the whole block, as they compute frames around it as well; images that are made on a GPU
    are stored before the frames that follow need them; and chunks with all frames of a block are compressed once.
    """
    own = flow_of(config).own if config.pipelines else ()
    if is_deep(config) or any(is_of_stacks(of.step) or of.step.is_on_gpu for of in own):
        return frames
    if not finds_cells(config):
        return 1
    name = config.params.segmentation_method
    return min(frames, needs_of(find_method("segmenter", name), name).frames_at_once(on_gpu=needs_gpu(config)) or 1)
