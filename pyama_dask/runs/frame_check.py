"""Check of a planned run on one frame: what the segmentation finds in it, and what looks wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import MissingFrameError, PyamaError
from pyama_dask.kernels.crops import padded_boxes, window_shapes
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.plausibility import LARGEST, look
from pyama_dask.methods.registry import is_plugin
from pyama_dask.plan.plan import Plan
from pyama_dask.plan.resources import table_memory
from pyama_dask.readers import Metadata
from pyama_dask.runs.one_frame import FrameSegmenter, segmented_frames


def looked_at(plan: Plan, metadata: Metadata) -> Plan:
    """Plan with the warnings of `check_frame`, and with the memory that tables and crops of so many objects need.

    Linking and the traces need memory for all objects of a FOV, and crops for all frames of a cell. Their number and
    size are known only when they are found. A plan therefore assumes few; this one assumes the same in each frame as in
    the one that was looked at.
    """
    warnings, objects, window = check_frame(plan.job.config, metadata)
    frames = plan.job.n_frames
    tables = table_memory(plan.job.config.cluster, objects * frames, frames, window)
    if tables > plan.worker_memory:
        warnings.append(
            f"FOVs may have {objects} objects in each of {frames} frames; to link them and write their traces and "
            f"crops, a worker needs {tables / 2**20:.0f} MiB, but it has {plan.worker_memory / 2**20:.0f} MiB. "
            "Fix: give workers more (cluster.memory, or fewer cluster.workers)"
        )
    return replace(plan, warnings=(*plan.warnings, *warnings), table_memory=tables if objects else 0)


class Checked(NamedTuple):
    """Warnings, objects and crops of a frame."""

    warnings: list[str]
    objects: int = 0
    """Number of objects; 0 if it is unknown."""
    window: int = 0
    """Pixels of the largest crop; 0 if it is unknown."""


def check_frame(config: Config, metadata: Metadata) -> Checked:
    """Segment the middle frame of the first FOV with the methods of this package.

    Methods of other packages and files are not run, because they may take long; steps before the segmentation are.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie.
    """
    params, pc = config.params, config.channels.pc
    methods = [("segmenter", params.segmentation_method), *(("preprocessor", name) for name in params.preprocess)]
    if pc is None or params.copy_only or not config.has_seven or any(is_plugin(*method) for method in methods):
        return Checked([])
    fov, frames = parse_selection(params.fovs)[0], parse_selection(params.frames)
    frame = frames[len(frames) // 2]
    where = f"FOV {fov}, frame {frame}"
    try:
        with segmented_frames(metadata, config) as movie:
            labels, said = FrameSegmenter(config).find(movie.read(fov, frame), where)
            labels = movie.relabelled(fov, frame, labels)
    except MissingFrameError:  # the plan names missing frames
        return Checked([])
    except PyamaError as error:  # of a method, or of a damaged movie
        return Checked([str(error)])
    seen = look([labels])
    if not seen.count and not said:
        said = ["no object is found. Fix: if there are cells, change segmentation_params or segmentation_method"]
    if seen.largest > LARGEST:
        said.append(
            f"one object covers {seen.largest:.0%} of the frame; cells may have merged. Fix: change "
            "segmentation_params, or let 'pyama-dask init' choose a method"
        )
    around = padded_boxes(boxes(labels), params.crop_padding, labels.shape)[:, None]
    sizes = window_shapes(around, np.ones((len(around), 1), bool))
    return Checked([f"{where}: {one}" for one in said], len(sizes), int(sizes.prod(1).max(initial=0)))
