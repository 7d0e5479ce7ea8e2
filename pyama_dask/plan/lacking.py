"""Messages about frames that FOVs lack, and how to process the others."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from pyama_dask.config.units import as_ranges
from pyama_dask.readers import Metadata, is_file_format
from pyama_dask.readers.base import planes_of
from pyama_dask.workflow.task import Job

_LONGEST = 60
"""Characters of the longest list of frames that a message shows."""


def lacking_frames(job: Job, metadata: Metadata, fov: int) -> str | None:
    """Say which of the frames to process a FOV lacks, and what to do; None if it has all."""
    config, info = job.config, metadata.fovs[fov]
    channels = [int(choice.channel) for choice in config.channels.all]
    planes = planes_of(config.params.z, metadata.z_planes)
    lacking = info.lacking(channels, planes)
    missing = sorted(lacking.intersection(job.frames))
    if not missing:
        return None
    where = f"{len(missing)} of its frames are missing in {metadata.path.name}, the first is {missing[0]}"
    return f"{where}; {_rest(job, metadata, fov, missing)}"


def _rest(job: Job, metadata: Metadata, fov: int, missing: Sequence[int]) -> str:
    """Frames that a FOV has, and how to process them."""
    info, whole = metadata.fovs[fov], sorted(set(job.frames).difference(missing))
    listed = as_ranges(whole)
    if len(listed) > _LONGEST:  # too many gaps to list: those before the first one
        whole = [frame for frame in whole if frame < missing[0]]
        listed = as_ranges(whole)
    remedies = [] if is_file_format(metadata.path) else ["copy the missing images and use --extend"]
    if whole:
        take, only = f"--frames {listed.replace(' ', '')}", quote(info.name) if info.well else fov
        remedies += [f"take {take} for all FOVs", f"--fovs {only} {take} for this one"]
    remedies += [] if whole else ["leave it out with --fovs"]
    more = "; 'pyama-dask inspect' lists the frames that lack only some channels or planes" if info.partial else ""
    return f"{f'it has {listed}' if whole else 'it has none'}. Fix: {', or '.join(remedies)}{more}"
