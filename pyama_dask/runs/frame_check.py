"""Check of a planned run on one frame: what the segmentation finds in it, and what looks wrong."""

from __future__ import annotations

from dataclasses import replace

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import MissingFrameError, PyamaError
from pyama_dask.kernels.plausibility import LARGEST, look
from pyama_dask.methods.registry import is_plugin
from pyama_dask.plan.plan import Plan
from pyama_dask.plan.resources import table_memory
from pyama_dask.readers import Metadata
from pyama_dask.runs.one_frame import FrameSegmenter, segmented_frames


def looked_at(plan: Plan, metadata: Metadata) -> Plan:
    """Plan with the warnings of `check_frame`, and with the memory that tables of so many objects need.

    Linking and the traces need memory for all objects of a FOV, whose number is known only when they are found. A plan
    therefore assumes few; this one assumes as many in each frame as in the one that was looked at.
    """
    warnings, objects = check_frame(plan.job.config, metadata)
    tables = table_memory(plan.job.config.cluster, objects * plan.job.n_frames)
    if tables > plan.worker_memory:
        warnings.append(
            f"FOVs may have {objects} objects in each of {plan.job.n_frames} frames; to link them and write their "
            f"traces, a worker needs {tables / 2**20:.0f} MiB, but it has {plan.worker_memory / 2**20:.0f} MiB. "
            "Fix: give workers more (cluster.memory, or fewer cluster.workers)"
        )
    return replace(plan, warnings=(*plan.warnings, *warnings), table_memory=tables if objects else 0)


def check_frame(config: Config, metadata: Metadata) -> tuple[list[str], int]:
    """Segment the middle frame of the first FOV with the methods of this package.

    Methods of other packages and files are not run, because they may take long; steps before the segmentation are.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie.

    Returns
    -------
    Warnings, and the number of objects in the frame; 0 if it is unknown.
    """
    params, pc = config.params, config.channels.pc
    methods = [("segmenter", params.segmentation_method), *(("preprocessor", name) for name in params.preprocess)]
    if pc is None or params.copy_only or not config.has_seven or any(is_plugin(*method) for method in methods):
        return [], 0
    fov, frames = parse_selection(params.fovs)[0], parse_selection(params.frames)
    frame = frames[len(frames) // 2]
    where = f"FOV {fov}, frame {frame}"
    try:
        with segmented_frames(metadata, config) as movie:
            labels, said = FrameSegmenter(config).find(movie.read(fov, frame), where)
            labels = movie.relabelled(fov, frame, labels)
    except MissingFrameError:  # the plan names missing frames
        return [], 0
    except PyamaError as error:  # of a method, or of a damaged movie
        return [str(error)], 0
    seen = look([labels])
    if not seen.count and not said:
        said = ["no object is found. Fix: if there are cells, change segmentation_params or segmentation_method"]
    if seen.largest > LARGEST:
        said.append(
            f"one object covers {seen.largest:.0%} of the frame; cells may have merged. Fix: change "
            "segmentation_params, or let 'pyama-dask init' choose a method"
        )
    return [f"{where}: {one}" for one in said], int(labels.max(initial=0))
